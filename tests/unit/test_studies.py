"""Every study file is a valid plan that runs as it stands on its machine, and keeps what its article states."""

import pytest

from analysis import shapes
from analysis.__main__ import main
from analysis.places import PARAMS
from analysis.servers import checkpoints, launch, preflight
from analysis.study import plan
from analysis.study.study_file import load_study

FILES = sorted(PARAMS.glob("*.yaml"))
OF_THE_ARTICLES = {
    "gb10-26b-a4b",
    "gb10-31b",
    "gb10-26b-a4b-preview",
    "gb10-31b-preview",
    "gb10-26b-targets",
    "gb10-26b-raw-endpoint",
    "rtx4090-26b-awq",
    "rtx5090m-e4b",
    "h100-31b",
}


def test_every_study_that_the_readme_promises_is_there():
    assert {f.stem for f in FILES} >= OF_THE_ARTICLES | {"miniature", "gb10-26b-options"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_study_is_named_after_its_file_and_its_hardware_and_shape_are_known(file):
    study = load_study(file)
    assert study.study == file.stem
    assert study.hardware is None or study.hardware in shapes.machines()
    assert study.model_shape is None or shapes.shape_of(study.model_shape) is not None
    by_hand = study.speculative.get("rejection_sample_method") == "synthetic" or study.server.load_format == "dummy"
    assert study.stamp in (("synthetic-acceptance",) if by_hand else ("measured", "miniature"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_plan_prints_launches_cells_and_commands_and_starts_nothing(file, capsys):
    for form in (None, "process", "docker", "kubernetes", "systemd"):
        assert main(["plan", str(file), *(["--as", form] if form else [])]) == 0
    assert "Nothing was started." in capsys.readouterr().out


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_gemma_pair_belongs_together_and_its_engine_is_not_known_to_be_bad(file):
    for arm in plan.make(load_study(file)).arms:
        families = {checkpoints.family(m.hub or m.model) for m in (arm.target, arm.drafter) if m}
        assert len(families) == 1
        if arm.server.image:
            assert preflight.engine_verdict(arm.server.image, None, arm.server.env).verdict == "ok"


def test_the_published_settings_are_kept():
    preview = load_study("gb10-26b-a4b-preview")
    assert (preview.k_values, preview.repeats, preview.timing_tokens, preview.temperature) == (
        (1, 2, 4, 8),
        3,
        600,
        0.7,
    )
    assert preview.natural_stop and preview.prompts == "published"
    awq = load_study("rtx4090-26b-awq")
    assert (awq.k_values, awq.temperature, awq.seed, awq.repeats, awq.timing_tokens) == ((1, 2, 3), 0.0, 42, 5, 200)
    e4b = load_study("rtx5090m-e4b")
    assert (e4b.k_values, e4b.timing_tokens, e4b.temperature, e4b.top_p) == ((3,), 800, 0.6, 0.95)


def test_the_raw_endpoint_study_measures_one_arm_through_both_doors():
    made = plan.make(load_study("gb10-26b-raw-endpoint"))
    arm = next(a for a in made.arms if a.k == 4)
    cells = [c for c in made.cells if c.arm == arm and c.experiment in ("timing", "raw")]
    chat = {(c.workload, c.repeat, c.sampling, c.requests) for c in cells if c.endpoint == "chat"}
    raw = {(c.workload, c.repeat, c.sampling, c.requests) for c in cells if c.endpoint == "raw"}
    assert chat == raw and len(raw) == 20


def test_a_study_of_options_has_an_arm_for_each_knob():
    arms = {a.variant: a for a in plan.make(load_study("gb10-26b-options")).arms if a.k}
    assert arms["eager"].server.enforce_eager
    assert arms["runner-v1"].server.env != arms["main"].server.env
    assert arms["draft-sampling"].speculative == {"draft_sample_method": "probabilistic"}
    ranges = arms["dynamic-k"].speculative["num_speculative_tokens_per_batch_size"]
    assert ranges[0][0] == 1 and ranges[-1][2] == 0
    assert all(a[1] + 1 == b[0] for a, b in zip(ranges, ranges[1:], strict=False))  # no batch size without a K


SAFE = ["gb10-26b-a4b", "gb10-31b", "gb10-26b-options", "gb10-attention"]


@pytest.mark.parametrize("name", SAFE)
def test_a_gb10_study_takes_no_more_memory_than_is_safe_and_asks_for_the_ledger(name):
    for arm in plan.make(load_study(name)).arms:
        assert arm.server.gpu_memory_utilization <= 0.5
        assert arm.server.max_num_seqs == 16
        words = launch.docker_command(arm)
        assert ("--per-request-spec-decode-metrics" in words) == bool(arm.k)
        assert words[words.index("--limit-mm-per-prompt") + 1] == '{"image":0,"audio":0,"video":0}'


def test_both_gb10_models_run_on_the_same_engine_runner_and_k():
    moe, dense = load_study("gb10-26b-a4b"), load_study("gb10-31b")
    assert moe.server.image == dense.server.image == "vllm/vllm-openai:v0.33.0"
    assert moe.server.env == dense.server.env == {"VLLM_USE_V2_MODEL_RUNNER": "1"}
    assert moe.k_values == dense.k_values == (1, 2, 4, 7, 8)


def test_the_launch_of_a_gb10_arm_word_for_word():
    arm = next(a for a in plan.make(load_study("gb10-26b-a4b")).arms if a.k == 4)
    assert " ".join(launch.docker_command(arm)) == (
        "docker run -d --name vllm-mtp --gpus all --ipc host --shm-size 64gb -p 127.0.0.1:8000:8000 "
        "-v $HOME/.cache/huggingface:/root/.cache/huggingface -e VLLM_USE_V2_MODEL_RUNNER=1 vllm/vllm-openai:v0.33.0 "
        "RedHatAI/gemma-4-26B-A4B-it-FP8-Dynamic --max-model-len 4096 --max-num-batched-tokens 4096 "
        "--gpu-memory-utilization 0.5 --max-num-seqs 16 --kv-cache-dtype fp8 "
        '--limit-mm-per-prompt {"image":0,"audio":0,"video":0} --no-enable-prefix-caching '
        "--per-request-spec-decode-metrics detailed "
        '--speculative-config {"method":"mtp","model":"google/gemma-4-26B-A4B-it-assistant","num_speculative_tokens":4}'
    )


def test_the_preview_studies_stay_as_published():
    for name in ("gb10-26b-a4b-preview", "gb10-31b-preview"):
        study = load_study(name)
        assert study.server.image == "vllm/vllm-openai:gemma4-0505-arm64-cu130"
        assert study.server.gpu_memory_utilization == 0.85
        assert all("--per-request-spec-decode-metrics" not in launch.docker_command(a) for a in plan.make(study).arms)


def test_the_attention_study_differs_between_its_two_halves_in_the_release_alone():
    arms = plan.make(load_study("gb10-attention")).arms
    halves = {v: {a.k: a.server.model_dump() for a in arms if a.variant == v} for v in ("main", "v0.32")}
    assert sorted(halves["main"]) == [0, 1, 2, 4, 7, 8]
    for k, server in halves["main"].items():
        other = halves["v0.32"][k]
        assert {key for key in server if server[key] != other[key]} == {"image"}
        assert (server["image"], other["image"]) == ("vllm/vllm-openai:v0.33.0", "vllm/vllm-openai:v0.32.0")

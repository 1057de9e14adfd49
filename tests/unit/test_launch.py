"""The published launches, argument for argument. Lists are written from the articles, not from our code."""

import json
import shlex
from dataclasses import replace

import yaml

from analysis import places
from analysis.servers import launch, render
from analysis.study import plan
from analysis.study.study_file import load_study

PATCHED = "/usr/local/lib/python3.12/dist-packages/vllm/model_executor/models/gemma4_mtp.py"


def arm(study, name):
    return next(a for a in plan.make(load_study(study)).arms if a.name == name)


def suzuki(model, served, drafter, k):
    return [
        *("docker", "run", "-d", "--name", "vllm-mtp", "--gpus", "all", "--ipc", "host", "--shm-size", "64gb"),
        *("-p", "8000:8000"),
        *("-v", "$HOME/ai_news2fund/hf_cache:/root/.cache/huggingface"),
        *("-v", f"$HOME/mtp_assets/gemma4_mtp.py:{PATCHED}:ro"),
        *("vllm/vllm-openai:gemma4-0505-arm64-cu130", model, "--served-model-name", served),
        *("--max-model-len", "4096", "--max-num-batched-tokens", "4096"),
        *("--gpu-memory-utilization", "0.85", "--kv-cache-dtype", "fp8"),
        *("--speculative-config", f'{{"method":"mtp","model":"{drafter}","num_speculative_tokens":{k}}}'),
    ]


def test_a_file_of_the_checkout_among_the_arguments_is_found_from_any_folder():
    made = arm("miniature-trap", "baseline@base-target")
    template = "data/miniature/dense/chat_template.jinja"
    own, contained = made, replace(made, server=made.server.model_copy(update={"backend": "docker", "image": "x"}))
    assert launch.vllm_args(own)[launch.vllm_args(own).index("--chat-template") + 1] == str(places.ROOT / template)
    assert template in launch.vllm_args(contained)


def test_the_published_31b_launch():
    made = launch.docker_command(arm("gb10-31b-preview", "mtp-k4"))
    assert made == suzuki("RedHatAI/gemma-4-31B-it-FP8-Dynamic", "gemma4-31b-mtp", "google/gemma-4-31B-it-assistant", 4)


def test_the_published_26b_launch_at_every_k():
    for k in (1, 2, 4, 8):
        made = launch.docker_command(arm("gb10-26b-a4b-preview", f"mtp-k{k}"))
        assert made == suzuki(
            "RedHatAI/gemma-4-26B-A4B-it-FP8-Dynamic", "gemma4-26b-mtp", "google/gemma-4-26B-A4B-it-assistant", k
        )


def test_a_baseline_differs_from_the_published_launch_by_the_speculative_config_alone():
    for study in ("gb10-31b-preview", "gb10-26b-a4b-preview"):
        assert launch.docker_command(arm(study, "baseline")) == launch.docker_command(arm(study, "mtp-k4"))[:-2]


def test_the_ai_muninn_launch_in_its_own_order():
    made = launch.docker_command(arm("gb10-26b-targets", "mtp-k4"))
    drafter = "/models/gemma4-26b-a4b-it-assistant"
    assert made == [
        *("docker", "run", "-d", "--name", "gemma4-mtp", "--gpus", "all", "--ipc", "host", "--shm-size", "64gb"),
        *("-p", "8000:8000", "-v", "~/models:/models", "-v", f"/tmp/gemma4_mtp.py:{PATCHED}:ro"),
        *("vllm/vllm-openai:gemma4-0505-arm64-cu130", "--model", "/models/gemma4-26b-a4b-it-fp8"),
        *("--speculative-config", f'{{"method":"mtp","model":"{drafter}","num_speculative_tokens":4}}'),
        *("--kv-cache-dtype", "fp8", "--gpu-memory-utilization", "0.85", "--max-model-len", "4096"),
        *("--limit-mm-per-prompt", '{"image":0,"audio":0,"video":0}'),
    ]
    assert launch.docker_command(arm("gb10-26b-raw-endpoint", "mtp-k4")) == made


def test_bytebots_serve_line():
    one = arm("h100-31b", "mtp-k4@as-published")
    made = launch.vllm_args(one)
    assert made[:-1] == [
        "google/gemma-4-31B-it",
        "--tensor-parallel-size",
        "1",
        "--max-model-len",
        "8192",
        "--speculative-config",
    ]
    assert json.loads(made[-1]) == {
        "method": "mtp",
        "model": "google/gemma-4-31B-it-assistant",
        "num_speculative_tokens": 4,
    }


def test_billings_serve_line():
    made = launch.serve_command(arm("rtx4090-26b-awq", "mtp-k2"), "0.0.0.0", 8000)
    assert made == launch.process_command(arm("rtx4090-26b-awq", "mtp-k2"), 8000)
    assert made == [
        *("vllm", "serve", "cyankiwi/gemma-4-26B-A4B-it-AWQ-4bit", "--host", "0.0.0.0", "--port", "8000"),
        *("--served-model-name", "cyankiwi/gemma-4-26B-A4B-it-AWQ-4bit", "--max-num-batched-tokens", "4096"),
        *("--max-model-len", "8192", "--gpu-memory-utilization", "0.93", "--enable-prefix-caching"),
        *("--enable-chunked-prefill", "--dtype", "auto", "--speculative-config"),
        '{"method":"draft_model","model":"google/gemma-4-26B-A4B-it-assistant","num_speculative_tokens":2}',
    ]


def test_aireliens_container_args_and_env():
    manifest = next(yaml.safe_load_all(render.launch(arm("rtx5090m-e4b", "mtp-k3"), "kubernetes")))
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "docker.io/vllm/vllm-openai:nightly-1acd67a795ebccdf9b9db7697ae9082058301657"
    assert container["name"] == "vllm-server" and container["command"] == ["sh", "-c"]
    assert container["env"] == [{"name": "CUDA_DEVICE_MEMORY_LIMIT_0", "value": "24000m"}]
    (script,) = container["args"]
    assert shlex.split(script.replace("\\\n", "")) == [
        *("exec", "vllm", "serve", "google/gemma-4-E4B-it", "--served-model-name", "gemma-4-e4b-mtp"),
        *("--host", "0.0.0.0", "--port", "8000", "--max-model-len", "32000", "--gpu-memory-utilization", "0.85"),
        *("--max-num-seqs", "1", "--dtype", "auto", "--trust-remote-code", "--download-dir", "/models"),
        *("--enable-prefix-caching", "--speculative-config"),
        '{"method":"mtp","model":"google/gemma-4-E4B-it-assistant","num_speculative_tokens":3}',
    ]


def test_where_an_arm_listens_and_how_its_flags_are_ordered_do_not_change_its_identity():
    one = arm("rtx4090-26b-awq", "mtp-k2")
    moved = one.server.model_copy(update={"order": (), "host": None, "serve": False, "port": 0})
    assert replace(one, server=moved).id == one.id
    assert replace(one, server=one.server.model_copy(update={"max_model_len": 4096})).id != one.id


def test_two_targets_that_are_not_on_this_machine_are_two_arms():
    arms = {a.name: a for a in plan.make(load_study("gb10-26b-targets")).arms}
    assert arms["baseline"].id != arms["baseline@nvfp4"].id != arms["baseline@base"].id

"""Configurations that are known to fail or to mislead are told before a launch, and sound ones are let through."""

from dataclasses import replace
from importlib import metadata

import pytest
import yaml

from analysis.places import DATA
from analysis.servers import checkpoints, machine, preflight
from analysis.servers.machine import Gpu, Machine
from analysis.servers.preflight import releases
from analysis.study import plan
from analysis.study.study_file import validate

GB10 = Machine((Gpu("NVIDIA GB10", None, None, "580.95", 3003, 140),), 121.6, 115, unused_gib=110)
MTP_26B = "google/gemma-4-26B-A4B-it-assistant"
FP8_26B = "RedHatAI/gemma-4-26B-A4B-it-FP8-Dynamic"


def checks(here=GB10, target=FP8_26B, drafter=MTP_26B, hardware="gb10", shape="gemma-4-26B-A4B-it", k=4, **server):
    raw = {"study": "x", "title": "x", "hardware": hardware, "model_shape": shape}
    raw |= {"target": {"model": target}, "drafter": {"model": drafter}, "k_values": [k], "k": k}
    raw["server"] = {"backend": "docker", "image": "vllm/vllm-openai:v0.33.0", "max_num_batched_tokens": 4096, **server}
    return {c.name: c for c in preflight.run(plan.make(validate(raw)), here)}


@pytest.fixture
def installed(monkeypatch):
    """Other versions of packages than those that are here."""
    real = metadata.version

    def pretend(**versions):
        monkeypatch.setattr(metadata, "version", lambda name: versions.get(name.replace("-", "_")) or real(name))

    return pretend


@pytest.mark.parametrize(
    ("vllm", "transformers", "target", "verdict"),
    [
        ("0.24.0", "5.15.0", FP8_26B, "fail"),
        ("0.24.0", "5.14.1", FP8_26B, "ok"),
        ("0.28.0", "5.15.0", FP8_26B, "ok"),
        ("0.28.0", "5.8.1", "unsloth/gemma-4-12b-it-NVFP4", "fail"),
        ("0.28.0", "5.10.0", "unsloth/gemma-4-12b-it-NVFP4", "ok"),
        ("0.28.0", "5.8.1", FP8_26B, "ok"),
        ("0.28.0", "5.7.0", FP8_26B, "fail"),
    ],
)
def test_transformers_is_held_against_the_engine_and_the_model(installed, vllm, transformers, target, verdict):
    installed(vllm=vllm, transformers=transformers)
    assert checks(target=target, backend="process", shape=None)["transformers"].verdict == verdict


@pytest.mark.parametrize(
    ("server", "verdict"),
    [
        ({"args": ["--attention-backend", "FLASHINFER"]}, "fail"),
        ({"args": ["--attention-backend=FLASHINFER"]}, "fail"),
        ({"args": ["--attention-config", '{"backend":"FLASHINFER"}']}, "fail"),
        ({"env": {"VLLM_ATTENTION_BACKEND": "FLASH_ATTN"}}, "warn"),
        ({"args": ["--attention-config", '{"backend":"TRITON_ATTN"}']}, None),
        ({}, None),
    ],
)
def test_a_forced_attention_backend_is_told(server, verdict):
    found = checks(**server).get("attention backend")
    assert (found and found.verdict) == verdict


def test_a_utilisation_near_one_on_a_small_card_is_told():
    card = Machine((Gpu("RTX 5090 Laptop", 23.89, 23.6, "580", 2500, 150),), 64, 60)
    name, awq = "memory for graphs", "cyankiwi/gemma-4-26B-A4B-it-AWQ-4bit"
    assert checks(card, target=awq, gpu_memory_utilization=0.98)[name].verdict == "warn"
    assert name not in checks(card, target=awq, gpu_memory_utilization=0.95)
    large = replace(card, gpus=(replace(card.gpus[0], total_gib=79.6, free_gib=79.5),))
    assert name not in checks(large, target=awq, gpu_memory_utilization=0.98)


def test_a_file_mounted_over_vllms_own_package_is_told():
    place = "/usr/local/lib/python3.12/dist-packages/vllm/model_executor/models"
    name = "mounted over the engine"
    assert checks(mounts=[f"/x/gemma4_patched.py:{place}/gemma4.py"])[name].verdict == "warn"
    assert name not in checks(mounts=["$HOME/.cache/huggingface:/root/.cache/huggingface"])
    assert name not in checks(mounts=[f"/x/gemma4_mtp.py:{place}/gemma4_mtp.py"])  # has a check of its own


def test_an_id_that_google_does_not_have_is_stopped_with_the_one_that_was_meant():
    found = checks(drafter="google/gemma-4-26B-it-assistant")["drafter repository"]
    assert found.verdict == "fail" and "no such repository" in found.evidence and MTP_26B in found.fix
    for sound in (
        MTP_26B,
        "google/gemma-4-E4B-it-assistant",
        "google/gemma-4-31B-it-qat-w4a16-ct",
        "someone/gemma-4-9B-it",
    ):
        assert not [name for name in checks(target=sound, drafter=sound) if name.endswith("repository")]


def test_a_page_cache_that_hides_unified_memory_stops_an_old_engine_and_warns_with_a_newer_one():
    full = replace(GB10, unused_gib=40)
    server = {"gpu_memory_utilization": 0.8}  # 0.8 x 121.6 = 97.3 GiB
    found = checks(full, image="vllm/vllm-openai:v0.24.0", **server)
    assert found["page cache"].verdict == "fail" and "drop_caches" in found["page cache"].fix
    assert found["free memory"].verdict == "ok"
    assert checks(full, image="vllm/vllm-openai:v0.25.0", **server)["page cache"].verdict == "warn"
    assert checks(GB10, image="vllm/vllm-openai:v0.24.0", **server)["page cache"].verdict == "ok"


def test_thinking_expert_parallelism_and_scheduling_by_hand_are_told():
    assert checks(args=["--reasoning-parser", "gemma4"])["thinking"].verdict == "warn"
    assert checks(args=["--default-chat-template-kwargs", '{"enable_thinking": true}'])["thinking"].verdict == "warn"
    assert "thinking" not in checks(args=["--default-chat-template-kwargs", '{"enable_thinking": false}'])
    name, args = "expert parallelism with a drafter", ["--enable-expert-parallel"]
    assert checks(args=args, image="vllm/vllm-openai:v0.29.0-cu129")[name].verdict == "fail"
    assert checks(args=args, image="vllm/vllm-openai:v0.30.0")[name].verdict == "warn"
    assert checks(args=["--no-async-scheduling"])["asynchronous scheduling"].verdict == "warn"
    assert checks(env={"VLLM_BATCH_INVARIANT": "1"})["batch invariance"].verdict == "warn"


def test_an_fp8_cache_is_stopped_where_the_gpu_has_no_fp8():
    name = "K/V type for this GPU"
    assert checks(hardware="rtx-3090-x2", kv_cache_dtype="fp8")[name].verdict == "fail"
    assert name not in checks(hardware="rtx-3090-x2")
    assert name not in checks(hardware="rtx-4090", kv_cache_dtype="fp8")


@pytest.mark.parametrize(
    ("driver", "tag", "verdict"),
    [
        ("570.86.10", "v0.28.0-cu128", "ok"),
        ("570.86.10", "v0.28.0-cu129", "warn"),  # same family: runs, if the image does not ask for its own CUDA
        ("525.60.13", "v0.28.0-cu129", "warn"),
        ("524.99", "v0.28.0-cu129", "fail"),
        ("579.99", "v0.28.0-cu130", "fail"),  # another family
        ("580.65.06", "v0.28.0-cu130", "ok"),
        ("580.65.06", "v0.28.0-cu131", "warn"),
        ("570.86.10", "v0.28.0", None),
    ],
)
def test_a_driver_is_held_against_the_images_cuda(driver, tag, verdict):
    here = replace(GB10, gpus=(replace(GB10.gpus[0], driver=driver),))
    found = checks(here, image=f"vllm/vllm-openai:{tag}").get("driver for the image's CUDA")
    assert (found and found.verdict) == verdict


def test_what_is_known_of_a_release_is_told_where_it_applies():
    assert checks(image="vllm/vllm-openai:v0.28.0")["model runner"].verdict == "warn"
    assert "model runner" not in checks(image="vllm/vllm-openai:v0.29.0")
    assert "model runner" not in checks(image="vllm/vllm-openai:v0.28.0", shape="gemma-4-31B-it")
    assert "model runner" not in checks(image="vllm/vllm-openai:v0.28.0", env={"VLLM_USE_V2_MODEL_RUNNER": "1"})
    assert checks(image="vllm/vllm-openai:v0.33.0", env={"VLLM_USE_V2_MODEL_RUNNER": "0"})["model runner"]


def test_scales_of_the_target_reach_the_drafter_from_0_32_or_on_the_v2_runner_of_0_31():
    scales, nvfp4 = "K/V scales of the target", "nvidia/Gemma-4-26B-A4B-NVFP4"
    for tag, env, told in (
        ("v0.30.0", {}, True),
        ("v0.31.0", {}, False),
        ("v0.31.0", {"VLLM_USE_V2_MODEL_RUNNER": "0"}, True),
        ("v0.32.0", {"VLLM_USE_V2_MODEL_RUNNER": "0"}, False),
    ):
        image = f"vllm/vllm-openai:{tag}"
        assert (scales in checks(target=nvfp4, image=image, kv_cache_dtype="fp8", env=env)) == told, (tag, env)
        assert scales not in checks(target=nvfp4, image=image, env=env)


@pytest.mark.parametrize(("tag", "k", "told"), [("v0.33.0", 7, False), ("v0.33.0", 8, True), ("v0.32.0", 1, True)])
def test_verify_steps_beyond_what_a_release_reads_in_parallel_are_told(tag, k, told):
    found = checks(image=f"vllm/vllm-openai:{tag}", k=k)
    assert ("verify steps" in found) == told
    if k == 8:
        assert "9 tokens" in found["verify steps"].evidence and "K = 7" in found["verify steps"].fix


def test_what_a_release_would_take_or_refuse_by_itself_is_told(installed):
    assert "256" in checks()["requests at once"].evidence and "requests at once" not in checks(max_num_seqs=16)
    assert "1024" in checks(image="vllm/vllm-openai:v0.32.0")["requests at once"].evidence
    installed(vllm="0.28.0")
    assert checks(backend="process")["request ledger"].verdict == "fail"
    assert "request ledger" not in checks(backend="process", request_metrics=False)
    installed(vllm="0.29.0")
    assert "request ledger" not in checks(backend="process")


def test_the_table_of_releases_is_whole():
    table = yaml.safe_load((DATA / "engines.yaml").read_text())["releases"]
    assert list(table) == ["0.21.0", "0.28.0", "0.29.0", "0.31.0", "0.32.0", "0.33.0"]
    assert [r["runner_moe"] for r in table.values()] == ["V1", "V1", "V2", "V2", "V2", "V2"]
    assert len({tuple(r) for r in table.values()}) == 1 and table["0.33.0"]["split_kv_verify"] == 8
    assert releases.known((0, 30, 0)) == table["0.29.0"] and releases.known((0, 34, 0)) == table["0.33.0"]
    assert releases.known((0, 20, 1)) == {} == releases.known(())


@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        ("google/gemma-4-31B-it-qat-w4a16-ct", "int4"),
        ("x/gemma-4-31B-it-GPTQ", "int4"),
        ("x/gemma-4-31B-it-4bit", "int4"),
        ("x/gemma-4-31B-it-AWQ-4bit", "awq-int4"),
        ("nvidia/Gemma-4-31B-IT-NVFP4A16", "nvfp4"),
        ("google/gemma-4-31B-it-qat-q4_0-gguf", "gguf"),
        ("google/gemma-4-31B-it-qat-q4_0-unquantized", "bf16"),
        ("google/gemma-4-31B-it", "bf16"),
    ],
)
def test_four_bit_formats_are_known_by_their_names(name, fmt):
    assert checkpoints.format_of(name, {}) == fmt


def test_four_bits_in_the_configuration_are_four_bits_whatever_the_name():
    group = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}}
    assert checkpoints.format_of("mine", {"quantization_config": group}) == "int4"
    assert checkpoints.format_of("mine", {"quantization_config": {"quant_method": "other", "bits": 4}}) == "int4"


def test_a_four_bit_31b_fits_two_cards_of_24_gb():
    cards = Machine(2 * (Gpu("RTX 3090", 24.0, 23.7, "580", 1900, 350),), 64, 60)
    found = checks(
        cards,
        target="google/gemma-4-31B-it-qat-w4a16-ct",
        drafter="google/gemma-4-31B-it-assistant",
        hardware="rtx-3090-x2",
        shape="gemma-4-31B-it",
        gpu_memory_utilization=0.91,
        tensor_parallel_size=2,
        max_model_len=4096,
    )
    assert found["memory for weights"].verdict == "ok"


def test_a_name_without_it_is_a_question_for_the_chat_template_and_no_failure():
    target = "nvidia/Gemma-4-26B-A4B-NVFP4"
    found = checks(target=target)[f"chat template of {target}"]
    assert found.verdict == "warn" and "prefetch x" in found.fix
    base = "google/gemma-4-26B-A4B"
    assert checks(target=base)[f"chat template of {base}"].verdict == "fail"


def test_a_gpu_that_is_held_back_is_told_and_one_at_rest_is_not():
    def held(**now):
        here = replace(GB10, gpus=(replace(GB10.gpus[0], **now),))
        return checks(here).get("GPU 0 held back")

    assert held(now_mhz=1502, busy=0.96) is None and held(now_mhz=208, busy=0.0) is None
    assert held(now_mhz=1501, busy=0.49) is None and held(now_mhz=1501, busy=0.5).verdict == "fail"
    found = held(now_mhz=850, busy=0.96)
    assert found.verdict == "fail" and "850 of 3003 MHz" in found.evidence and "power cable" in found.fix
    assert held(slowed=("power brake",)).verdict == "warn"


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("850, 96, 0x0000000000000080\n", (850.0, 0.96, ("power brake",))),
        ("208, [N/A], 0x0000000000000001\n", (208.0, None, ())),
        ("", (None, None, ())),  # a driver before 535 does not know the question
    ],
)
def test_nvidia_smi_is_asked_what_a_gpu_does_now(monkeypatch, said, state):
    card = "NVIDIA GB10, [N/A], [N/A], 580.95.05, 3003, [N/A]\n"
    monkeypatch.setattr(machine, "_said", lambda command: card if "name," in command[1] else said or None)
    (gpu,) = machine.look().gpus
    assert (gpu.now_mhz, gpu.busy, gpu.slowed) == state and gpu.clock_mhz == 3003

"""Every check with the verdict it must give, on machines and folders made for it; never a traceback."""

import json
from dataclasses import replace

import pytest

from analysis.__main__ import main
from analysis.places import PARAMS
from analysis.servers import machine, patchfile, preflight
from analysis.study import plan
from analysis.study.study_file import load_study, validate

BARE = machine.Machine(total_gib=16, free_gib=12)
GB10 = machine.Machine((machine.Gpu("NVIDIA GB10", None, None, "580.95", 2418, 140),), total_gib=121.6, free_gib=118)

FIXED = """
class Attention:
    def __init__(self, config, hidden_size, quant_config=None):
        self.q_proj = ColumnParallelLinear(hidden_size, 64, bias=False, quant_config=None)

class Layer:
    def __init__(self, config, quant_config=None):
        text_config = _get_text_config(config)
        self.mlp = Gemma4MLP(hidden_size=8, intermediate_size=text_config.intermediate_size, quant_config=None)
"""
WIDTH = FIXED.replace("intermediate_size=text_config.intermediate_size", "intermediate_size=config.intermediate_size")
QUANT = """
class Attention:
    def __init__(self, config, hidden_size, quant_config=None):
        self.q_proj = ColumnParallelLinear(hidden_size, 64, bias=False, quant_config=quant_config)

class Predictor:
    def __init__(self, vllm_config):
        quant_config = vllm_config.quant_config
        text_config = vllm_config.model_config.hf_text_config
        self.mlp = Gemma4MLP(8, intermediate_size=text_config.intermediate_size, quant_config=quant_config)
"""


def checks(study, here=GB10, **server):
    given = load_study(study)
    if server:
        given = given.model_copy(update={"server": given.server.model_copy(update=server)})
    return {c.name: c for c in preflight.run(plan.make(given), here)}


def test_the_two_bugs_of_the_preview_file_are_found_where_they_are_and_nowhere_else():
    assert patchfile.bugs(FIXED) == []
    assert patchfile.bugs(WIDTH) == ["intermediate_size comes from the top-level configuration (line 9)"]
    assert patchfile.bugs(QUANT) == ["the target's quant_config reaches the drafter's linear layers (line 4/10)"]
    both = patchfile.bugs(QUANT.replace("intermediate_size=text_config.", "intermediate_size=config."))
    assert len(both) == 2
    assert "not Python" in patchfile.bugs("<!DOCTYPE html><title>404</title>")[0]


def test_a_target_quantisation_that_reaches_attention_alone_is_sound():
    """The K/V cache may be quantised: the fixed file hands quant_config on, and keeps it from every weight."""
    attention = "        self.attn = Attention(8, 64, 1.0, quant_config=quant_config)\n"
    layers = "\nlayers = [Layer(text_config, quant_config=vllm_config.quant_config) for _ in range(4)]\n"
    fixed = FIXED.replace("\nclass Layer", attention + "\nclass Layer") + layers
    assert patchfile.bugs(fixed) == []
    broken = fixed.replace("64, bias=False, quant_config=None", "64, bias=False, quant_config=quant_config")
    assert patchfile.bugs(broken) == ["the target's quant_config reaches the drafter's linear layers (line 4)"]


def test_a_config_that_is_the_text_config_under_another_name_is_no_bug():
    renamed = FIXED.replace("text_config = _get_text_config(config)", "inner = config.get_text_config()")
    assert patchfile.bugs(renamed.replace("text_config.intermediate_size", "inner.intermediate_size")) == []
    by_getattr = WIDTH.replace("config.intermediate_size", 'getattr(config, "intermediate_size", 4096)')
    assert "top-level" in patchfile.bugs(by_getattr)[0]


def test_the_patched_file_is_looked_at_where_it_is_mounted_from(tmp_path):
    file = tmp_path / "gemma4_mtp.py"
    mounts = (f"{file}:/usr/local/lib/python3.12/dist-packages/vllm/model_executor/models/gemma4_mtp.py:ro",)
    name = "patched gemma4_mtp.py"
    assert "is not there" in checks("gb10-31b-preview", mounts=mounts)[name].evidence
    file.write_text(WIDTH)
    assert checks("gb10-31b-preview", mounts=mounts)[name].verdict == "fail"
    file.write_text(FIXED)
    assert checks("gb10-31b-preview", mounts=mounts)[name].verdict == "ok"
    file.unlink()
    file.mkdir()
    assert "which docker made" in checks("gb10-31b-preview", mounts=mounts)[name].fix


def test_a_preview_image_without_the_patch_stops_a_quantised_target_and_not_a_bf16_one():
    assert checks("gb10-31b-preview", mounts=())["patched gemma4_mtp.py"].verdict == "fail"
    study = load_study("gb10-31b-preview", target={"model": "google/gemma-4-31B-it"})
    study = study.model_copy(update={"server": study.server.model_copy(update={"mounts": ()})})
    assert "patched gemma4_mtp.py" not in {c.name for c in preflight.run(plan.make(study), GB10)}
    assert "patched gemma4_mtp.py" not in checks("gb10-31b")


@pytest.mark.parametrize(
    ("version", "env", "verdict"),
    [
        ("0.20.1", {}, "fail"),
        ("0.21.0", {}, "ok"),
        ("0.25.1", {}, "fail"),
        ("0.26.0", {"VLLM_USE_V2_MODEL_RUNNER": "1"}, "ok"),
        ("0.27.1", {}, "fail"),
        ("0.28.0", {}, "ok"),
        ("0.33.0+cu129", {}, "ok"),
    ],
)
def test_releases_are_judged_by_the_known_bad_list(version, env, verdict):
    assert preflight.engine_verdict(f"vllm {version}", version, env).verdict == verdict


@pytest.mark.parametrize(
    ("image", "verdict"),
    [
        ("vllm/vllm-openai:gemma4-0505-arm64-cu130", "ok"),
        ("vllm/vllm-openai:v0.23.0-aarch64-cu129-ubuntu2404", "ok"),
        ("vllm/vllm-openai:v0.27.1", "fail"),
        ("vllm/vllm-openai:tokenspeed-preview-ubuntu2404", "fail"),
        ("docker.io/vllm/vllm-openai:nightly-1acd67a795ebccdf9b9db7697ae9082058301657", "ok"),
        ("vllm/vllm-openai:latest", "warn"),
        ("registry.local:5000/my-build", "warn"),
    ],
)
def test_images_are_judged_by_their_tags(image, verdict):
    found = preflight.engine_verdict(image, None, {})
    assert found.verdict == verdict and (found.fix or verdict == "ok")


def folder(path, **files):
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(json.dumps(content))
    (path / "model.safetensors").write_bytes(weights())
    return str(path)


def weights(size=16, header=b'{"w": {"dtype": "U8", "shape": [16], "data_offsets": [0, 16]}}'):
    return len(header).to_bytes(8, "little") + header + b"0" * size


def local(tmp_path, target, drafter, **server):
    raw = {"study": "x", "title": "x", "target": {"model": target}, "drafter": {"model": drafter}, "server": server}
    return {c.name: c for c in preflight.run(plan.make(validate(raw)), BARE)}


def test_a_base_target_is_stopped_and_let_through_on_purpose(tmp_path):
    text = {"text_config": {"hidden_size": 256}}
    target = folder(tmp_path / "t", config__json=text, tokenizer_config__json={"bos_token": "<bos>"})
    drafter = folder(tmp_path / "d", config__json={"backbone_hidden_size": 256})
    name = f"chat template of {target}"
    assert local(tmp_path, target, drafter)[name].verdict == "fail"
    allowed = local(tmp_path, target, drafter, allow=["chat template"])[name]
    assert allowed.verdict == "warn" and "on purpose" in allowed.evidence
    (tmp_path / "t/chat_template.jinja").write_text("{{ messages }}")
    assert local(tmp_path, target, drafter)[name].verdict == "ok"


def test_a_drafter_of_another_width_or_family_is_stopped(tmp_path):
    target = folder(tmp_path / "t", config__json={"text_config": {"hidden_size": 2816}})
    drafter = folder(tmp_path / "d", config__json={"backbone_hidden_size": 5376})
    found = local(tmp_path, target, drafter)["target and drafter belong together"]
    assert found.verdict == "fail" and "2816, drafter made for 5376" in found.evidence
    study = load_study("gb10-31b", drafter={"model": "google/gemma-4-26B-A4B-it-assistant"})
    named = {c.name: c for c in preflight.run(plan.make(study), GB10)}["target and drafter belong together"]
    assert named.verdict == "fail" and "target 31b, drafter 26b-a4b" in named.evidence


@pytest.mark.parametrize(
    ("target", "drafter", "verdict"),
    [
        ("dense", "dense-assistant", "ok"),
        ("dense", "moe-assistant", "warn"),
        ("dense-base", "dense-assistant", "ok"),
        ("Gemma-4-31B-it-NVFP4", "gemma-4-31B-it-assistant", "ok"),
        ("Gemma-4-12B-it", "gemma-4-31B-it-assistant", "warn"),
        ("mine", "gemma-4-31B-it-assistant", "warn"),
        ("mine", "drafter", "ok"),
    ],
)
def test_a_drafter_named_for_another_target_of_the_same_width_is_worth_a_warning(tmp_path, target, drafter, verdict):
    """The dense and the MoE miniature have one shape: their drafters load with either, and only acceptance tells."""
    one = folder(tmp_path / target, config__json={"text_config": {"hidden_size": 256}})
    other = folder(tmp_path / drafter, config__json={"backbone_hidden_size": 256})
    found = local(tmp_path, one, other)["target and drafter belong together"]
    assert found.verdict == verdict and ("by their names" in found.evidence) == (verdict == "warn")
    assert bool(found.fix) == (verdict == "warn")


def test_an_incomplete_download_is_named(tmp_path):
    target = folder(tmp_path / "t", config__json={}, model__safetensors__index__json={})
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "t/model.safetensors.index.json").write_text(json.dumps(index))
    found = local(tmp_path, target, target)[f"target {target}"]
    assert found.verdict == "fail" and "model-00001-of-00002" in found.evidence


@pytest.mark.parametrize(
    "content", [weights(15), weights(17), weights()[:-20], b"", weights(header=b"{" * 64), b"0" * 99]
)
def test_weights_that_are_cut_off_are_named_before_a_launch(tmp_path, content):
    target = folder(tmp_path / "t", config__json={}, tokenizer_config__json={})
    name = f"target {target}"
    assert local(tmp_path, target, target)[name].verdict == "ok"
    (tmp_path / "t/model.safetensors").write_bytes(content)
    found = local(tmp_path, target, target)[name]
    assert found.verdict == "fail" and "cut off: model.safetensors" in found.evidence and found.fix


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_json_that_is_cut_off_is_named_before_a_launch(tmp_path, file):
    target = folder(tmp_path / "t", config__json={"a": 1}, tokenizer__json={"a": 1}, tokenizer_config__json={"a": 1})
    assert local(tmp_path, target, target)[f"target {target}"].verdict == "ok"
    text = (tmp_path / "t" / file).read_text()
    (tmp_path / "t" / file).write_text(text[:-1])
    found = local(tmp_path, target, target)[f"target {target}"]
    assert found.verdict == "fail" and f"damaged or cut off: {file}" in found.evidence


def test_batched_tokens_below_one_multimodal_item_are_stopped_unless_the_server_is_text_only():
    name = "batched tokens for one multimodal item"
    assert checks("gb10-31b", max_num_batched_tokens=2048, limit_mm_per_prompt=None)[name].verdict == "fail"
    assert checks("gb10-31b", max_num_batched_tokens=2496, limit_mm_per_prompt=None)[name].verdict == "ok"
    assert checks("gb10-31b", max_num_batched_tokens=None, limit_mm_per_prompt=None)[name].verdict == "warn"
    assert name not in checks(
        "gb10-31b", max_num_batched_tokens=2048, limit_mm_per_prompt=None, args=("--language-model-only",)
    )
    assert name not in checks("gb10-31b", max_num_batched_tokens=2048, limit_mm_per_prompt={"image": 0, "audio": 0})


def test_memory_is_estimated_from_shapes_and_held_against_the_machine():
    found = checks("gb10-31b")
    # 31B in FP8: 30.9 GiB with encoders, 0.9 GiB drafter, 3 GiB overhead, of 0.5 x 121.6 = 60.8 GiB
    assert found["memory for weights"].verdict == "ok" and "60.8 GiB" in found["memory for weights"].evidence
    small = machine.Machine((machine.Gpu("NVIDIA RTX 4090", 23.99, 22.45, "570", 2520, 450),), 64, 60)
    assert checks("gb10-31b", small)["memory for weights"].verdict == "fail"
    billings = checks("rtx4090-26b-awq", small)
    assert billings["free memory"].verdict == "ok"  # 0.93 x 23.99 = 22.31 <= 22.45
    assert checks("rtx4090-26b-awq", small, gpu_memory_utilization=0.95)["free memory"].verdict == "fail"
    long = checks("rtx4090-26b-awq", small, max_model_len=262144)["context against K/V room"]
    assert long.verdict == "fail" and "max_model_len" in long.fix


def test_hamis_zero_limit_is_stopped_and_an_explicit_one_is_not():
    assert checks("gb10-31b", env={"CUDA_DEVICE_MEMORY_LIMIT_0": "0m"})["HAMi memory limit"].verdict == "fail"
    assert checks("gb10-31b", env={"CUDA_DEVICE_MEMORY_LIMIT_0": "24000m"})["HAMi memory limit"].verdict == "ok"
    assert checks("gb10-31b", replace(GB10, hami="0m"))["HAMi memory limit"].verdict == "fail"
    assert "HAMi memory limit" not in checks("gb10-31b")


def test_a_port_in_use_and_an_open_address_are_told():
    import socket

    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert checks("rtx4090-26b-awq", port=port)[f"port {port}"].verdict == "fail"
    assert "without a password" in checks("rtx4090-26b-awq")["address"].evidence
    assert "address" not in checks("gb10-31b")


def test_a_moe_without_tuned_settings_is_a_warning_alone():
    card = machine.Machine((machine.Gpu("No Such Card", 23.99, 23.5, "570", 2520, 450),), 64, 60)
    found = checks("rtx4090-26b-awq", card)["tuned MoE settings"]
    assert found.verdict == "warn" and "E=128,N=704,device_name=No_Such_Card" in found.evidence


def test_shared_memory_is_compared_with_what_the_cpu_engine_needs():
    def verdict(mib):
        return checks("miniature", replace(BARE, shared_gib=mib / 1024)).get("shared memory")

    assert verdict(64).verdict == "fail" and "64 MiB free in /dev/shm, the engine needs 160" in verdict(64).evidence
    assert "--shm-size" in verdict(64).fix
    assert verdict(160).verdict == "ok" and verdict(160).fix == ""
    assert "shared memory" not in checks("miniature", BARE)
    assert "shared memory" not in checks("h100-31b", replace(GB10, shared_gib=0.01))


def test_a_bare_machine_gets_the_whole_table_and_exit_1_without_a_traceback(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))  # no GPU tool, no engine, no bwrap
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(machine, "look", lambda: BARE)
    assert main(["preflight", "gb10-31b-preview"]) == 1
    out = capsys.readouterr()
    for name in (
        "GPU:",
        "engine:",
        "container engine docker: not on the PATH",
        "target RedHatAI/gemma-4-31B",
        "disk for checkpoints:",
        "patched gemma4_mtp.py:",
        "memory for weights:",
        "prefix cache:",
        "port 8000:",
    ):
        assert name in out.out
    assert "Traceback" not in out.out + out.err and "checks, " in out.out


@pytest.mark.parametrize("file", sorted(PARAMS.glob("*.yaml")), ids=lambda f: f.stem)
def test_every_study_of_the_repository_gets_a_table_on_a_bare_machine_with_a_mend_for_each_failure(file):
    found = preflight.run(plan.make(load_study(file)), BARE)
    assert len(found) >= 5
    assert all(c.fix for c in found if c.verdict == "fail")


# -- ways of proposing tokens --------------------------------------------------------------------------------------


def method_checks(build, speculator, **server):
    made = plan.make(build.study(speculators=["mtp", speculator], server=server))
    return {c.name: c for c in preflight.run(made, BARE)}


def test_a_draft_model_with_two_kinds_of_attention_is_refused_in_the_engine_s_own_words(build):
    found = method_checks(build, {"method": "draft_model", "drafter": {"model": "data/miniature/dense-base"}})
    check = found["draft model in this engine"]
    assert check.verdict == "fail" and "same kv cache group" in check.evidence and "all alike" in check.fix


def test_suffix_decoding_without_its_package_is_refused_in_the_engine_s_own_words(build, monkeypatch):
    from importlib import util

    plain, here = util.find_spec, [None]
    monkeypatch.setattr(util, "find_spec", lambda name: here[0] if name == "arctic_inference" else plain(name))
    check = method_checks(build, {"method": "suffix", "k_values": [8]})["suffix decoding in this engine"]
    assert check.verdict == "fail" and "Arctic Inference is required" in check.evidence
    here[0] = object()
    assert method_checks(build, "suffix")["suffix decoding in this engine"].verdict == "ok"


def test_a_method_that_is_younger_than_the_image_and_one_that_another_engine_has_not(build):
    head = {"method": "dspark", "drafter": {"model": "org/head"}}
    image = {"backend": "docker", "image": "vllm/vllm-openai:v0.29.0"}
    check = method_checks(build, head, **image)["DSpark in this engine"]
    assert check.verdict == "fail" and "since 0.32" in check.evidence
    assert "DSpark in this engine" not in method_checks(build, head, **{**image, "image": "vllm/vllm-openai:v0.33.0"})
    assert method_checks(build, "ngram", flavour="llama.cpp")["n-gram lookup in this engine"].verdict == "fail"
    assert method_checks(build, "ngram")["n-gram lookup in this engine"].verdict == "ok"


def test_a_drafter_that_is_not_here_is_named_before_anything_starts(build):
    head = {"method": "eagle3", "drafter": {"model": "data/heads/none"}}
    check = method_checks(build, head)["drafter data/heads/none"]
    assert check.verdict == "fail" and "no config.json" in check.evidence


# -- lengths -------------------------------------------------------------------------------------------------------


def test_a_context_beyond_what_the_model_was_made_for_is_named(build, tmp_path):
    study = {"context_tokens": [512, 2040], "target": {"model": "data/miniature/dense"}}
    found = {c.name: c for c in preflight.run(plan.make(build.study(**study)), BARE)}
    assert found["context"].verdict == "fail"
    assert (
        "2040 tokens of context and 20 of answer do not fit the checkpoint's max_position_embeddings (2048)"
        in found["context"].evidence
    )
    study |= {"context_tokens": [512, 2028], "context_document": str(tmp_path / "none.txt")}
    found = {c.name: c for c in preflight.run(plan.make(build.study(**study)), BARE)}
    assert found["context"].verdict == "ok" and found["context document"].verdict == "fail"

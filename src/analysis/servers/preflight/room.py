"""Memory: weights, drafter and K/V cache against the device; the token budget; tuned kernels."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import util
from pathlib import Path

from analysis import shapes
from analysis.servers import checkpoints, machine
from analysis.servers.preflight.check import Check
from analysis.servers.preflight.host import hardware_name
from analysis.servers.preflight.models import weight_format
from analysis.servers.preflight.releases import release
from analysis.study.plan import Arm, Plan

LEAST_BATCHED_TOKENS = 2496  # one multimodal item of the published checkpoints
OVERHEAD_GIB = 3.0  # CUDA context, graphs, activations: billings saw about 2 on 24 GiB
DEFAULT_UTILISATION = 0.9
MOST_UTILISATION, SMALL_GIB = 0.95, 32.0  # above this share of a card up to this size, graphs may not fit


def batched_tokens(arm: Arm, target: checkpoints.Files) -> Iterator[Check]:
    s = arm.server
    text_only = "--language-model-only" in s.args or (
        s.limit_mm_per_prompt is not None and not any(s.limit_mm_per_prompt.values())
    )
    if text_only or s.backend == "external" or not checkpoints.multimodal(arm.target.known_as, target.config):
        return
    name, tokens = "batched tokens for one multimodal item", s.max_num_batched_tokens
    fix = "Set server.max_num_batched_tokens to 4096."
    if tokens is None:
        evidence = f"left to the engine, whose default may be 2048; one item needs {LEAST_BATCHED_TOKENS}"
        yield Check(name, "warn", evidence, fix)
    elif tokens < LEAST_BATCHED_TOKENS:
        yield Check(name, "fail", f"{tokens}, and one item needs {LEAST_BATCHED_TOKENS}", fix)
    else:
        yield Check(name, "ok", f"{tokens}, one item needs {LEAST_BATCHED_TOKENS}")


def memory(plan: Plan, arm: Arm, target: checkpoints.Files, here: machine.Machine) -> Iterator[Check]:
    shape = shapes.shape_of(plan.study.model_shape or "")
    s = arm.server
    if shape is None or s.backend == "external":
        return
    known = shapes.machines().get(plan.study.hardware or "")
    declared = known and (known.device_gib or known.usable_gib or (known.memory_gb or 0) * 1e9 / 2**30)
    total = here.device_gib or declared
    if not total:
        return
    total *= s.tensor_parallel_size or 1
    whose = "" if here.device_gib else f" ({hardware_name(plan)}, by its data sheet)"
    share = s.gpu_memory_utilization or DEFAULT_UTILISATION
    budget = share * total
    context = s.max_model_len or 8192
    element = 1 if (s.kv_cache_dtype or "").startswith("fp8") else 2
    parts = shapes.footprint(shape, weight_format(arm, target), context, 1, element)
    gib = {part: size / 2**30 for part, size in parts.items()}
    if target.complete and not checkpoints.made_up(arm):
        gib["weights"], gib["encoders"] = target.gib, 0.0
    fixed = gib["weights"] + gib["encoders"] + gib["drafter"] + OVERHEAD_GIB
    shown = (
        f"weights {gib['weights'] + gib['encoders']:.1f} + drafter {gib['drafter']:.1f} + overhead {OVERHEAD_GIB:.0f} GiB"
        f" of {share:g} × {total:.1f} = {budget:.1f} GiB{whose}"
    )
    fix = "Raise server.gpu_memory_utilization, or take a smaller quantisation."
    yield Check("memory for weights", "ok" if fixed < budget else "fail", shown, "" if fixed < budget else fix)
    if share > MOST_UTILISATION and total / (s.tensor_parallel_size or 1) <= SMALL_GIB:
        evidence = f"{share:g} of {total:.1f} GiB: CUDA graphs are captured outside of it, and may find no room"
        yield Check("memory for graphs", "warn", evidence, "Set server.gpu_memory_utilization to 0.95 or less.")
    free = here.device_free_gib
    if free is not None:
        fits = budget * 1.0 <= free * (s.tensor_parallel_size or 1)
        fix = (
            "" if fits else f"Set server.gpu_memory_utilization below {free / total:.2f}, or stop what uses the memory."
        )
        yield Check("free memory", "ok" if fits else "fail", f"{free:.1f} GiB free, {budget:.1f} GiB asked for", fix)
    if fixed < budget:
        room, one = budget - fixed, gib["kv"]
        fix = "" if one < room else "Set a shorter server.max_model_len (8192 or 4096), or kv_cache_dtype fp8."
        evidence = f"{room:.1f} GiB left; one request of {context} tokens takes {one:.2f} GiB"
        yield Check("context against K/V room", "ok" if one < room else "fail", evidence, fix)


def page_cache(arm: Arm, here: machine.Machine) -> Iterator[Check]:
    """On unified memory vLLM up to 0.24 counts the page cache as used, and does not start."""
    if not here.gpus or here.gpus[0].total_gib or here.unused_gib is None or arm.server.backend == "external":
        return
    asked = (arm.server.gpu_memory_utilization or DEFAULT_UTILISATION) * here.total_gib
    version, fix = release(arm), "sync; echo 3 | sudo tee /proc/sys/vm/drop_caches (or use vLLM 0.25 or later)."
    evidence = f"{here.unused_gib:.1f} GiB unused ({here.free_gib:.1f} with the page cache), {asked:.1f} GiB asked for"
    short = here.unused_gib < asked
    strict = bool(version) and version < (0, 25)
    yield Check("page cache", "ok" if not short else "fail" if strict else "warn", evidence, fix if short else "")


def moe_config(plan: Plan, arm: Arm, target: checkpoints.Files, here: machine.Machine) -> Iterator[Check]:
    shape = shapes.shape_of(plan.study.model_shape or "")
    if shape is None or not shape.experts or arm.server.backend != "process" or not here.gpus:
        return
    spec = util.find_spec("vllm")
    device = here.gpus[0].name.replace(" ", "_")
    stem = f"E={shape.experts},N={shape.expert_intermediate},device_name={device}"
    folders = [
        Path(p) / "model_executor/layers/fused_moe/configs" for p in (spec.submodule_search_locations if spec else [])
    ]
    if any(f.is_file() for folder in folders for f in folder.glob(f"{stem}*")):
        yield Check("tuned MoE settings", "ok", f"{stem} is there")
        return
    evidence = (
        f"no file {stem}: default kernels. Its worth is open: 24 % by one claim; measured +3.5 % at kernel level and "
        "nothing in decoding (vllm #52192)"
    )
    yield Check("tuned MoE settings", "warn", evidence, "None needed: baseline and MTP are both without it.")

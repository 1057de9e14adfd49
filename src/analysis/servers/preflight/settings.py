"""Settings of a launch that are known to mislead or to fail: prefix cache, address, arguments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from analysis import shapes
from analysis.errors import ParamsError
from analysis.servers import launch
from analysis.servers.preflight.check import Check
from analysis.servers.preflight.releases import release
from analysis.servers.process import port_is_free
from analysis.study import environment
from analysis.study.plan import Arm, Plan


def prefix_cache(arm: Arm) -> Iterator[Check]:
    if arm.server.prefix_caching is False:
        yield Check("prefix cache", "ok", "off in every arm")
        return
    evidence = "on or left to the engine: a repeated prompt costs less than a new one"
    fix = "Set server.prefix_caching to false unless a published launch is reproduced."
    yield Check("prefix cache", "warn", evidence, fix)


def address(arm: Arm) -> Iterator[Check]:
    s = arm.server
    if s.backend == "external":
        yield Check("external server", "ok", f"{s.url}: the study says which arm to start there, and waits for it")
        return
    if s.port:
        free = port_is_free(s.port)
        fix = "" if free else "Stop what holds it, or set server.port to 0."
        yield Check(f"port {s.port}", "ok" if free else "fail", "free" if free else "in use", fix)
    if open_to := launch.exposure(arm):
        fix = "Set server.host to null unless a published launch is reproduced or others are to use the server."
        yield Check("address", "warn", open_to[0].lower() + open_to[1:], fix)


def variables(arm: Arm) -> Iterator[Check]:
    """References to variables of this shell that are not set; secrets that stand in the study file."""
    env = arm.server.env if arm.server.backend != "external" else {}
    try:
        environment.resolved(env, os.environ)
    except ParamsError as error:
        yield Check("variables", "fail", error.what.rstrip("."), error.fix)
    if written := [name for name, value in sorted(env.items()) if environment.secret(name, value)]:
        fix = f"Write {written[0]}: ${written[0]}, and export it in the shell that starts the study."
        yield Check("secrets", "warn", f"{', '.join(written)} stands in the study file", fix)


def arguments(plan: Plan, arm: Arm) -> Iterator[Check]:
    """Arguments and settings that are known to stop a launch of Gemma 4, or to make its numbers mislead."""
    given = " ".join(arm.server.args).lower()
    for judge in (_attention, _expert_parallel, _thinking, _async, _batch_invariant):
        yield from judge(arm, given)
    known = shapes.machines().get(plan.study.hardware or "")
    capability = known.compute_capability if known else None
    if capability and capability < 8.9 and (arm.server.kv_cache_dtype or "").startswith("fp8"):
        evidence = f"{known.name} has compute capability {capability}, and FP8 needs 8.9"
        yield Check("K/V type for this GPU", "fail", evidence, "Set server.kv_cache_dtype to null.")


def _attention(arm: Arm, given: str) -> Iterator[Check]:
    found = re.search(r"--attention-(?:backend[ =]|config[ =.]\S*?backend\W+)(\w+)", given)
    name = found[1] if found else arm.server.env.get("VLLM_ATTENTION_BACKEND", "").lower()
    if name and name not in ("triton_attn", "auto"):
        verdict = "fail" if name.startswith(("flashinfer", "xformers")) else "warn"
        evidence = f"{name.upper()} is forced, and Gemma 4's full layers have heads of 512, which few backends take"
        yield Check("attention backend", verdict, evidence, "Remove it, or set TRITON_ATTN.")


def _expert_parallel(arm: Arm, given: str) -> Iterator[Check]:
    if "--enable-expert-parallel" in given and arm.drafter and arm.speculator.speculates:
        version = release(arm)
        verdict = "fail" if version and version < (0, 30) else "warn"
        evidence = "it is on, and vLLM up to 0.29 checks the dense drafter as if it had experts"
        yield Check("expert parallelism with a drafter", verdict, evidence, "Remove --enable-expert-parallel.")


def _thinking(arm: Arm, given: str) -> Iterator[Check]:
    if "--reasoning-parser" in given or re.search(r"enable_thinking\W+true", given):
        evidence = "thinking is on or parsed: thoughts stream outside of the answer, and acceptance in them differs"
        fix = "Remove --reasoning-parser and enable_thinking where answers alone are to be measured."
        yield Check("thinking", "warn", evidence, fix)


def _async(arm: Arm, given: str) -> Iterator[Check]:
    if re.search(r"--(?:no-)?async-scheduling", given):
        evidence = "it is set by hand; the engine may refuse it beside a drafter, and the arms then differ in it"
        yield Check(
            "asynchronous scheduling", "warn", evidence, "Leave it to the engine, and compare the startup facts."
        )


def _batch_invariant(arm: Arm, given: str) -> Iterator[Check]:
    if arm.server.env.get("VLLM_BATCH_INVARIANT", "0") not in ("", "0"):
        evidence = "VLLM_BATCH_INVARIANT forces slow kernels: times of this launch are no speeds"
        yield Check("batch invariance", "warn", evidence, "Use it for comparing texts alone, in a variant of its own.")

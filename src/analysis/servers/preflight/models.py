"""The checkpoints of an arm: whether they are here and whole, belong together, and fit on the disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from analysis import shapes
from analysis.servers import checkpoints, machine
from analysis.servers.preflight.check import Check
from analysis.study.params import Model
from analysis.study.plan import Arm, Plan

SIZES = ("E2B", "E4B", "12B", "26B-A4B", "31B")  # of Google's Gemma 4 repositories


def of_checkpoint(arm: Arm, role: str, model: Model, files: checkpoints.Files) -> Check:
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
    if files.damaged:
        shown = ", ".join(files.damaged[:3])
        fix = f"Remove {shown} in that folder, then: python -m analysis prefetch STUDY."
        return Check(
            name, "fail", f"damaged or cut off: {shown}", fix if model.hub else f"Put a sound copy of {shown} there."
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


def repository(role: str, model: Model) -> Iterator[Check]:
    """A Gemma 4 id of Google's that does not exist, with the one that was probably meant."""
    found = re.fullmatch(r"google/gemma-4-(.+?)(-it(?:-assistant)?)?", model.model, re.IGNORECASE)
    stem = re.sub(r"-it-.*|-(?:qat|gguf|fp8|nvfp4)\b.*", "", found[1], flags=re.IGNORECASE) if found else ""
    if not found or stem.lower() in map(str.lower, SIZES):
        return
    meant = [f"google/gemma-4-{size}{found[2] or ''}" for size in SIZES if size.lower().startswith(stem.lower())]
    fix = f"Set {role}.model to {meant[0]}." if meant else f"Correct {role}.model in the study file."
    yield Check(f"{role} repository", "fail", f"there is no such repository: {model.model}", fix)


def chat_template(arm: Arm, target: checkpoints.Files) -> Iterator[Check]:
    name = f"chat template of {arm.target.model}"
    trap = "a base model: the drafter was trained on the -it one, and makes this one slower"
    if target.folder is not None:
        if target.chat_template:
            yield Check(name, "ok", "present")
        else:
            yield Check(name, "fail", f"none: {trap}", "Use the -it target.")
    elif re.fullmatch(r"google/gemma-4-(?:e\d+b|\d+b(?:-a\d+b)?)", arm.target.model.lower()):
        yield Check(name, "fail", f"Google's checkpoint of this name is {trap}", "Use the -it target.")
    elif checkpoints.family(arm.target.model) and not _instructed(arm.target):
        evidence = f"not looked at yet; the name has no -it, so this may be {trap}"
        yield Check(name, "warn", evidence, "Run: python -m analysis prefetch STUDY, then preflight again.")


def pair(arm: Arm, target: checkpoints.Files, drafter: checkpoints.Files) -> Iterator[Check]:
    name, fix = "target and drafter belong together", "Pair the drafter with its own -it target."
    names = [m.known_as for m in (arm.target, arm.drafter) if m]
    families = [checkpoints.family(n) for n in names]
    strangers = families[0] != families[1] if all(families) else _named_for_another(*names)
    if target.config and drafter.config:
        width = target.config.get("text_config", target.config).get("hidden_size")
        wanted = drafter.config.get("backbone_hidden_size")
        if width != wanted:
            yield Check(name, "fail", f"hidden size {width}, drafter made for {wanted}", fix)
        elif strangers:
            # Sizes of one family can agree; then only acceptance tells, after hours.
            said = "target {}, drafter {}".format(*(Path(n).name for n in names))
            yield Check(name, "warn", f"both have hidden size {width}, but by their names: {said}", fix)
        else:
            yield Check(name, "ok", f"hidden size {width}, drafter made for {wanted}")
    elif all(families):
        evidence = f"by their names: target {families[0]}, drafter {families[1]}"
        yield Check(name, "fail" if strangers else "ok", evidence, fix if strangers else "")


def _named_for_another(target: str, drafter: str) -> bool:
    """True where the drafter is called after another target than this: ``moe-assistant`` beside ``dense``."""
    made_for, assistant, _ = Path(drafter).name.lower().partition("-assistant")
    return bool(assistant) and not Path(target).name.lower().startswith(made_for)


def disk_for_checkpoints(
    plan: Plan, arm: Arm, target: checkpoints.Files, drafter: checkpoints.Files | None
) -> Iterator[Check]:
    shape = shapes.shape_of(plan.study.model_shape or "")
    if shape is None or arm.server.backend == "external" or (target.complete and (drafter is None or drafter.complete)):
        return
    if checkpoints.made_up(arm):
        return
    fmt = weight_format(arm, target)
    needed = 0.0 if target.complete else (shapes.weight_memory(shape, fmt) + 2 * shape.vision_and_audio) / 2**30
    needed += 0.0 if drafter is None or drafter.complete else shapes.drafter_memory(shape) / 2**30
    where = checkpoints.goes_to(arm, arm.target) or checkpoints.cache(arm)
    free = machine.free_gib(where)
    if free is None:
        return
    verdict = "ok" if free > needed * 1.05 else "fail"
    fix = "" if verdict == "ok" else "Free space, or put the cache on another disk (server.mounts, HF_HOME)."
    yield Check("disk for checkpoints", verdict, f"about {needed:.0f} GiB to download, {free:.0f} GiB free", fix)


def weight_format(arm: Arm, target: checkpoints.Files) -> shapes.Format:
    asked = dict(zip(arm.server.args, arm.server.args[1:], strict=False)).get("--quantization", "")
    name = checkpoints.format_of(f"{arm.target.known_as} {asked}", target.config)
    return shapes.models()[1][name]


def _token_file() -> bool:
    return (Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "token").is_file()


def _instructed(model: Model) -> bool:
    return any(re.search(r"(^|[-_/])it([-_]|$)", n.lower()) for n in (model.model, model.hub or ""))

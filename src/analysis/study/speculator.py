"""How an arm proposes tokens: one object per method of speculative decoding, and the names of arms that follow from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.errors import nearest


@dataclass(frozen=True)
class Speculator:
    """One method.

    Parameters
    ----------
    method : str
        As in vLLM's ``speculative_config``; ``none`` is the baseline.
    title : str
        What a reader sees: "MTP".
    needs_drafter : bool
        False where tokens are proposed from the text itself.
    logged : tuple of str
        Methods that the engine's startup log may name.
    """

    method: str
    title: str
    needs_drafter: bool = True
    logged: tuple[str, ...] = ()

    @property
    def speculates(self) -> bool:
        """False for the baseline alone."""
        return self.method != "none"

    @property
    def variant(self) -> str:
        """Name of the family of its arms in a study that compares methods."""
        return self.method.replace("_", "-")

    def arm(self, k: int, variant: str = "") -> str:
        """Name of an arm: ``baseline``, ``mtp-k4``, ``ngram-k4``; with a variant of another name ``ngram-k4@lookup``."""
        base = f"{self.variant}-k{k}" if self.speculates else "baseline"
        return f"{base}@{variant}" if variant and variant not in ("main", self.variant) else base

    def config(self, k: int, drafter: str | None, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The value of ``--speculative-config``; None for the baseline. ``settings`` are further keys, and win."""
        if not self.speculates:
            return None
        model = {"model": drafter} if self.needs_drafter else {}
        return {"method": self.method, **model, "num_speculative_tokens": k, **settings}

    def contradicted_by(self, logged: str | None) -> bool:
        """True where the log names a method that is not this one; a silent log contradicts nothing."""
        return logged is not None and logged not in self.logged


NONE = Speculator("none", "baseline", needs_drafter=False)
MTP = Speculator("mtp", "MTP", logged=("mtp",))
SPECULATORS: dict[str, Speculator] = {
    s.method: s
    for s in (
        NONE,
        MTP,
        Speculator("eagle3", "EAGLE-3", logged=("eagle3",)),
        Speculator("dflash", "DFlash", logged=("dflash",)),
        Speculator("dspark", "DSpark", logged=("dspark",)),
        Speculator("ngram", "n-gram lookup", needs_drafter=False, logged=("ngram", "ngram_gpu")),
        Speculator("suffix", "suffix decoding", needs_drafter=False, logged=("suffix",)),
        Speculator("draft_model", "draft model", logged=("draft_model",)),
    )
}


def of_settings(settings: Mapping[str, Any], drafter: str | None = None) -> Speculator:
    """The speculator that a study's ``speculative`` asks for: MTP unless it names another method.

    vLLM itself turns ``draft_model`` into MTP for an assistant of Gemma 4, so that is what such an arm is.
    Raises ValueError for an unknown method, with the nearest right name.
    """
    method = settings.get("method", "mtp")
    if method == "draft_model" and "assistant" in (drafter or ""):
        return MTP
    known = {name: s for name, s in SPECULATORS.items() if s.speculates}
    if method not in known:
        raise ValueError(
            f"'{method}' is no method of speculation{nearest(str(method), known)}; known are {', '.join(known)}"
        )
    return known[method]


def of_arm(name: str) -> tuple[Speculator, int, str]:
    """(speculator, K, variant) by the name of an arm; a name of another form is taken as an arm of MTP with K = 0."""
    base, _, variant = name.partition("@")
    if base == "baseline":
        return NONE, 0, variant
    found = re.fullmatch(r"(.+)-k(\d+)", base)
    known = SPECULATORS.get(found[1].replace("-", "_")) if found else None
    return (known, int(found[2]), variant) if found and known else (MTP, 0, variant)


def title_of_arm(name: str) -> str:
    """``mtp-k4`` is "MTP with K = 4", ``mtp-k4@eager`` "MTP with K = 4 (eager)"; a name of another form as it is."""
    speculator, k, variant = of_arm(name)
    base = name.partition("@")[0]
    title = f"{speculator.title} with K = {k}" if speculator.speculates and speculator.arm(k) == base else base
    return f"{title} ({variant})" if variant else title


def is_arm(name: str) -> bool:
    """Whether a text is the name of an arm."""
    speculator, k, _ = of_arm(name)
    return speculator.arm(k) == name.partition("@")[0]

"""A server's log, facts and counts -> known causes with their fixes, from the table in data/failures.yaml. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import yaml

from analysis.places import DATA
from analysis.servers.facts import StartupFacts
from analysis.study.plan import Arm

#: A drafter with less than this share accepted is sick (a paired one: 0.3 to 0.8).
LEAST_ACCEPTANCE = 0.02
ENOUGH_DRAFTS = 20


@dataclass(frozen=True)
class Cause:
    """A known failure: what it is, what to do, and who met it."""

    id: str
    cause: str
    fix: str
    source: str


@lru_cache
def _table() -> tuple[dict[str, str], ...]:
    return tuple(yaml.safe_load((DATA / "failures.yaml").read_text(encoding="utf-8"))["failures"])


def of_failed_start(log: str) -> Cause | None:
    """The first known cause of a start that failed, or None."""
    return next(iter(_found(log, "start", drafts=True)), None)


def silent(log: str) -> list[Cause]:
    """Known signs of a sick server in the log of one that did start."""
    return _found(log, "silent", drafts=True)


def of_running(log: str, facts: StartupFacts, arm: Arm) -> list[Cause]:
    """What is wrong, or not as one thinks, with a server that did start: by its log, its facts and what was asked."""
    causes = _found(log, "silent", drafts=bool(arm.k))
    if arm.k and facts.method not in (None, "mtp") and arm.speculative.get("method", "mtp") in ("mtp", "draft_model"):
        causes.append(
            Cause(
                "method-fell-back",
                f"The engine speculates by '{facts.method}', not by MTP: it does not know the drafter as Gemma 4's.",
                "Check drafter.model, and use vLLM 0.28.0 or later; the log must say method='mtp'.",
                "billings",
            )
        )
    if arm.k and facts.k is not None and facts.k != arm.k:
        causes.append(
            Cause(
                "another-k",
                f"The engine drafts {facts.k} tokens, the arm says {arm.k}.",
                "Remove the flag that overrides it.",
                "ours",
            )
        )
    if not arm.k and facts.method is not None:
        causes.append(
            Cause(
                "baseline-drafts",
                f"The baseline speculates by '{facts.method}'.",
                "Remove --speculative-config from server.args.",
                "ours",
            )
        )
    if facts.eager:
        asked = "as the study asks" if arm.server.enforce_eager else "though the study does not ask for it"
        causes.append(
            Cause(
                "eager-on",
                f"Eager mode is on, {asked}: no compilation and no CUDA graphs, so every arm is slower than it could be, and small steps most.",
                "Set server.enforce_eager to false unless a start in seconds matters more.",
                "ai-muninn",
            )
        )
    if arm.server.prefix_caching is False and facts.prefix_caching:
        causes.append(
            Cause(
                "prefix-cache-on",
                "The prefix cache is on though the study switched it off.",
                "Remove --enable-prefix-caching from server.args.",
                "ours",
            )
        )
    return causes


def of_counts(k: int, drafts: int, draft_tokens: int, accepted: int, preemptions: int = 0) -> list[Cause]:
    """What counters over some cells of one arm tell: drafts idle, drafts never accepted, requests preempted."""
    table = {entry["id"]: entry for entry in _table()}
    causes = []
    if k and not drafts:
        causes.append(
            Cause(
                "drafting-disabled",
                "The arm has a drafter, and drafted nothing.",
                table["drafting-disabled"]["fix"],
                "vllm",
            )
        )
    if k and draft_tokens >= ENOUGH_DRAFTS and accepted < LEAST_ACCEPTANCE * draft_tokens:
        causes.append(_cause(table["acceptance-zero"], [str(draft_tokens)]))
    if preemptions:
        causes.append(_cause(table["preempted"], []))
    return causes


def _found(log: str, when: str, drafts: bool) -> list[Cause]:
    causes = []
    for entry in _table():
        if entry["when"] != when or (entry.get("arms") == "mtp" and not drafts):
            continue
        if match := re.search(entry["pattern"], log):
            causes.append(_cause(entry, [g or "" for g in match.groups()]))
    return causes


def _cause(entry: dict[str, str], groups: list[str]) -> Cause:
    return Cause(entry["id"], entry["cause"].format(*groups), entry["fix"].format(*groups), entry["source"])

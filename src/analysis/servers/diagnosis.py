"""A server's log -> known causes with their mends, from the table in data/failures.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import yaml

from analysis.places import DATA


@dataclass(frozen=True)
class Cause:
    """A known failure found in a log: what it is, and what to do."""

    id: str
    cause: str
    mend: str
    source: str


@lru_cache
def _table() -> tuple[dict[str, str], ...]:
    return tuple(yaml.safe_load((DATA / "failures.yaml").read_text(encoding="utf-8"))["failures"])


def of_failed_start(log: str) -> Cause | None:
    """The first known cause of a start that failed, or None."""
    return next(iter(_found(log, "start")), None)


def silent(log: str) -> list[Cause]:
    """Known signs of a sick server in the log of one that did start."""
    return _found(log, "silent")


def _found(log: str, when: str) -> list[Cause]:
    causes = []
    for entry in _table():
        if entry["when"] == when and (match := re.search(entry["pattern"], log)):
            groups = [g or "" for g in match.groups()]
            causes.append(Cause(entry["id"], entry["cause"].format(*groups), entry["mend"].format(*groups), entry["source"]))
    return causes

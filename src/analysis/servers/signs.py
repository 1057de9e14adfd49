"""The table of known failures (data/failures.yaml) and where a log shows them. Pure; time linear in the log's length.

Each sign has a fixed phrase, which is looked for in the whole text; only the lines that have it meet the expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from analysis.places import DATA
from analysis.servers import loglines


@dataclass(frozen=True)
class Cause:
    """A known failure: what it is, what to do, and who met it."""

    id: str
    cause: str
    fix: str
    source: str


@dataclass(frozen=True)
class Sign:
    """A phrase that must be in a line, and the expression that the line must then fit."""

    phrase: str
    pattern: re.Pattern[str]


@dataclass(frozen=True)
class Failure:
    """An entry of the table. ``beside``: groups of signs, one of each must be somewhere in the log."""

    id: str
    when: str
    cause: str
    fix: str
    source: str
    signs: tuple[Sign, ...]
    beside: tuple[tuple[Sign, ...], ...]
    mtp_only: bool
    warnings: bool
    weak: bool


@dataclass(frozen=True)
class Match:
    line: int
    words: dict[str, str]
    groups: list[str]


@lru_cache
def table() -> tuple[Failure, ...]:
    """The failures, in the order of the file."""
    return tuple(
        Failure(
            id=raw["id"],
            when=raw["when"],
            cause=raw["cause"],
            fix=raw["fix"],
            source=raw["source"],
            signs=tuple(map(_sign, raw["signs"])),
            beside=tuple(tuple(map(_sign, g if isinstance(g, list) else [g])) for g in raw.get("beside", ())),
            mtp_only=raw.get("arms") == "mtp",
            warnings=raw.get("warnings", False),
            weak=raw.get("weak", False),
        )
        for raw in _file()["failures"]
    )


def last(entry: Failure, log: str) -> Match | None:
    """Where an entry is last found in the log; named groups of its context are kept with it."""
    also: dict[str, str] = {}
    for group in entry.beside:
        match = next((m for sign in group for m in matches(sign, log, True)), None)
        if match is None:
            return None
        also |= match.words
    every = entry.when == "silent"
    found = [m for sign in entry.signs for m in matches(sign, log, every, entry.warnings)]
    if not found:
        return None
    last = max(found, key=lambda m: m.line)
    return Match(last.line, also | last.words, last.groups)


def matches(sign: Sign, log: str, every: bool, warnings: bool = False) -> Iterator[Match]:
    """The lines that fit a sign; of information, warnings and retries only where ``every`` line counts."""
    at, number, counted = log.find(sign.phrase), 0, 0
    while at >= 0:
        number += log.count("\n", counted, at)
        counted = at
        begin = log.rfind("\n", 0, at) + 1
        end = log.find("\n", at)
        end = len(log) if end < 0 else end
        raw = log[begin : min(end, begin + loglines.LONGEST)]
        said = loglines.line(number, raw)
        dull = (
            said.level in ("DEBUG", "INFO") or (said.level == "WARNING" and not warnings) or ", retrying" in said.text
        )
        if (every or not dull) and (match := sign.pattern.search(raw)):
            words = {k: v or "" for k, v in match.groupdict().items()}
            yield Match(number, words, [g or "" for g in match.groups()])
        at = log.find(sign.phrase, end)


def told(entry: Failure, match: Match) -> Cause:
    """The cause in words, with what the match found put in."""
    words = dict(match.words)
    if "library" in words:
        words["package"] = _package(words["library"])
    return Cause(
        entry.id, entry.cause.format(*match.groups, **words), entry.fix.format(*match.groups, **words), entry.source
    )


@lru_cache
def _file() -> dict[str, Any]:
    return yaml.safe_load((DATA / "failures.yaml").read_text(encoding="utf-8"))


def _package(library: str) -> str:
    known = (package for name, package in _file()["libraries"].items() if library.startswith(name))
    return next(known, f"what brings {library} (apt-file search {library})")


def _sign(pattern: str) -> Sign:
    return Sign(phrase(pattern), re.compile(pattern))


def phrase(pattern: str) -> str:
    """The longest piece of an expression that every match must contain: plain characters outside of groups."""
    pieces, piece, depth, at = [], "", 0, 0
    while at < len(pattern):
        char, plain = pattern[at], True
        if char == "\\":
            at += 1
            char, plain = pattern[at], not pattern[at].isalnum()
        elif char == "[":
            at = pattern.index("]", at + 2)
            plain = False
        elif char in "()":
            depth += 1 if char == "(" else -1
            plain = False
        elif char in "?*+{":
            if char != "+":
                piece = piece[:-1]
            at = pattern.index("}", at) if char == "{" else at
            plain = False
        elif char in ".^$|":
            plain = False
        if plain and depth == 0:
            piece += char
        else:
            pieces.append(piece)
            piece = ""
        at += 1
    return max([*pieces, piece], key=len)

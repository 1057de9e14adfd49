"""Is a line of a record sound? Bytes of a JSON-lines file in, records and `Damage` out. Pure.

A file may be edited, copied badly or cut. One bad line must not make a study unreadable: it is named and passed over, and
a measurement that has lost it is measured again. What a measurement's requests were is known by a hash in its own line.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from analysis.servers.facts import StartupFacts

Record = dict[str, Any]
LARGEST = 2**53
"""Of a count: what every reader of JSON keeps exactly."""
_LAUNCH_ID = re.compile(r"[\w@+-][\w.@+-]{0,199}")  # it names a folder

WHAT_TO_DO = {
    "cells.jsonl": "Nothing has to be done: that measurement is made again by the next run.",
    "requests.jsonl": "Leave the file as it is: a measurement that lost a request is made again as a whole by the next run.",
    "outcomes.jsonl": "Nothing has to be done: the program is run again.",
    "study.json": "Nothing has to be done: it was read from the launches, and the next run that measures writes it anew.",
    "launch.json": "Nothing has to be done: what was measured in that launch is measured again by the next run.",
}


@dataclass(frozen=True)
class Damage:
    """What cannot be read: the file as a reader finds it, its line (0: the whole file), and why."""

    file: str
    line: int
    why: str

    def __str__(self) -> str:
        where = f"Line {self.line} of {self.file}" if self.line else self.file
        return f"{where} is no sound record: {self.why}. {WHAT_TO_DO.get(self.file.rpartition('/')[2], '')}".strip()


def read(content: bytes, shown: str) -> tuple[list[Record], list[Damage]]:
    """Sound records of a file, and its damaged lines. What follows the last newline is torn by a crash, and no damage."""
    kind = shown.rpartition("/")[2].removesuffix(".jsonl")
    records, damage = [], []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            record = parsed(line)
            _check(record, kind)
            records.append(record)
        except ValueError as error:
            damage.append(Damage(shown, number, str(error)))
    return records, damage


def whole(text: bytes, kind: str) -> Record:
    """A file of one JSON object: of a launch or of a study. Raises ValueError with what is wrong, in words."""
    record = parsed(text)
    _check(record, kind)
    known = {name: value for name, value in record.get("facts", {}).items() if name in StartupFacts.model_fields}
    try:
        StartupFacts.model_validate(known)
    except ValidationError as error:
        raise ValueError(f"'facts.{error.errors()[0]['loc'][0]}' is of another kind") from None
    return record


def parsed(text: bytes) -> Record:
    """One JSON object of real numbers and real text. Raises ValueError with what is wrong, in words."""
    try:
        record = json.loads(text, parse_constant=_no_number)
        if b"\\u" in text:
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a character (a lone surrogate)") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        known = str(error) if str(error).startswith("it ") else "it is not JSON" if text.strip() else "it is empty"
        raise ValueError(known) from None
    if not isinstance(record, dict):
        raise ValueError("it is not an object")
    return record


def hash_of(requests: Iterable[Record]) -> str:
    """Of a measurement's requests, in the order of their index; the launch's name may change when records are merged."""
    kept = [{k: v for k, v in r.items() if k != "launch_id"} for r in requests]
    kept.sort(key=lambda r: str(r.get("index", "")))
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def has_lost(cell: Record, requests: list[Record]) -> str:
    """Why a measurement's requests are not those that were written with it; empty if they are.

    Records from before the hash have the number of their requests alone.
    """
    if (expected := cell.get("requests_hash")) is not None:
        same = expected == hash_of(requests)
    else:
        same = cell.get("requests", len(requests)) == len(requests)
    if same:
        return ""
    count, of = len(requests), cell.get("requests", "?")
    return f"{count} of its {of} requests are in requests.jsonl" if count != of else "its requests were changed"


def _no_number(name: str) -> None:
    raise ValueError(f"it holds {name}, which is no number")


def _check(record: Record, kind: str) -> None:
    """Raises ValueError where a key is missing, or a field has another kind than it was written with."""
    for name in _KEYS[kind]:
        if name not in record:
            raise ValueError(f"'{name}' is missing")
    for name, (holds, words) in _FIELDS[kind].items():
        if name in record and not holds(record[name]):
            raise ValueError(f"'{name}' is {_cut(record[name])}, not {words}")


def _cut(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LARGEST


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -LARGEST < value < LARGEST


COUNT = (_is_count, "a count")
SECONDS = (_is_seconds, "a time")
TEXT = (lambda value: isinstance(value, str), "text")
COUNTS = (lambda value: isinstance(value, list) and all(map(_is_count, value)), "a list of counts")
LAUNCH = (lambda value: isinstance(value, str) and bool(_LAUNCH_ID.fullmatch(value)), "the name of a launch")

OBJECT = (lambda value: isinstance(value, dict), "an object")
WHOLE = (_is_whole, "a whole number")
CAUSES = (
    lambda value: (
        isinstance(value, list) and all(isinstance(c, dict) and isinstance(c.get("cause"), str) for c in value)
    ),
    "a list of causes",
)

_KEYS = {
    "launch": ("k", "facts"),
    "study": ("study", "format"),
    "cells": ("cell_id", "launch_id", "status"),
    "requests": ("cell_id", "launch_id"),
    "outcomes": ("cell_id", "index"),
}
_FIELDS: dict[str, dict[str, tuple]] = {
    "launch": {
        **dict.fromkeys(("arm", "variant", "command", "target", "speculator"), TEXT),
        **dict.fromkeys(("ready_s", "first_request_s"), SECONDS),
        **dict.fromkeys(("facts", "provenance", "env"), OBJECT),
        "k": COUNT,
        "launch": COUNT,
        "causes": CAUSES,
    },
    "study": {"study": TEXT, "format": COUNT, "provenance": OBJECT, "parameters": OBJECT, "stamp": TEXT},
    "cells": {
        "cell_id": TEXT,
        "launch_id": LAUNCH,
        "status": TEXT,
        "per_position": COUNTS,
        "wall_s": SECONDS,
        "causes": CAUSES,
        "label": TEXT,
        "reason": TEXT,
        **dict.fromkeys(
            ("requests", "prompt_tokens", "completion_tokens", "drafts", "draft_tokens", "accepted"), COUNT
        ),
        **dict.fromkeys(("generation_tokens", "prefix_hits", "preemptions"), COUNT),
    },
    "outcomes": {"cell_id": TEXT, "index": COUNT},
    "requests": {
        "cell_id": TEXT,
        "launch_id": LAUNCH,
        "index": COUNT,
        "prompt_id": TEXT,
        "seed": WHOLE,
        "stream": COUNT,
        "seconds": SECONDS,
        "ttft": SECONDS,
        "last": SECONDS,
        "chunks": COUNT,
        "prompt_tokens": COUNT,
        "completion_tokens": (lambda value: _is_count(value) and value > 0, "a count above 0"),
        "finish_reason": TEXT,
        "text": TEXT,
        "steps_accepted": COUNTS,
        "steps_drafted": COUNTS,
    },
}

"""What is kept of an answer whose text is not to be published: its hash, its length, and how far it repeats itself.

Pure: a record in, a record out. Two answers of the same text have the same hash, so agreement can still be counted.
"""

from __future__ import annotations

import hashlib
from statistics import median
from typing import Any

import pandas as pd

PREFIX = "sha256:"


def record(answer: dict[str, Any]) -> dict[str, Any]:
    """The record of an answer without its words: each text becomes its hash, beside `chars` and `repetition`."""
    text = answer["text"]
    texts = {
        key: _hash(value) for key, value in answer.items() if isinstance(value, str) and key in ("text", "thinking")
    }
    return {**answer, **texts, "chars": len(text), "repetition": repetition(text)}


def thin(answer: dict[str, Any]) -> dict[str, Any]:
    """The record of one of many answers under load, as it is published: without its words, and of its gaps the median, which
    is all that is read of them. A level of 256 streams would be megabytes otherwise."""
    kept = answer if is_withheld(answer["text"]) else record(answer)
    return {**kept, "gaps": [median(kept["gaps"])]} if kept.get("gaps") else kept


def is_withheld(text: str) -> bool:
    """Whether a recorded text is the hash of one."""
    return text.startswith(PREFIX) and len(text) == len(PREFIX) + 64


def derived(frame: pd.DataFrame, column: str, of_text: pd.Series) -> pd.Series:
    """A column that follows from the text: as it was recorded where the text is withheld."""
    if column not in frame:
        return of_text
    return frame[column].where(frame["text"].map(is_withheld), of_text)


def repetition(text: str, window: int = 8) -> float:
    """Share of windows of ``window`` words (characters where the text has few spaces) that occurred before in it."""
    units = text.split()
    if len(units) < len(text) / 20:
        units = list(text)
        window *= 2
    windows = [tuple(units[i : i + window]) for i in range(len(units) - window + 1)]
    return 0.0 if not windows else 1 - len(set(windows)) / len(windows)


def _hash(text: str) -> str:
    return f"{PREFIX}{hashlib.sha256(text.encode()).hexdigest()}" if text else ""

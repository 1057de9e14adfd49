"""Printed numbers as the intervals they stand for: 13.74 is 13.735 to 13.745. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal

Interval = tuple[float, float]
INF = float("inf")
#: metrics that are whole counts, printed exactly
COUNTS = {"drafts", "draft_tokens", "accepted", "tokens"}


def interval(printed: str, reading: str = "exact", metric: str = "") -> Interval:
    """The values a printed number can stand for: half a unit of its last digit to each side.

    Counts are exact. After "about", trailing zeros of a whole number are not digits. "up to" and "at least" are open.
    """
    half = 0.0 if metric in COUNTS else 0.5 * 10.0 ** last_digit(printed, reading)
    low, high = float(printed) - half, float(printed) + half
    return {"at-least": (low, INF), "up-to": (-INF, high)}.get(reading, (low, high))


def last_digit(printed: str, reading: str = "exact") -> int:
    """Power of ten of the last meaningful digit: -2 for 13.74, 1 for "about 870"."""
    exponent = Decimal(printed).as_tuple().exponent
    if reading != "exact" and exponent == 0:
        exponent = len(printed) - len(printed.rstrip("0"))
    return exponent


def apply(function: Callable[..., float], *inputs: Interval) -> Interval:
    """Image of intervals under a function that is monotone in each argument: the extremes are at corners."""
    corners = [function(*corner) for corner in itertools.product(*inputs)]
    return min(corners), max(corners)


def overlap(a: Interval, b: Interval) -> bool:
    """Can both be the same number? A relative 1e-9 absorbs binary rounding of decimal corners."""
    slack = 1e-9 * max((abs(x) for x in (*a, *b) if abs(x) < INF), default=0)
    return a[0] <= b[1] + slack and b[0] <= a[1] + slack


def check(name: str, kind: str, where: str, printed: tuple[str, Interval], reach: Interval) -> dict:
    """One row of a result: does the printed number overlap what it should be?"""
    text, span = printed
    low, high = reach
    found = f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g} to {high:.4g}"
    return dict(name=name, kind=kind, where=where, printed=text, found=found, ok=overlap(span, reach))

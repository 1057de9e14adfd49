"""What a run is worth: `Traces` in, `Outcome` out. Pure; what comes from inside is data that may be forged or broken.

A program passes when it parses, ends with exit 0 and hands back ``[date, close, monthly_return]`` for ten years, with
recorded closes and right returns. The chart is reported apart: the published prompt does not ask for one.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

COLUMNS = ("date", "close", "monthly_return")
TEN_YEARS = (118, 121)
"""Months in a result: 120 in ten years, one less where the first return is dropped, one more or less by the dates."""
RETURN_TOLERANCE = 1e-4
"""Absolute, as a fraction: programs may round to four places."""
CLOSE_TOLERANCE = 0.51
"""In index points: programs may round to whole points."""
MOST_ROWS = 2_000
SMALLEST_CHART = 64
"""Pixels a side under which a picture is no chart."""
PNG = b"\x89PNG\r\n\x1a\n"
Month = tuple[str, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One generated program, run and checked. `seconds` is its wall time from start to end of the program [s]."""

    parsed: bool = False
    ran: bool = False
    columns_ok: bool = False
    rows: int = 0
    rows_ok: bool = False
    returns_ok: bool = False
    chart_written: bool = False
    passed: bool = False
    seconds: float = 0.0
    reason: str = ""
    """Why it did not pass, in words; empty when it did."""
    source: str = ""
    """Where the result was found: the name of a variable, or a call such as ``fetch_monthly_returns()``."""
    result: tuple[Month, ...] = field(default=(), repr=False)
    """(date, close, monthly_return) as the program had them, for a chart of our own."""
    chart_png: bytes = field(default=b"", repr=False)
    """The picture that it saved, or the figure that it left open (then `chart_written` is False)."""
    stdout: str = field(default="", repr=False)
    stderr: str = field(default="", repr=False)

    def row(self) -> dict[str, Any]:
        """One row of a tidy frame."""
        names = ("parsed", "ran", "columns_ok", "rows", "returns_ok", "chart_written", "passed")
        return {**{name: getattr(self, name) for name in names}, "execute_s": self.seconds, "reason": self.reason}


def judge(
    events: Sequence[dict],
    status: int,
    *,
    stopped: str = "",
    seconds: float = 0.0,
    stdout: str = "",
    stderr: str = "",
    complete: bool = True,
    recorded: Sequence[float] = (),
) -> Outcome:
    """The checks. `recorded`: closes that a result must be made of, in order of time."""
    said = {event.get("event"): event for event in reversed(events)}
    parsed = said.get("parsed", {}).get("ok") is True
    # A stop while our own search calls the program's functions is no fault of the program's run.
    ran = parsed and (said["ran"].get("status") == 0 if "ran" in said else status == 0 and not stopped)
    frame = said.get("frame", {})
    columns = tuple(_text(name) for name in _list(frame.get("columns"))[:40])
    result = _months(frame.get("records"))
    png = _png(said.get("chart", {}).get("png"))
    columns_ok = len(columns) == 3 and set(columns) == set(COLUMNS)
    length = frame.get("length")
    rows = length if isinstance(length, int) and length >= 0 else 0
    made_of_record = _recorded(result, recorded) if recorded else True
    rows_ok = rows == len(result) and TEN_YEARS[0] <= rows <= TEN_YEARS[1] and made_of_record
    returns_ok = _returns(result)
    faults = (
        (not parsed, _unparsed(said.get("parsed", {}), status, stopped, complete)),
        (not ran, _not_run(said.get("ran", {}), status, stopped)),
        (not frame, f"no result was found{f': {stopped}' if stopped else ''}"),
        (not columns_ok, f"the columns are {', '.join(columns) or 'none'}"),
        (not result, "the rows cannot be read"),
        (not made_of_record, "the closes are not the recorded ones"),
        (not rows_ok, f"{rows} rows instead of {TEN_YEARS[0]} to {TEN_YEARS[1]}"),
        (not returns_ok, "monthly_return is not the percentage change of close"),
    )
    reason = next((words for wrong, words in faults if wrong), "")
    return Outcome(
        parsed=parsed,
        ran=ran,
        columns_ok=columns_ok,
        rows=rows,
        rows_ok=rows_ok,
        returns_ok=returns_ok,
        chart_written=bool(png) and said["chart"].get("written") is True,
        passed=not reason,
        seconds=seconds,
        reason=reason,
        source=_text(frame.get("source")),
        result=result,
        chart_png=png,
        stdout=stdout,
        stderr=stderr,
    )


def _unparsed(event: dict, status: int, stopped: str, complete: bool) -> str:
    words = _text(event.get("error")) or stopped or f"the parser stopped with exit {status}"
    return f"does not parse: {words}" + ("" if complete else " (the answer was cut off inside the code)")


def _not_run(event: dict, status: int, stopped: str) -> str:
    if stopped:
        return f"stopped: {stopped}"
    if _text(event.get("error")):
        return _text(event["error"])
    signals = {152: "it used up its CPU seconds", 137: "it was killed", 139: "it crashed (segmentation fault)"}
    return signals.get(status, f"it ended with exit {status}")


def _list(value: object) -> list:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value[:300] if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if number else None


def _months(records: object) -> tuple[Month, ...]:
    """Rows in order of time; none at all where one has not three fields."""
    rows = _list(records)
    if len(rows) > MOST_ROWS or not all(isinstance(row, list) and len(row) == 3 for row in rows):
        return ()
    months = ((_text(date), _number(close), _number(change)) for date, close, change in rows)
    return tuple(sorted(months, key=lambda month: month[0]))


def _recorded(result: Sequence[Month], recorded: Sequence[float]) -> bool:
    """Are the closes a stretch of the record, in its order?"""
    closes = [close for _, close, _ in result]
    if not closes or None in closes:
        return False
    return any(
        all(abs(mine - theirs) <= CLOSE_TOLERANCE for mine, theirs in zip(closes, recorded[at:], strict=False))
        for at in range(len(recorded) - len(closes) + 1)
    )


def _returns(result: Sequence[Month]) -> bool:
    """Is monthly_return close_t / close_{t−1} − 1, as fractions or throughout in per cent? The first row is free."""
    if len(result) < 2:
        return False
    for scale in (1.0, 100.0):
        for (_, before, _), (_, close, change) in pairwise(result):
            if not before or close is None or change is None:
                return False
            if not abs(change / scale - (close / before - 1)) <= RETURN_TOLERANCE:
                break
        else:
            return True
    return False


def _png(text: object) -> bytes:
    """The picture, if it is a PNG of some size with a sound header and an end; else nothing."""
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""
    if len(data) < 57 or not data.startswith(PNG + b"\x00\x00\x00\rIHDR") or data[-8:-4] != b"IEND":
        return b""
    width, height = struct.unpack(">II", data[16:24])
    sound = struct.unpack(">I", data[29:33])[0] == zlib.crc32(data[12:29])
    return data if sound and min(width, height) >= SMALLEST_CHART else b""

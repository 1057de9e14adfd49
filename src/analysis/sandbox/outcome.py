"""What a run is worth: `Traces` in, `Outcome` out. Pure; what was left by a program is data that may be forged or broken.

A program passes when it parses, ends with exit 0 and leaves ``[date, close, monthly_return]`` for ten years, with the
recorded closes of the recorded months and their right returns. All of it is seen from outside the program's process. The
chart is reported apart: the published prompt does not ask for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.sandbox import chart, dates
from analysis.sandbox.confined import Traces
from analysis.visible import visible

COLUMNS = ("date", "close", "monthly_return")
TEN_YEARS = (118, 121)
"""Months in a result: 120 in ten years, one less where the first return is dropped, one more or less by the dates."""
RETURN_TOLERANCE = 2e-4
"""Absolute, as a fraction: programs may round closes to whole points and returns to four places."""
CLOSE_TOLERANCE = 0.51
"""In index points: programs may round to whole points."""
MOST_ROWS = 2_000
Month = tuple[str, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One generated program, run and checked. `seconds` is the wall time of its process [s]."""

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
    wall: str = ""
    """The kind of wall that it ran behind; empty where there was no program to run."""
    source: str = ""
    """Where the result was found: the name of a variable, or a call such as ``fetch_monthly_returns()``."""
    result: tuple[Month, ...] = field(default=(), repr=False)
    """(date, close, monthly_return) as the program had them, for a chart of our own."""
    chart_png: bytes = field(default=b"", repr=False)
    """The picture that it saved, or the figure that it left open (then `chart_written` is False); encoded anew."""
    stdout: str = field(default="", repr=False)
    stderr: str = field(default="", repr=False)

    def row(self) -> dict[str, Any]:
        """One row of a tidy frame."""
        names = ("parsed", "ran", "columns_ok", "rows", "returns_ok", "chart_written", "passed")
        row = {**{name: getattr(self, name) for name in names}, "execute_s": self.seconds, "reason": self.reason}
        return {**row, "wall": self.wall}


def judge(
    traces: Traces, *, wall: str = "", complete: bool = True, recorded: Sequence[tuple[str, float]] = ()
) -> Outcome:
    """The checks. `recorded`: (YYYY-MM, close) of the series that a result must be a stretch of, in order of time."""
    left = traces.result
    ran = traces.parsed and traces.status == 0 and not traces.stopped
    if not ran:
        left = {}
    columns = tuple(_text(name) for name in _list(left.get("columns"))[:40])
    columns_ok = len(columns) == 3 and set(columns) == set(COLUMNS)
    length = left.get("length")
    rows = length if isinstance(length, int) and not isinstance(length, bool) and length >= 0 else 0
    result = _months(left.get("records"))
    at = _stretch([close for _, close, _ in result], [close for _, close in recorded])
    dated = at is not None and dates.fit([date for date, _, _ in result], [month for month, _ in recorded[at:]])
    enough = rows == len(result) and TEN_YEARS[0] <= rows <= TEN_YEARS[1]
    returns_ok = at is not None and _returns(result, [close for _, close in recorded], at)
    picture = chart.rewritten(traces.chart) if ran else b""
    faults = (
        (not traces.parsed, _unparsed(traces, complete)),
        (not ran, _not_run(traces)),
        (not left, "no result was found"),
        (not columns_ok, f"the columns are {', '.join(columns) or 'none'}"),
        (not result, "the rows cannot be read"),
        (any(close is None for _, close, _ in result), "close holds something that is no number"),
        (at is None, "the closes are not the recorded ones"),
        (not enough, f"{rows} rows instead of {TEN_YEARS[0]} to {TEN_YEARS[1]}"),
        (not dated, "the dates are not the months of the closes"),
        (not returns_ok, "monthly_return is not the percentage change of close"),
    )
    reason = next((words for wrong, words in faults if wrong), "")
    return Outcome(
        parsed=traces.parsed,
        ran=ran,
        columns_ok=columns_ok,
        rows=rows,
        rows_ok=enough and at is not None and dated,
        returns_ok=returns_ok,
        chart_written=bool(picture) and traces.chart_written is True,
        passed=not reason,
        seconds=traces.seconds,
        reason=reason,
        wall=wall,
        source=_text(left.get("source")),
        result=result,
        chart_png=picture,
        stdout=traces.stdout,
        stderr=traces.stderr,
    )


def _unparsed(traces: Traces, complete: bool) -> str:
    words = traces.error or traces.stopped or "the parser did not end"
    return f"does not parse: {words}" + ("" if complete else " (the answer was cut off inside the code)")


def _not_run(traces: Traces) -> str:
    if traces.stopped:
        return traces.stopped if traces.stopped.startswith("it used up") else f"stopped: {traces.stopped}"
    if traces.status < 0:
        signals = {-24: "it used up its CPU seconds", -9: "it was killed", -11: "it crashed (segmentation fault)"}
        return signals.get(traces.status, f"it was ended by signal {-traces.status}")
    lines = traces.stderr.strip().splitlines()
    return (lines[-1].strip()[:300] if lines else "") or f"it ended with exit {traces.status}"


def _list(value: object) -> list:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    """At most 300 characters on one line; what no screen shows is written as its escape."""
    return visible(value[:300]).replace("\n", "\\n").replace("\t", "\\t") if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if number else None


def _months(records: object) -> tuple[Month, ...]:
    """Rows in order of time; none at all where one has not three fields."""
    rows = _list(records)
    if len(rows) > MOST_ROWS or not all(isinstance(row, list) and len(row) == 3 for row in rows):
        return ()
    months = tuple((_text(date), _number(close), _number(change)) for date, close, change in rows)
    return months[::-1] if dates.falling([date for date, _, _ in months]) else months


def _stretch(closes: Sequence[float | None], recorded: Sequence[float]) -> int | None:
    """Where in the record the closes stand, in its order; None where they do not."""
    if not closes or None in closes:
        return None
    for at in range(len(recorded) - len(closes) + 1):
        if all(abs(mine - theirs) <= CLOSE_TOLERANCE for mine, theirs in zip(closes, recorded[at:], strict=False)):
            return at
    return None


def _returns(result: Sequence[Month], recorded: Sequence[float], at: int) -> bool:
    """Is monthly_return close_t / close_{t−1} − 1 of the record, as fractions or throughout in per cent?

    The first row may have none, or 0: its month before is not in the table.
    """
    if len(result) < 2:
        return False
    for scale in (1.0, 100.0):
        for row, (_, _, change) in enumerate(result):
            if row == 0 and (not change or at == 0):
                continue
            if (
                change is None
                or abs(change / scale - (recorded[at + row] / recorded[at + row - 1] - 1)) > RETURN_TOLERANCE
            ):
                break
        else:
            return True
    return False

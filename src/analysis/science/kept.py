"""What became of every planned measurement, and what the ones set aside said. Pure: planned cells and records in, frames out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.science.stats import geometric_mean
from analysis.study.plan import Cell

SUMMARY = ["arm", "planned", "measured", "repeated", "failed", "set_aside", "disturbed"]


def summary(planned: Iterable[Cell], lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Measurements by arm. In: the plan, and the lines of cells.jsonl, oldest first.

    Out: planned; measured (with a record that counts); repeated (measured again after being set aside); failed (no record
    that counts, and a failure); set_aside (lines); disturbed (they count, and the machine was disturbed meanwhile).
    """
    by_cell: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        by_cell.setdefault(line["cell_id"], []).append(line)
    rows: dict[str, dict[str, int]] = {}
    for cell in planned:
        own = by_cell.get(cell.id, [])
        ok = [line for line in own if line["status"] == "ok"]
        aside = sum(line["status"] == "set aside" for line in own)
        row = rows.setdefault(cell.arm.name, dict.fromkeys(SUMMARY[1:], 0))
        row["planned"] += 1
        row["measured"] += bool(ok)
        row["repeated"] += bool(ok and aside)
        row["failed"] += not ok and len(own) > aside
        row["set_aside"] += aside
        row["disturbed"] += bool(ok and ok[-1].get("disturbed"))
    return pd.DataFrame([{"arm": arm, **row} for arm, row in rows.items()], columns=SUMMARY)


def apart(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Every measurement that was set aside, failed, or was kept though disturbed. In: the lines of cells.jsonl.

    Out: label, what (set aside | failed | kept), reason, tok_s (all its tokens over its seconds; NaN for a failure), and
    kept_tok_s of the record that counts (NaN where there is none).
    """
    counts = {line["cell_id"]: line for line in lines if line["status"] == "ok"}
    rows = []
    for line in lines:
        what = "kept" if line["status"] == "ok" else line["status"]
        reason = line.get("disturbed", "") if what == "kept" else line["reason"]
        if reason:
            rows.append([line["label"], what, reason, _speed(line), _speed(counts.get(line["cell_id"]))])
    return pd.DataFrame(rows, columns=["label", "what", "reason", "tok_s", "kept_tok_s"])


def with_them(planned: Iterable[Cell], lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Speed of timing measurements with and without those set aside. Out: arm, workload, kept and all [tokens/s, geometric
    means over measurements], and how many were set aside; only where there are some."""
    cells = {cell.id: cell for cell in planned if cell.experiment == "timing"}
    rows = [
        (cells[line["cell_id"]].arm.name, cells[line["cell_id"]].workload, line["status"] == "ok", _speed(line))
        for line in lines
        if line["status"] in ("ok", "set aside") and line["cell_id"] in cells
    ]
    table = pd.DataFrame(rows, columns=["arm", "workload", "counts", "tok_s"])
    found = [
        [arm, workload, geometric_mean(own[own.counts].tok_s), geometric_mean(own.tok_s), int((~own.counts).sum())]
        for (arm, workload), own in table.groupby(["arm", "workload"], sort=False)
        if not own.counts.all()
    ]
    return pd.DataFrame(found, columns=["arm", "workload", "kept", "all", "set_aside"])


def _speed(line: Mapping[str, Any] | None) -> float:
    return line["completion_tokens"] / line["wall_s"] if line and line.get("wall_s") else float("nan")

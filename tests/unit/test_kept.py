"""What became of planned measurements: planned, measured, repeated, failed, set aside; numbers with and without."""

import math

import pytest

from analysis.science import kept
from analysis.show import kept as shown
from analysis.study import plan


def line(cell, status, seconds=1.0, **more):
    return {"cell_id": cell.id, "label": cell.label, "status": status, "reason": "", "disturbed": ""} | {
        "completion_tokens": 100,
        "wall_s": seconds,
        **more,
    }


def test_every_planned_measurement_is_accounted_for(build):
    cells = [c for c in plan.make(build.study(repeats=2)).cells if c.experiment == "timing" and c.arm.k == 0]
    one, two = cells
    lines = [
        line(one, "set aside", 2.0, reason="other programs used 0.90 cores"),
        {"cell_id": two.id, "label": two.label, "status": "failed", "reason": "It broke.", "started": 1.0},
        line(one, "ok", 1.0),
    ]
    assert kept.summary(cells, lines).values.tolist() == [["baseline", 2, 1, 1, 1, 1, 0]]
    found = kept.apart(lines)
    assert found.what.tolist() == ["set aside", "failed"] and found.reason.iloc[1] == "It broke."
    assert found.tok_s.iloc[0] == 50 and found.kept_tok_s.iloc[0] == 100
    assert math.isnan(found.tok_s.iloc[1]) and math.isnan(found.kept_tok_s.iloc[1])
    lines += [line(two, "ok", disturbed="the host took 9% of the machine's time")]
    assert kept.summary(cells, lines).values.tolist() == [["baseline", 2, 2, 1, 0, 1, 1]]
    assert kept.apart(lines).what.tolist() == ["set aside", "failed", "kept"]


def test_the_numbers_with_those_set_aside(build):
    (cell,) = [c for c in plan.make(build.study()).cells if c.experiment == "timing" and c.arm.k == 2]
    lines = [line(cell, "set aside", 4.0, reason="late"), line(cell, "ok", 1.0)]
    # 25 and 100 tokens/s: geometric mean 50
    row = kept.with_them([cell], lines).iloc[0]
    assert (row.arm, row.workload, row.set_aside) == ("mtp-k2", "py_code", 1)
    assert (row.kept, row["all"]) == pytest.approx((100, 50))
    assert kept.with_them([cell], lines[1:]).empty and shown.with_them(kept.with_them([cell], lines[1:])) is None
    said = shown.said(kept.summary([cell], lines), False)
    assert said.startswith("Planned measurements: 1; on record: 1; failed: 0; set aside: 1.")
    assert "show_set_aside = True" in said and "show_set_aside" not in shown.said(kept.summary([cell], lines), True)

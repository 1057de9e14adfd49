"""Generated programs: one row each, shares by check, and the published end-to-end comparison."""

import base64

import pandas as pd
import pytest

from analysis.science import generated
from analysis.show import panels

PASSED = {**dict.fromkeys(generated.CHECKS, True), "rows": 119, "reason": "", "code": "print(1)", "chart": None}


def programs(*rows: dict) -> pd.DataFrame:
    plain = {
        "arm": "baseline",
        "k": 0,
        "prompt_id": "p",
        "seed": 1,
        "generate_s": 10.0,
        "tokens": 300,
        "execute_s": 2.0,
    }
    return pd.DataFrame([{**plain, **PASSED, **row} for row in rows])


def mtp(**row) -> dict:
    return {"arm": "mtp-k4", "k": 4, **row}


def test_requests_and_outcomes_are_joined_by_cell_and_index(build):
    requests = build.requests(
        {"experiment": "code", "cell_id": "b", "k": 4, "index": 0, "seed": 7, "seconds": 5.0},
        {"experiment": "code", "cell_id": "a", "index": 1, "seed": 8, "seconds": 11.0},
        {"experiment": "code", "cell_id": "a", "index": 0, "seed": 7, "seconds": 10.0},
        {"experiment": "timing"},
    )
    outcomes = {
        key: {"cell_id": key[0], "index": key[1], **PASSED, "reason": f"{key}", "execute_s": 1.0}
        for key in [("a", 0), ("a", 1), ("b", 0)]
    }
    table = generated.frame(requests, outcomes)
    assert list(zip(table.arm, table.seed, table.generate_s, strict=True)) == [
        ("baseline", 7, 10.0),
        ("baseline", 8, 11.0),
        ("mtp-k4", 7, 5.0),
    ]
    assert table.reason.tolist() == ["('a', 0)", "('a', 1)", "('b', 0)"]


def test_rates_are_shares_by_arm_with_the_interval_of_passing():
    table = generated.rates(
        programs(mtp(seed=1), mtp(seed=2, passed=False, ran=False), {"seed": 1, "generate_s": 20.0}, {"seed": 2})
    ).set_index("k")
    assert table.passed.to_dict() == {0: 1.0, 4: 0.5} and table.ran[4] == 0.5 and table.parsed[4] == 1.0
    assert (table.passed_lo[4], table.passed_hi[4]) == pytest.approx((0.0945, 0.9055), abs=1e-4)  # Wilson, 1 of 2
    assert table.programs.to_dict() == {0: 2, 4: 2}
    assert (table.generate_s[0], table.execute_s[0], table.total_s[0]) == (15.0, 2.0, 17.0)


def test_the_published_traces_give_the_published_end_to_end_speedup():
    # suzuki-shoten 2.5: 26.81 + 2.35 s against 15.58 + 2.28 s: 1.63× end to end, 1.72× generating
    total, generate, p = generated.compare(
        programs({"generate_s": 26.81, "execute_s": 2.35}, mtp(generate_s=15.58, execute_s=2.28))
    )
    assert (round(total, 2), round(generate, 2), p) == (1.63, 1.72, 1.0)


def test_passing_is_paired_by_seed():
    # the same two seeds of eight fail in both arms, and the arm fails in four more: 2 · (1/2)⁴
    rows = [{"seed": s, "passed": s > 12} for s in range(11, 19)]
    rows += [mtp(seed=s, passed=s > 16) for s in reversed(range(11, 19))]
    assert generated.compare(programs(*rows))[2] == pytest.approx(2 / 2**4)
    shifted = [{"seed": s} for s in range(6)] + [mtp(seed=s + 100, passed=False) for s in range(6)]
    assert generated.compare(programs(*shifted))[2] == 1.0  # no seed in common: nothing to compare


def test_a_panel_shows_the_first_program_with_a_chart():
    chart = base64.b64encode(b"\x89PNG").decode()
    rows = [{"seed": 1}, {"seed": 2, "chart": chart, "code": "chart()"}, {"seed": 3, "chart": chart}]
    panel = panels.of_programs(programs(*rows))[0]
    assert (panel.title, panel.code, panel.png, panel.ok) == ("baseline, seed 2", "chart()", b"\x89PNG", True)
    assert "119 rows" in panel.outcome and "10.00 s" in panel.outcome and "baseline" in panel.alt


def test_without_a_chart_the_first_program_is_shown_with_the_reason_it_failed():
    rows = [mtp(seed=5, passed=False, reason="NameError: name 'pd' is not defined", code=None), mtp(seed=6)]
    panel = panels.of_programs(programs(*rows))[0]
    assert (panel.title, panel.outcome, panel.ok, panel.png) == (
        "mtp-k4, seed 5",
        "NameError: name 'pd' is not defined",
        False,
        None,
    )
    assert panel.code == ""


def test_an_arm_without_any_chart_beside_one_with_a_chart_gets_a_panel_without_a_picture():
    found = panels.of_programs(
        programs({"chart": base64.b64encode(b"x").decode()}, mtp(passed=False, reason="no chart"))
    )
    assert [p.png for p in found] == [b"x", None]


def test_panels_come_baseline_first():
    assert [p.title.split(",")[0] for p in panels.of_programs(programs(mtp(), {}))] == ["baseline", "mtp-k4"]

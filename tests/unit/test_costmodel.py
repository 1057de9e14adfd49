"""Step cost, predictions and money, on frames whose answer is known."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import ParamsError
from analysis.science import acceptance, costmodel, money
from analysis.science.stats import NoiseFloor

sys.path.insert(0, str(Path(__file__).parent))
from study_frames import RHO, WORKLOADS, frames


@pytest.fixture(scope="module")
def costs() -> pd.DataFrame:
    made = frames(wobble=0.0)
    return costmodel.step_cost(costmodel.step_time(made.cells, made.requests))


def test_step_cost_is_measured_back(costs):
    for row in costs.itertuples():
        assert row.rho == pytest.approx(RHO[row.k], rel=1e-9)
        assert row.break_even == row.rho


def test_step_time_of_the_baseline_is_its_tpot():
    made = frames(launches=1)
    steps = costmodel.step_time(made.cells, made.requests)
    base = steps[steps.k == 0]
    assert base.step_s.tolist() == pytest.approx([0.02] * 3)
    assert base.al.tolist() == [1.0] * 3


def test_tokens_accepted_beyond_the_end_of_a_text_do_not_make_steps_dearer(build):
    # 9 tokens at K = 4: the first with the prompt, then two steps of 5; of the second, 2 tokens are cut off
    rows = [{"k": 0, "seconds": 0.16, "completion_tokens": 9}, {"k": 4, "seconds": 0.06, "completion_tokens": 9}]
    requests = build.requests(*rows)
    cells = build.cells({"k": 0}, {"k": 4, "drafts": 2, "draft_tokens": 8, "accepted": 8, "completion_tokens": 9})
    steps = costmodel.step_time(cells, requests).set_index("k")
    assert steps.step_s[0] == pytest.approx(0.02)
    assert steps.step_s[4] == pytest.approx(0.03)  # 60 ms in 2 steps
    assert steps.al[4] == 5.0


def test_al_over_rho_is_the_measured_ratio_of_times(costs):
    assert costs.predicted.tolist() == pytest.approx(costs.measured.tolist(), rel=1e-3)


def test_one_launch_has_no_interval_two_have():
    one, two = (
        costmodel.step_cost(costmodel.step_time(f.cells, f.requests)) for f in (frames(launches=1), frames(wobble=0.02))
    )
    assert one.lo.isna().all() and (one.launches == 1).all()
    assert ((two.lo < two.rho) & (two.rho < two.hi)).all()


def paired_frame(rows):
    """rows: (variant, k, workload, speedup, lo, hi)"""
    table = pd.DataFrame(rows, columns=["variant", "k", "workload", "speedup", "lo", "hi"])
    return table.assign(
        launches=2,
        arm=[f"mtp-k{k}" + ("" if v == "main" else f"@{v}") for v, k in zip(table.variant, table.k, strict=True)],
    )


def costs_frame(paired, rho):
    return paired[["variant", "arm", "k", "workload"]].assign(al=3.0, rho=[rho[v] for v in paired.variant])


NO_FLOOR = NoiseFloor(float("nan"), "", 0)


@pytest.mark.parametrize(
    ("lo", "hi", "verdict"), [(1.1, 1.9, "less"), (1.1, 2.2, "not distinguishable"), (2.6, 2.9, "more")]
)
def test_variants_differ_where_their_intervals_do_not_overlap(lo, hi, verdict):
    own = (lo + hi) / 2
    paired = paired_frame([("dense", 4, "py_code", own, lo, hi), ("main", 4, "py_code", 2.2, 2.0, 2.5)])
    found = costmodel.side_by_side(paired, costs_frame(paired, {"main": 1.4, "dense": 1.7}), NO_FLOOR)
    assert found.variant.tolist() == ["main", "dense"]
    assert found.rho.tolist() == [1.4, 1.7]
    assert found.verdict.tolist() == ["", verdict]
    assert found.ratio.tolist() == pytest.approx([1.0, own / 2.2])


@pytest.mark.parametrize(("own", "verdict"), [(2.0, "not distinguishable"), (1.5, "less"), (2.9, "more")])
def test_one_launch_of_each_variant_is_judged_by_the_noise_floor(own, verdict):
    nan = float("nan")
    paired = paired_frame([("main", 4, "py_code", 2.2, nan, nan), ("dense", 4, "py_code", own, nan, nan)])
    found = costmodel.side_by_side(paired, costs_frame(paired, {"main": 1, "dense": 1}), NoiseFloor(1.2, "repeats", 3))
    assert found.verdict.tolist() == ["", verdict]


def test_only_what_two_variants_have_in_common_is_set_side_by_side():
    nan = float("nan")
    one = paired_frame([("main", 2, "py_code", 2.0, nan, nan), ("main", 4, "py_code", 2.2, nan, nan)])
    assert costmodel.side_by_side(one, costs_frame(one, {"main": 1}), NO_FLOOR).empty
    two = pd.concat([one, paired_frame([("dense", 4, "py_code", 2.2, nan, nan), ("dense", 8, "py_code", 2, nan, nan)])])
    found = costmodel.side_by_side(two, costs_frame(two, {"main": 1, "dense": 1}), NO_FLOOR)
    assert found[["k", "variant"]].values.tolist() == [[4, "main"], [4, "dense"]]


def test_the_sweep_is_predicted_from_its_ends(costs):
    made = frames(wobble=0.0)
    positions = acceptance.by_position(made.positions)
    sweep = costmodel.predict_sweep(costs, positions)
    ends = sweep[sweep.used]
    assert set(ends.k) == {1, 8}
    assert ends.rho_predicted.tolist() == pytest.approx(ends.rho.tolist())
    # rho is exactly linear between K = 1 and K = 8 here: 1.2 + 0.05 (K - 1)
    assert sweep.error.abs().max() < 0.01
    assert sweep[(sweep.k == 4) & (sweep.workload == "py_code")].al_predicted.item() == pytest.approx(
        1 + sum(0.85**i for i in range(1, 5)), rel=2e-3
    )


def test_a_bent_cost_shows_as_error():
    bent = {**RHO, 4: 2.0}
    made = frames(rho=bent, wobble=0.0)
    costs = costmodel.step_cost(costmodel.step_time(made.cells, made.requests))
    sweep = costmodel.predict_sweep(costs, acceptance.by_position(made.positions))
    at = sweep[(sweep.k == 4)]
    assert at.error.tolist() == pytest.approx([2.0 / 1.35 - 1] * 3, rel=0.02)


@given(st.floats(0.05, 0.98), st.integers(1, 8))
def test_alpha_is_found_again(true, k):
    assert costmodel.alpha([true ** (i + 1) for i in range(k)]) == pytest.approx(true, abs=1e-6)


@pytest.mark.parametrize(("p", "value"), [([0.0, 0.0], 0.0), ([1.0, 1.0], 1.0)])
def test_alpha_at_the_ends(p, value):
    assert costmodel.alpha(p) == value


def test_expected_al_by_hand():
    assert costmodel.expected_al(0.5, 3) == 1 + 0.5 + 0.25 + 0.125
    assert costmodel.expected_al(1.0, 4) == 5.0
    assert costmodel.expected_al(0.0, 4) == 1.0


def test_the_published_26b_is_nearly_geometric():
    p = pd.DataFrame(
        {
            "variant": "main",
            "arm": "mtp-k4",
            "k": 4,
            "workload": "pooled",
            "position": range(4),
            "p": [0.722, 0.536, 0.412, 0.309],
        }
    )
    fit = costmodel.geometric_fit(p).iloc[0]
    assert fit.alpha == pytest.approx(0.741, abs=0.005)
    assert fit.worst < 0.02
    assert fit.al == pytest.approx(2.979)


def test_a_line_through_one_point_is_flat():
    assert costmodel.line(4, 1.3, 4, 1.3) == (1.3, 0.0)


def assume(**given) -> money.Assumptions:
    """A machine for 3650 over one year: 10 a day; energy free and always busy unless said otherwise."""
    return money.Assumptions(**{"price": 3650, "years": 1, "watts": 0, "kwh_price": 0, "utilisation": 1, **given})


def test_cost_of_a_million_tokens_by_hand():
    # 100 tok/s: 10,000 s a million; 360 W x 10,000 s = 1 kWh
    energy = {"watts": 360, "kwh_price": 0.25}
    assert money.cost_per_million(100, assume(**energy)) == pytest.approx(10 / 86400 * 10_000 + 0.25)
    half = assume(**energy, utilisation=0.5)
    assert money.cost_per_million(100, half) == pytest.approx(2 * 10 / 86400 * 10_000 + 0.25)


def test_break_even_by_hand():
    # 10 a day against 20 per million with free energy: 500,000 tokens a day
    assert money.break_even_tokens(50, 20, assume()) == pytest.approx(500_000)
    assert money.break_even_tokens(1, 0.01, assume(watts=1000, kwh_price=1)) == math.inf


def test_twice_the_speed_halves_the_cost_of_a_token():
    given = assume(watts=200, kwh_price=0.3)
    assert money.cost_per_million(40, given) == pytest.approx(2 * money.cost_per_million(80, given))
    assert money.tokens_a_day(100, 0.5) == 4_320_000


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"machine": "gb11"}, "gb11"),
        ({"years": 0}, "years"),
        ({"price": -1}, "price"),
        ({"utilisation": 1.5}, "utilisation"),
        ({"watts": math.nan}, "watts"),
        ({"api_prices": ()}, "api_prices"),
    ],
)
def test_an_impossible_assumption_is_named(wrong, named):
    with pytest.raises(ParamsError, match=named):
        assume(**wrong)


def test_workloads_differ_only_by_acceptance(costs):
    at = costs[costs.k == 4].set_index("workload")
    assert at.al.sort_values(ascending=False).index.tolist() == sorted(WORKLOADS, key=WORKLOADS.get, reverse=True)


def test_costs_of_a_study_replace_assumptions_by_name_and_refuse_other_names():
    assert money.Assumptions.of({"price": 4000, "api_prices": [1, 3]}).price == 4000
    assert money.Assumptions.of({}) == money.Assumptions()
    with pytest.raises(ParamsError, match="'costs.prise' is not an assumption"):
        money.Assumptions.of({"prise": 1})
    with pytest.raises(ParamsError, match="price"):
        money.Assumptions.of({"price": -1})

"""Speedup, noise floor and recommendation: small frames worked out by hand, and the published sweep."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.science import speedup
from analysis.science.intervals import Spread
from analysis.science.stats import NoiseFloor

UNKNOWN = NoiseFloor(float("nan"), "repeats of one launch", 0)
#: suzuki-shoten's table 3.1 (26B-A4B, three runs): mean seconds by K, printed speedup
BASELINE = {"ja_finance": 16.47, "en_finance": 15.15, "py_code": 15.17}
SWEEP = {
    1: {"ja_finance": (11.89, 1.39), "en_finance": (11.57, 1.31), "py_code": (10.74, 1.41)},
    2: {"ja_finance": (12.19, 1.35), "en_finance": (11.33, 1.34), "py_code": (9.88, 1.54)},
    4: {"ja_finance": (11.90, 1.38), "en_finance": (11.38, 1.33), "py_code": (8.66, 1.75)},
    8: {"ja_finance": (15.77, 1.04), "en_finance": (14.12, 1.07), "py_code": (9.54, 1.59)},
}


@pytest.fixture
def published(build):
    rows = [{"workload": w, "seconds": s} for w, s in BASELINE.items()]
    rows += [{"k": k, "workload": w, "seconds": s} for k, row in SWEEP.items() for w, (s, _) in row.items()]
    return build.requests(*rows)


def launches(*ratios: float) -> list[dict]:
    """One prompt; the baseline takes 12 s in every launch, the arm 12/ratio."""
    rows = [{"launch": n, "seconds": 12.0} for n in range(1, len(ratios) + 1)]
    return rows + [{"launch": n, "k": 4, "seconds": 12.0 / r} for n, r in enumerate(ratios, 1)]


def test_published_seconds_give_the_published_speedups(published):
    table = speedup.paired(published).set_index(["k", "workload"])
    for k, row in SWEEP.items():
        for workload, (seconds, printed) in row.items():
            assert table.ratio_of_means[(k, workload)] == pytest.approx(printed, abs=0.006)
            assert table.speedup[(k, workload)] == pytest.approx(BASELINE[workload] / seconds)


def test_speedup_is_the_geometric_mean_of_paired_ratios_per_token(build):
    # p1: 8/2 = 4; p2: 20 s for 200 tokens against 10 s for 100: 1. Geometric mean 2; mean seconds 14/6
    table = speedup.paired(
        build.requests(
            {"prompt_id": "p1", "seconds": 8.0},
            {"prompt_id": "p2", "seconds": 20.0, "completion_tokens": 200},
            {"prompt_id": "p1", "k": 4, "seconds": 2.0},
            {"prompt_id": "p2", "k": 4, "seconds": 10.0, "completion_tokens": 100},
        )
    ).iloc[0]
    assert table.speedup == pytest.approx(2)
    assert table.ratio_of_means == pytest.approx(14 / 6)
    assert (table.prompt_min, table.prompt_max, table.prompts) == (pytest.approx(1), pytest.approx(4), 2)


def test_repeats_are_averaged_before_the_ratio(build):
    rows = [{"repeat": 1, "seconds": 10.0}, {"repeat": 2, "seconds": 14.0}]
    rows += [{"k": 4, "repeat": 1, "seconds": 4.0}, {"k": 4, "repeat": 2, "seconds": 8.0}]
    assert speedup.paired(build.requests(*rows)).speedup.iloc[0] == pytest.approx(12 / 6)


def test_an_arm_is_paired_with_the_baseline_of_its_own_launch(build):
    # each launch ran at another speed; the ratio is 2 in both, so the interval has no width
    rows = [{"launch": 1, "seconds": 10.0}, {"launch": 2, "seconds": 20.0}]
    rows += [{"launch": 1, "k": 4, "seconds": 5.0}, {"launch": 2, "k": 4, "seconds": 10.0}]
    row = speedup.paired(build.requests(*rows)).iloc[0]
    assert (row.speedup, row.lo, row.hi) == pytest.approx((2, 2, 2))


def test_a_launch_without_its_own_baseline_uses_the_mean_of_the_others(build):
    rows = [{"launch": 1, "seconds": 10.0}, {"launch": 1, "k": 4, "seconds": 5.0}]
    table = speedup.by_prompt(build.requests(*rows, {"launch": 2, "k": 4, "seconds": 4.0}))
    assert table.ratio.tolist() == pytest.approx([2.0, 2.5])


def test_two_launches_give_the_t_interval_worked_out_by_hand(build):
    row = speedup.paired(build.requests(*launches(2 * math.exp(-0.02), 2 * math.exp(0.02)))).iloc[0]
    assert row.launches == 2 and row.speedup == pytest.approx(2)
    assert (row.lo, row.hi) == pytest.approx((2 * math.exp(-12.7062 * 0.02), 2 * math.exp(12.7062 * 0.02)), rel=1e-5)


def test_three_launches_give_the_t_interval_worked_out_by_hand(build):
    row = speedup.paired(build.requests(*launches(2 * math.exp(-0.03), 2, 2 * math.exp(0.03)))).iloc[0]
    half = 4.302653 * 0.03 / math.sqrt(3)
    assert row.launches == 3 and row.speedup == pytest.approx(2)
    assert (row.lo, row.hi) == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)), rel=1e-6)


def test_one_launch_gives_no_interval_and_no_verdict(build):
    requests = build.requests(*launches(1.5))
    row = speedup.paired(requests).iloc[0]
    assert row.launches == 1 and math.isnan(row.lo) and math.isnan(row.hi)
    assert speedup.verdict(row, speedup.floor(requests)) == "not known yet"


def test_one_launch_has_the_interval_that_earlier_studies_of_the_machine_give(build):
    # two restarts of sd 0.05 in one ratio; t(0.975, 8) = 2.306004
    requests, earlier = build.requests(*launches(1.5)), Spread(0.05, 8.0, studies=2)
    row = speedup.paired(requests, earlier).iloc[0]
    half = 2.306004 * 0.05 * math.sqrt(2)
    assert (row.lo, row.hi) == pytest.approx((1.5 * math.exp(-half), 1.5 * math.exp(half)), rel=1e-6)
    found = speedup.floor(requests, earlier)
    assert found.factor == pytest.approx(math.exp(1.959964 * 0.05 * math.sqrt(2)))
    assert found.between == "launches of earlier studies of this machine"
    assert speedup.verdict(row, found) == "faster"


def test_a_study_that_started_an_arm_twice_does_not_ask_earlier_ones(build):
    requests = build.requests(*launches(1.5, 1.6))
    assert speedup.paired(requests, Spread(9.0, 8.0)).equals(speedup.paired(requests))


@settings(max_examples=12)
@given(st.lists(st.floats(0.2, 5), min_size=1, max_size=4), st.floats(0.1, 10))
def test_speedup_does_not_depend_on_how_fast_the_machine_is(build, ratios, factor):
    rows = launches(*ratios)
    slower = [{**r, "seconds": r["seconds"] * factor} for r in rows]
    one, other = (speedup.paired(build.requests(*r)).speedup.iloc[0] for r in (rows, slower))
    assert one == pytest.approx(other)


def test_cells_of_other_experiments_are_no_part_of_a_speedup(build):
    other = [{"k": 4, "experiment": e, "seconds": 0.1} for e in ("greedy", "code", "concurrency", "raw")]
    assert speedup.paired(build.requests(*launches(1.5), *other)).speedup.iloc[0] == pytest.approx(1.5)


def test_variants_are_compared_within_themselves(build):
    rows = [{"seconds": 10.0}, {"k": 4, "seconds": 5.0}]
    rows += [{"variant": "eager", "seconds": 30.0}, {"variant": "eager", "k": 4, "seconds": 10.0}]
    table = speedup.paired(build.requests(*rows)).set_index("variant")
    assert table.speedup.to_dict() == pytest.approx({"main": 2.0, "eager": 3.0})


def test_a_variant_without_a_baseline_is_compared_with_the_main_one(build):
    rows = [{"seconds": 10.0}, {"k": 4, "seconds": 5.0}, {"variant": "sampled", "k": 4, "seconds": 4.0}]
    table = speedup.paired(build.requests(*rows)).set_index("variant")
    assert table.speedup["sampled"] == pytest.approx(2.5) and table.ratio_of_means["sampled"] == pytest.approx(2.5)


def test_a_prompt_that_the_baseline_never_answered_is_left_out(build):
    rows = [*launches(2.0), {"k": 4, "prompt_id": "new", "seconds": 1.0}]
    row = speedup.paired(build.requests(*rows)).iloc[0]
    assert (row.prompts, row.speedup) == (1, pytest.approx(2))


def test_a_study_of_baselines_alone_has_no_speedups(build):
    table = speedup.paired(build.requests({"seconds": 10.0}))
    assert table.empty and "ratio_of_means" in table


def test_runs_and_means_by_workload(build):
    rows = [{"repeat": 1, "seconds": 8.0, "text": "x" * 80}, {"repeat": 2, "seconds": 12.0, "text": "y" * 120}]
    requests = build.requests(*rows, {"experiment": "greedy", "seconds": 99.0})
    runs = speedup.runs(requests)
    assert runs.seconds.tolist() == [8.0, 12.0] and runs.chars_s.tolist() == [10.0, 10.0]
    mean = speedup.by_workload(requests).iloc[0]
    assert (mean.requests, mean.seconds, mean.chars) == (2, 10.0, 100.0)
    assert mean.seconds_sd == pytest.approx(math.sqrt(8))
    assert mean.tok_s == pytest.approx((100 / 8 + 100 / 12) / 2)


# -- the recommendation --------------------------------------------------------------------------------------------


def sweep(**speedups: float) -> pd.DataFrame:
    rows = [
        {"variant": "main", "workload": "w", "k": int(k[1:]), "speedup": s, "launches": 3} for k, s in speedups.items()
    ]
    return pd.DataFrame(rows)


def floor(factor: float) -> NoiseFloor:
    return NoiseFloor(factor, "launches", 3)


def recommended(sweep: pd.DataFrame, floor: NoiseFloor) -> tuple[int, int]:
    row = speedup.recommend(sweep, floor).iloc[0]
    return row.k, row.best_k


def test_the_published_sweep_leads_to_the_published_recommendation(published):
    table = speedup.recommend(speedup.paired(published), floor(1.03)).set_index("workload")
    assert table.k.to_dict() == {"ja_finance": 1, "en_finance": 1, "py_code": 4}


def test_the_smaller_k_is_taken_inside_the_noise_floor(build):
    assert recommended(sweep(k1=1.50, k4=1.54), floor(1.05)) == (1, 4)


def test_the_fastest_k_is_taken_outside_the_noise_floor():
    assert recommended(sweep(k1=1.40, k4=1.54), floor(1.05)) == (4, 4)


def test_without_a_floor_no_k_is_recommended(build):
    row = speedup.recommend(sweep(k1=1.53, k4=1.54), UNKNOWN).iloc[0]
    assert row.k is pd.NA and row.among == () and row.reason == "not known yet"
    assert (row.best_k, row.best_speedup) == (4, 1.54)


def test_the_best_k_is_a_set_unless_the_data_separate_it():
    # 1.54 / 1.05 = 1.467: K = 2 and 8 are within the floor of K = 4, K = 1 is not
    row = speedup.recommend(sweep(k1=1.46, k2=1.50, k4=1.54, k8=1.47), floor(1.05)).iloc[0]
    assert (row.among, row.k) == ((2, 4, 8), 2)
    assert speedup.recommend(sweep(k1=1.4, k4=1.54), floor(1.05)).among.iloc[0] == (4,)


def test_no_drafter_is_recommended_where_nothing_beats_the_floor():
    row = speedup.recommend(sweep(k1=1.04, k4=0.9), floor(1.05)).iloc[0]
    assert (row.k, row.speedup, row.best_k) == (0, 1.0, 1)


def test_variants_do_not_compete_for_the_recommendation():
    table = sweep(k1=1.5, k4=1.2)
    other = table.assign(variant="eager", speedup=[1.0, 9.0])
    assert recommended(pd.concat([table, other], ignore_index=True), floor(1.01)) == (1, 1)


# -- the verdict ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, lo, hi, expected",
    [
        (1.5, 1.4, 1.6, "faster"),
        (0.7, 0.6, 0.8, "slower"),
        (1.04, 1.03, 1.05, "not distinguishable"),  # inside the floor
        (0.97, 0.96, 0.98, "not distinguishable"),
        (1.5, 0.9, 2.4, "not distinguishable"),  # the interval holds 1
        (1.5, float("nan"), float("nan"), "faster"),
        (1.04, float("nan"), float("nan"), "not distinguishable"),
    ],
)
def test_a_verdict_needs_more_than_the_floor_and_an_interval_without_one(value, lo, hi, expected):
    assert speedup.verdict(pd.Series({"speedup": value, "lo": lo, "hi": hi}), floor(1.05)) == expected


def test_without_a_floor_the_interval_alone_decides():
    assert speedup.verdict(pd.Series({"speedup": 1.01, "lo": 1.005, "hi": 1.015}), UNKNOWN) == "faster"


# -- load ----------------------------------------------------------------------------------------------------------


def test_throughput_is_tokens_over_wall_time_and_scales_against_the_lowest_level(build):
    load = {"experiment": "concurrency"}
    cells = build.cells(
        {**load, "concurrency": 1, "completion_tokens": 400, "wall_s": 40.0, "requests": 4},
        {**load, "concurrency": 4, "completion_tokens": 400, "wall_s": 12.5, "requests": 4, "preemptions": 2},
        {**load, "k": 4, "concurrency": 1, "completion_tokens": 400, "wall_s": 20.0, "requests": 4},
        {**load, "k": 4, "concurrency": 4, "completion_tokens": 400, "wall_s": 10.0, "requests": 4},
        {"experiment": "timing", "completion_tokens": 999},
    )
    requests = build.requests(
        {**load, "concurrency": 1, "seconds": 10.0},
        {**load, "concurrency": 4, "seconds": 10.0},
        {**load, "concurrency": 4, "seconds": 20.0},
        {**load, "k": 4, "concurrency": 1, "seconds": 5.0},
        {**load, "k": 4, "concurrency": 4, "seconds": 8.0},
    )
    table = speedup.concurrency(cells, requests).set_index(["k", "concurrency"])
    assert table.aggregate_tok_s.to_dict() == {(0, 1): 10.0, (0, 4): 32.0, (4, 1): 20.0, (4, 4): 40.0}
    assert table.scaling.to_dict() == {(0, 1): 1.0, (0, 4): 3.2, (4, 1): 1.0, (4, 4): 2.0}
    assert table.over_baseline.to_dict() == {(0, 1): 1.0, (0, 4): 1.0, (4, 1): 2.0, (4, 4): 1.25}
    assert table.per_request[(0, 4)] == pytest.approx((10 + 5) / 2)
    assert table.preemptions[(0, 4)] == 2


def test_levels_of_several_launches_are_pooled(build):
    load = {"experiment": "concurrency", "completion_tokens": 100}
    cells = build.cells({**load, "launch": 1, "wall_s": 10.0}, {**load, "launch": 2, "wall_s": 30.0})
    requests = build.requests(*({"experiment": "concurrency", "launch": n} for n in (1, 2)))
    assert speedup.concurrency(cells, requests).aggregate_tok_s.tolist() == [200 / 40]


def test_a_request_that_waited_for_something_compiled_on_demand_is_named(build):
    rows = [{"k": k, "repeat": n, "ttft": 0.05, "seconds": 2.0} for k in (0, 4) for n in (1, 2, 3)]
    rows[1]["ttft"] = 0.73  # 14.6 medians
    late = speedup.late_first_tokens(build.requests(*rows))
    assert late[["arm", "repeat", "ttft", "median"]].values.tolist() == [["baseline", 2, 0.73, 0.05]]
    rows[1]["ttft"] = 0.49  # 9.8 medians
    assert speedup.late_first_tokens(build.requests(*rows)).empty

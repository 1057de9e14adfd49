"""Which published speeds memory bandwidth allows."""

from __future__ import annotations

import pytest

from analysis.published import evidence, physics


@pytest.fixture(scope="module")
def tables():
    return evidence.load()


@pytest.fixture(scope="module")
def checked(tables):
    return physics.physics(tables)


def row(checked, **wanted):
    for column, value in wanted.items():
        checked = checked[checked[column] == value]
    assert len(checked) == 1
    return checked.iloc[0]


@pytest.mark.parametrize(
    ("speed", "bound", "same", "identical"), [(108.78, 106.6, 172, 106.6), (674.28, 396, 1377, 853)]
)
def test_the_two_records_are_above_the_bound_unless_text_is_degenerate(checked, speed, bound, same, identical):
    found = row(checked, tok_s=speed)
    assert found["bound"] == pytest.approx(bound, abs=0.6)
    assert found["bound_same"] == pytest.approx(same, abs=1)
    assert found["bound_identical"] == pytest.approx(identical, abs=1)
    assert found["verdict"] == found["verdict_measured"] == physics.DEGENERATE
    assert found["needs_al"] > 5  # more tokens a step than K + 1


def test_only_one_source_is_above_the_bound(checked):
    odd = checked[checked["verdict"].isin([physics.DEGENERATE, physics.IMPOSSIBLE])]
    assert set(odd["source"]) == {"ai-muninn-27"}
    assert sorted(odd["tok_s"]) == [108.78, 348.30, 674.28]


def test_baselines_are_a_share_of_the_bound(checked):
    base = checked[(checked["source"] == "ai-muninn-27") & (checked["tok_s"] == 40.85)].iloc[0]
    assert base["share"] == pytest.approx(0.68, abs=0.005)
    large = checked[(checked["source"] == "suzuki-shoten") & (checked["tok_s"] == 6.56)].iloc[0]
    assert large["share"] == pytest.approx(0.77, abs=0.005)


def test_what_cannot_be_checked_says_why(checked):
    unknown = checked[checked["verdict"] == "not checkable"]
    assert (unknown["why"] != "").all()
    assert set(unknown[unknown["source"] == "bytebot"]["why"]) == {"the machine is not named"}
    assert "K is not stated" in set(unknown["why"])


@pytest.mark.parametrize(
    ("speed", "verdict"), [(100, physics.POSSIBLE), (150, physics.DEGENERATE), (200, physics.IMPOSSIBLE)]
)
def test_three_verdicts(speed, verdict):
    assert physics.check_speed(speed, independent=106.6, least=172) == verdict


def test_seconds_of_a_fixed_length_are_speeds_too(checked):
    found = row(checked, source="suzuki-shoten", table="2.1-26b", workload="py_code", k=4)
    assert found["computed"] and found["tok_s"] == pytest.approx(600 / 8.30)


def test_computed_speedups_agree_with_the_printed_ones(tables):
    found = physics.speedups(tables)
    for wanted, printed in [
        ({"source": "suzuki-shoten", "table": "2.1-31b", "workload": "py_code"}, 3.52),
        ({"source": "suzuki-shoten", "table": "3.1", "workload": "ja_finance", "k": 8}, 1.04),
        ({"source": "ai-muninn-27", "tok_s": 108.78}, 2.66),
        ({"source": "billings", "k": 2}, 1.13),
        ({"source": "jarvislabs", "model": "gemma-4-31B-it", "concurrency": 1}, 3.11),
        ({"source": "bytebot"}, 1.93),
    ]:
        assert row(found, **wanted)["speedup"] == pytest.approx(printed, abs=0.006)


def test_doubtful_speedups_are_marked(tables):
    found = physics.speedups(tables)
    assert set(found[found["doubtful"]]["source"]) == {"ai-muninn-27"}
    assert row(found, tok_s=108.78)["doubtful"]
    assert not found[found["source"] == "ai-muninn-30"]["doubtful"].any()


def test_the_overhead_done_right(tables):
    costs = physics.step_costs(tables)
    large = row(costs, model="gemma-4-31B-it")
    assert large["rho"] == pytest.approx(3.18 / (2.538 * 2.524 * 3.516) ** (1 / 3), rel=2e-3)
    assert large["rho"] == pytest.approx(large["rho_independent"], rel=0.02)  # 1.126 measured, 1.117 by bytes
    small = costs[costs["source"] == "suzuki-shoten"].query("model != 'gemma-4-31B-it'")
    assert small["rho"].round(2).tolist() == [1.30, 1.67, 2.02, 2.83]
    assert (small["rho"] > 1).all()
    # the published cost of an MoE step lies between all tokens on the same experts and each on its own
    assert ((small["rho_same"] < small["rho"]) & (small["rho"] < small["rho_independent"])).all()


def test_moe_gains_with_load_where_bytes_decide():
    small = physics.gain_by_load("gemma-4-26B-A4B-it", "fp8", 4, 2.98, [1, 8, 64])
    large = physics.gain_by_load("gemma-4-31B-it", "fp8", 4, 3.18, [1, 8, 64])
    assert small["gain"].is_monotonic_increasing and small["gain"].iloc[0] == pytest.approx(1.064, abs=0.005)
    assert large["gain"].tolist() == pytest.approx([2.847] * 3, abs=0.001)


def test_the_footprint_table():
    table = physics.footprints().set_index("model")
    assert table.loc["gemma-4-26B-A4B-it", "total"] == pytest.approx(28.1, abs=0.05)
    assert table.loc["gemma-4-31B-it", "total"] == pytest.approx(34.7, abs=0.05)


def test_rooflines_of_the_machines():
    table = physics.rooflines().set_index(["machine", "model"])
    assert table.loc[("gb10", "gemma-4-26B-A4B-it"), "baseline"] == pytest.approx(59.7, abs=0.05)
    assert table.loc[("h200", "gemma-4-31B-it"), "baseline"] == pytest.approx(4800 / 32.105, abs=0.05)
    assert not table.loc[("rtx-4090", "gemma-4-31B-it"), "fits"]

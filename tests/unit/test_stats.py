"""Intervals, the noise floor and exact tests: numbers worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.science import stats

RATIOS = st.lists(st.floats(0.01, 100), min_size=2, max_size=8)


def test_the_geometric_mean_of_one_and_four_is_two():
    assert stats.geometric_mean([1, 4]) == pytest.approx(2)
    assert stats.geometric_mean([0.5, 2]) == pytest.approx(1)


def test_the_mean_of_nothing_is_not_a_number():
    assert math.isnan(stats.geometric_mean([]))


def test_two_launches_give_student_s_interval_with_one_degree_of_freedom():
    # logs are ln 2 ∓ 0.01: sd/√2 = 0.01, t(0.975, 1) = 12.7062
    low, high = stats.ratio_interval([2 * math.exp(-0.01), 2 * math.exp(0.01)])
    assert low == pytest.approx(2 * math.exp(-0.127062), rel=1e-6)
    assert high == pytest.approx(2 * math.exp(0.127062), rel=1e-6)


def test_three_launches_give_student_s_interval_with_two_degrees_of_freedom():
    # logs are ln 3 + (−0.1, 0, 0.1): sd = 0.1, t(0.975, 2) = 4.302653, half = 0.4302653/√3 = 0.2484138
    low, high = stats.ratio_interval([3 * math.exp(-0.1), 3, 3 * math.exp(0.1)])
    assert low == pytest.approx(3 * math.exp(-0.2484138), rel=1e-6)
    assert high == pytest.approx(3 * math.exp(0.2484138), rel=1e-6)


def test_a_wider_level_gives_a_wider_interval():
    low, high = stats.ratio_interval([2 * math.exp(-0.01), 2 * math.exp(0.01)], level=0.5)  # t(0.75, 1) = 1
    assert (low, high) == pytest.approx((2 * math.exp(-0.01), 2 * math.exp(0.01)))


@pytest.mark.parametrize("ratios", [[], [1.83]])
def test_fewer_than_two_launches_give_no_interval(ratios):
    assert all(math.isnan(bound) for bound in stats.ratio_interval(ratios))


@given(RATIOS)
def test_an_interval_contains_its_geometric_mean(ratios):
    low, high = stats.ratio_interval(ratios)
    assert low * (1 - 1e-9) <= stats.geometric_mean(ratios) <= high * (1 + 1e-9)


def test_wilson_bounds_of_eight_in_ten_and_of_none_in_ten():
    assert stats.wilson(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    # without successes the upper bound is z²/(n + z²) = 3.841459/13.841459
    assert stats.wilson(0, 10) == pytest.approx((0, 0.277533), abs=1e-6)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_bounds_lie_in_the_unit_interval_and_contain_the_share(counts):
    successes, trials = counts
    low, high = stats.wilson(successes, trials)
    assert 0 <= low <= high <= 1
    assert low - 1e-12 <= successes / trials <= high + 1e-12


def test_wilson_without_trials_knows_nothing():
    assert all(math.isnan(bound) for bound in stats.wilson(0, 0))


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs():
    assert stats.mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 2**6)  # 0.21875
    assert stats.mcnemar(5, 1) == stats.mcnemar(1, 5)
    assert stats.mcnemar(0, 0) == 1
    assert stats.mcnemar(3, 3) == pytest.approx(1)


def test_inside_the_floor_is_between_its_factor_and_its_inverse():
    floor = stats.NoiseFloor(1.25, "launches", 1)
    assert floor.inside(1.25) and floor.inside(0.8) and floor.inside(1.0)
    assert not floor.inside(1.251) and not floor.inside(0.799)

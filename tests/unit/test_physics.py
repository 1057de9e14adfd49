"""Which published speeds memory bandwidth allows."""

from __future__ import annotations

import pytest

from analysis import evidence, physics


@pytest.fixture(scope="module")
def checked():
    return physics.physics(evidence.load())


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

"""Agreement of greedy texts and its control, worked out by hand."""

import pytest

from analysis.science import losslessness
from analysis.show import sentences


def greedy(build, baseline: dict[str, str], again: dict[str, str], mtp: dict[str, str]):
    """Requests of two runs of the baseline and one of the arm: prompt -> text."""
    runs = [(0, 1, baseline), (0, 2, again), (4, 1, mtp), (4, 2, dict.fromkeys(mtp, "the arm's second run"))]
    return build.requests(
        *(
            {"experiment": "greedy", "k": k, "repeat": repeat, "prompt_id": prompt, "text": text}
            for k, repeat, texts in runs
            for prompt, text in texts.items()
        )
    )


@pytest.fixture
def pairs(build):
    first = {"p1": "abcd", "p2": "abcd", "p3": "abcd", "p4": "abcd"}
    return losslessness.pairs(
        greedy(build, first, {**first, "p4": "abcX"}, {"p1": "abcd", "p2": "abXX", "p3": "Xbcd", "p4": "abcd"})
    )


def test_each_arm_is_compared_once_with_the_baseline_s_first_run(pairs):
    assert pairs.comparison.value_counts().to_dict() == {"baseline ~ baseline": 4, "baseline ~ mtp-k4": 4}


def test_the_common_part_is_the_share_before_the_first_difference(pairs):
    arm = pairs[pairs.k == 4].set_index("prompt_id")
    assert arm.common.to_dict() == {"p1": 1.0, "p2": 0.5, "p3": 0.0, "p4": 1.0}
    assert arm.same.to_dict() == {"p1": True, "p2": False, "p3": False, "p4": True}


def test_a_text_that_is_a_beginning_of_the_other_is_not_the_same(build):
    pairs = losslessness.pairs(greedy(build, {"p": "abcd"}, {"p": "abcd"}, {"p": "ab"}))
    row = pairs[pairs.k == 4].iloc[0]
    assert not row.same and row.common == 1.0


def test_empty_texts_are_compared_without_a_division_by_zero(build):
    row = losslessness.pairs(greedy(build, {"p": ""}, {"p": ""}, {"p": "x"})).iloc[0]
    assert row.same and row.common == 0.0


def test_agreement_is_the_share_of_identical_texts_with_its_interval(pairs):
    table = losslessness.agreement(pairs).set_index("k")
    assert table.identical.to_dict() == {0: 3, 4: 2}
    assert table.share.to_dict() == {0: 0.75, 4: 0.5}
    assert table.common_prefix[4] == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert (table.lo[4], table.hi[4]) == pytest.approx((0.1500, 0.8500), abs=1e-4)  # Wilson, 2 of 4


def test_the_arm_is_judged_against_the_control_prompt_by_prompt(pairs):
    # discordant: p2 and p3 agree in the control only, p4 in the arm only: 2 against 1, so p = 1
    assert losslessness.against_control(pairs) == {"mtp-k4": pytest.approx(1.0)}


def test_an_arm_that_changes_every_text_differs_from_a_control_that_changes_none(build):
    texts = {f"p{i}": "same" for i in range(8)}
    pairs = losslessness.pairs(greedy(build, texts, texts, dict.fromkeys(texts, "other")))
    assert losslessness.against_control(pairs) == {"mtp-k4": pytest.approx(2 / 2**8)}


def test_an_arm_like_its_control_does_not_differ(build):
    texts = {f"p{i}": "same" for i in range(8)}
    assert losslessness.against_control(losslessness.pairs(greedy(build, texts, texts, texts))) == {"mtp-k4": 1.0}


def test_only_greedy_texts_count(build):
    requests = build.requests({"experiment": "timing"}, {"experiment": "timing", "k": 4})
    assert losslessness.pairs(requests).empty


def test_a_lossy_arm_beside_the_main_one_is_judged_by_its_own_texts(build):
    arms = (("baseline", "main", ""), ("mtp-k4", "main", ""), ("mtp-k4@fly-lossy", "fly-lossy", "fly"))
    rows = [
        {"experiment": "greedy", "arm": arm, "variant": variant, "way": way, "k": 4 * (arm != "baseline")}
        | {"repeat": repeat, "prompt_id": f"p{i}", "text": "other" if way and i < 6 else "same"}
        for arm, variant, way in arms
        for repeat in (1, 2)
        for i in range(8)
    ]
    pairs = losslessness.pairs(build.requests(*rows))
    p = losslessness.against_control(pairs)  # six prompts agree in the control only, none in the arm only
    assert p == {"mtp-k4": 1.0, "mtp-k4@fly-lossy": pytest.approx(2 / 2**6)}
    text = sentences.agreement(losslessness.agreement(pairs), p)
    assert "baseline against MTP with K = 4: 8 of 8; baseline against MTP with K = 4 (fly-lossy): 2 of 8" in text
    assert text.endswith("the control, p = 1.00 for MTP with K = 4, p = 0.03 for MTP with K = 4 (fly-lossy)).")

"""Methods of speculation: names of arms, what is launched, what the log must say, and how a study asks for one."""

import pandas as pd
import pytest

from analysis.errors import ParamsError
from analysis.science import arms, generated, losslessness
from analysis.servers import launch
from analysis.show import words
from analysis.study import plan, speculator, study_file
from analysis.study.speculator import SPECULATORS

BASE = {"study": "s", "title": "t", "target": {"model": "org/target-it"}, "k_values": [3], "k": 3}


def made(**changes):
    return plan.make(study_file.validate({**BASE, **changes}))


@pytest.mark.parametrize(
    ("method", "name", "title"),
    [
        ("mtp", "mtp-k4", "MTP with K = 4"),
        ("eagle3", "eagle3-k4", "EAGLE-3 with K = 4"),
        ("ngram", "ngram-k4", "n-gram lookup with K = 4"),
        ("draft_model", "draft-model-k4", "draft model with K = 4"),
        ("none", "baseline", "baseline"),
    ],
)
def test_an_arm_is_named_once_and_read_back(method, name, title):
    assert SPECULATORS[method].arm(4) == name
    assert speculator.of_arm(f"{name}@x")[0] is SPECULATORS[method]
    assert words.arm(name) == title


def test_eagle3_is_launched_and_named_as_what_it_is():
    baseline, arm = made(drafter={"model": "org/eagle"}, speculative={"method": "eagle3"}).arms
    assert (baseline.name, arm.name) == ("baseline", "eagle3-k3")
    assert launch.speculative_config(baseline) is None
    assert launch.speculative_config(arm) == {"method": "eagle3", "model": "org/eagle", "num_speculative_tokens": 3}
    assert arm.speculator.contradicted_by("mtp") and not arm.speculator.contradicted_by("eagle3")


def test_ngram_needs_no_drafter():
    _, arm = made(speculative={"method": "ngram", "prompt_lookup_max": 4}).arms
    wanted = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}
    assert arm.name == "ngram-k3" and arm.drafter is None and launch.speculative_config(arm) == wanted


def test_a_variant_may_have_another_method():
    lookup = {"name": "lookup", "speculative": {"method": "ngram"}, "baseline": False}
    study = made(drafter={"model": "org/a-assistant"}, variants=[lookup])
    assert [a.name for a in study.arms] == ["baseline", "mtp-k3", "ngram-k3@lookup"]


def test_a_draft_model_that_is_gemma_s_assistant_is_mtp():
    _, arm = made(drafter={"model": "org/a-assistant"}, speculative={"method": "draft_model"}).arms
    assert arm.name == "mtp-k3" and launch.speculative_config(arm)["method"] == "draft_model"


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ParamsError, match="did you mean 'eagle3'"):
        made(drafter={"model": "org/d"}, speculative={"method": "eagle"})


def test_a_method_with_a_drafter_needs_one():
    with pytest.raises(ParamsError, match="MTP needs one"):
        made()


def test_frames_tell_the_baseline_by_its_speculator_not_by_k():
    frame = pd.DataFrame({"arm": ["baseline", "suffix-k0"], "k": [0, 0], "speculator": ["none", "suffix"]})
    assert arms.speculating(frame).tolist() == [False, True]
    assert arms.speculating(frame.drop(columns="speculator")).tolist() == [False, True]


def test_two_speculating_arms_are_compared_one_at_a_time(build):
    rows = [
        {"experiment": "greedy", "arm": arm, "k": k, "repeat": repeat, "prompt_id": f"p{i}", "text": text}
        for arm, k, repeat, text in (
            ("baseline", 0, 1, "a"),
            ("baseline", 0, 2, "a"),
            ("mtp-k4", 4, 1, "b"),
            ("ngram-k4", 4, 1, "a"),
        )
        for i in range(8)
    ]
    pairs = losslessness.pairs(build.requests(*rows))
    assert losslessness.against_control(pairs) == {"mtp-k4": pytest.approx(2 / 2**8), "ngram-k4": 1.0}
    programs = pd.DataFrame(
        {"arm": ["baseline", "mtp-k4", "ngram-k4"], "k": [0, 4, 4], "seed": 1, "passed": True}
    ).assign(generate_s=[4.0, 2.0, 1.0], execute_s=0.0)
    assert generated.compare(programs, "mtp-k4")[1] == 2.0
    assert generated.compare(programs, "ngram-k4")[1] == 4.0

"""Ways of proposing tokens side by side: the arms of a study that names them, and who wins; numbers by hand."""

import pytest

from analysis.errors import ParamsError
from analysis.science import methods, speedup
from analysis.science.stats import NoiseFloor
from analysis.show import methods as shown
from analysis.show import words
from analysis.study import plan

FLOOR = NoiseFloor(1.05, "launches", 2)
NGRAM = {"method": "ngram", "k_values": [4, 8], "settings": {"prompt_lookup_max": 5}}


def arms(study):
    return {a.name: a for a in plan.make(study).arms}


# -- the study -----------------------------------------------------------------------------------------------------


def test_each_method_has_arms_at_its_own_k_and_one_baseline_stands_for_all(build):
    found = arms(build.study(speculators=["none", "mtp", NGRAM, {"method": "suffix", "k_values": [16]}]))
    assert list(found) == ["baseline", "mtp-k1", "mtp-k2", "ngram-k4", "ngram-k8", "suffix-k16"]
    assert [a.variant for a in found.values()] == ["main", "main", "main", "ngram", "ngram", "suffix"]
    assert found["ngram-k8"].speculative == {"method": "ngram", "prompt_lookup_max": 5}
    assert found["ngram-k8"].drafter is None and found["mtp-k2"].drafter.model == "org/drafter"


def test_naming_mtp_changes_nothing_of_what_was_measured_with_it(build):
    plain, named = build.study(), build.study(speculators=["mtp", NGRAM])
    ids = {c.id for c in plan.make(plain).cells}
    assert ids < {c.id for c in plan.make(named).cells}
    assert plain.hash == build.study(speculators=[]).hash != named.hash


def test_the_first_method_is_what_the_other_chapters_show(build):
    found = arms(build.study(speculators=[{"method": "ngram", "k_values": [4]}, "mtp"]))
    assert found["ngram-k4"].variant == "main" and found["ngram-k2"].k == 2, "the study's k is an arm of it"
    assert found["mtp-k2"].variant == "mtp"


def test_two_drafters_of_one_method_have_names(build):
    heads = [
        {"method": "eagle3", "name": f"eagle3-{n}", "drafter": {"model": f"org/head-{n}"}, "k_values": [3]}
        for n in "ab"
    ]
    found = arms(build.study(speculators=["mtp", *heads]))
    assert list(found)[-2:] == ["eagle3-k3@eagle3-a", "eagle3-k3@eagle3-b"]
    assert words.arm("eagle3-k3@eagle3-a") == "EAGLE-3 with K = 3 (eagle3-a)"
    assert words.arm("dspark-k7") == "DSpark with K = 7"


@pytest.mark.parametrize(
    ("speculators", "said"),
    [
        (["mtp", "eagle3"], "EAGLE-3 needs a drafter of its own"),
        (["mtp", "ngrams"], "no method of speculation (did you mean 'ngram'"),
        (["mtp", "ngram", NGRAM], "'ngram' is named twice"),
        (["mtp", {"method": "ngram", "k": [4]}], "not a parameter"),
        (["mtp", {"method": "ngram", "k_values": [0]}], "at least 1"),
    ],
)
def test_a_mistake_is_one_sentence(build, speculators, said):
    with pytest.raises(ParamsError) as error:
        build.study(speculators=speculators)
    assert said in error.value.why


def test_chapter_11_is_of_studies_that_compare(build):
    assert plan.make(build.study()).needed("methods") == []
    cells = plan.make(build.study(speculators=["mtp", NGRAM])).needed("methods")
    assert {c.arm.name for c in cells} == {"baseline", "mtp-k1", "mtp-k2", "ngram-k4", "ngram-k8"}


# -- the comparison ------------------------------------------------------------------------------------------------

# 101 tokens, so 100 decoded ones; the baseline takes 0.1 s for each. seconds, drafts, draft tokens, accepted, undrafted
ROWS = {
    ("mtp", "main", 4, "py_code"): (5.0, 40, 160, 60, 0),
    ("ngram", "ngram", 4, "py_code"): (8.0, 20, 80, 20, 60),
    ("ngram", "ngram", 8, "py_code"): (9.0, 20, 160, 20, 60),
    ("mtp", "main", 4, "quotes"): (5.0, 40, 160, 60, 0),
    ("ngram", "ngram", 4, "quotes"): (4.9, 20, 80, 70, 10),
    ("ngram", "ngram", 8, "quotes"): (4.0, 10, 80, 75, 15),
    ("mtp", "main", 4, "prose"): (9.8, 60, 240, 40, 0),
    ("ngram", "ngram", 4, "prose"): (12.0, 10, 40, 2, 88),
    ("ngram", "ngram", 8, "prose"): (12.5, 10, 80, 2, 88),
}


@pytest.fixture(scope="module")
def frames(build):
    cells, requests = [], []
    base = {("none", "main", 0, w): (10.0, 0, 0, 0, 0) for w in ("py_code", "quotes", "prose")}
    for (method, variant, k, workload), (seconds, drafts, tokens, accepted, idle) in {**base, **ROWS}.items():
        arm = "baseline" if method == "none" else f"{method}-k{k}"
        at = {"k": k, "variant": variant, "workload": workload, "arm": arm, "speculator": method}
        steps = [0] * drafts + [0] * idle
        steps[0 : 1 if steps else 0] = [accepted] if steps else []
        requests.append(
            {**at, "seconds": seconds, "ttft": 0.0, "last": seconds, "completion_tokens": 101}
            | {"steps_accepted": steps, "steps_drafted": [k] * drafts + [0] * idle}
        )
        counts = {"drafts": drafts, "draft_tokens": tokens, "accepted": accepted, "completion_tokens": 101}
        cells.append({**at, **counts})
    return build.cells(*cells), build.requests(*requests)


@pytest.fixture(scope="module")
def table(frames):
    return methods.side_by_side(*frames, FLOOR)


def test_a_method_that_seldom_drafts_is_judged_by_all_its_steps(table):
    row = table[(table.arm == "ngram-k4") & (table.workload == "py_code")].iloc[0]
    # 20 steps with a draft accept 20 of 80 tokens; 80 steps in all give 100 tokens
    assert (row.drafted, row.ar, row.al, row.per_step) == pytest.approx((0.25, 0.25, 2.0, 1.25))
    # 8 s for 80 steps: 0.1 s, a baseline step; 1.25 tokens per step at that cost is the gain of decoding
    assert (row.rho, row.speedup) == pytest.approx((1.0, 1.25))
    assert row.verdict == "faster"


def test_steps_that_the_engine_s_ledger_leaves_out_are_counted_all_the_same(frames, table):
    """vLLM's record of a request has the steps with a draft alone."""
    cells, requests = frames
    silent = methods.side_by_side(cells, requests.assign(undrafted_steps=0), FLOOR)
    for column in ("drafted", "per_step", "rho"):
        assert silent[column].to_list() == pytest.approx(table[column].to_list())


def test_the_winner_is_the_fastest_unless_another_cannot_be_told_from_it(table):
    won = methods.winners(table, FLOOR).set_index("workload")
    assert (won.arm["py_code"], won.clear["py_code"]) == ("mtp-k4", True)
    assert (won.arm["quotes"], won.speedup["quotes"]) == ("ngram-k8", pytest.approx(2.5))
    # MTP at 10 / 9.8 is inside the noise floor of 1.05: it and the baseline cannot be told apart
    assert (won.arm["prose"], won.others["prose"], won.clear["prose"]) == ("mtp-k4", ("none",), False)
    said = shown.verdict(methods.winners(table, FLOOR))
    assert "prose: MTP with K = 4 (1.02×), not distinguishable from no speculation" in said
    assert "quotes: n-gram lookup with K = 8 (2.50×)" in said


def test_without_a_noise_floor_nothing_is_told_apart(table):
    unknown = NoiseFloor(float("nan"), "", 0)
    assert not methods.winners(table, unknown).clear.any()


def test_where_every_method_loses_the_baseline_wins(table):
    slow = table.assign(speedup=0.5)
    won = methods.winners(slow, FLOOR)
    assert set(won.arm) == {"baseline"} and won.clear.all()
    assert "py_code: no method" in shown.verdict(won).replace("Python code", "py_code")


def test_intervals_that_overlap_cannot_be_told_apart(table):
    rows = table[(table.workload == "quotes") & table.arm.isin(["mtp-k4", "ngram-k8"])]
    over = rows.assign(lo=rows.speedup - 0.3, hi=rows.speedup + 0.3)
    assert methods.winners(over, FLOOR).others.iloc[0] == ("mtp",)
    assert methods.winners(rows.assign(lo=rows.speedup - 0.1, hi=rows.speedup + 0.1), FLOOR).clear.iloc[0]


def test_what_a_method_costs_stands_against_the_baseline(build):
    launches = build.launches(
        {"k": 0, "ready_s": 30.0, "facts": {"weights_gib": 10.0, "kv_tokens": 1000, "runner": "V2"}},
        {"k": 4, "ready_s": 40.0, "facts": {"weights_gib": 11.5, "kv_tokens": 900, "runner": "V2"}},
        {
            "k": 4,
            "arm": "ngram-k4",
            "variant": "ngram",
            "facts": {"weights_gib": 10.0, "kv_tokens": 1000, "runner": "V1"},
        },
    )
    cost = methods.costs(launches).set_index("arm")
    assert list(cost.index) == ["baseline", "mtp-k4", "ngram-k4"]
    assert cost.more_weights_gib["mtp-k4"] == pytest.approx(1.5) and cost.less_kv["mtp-k4"] == pytest.approx(0.1)
    differs = methods.confounds(launches)
    assert list(zip(differs.fact, differs.value, differs.arms, strict=True)) == [
        ("runner", "V2", ("baseline", "mtp-k4")),
        ("runner", "V1", ("ngram-k4",)),
    ]


def test_a_study_with_one_method_says_so_in_one_line(build):
    none = methods.side_by_side(build.cells(), build.requests(), FLOOR)
    assert "name several in its file" in shown.compared(none)
    assert shown.gains(none, FLOOR, "measured") is None and shown.acceptance(none, "measured") is None
    assert methods.winners(none, FLOOR).empty and shown.every_arm(none) is None


def test_the_figures_say_their_numbers(table):
    gains = shown.gains(table, FLOOR, "measured")
    assert gains.title == "N-gram lookup with K = 8 gains most: quotes 2.50× as fast as without"
    assert gains.static == shown.gains(table, FLOOR, "measured").static
    most = shown.acceptance(table, "measured")
    assert most.title == "N-gram lookup depends most on the work: 1.02 tokens per step on prose, 4.00 on quotes"


def test_variants_without_a_baseline_are_compared_with_the_main_one(frames):
    assert len(speedup.paired(frames[1])) == len(ROWS)

"""From a study to arms, launches and cells; what a cell's identity depends on, and what not."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import ParamsError
from analysis.study import plan, study_file
from analysis.study.plan import Sampling


@pytest.fixture
def made(build):
    def make(**changes):
        return plan.make(build.study(**changes))

    return make


def ids(made) -> set[str]:
    return {cell.id for cell in made.cells}


# -- arms and launches ---------------------------------------------------------------------------------------------


def test_the_arms_are_the_baseline_and_one_arm_for_each_k(made):
    assert [(a.name, a.k) for a in made(k_values=[1, 2, 4], k=4).arms] == [
        ("baseline", 0),
        ("mtp-k1", 1),
        ("mtp-k2", 2),
        ("mtp-k4", 4),
    ]


def test_the_study_s_k_is_an_arm_even_where_the_sweep_leaves_it_out(made):
    assert [a.k for a in made(k_values=[1, 8], k=4).arms] == [0, 1, 4, 8]


def test_a_variant_adds_its_own_arms_with_its_changes(made):
    variant = {"name": "eager", "server": {"enforce_eager": True}, "speculative": {"a": 1}, "k_values": [4]}
    arms = made(speculative={"b": 2}, variants=[variant]).arms
    assert [a.name for a in arms[-2:]] == ["baseline@eager", "mtp-k4@eager"]
    assert arms[-1].server.enforce_eager and not arms[0].server.enforce_eager
    assert arms[-1].speculative == {"a": 1, "b": 2} and arms[1].speculative == {"b": 2}


def test_an_arm_gets_the_first_k_of_the_synthetic_acceptance_rates(made):
    settings = {"rejection_sample_method": "synthetic", "synthetic_acceptance_rates": [0.75, 0.5, 0.25]}
    arms = {a.k: a.speculative for a in made(k_values=[2, 3], k=2, speculative=settings).arms}
    assert arms[2] == {**settings, "synthetic_acceptance_rates": [0.75, 0.5]}
    assert arms[3] == settings


def test_synthetic_acceptance_rates_that_do_not_reach_k_name_the_arm_and_the_mend(made):
    variant = {"name": "long", "k_values": [4], "speculative": {"synthetic_acceptance_rates": [0.75, 0.5, 0.25]}}
    with pytest.raises(ParamsError, match="arm mtp-k4@long drafts 4 tokens and has 3") as error:
        made(k_values=[2], k=2, variants=[variant])
    assert "at least 4" in error.value.fix


def test_each_arm_is_launched_once_a_replicate(made):
    launches = made(k_values=[1, 2, 4], k=2, launches=3).launches()
    assert len(launches) == len({(a.id, n) for a, n in launches}) == 12


def test_the_baseline_comes_first_and_closes_the_last_replicate(made):
    order = [(a.name, n) for a, n in made(k_values=[1, 2, 4], k=2, launches=2).launches()]
    assert order[0] == ("baseline", 1) and order[-1] == ("baseline", 2)
    assert [a.name for a, _ in made(launches=1).launches()][0] == "baseline"


def test_the_order_of_arms_and_cells_comes_from_the_seed(made):
    def order(seed):
        p = made(k_values=[1, 2, 3, 4, 5, 6], k=2, seed=seed, workloads=["py_code", "en_finance", "ja_finance"])
        return [a.name for a, _ in p.launches()], [c.label for c in p.of(p.arms[0], 1)]

    assert order(1) == order(1)
    assert len({str(order(seed)[0]) for seed in range(5)}) > 1
    assert len({str(order(seed)[1]) for seed in range(5)}) > 1


def test_timing_cells_are_measured_before_the_others(made):
    p = made(greedy_tokens=10, repeats=2, raw_endpoint=True)
    kinds = [c.experiment for c in p.of(p.arms[0], 1)]
    assert kinds[:2] == ["timing", "timing"] and "timing" not in kinds[2:]


# -- cells ---------------------------------------------------------------------------------------------------------


def test_the_cells_of_a_small_study_counted_by_hand(made):
    # timing: 3 arms × 2 workloads × 2 repeats = 12; concurrency: 2 arms (baseline, K = 2) × 2 × 2 levels = 8;
    # code: 2 arms × py_code = 2; greedy: 2 workloads × (the baseline twice + K = 2 once) = 6
    p = made(workloads=["py_code", "en_finance"], repeats=2, code_programs=3, code_tokens=50, greedy_tokens=10)
    kinds = [c.experiment for c in p.cells]
    assert {k: kinds.count(k) for k in set(kinds)} == {"timing": 12, "concurrency": 8, "code": 2, "greedy": 6}


def test_quality_cells_are_measured_in_the_first_launch_only(made):
    p = made(launches=2, code_programs=1, code_tokens=50, greedy_tokens=10)
    assert {c.launch for c in p.cells if c.experiment in ("code", "greedy")} == {1}


def test_the_raw_endpoint_is_measured_only_when_it_is_asked_for(made):
    assert {c.endpoint for c in made().cells} == {"chat"}
    raw = [c for c in made(raw_endpoint=True).cells if c.endpoint == "raw"]
    assert raw and {c.experiment for c in raw} == {"raw"}


def test_timing_has_a_fixed_length_unless_the_study_stops_naturally(made):
    fixed = made().cells[0].sampling
    assert (fixed.max_tokens, fixed.ignore_eos) == (20, True)
    assert not made(natural_stop=True).cells[0].sampling.ignore_eos


def test_greedy_cells_are_at_temperature_zero_and_stop_naturally(made):
    greedy = [c for c in made(greedy_tokens=10).cells if c.experiment == "greedy"]
    assert {c.sampling for c in greedy} == {Sampling(0.0, 1.0, 10, ignore_eos=False)}
    assert {c.repeat for c in greedy if c.arm.k == 0} == {1, 2}, "the second run is the control"
    assert {c.repeat for c in greedy if c.arm.k} == {1}


def test_every_arm_gets_the_same_requests_so_that_pairs_are_comparable(made):
    p = made(prompts="all", repeats=2, greedy_tokens=10)
    by_place: dict = {}
    for c in p.cells:
        by_place.setdefault((c.experiment, c.workload, c.concurrency, c.repeat), set()).add(c.requests)
    assert all(len(requests) == 1 for requests in by_place.values())


def test_each_repeat_has_its_own_seed(made):
    cells = [c for c in made(repeats=3).cells if c.experiment == "timing" and c.arm.k == 0]
    assert [{r.seed for r in c.requests} for c in cells] == [{43}, {44}, {45}]


def test_streams_share_the_requests_of_a_concurrency_cell_evenly_with_seeds_of_their_own(made):
    cells = [c for c in made(concurrency=[1, 8], concurrency_rounds=2).cells if c.experiment == "concurrency"]
    for cell in cells:
        streams = [r.stream for r in cell.requests]
        assert sorted(set(streams)) == list(range(cell.concurrency))
        assert len({streams.count(s) for s in set(streams)}) == 1
        assert len({r.seed for r in cell.requests}) == len(cell.requests)
    assert [len(c.requests) for c in cells[:2]] == [8, 16]


# -- identity ------------------------------------------------------------------------------------------------------

MODEL = {"model": "org/other"}


@pytest.mark.parametrize(
    "change",
    [
        {"target": MODEL},
        {"target": {"model": "org/target", "revision": "abc"}},
        {"server": {"max_model_len": 2048}},
        {"server": {"enforce_eager": True}},
        {"server": {"env": {"VLLM_USE_V2_MODEL_RUNNER": "1"}}},
        {"server": {"args": ["--x"]}},
        {"server": {"kv_cache_dtype": "fp8"}},
        {"server": {"prefix_caching": None}},
        {"server": {"backend": "docker", "image": "vllm:v1"}},
        {"temperature": 0.8},
        {"top_p": 0.9},
        {"timing_tokens": 21},
        {"natural_stop": True},
        {"seed": 43},
    ],
    ids=str,
)
def test_changing_what_defines_a_cell_gives_every_cell_another_identity(made, change):
    assert not ids(made()) & ids(made(**change))


@pytest.mark.parametrize("change", [{"drafter": MODEL}, {"speculative": {"draft_sample_method": "probabilistic"}}])
def test_another_drafter_changes_the_mtp_arms_and_leaves_the_baseline(made, change):
    old, new = made(), made(**change)
    assert {c.id for c in old.cells if c.arm.k == 0} == {c.id for c in new.cells if c.arm.k == 0}
    assert not {c.id for c in old.cells if c.arm.k} & {c.id for c in new.cells if c.arm.k}


@pytest.mark.parametrize(
    "change",
    [
        {"server": {"port": 8123}},
        {"server": {"host": "0.0.0.0"}},
        {"server": {"start_minutes": 99}},
        {"server": {"container_name": "mine"}},
        {"server": {"request_metrics": False}},
        {"server": {"allow": ["chat template"]}},
        {"request_minutes": 99},
        {"title": "Another title"},
        {"expect": {"tok_s": 1}},
        {"measure": "never"},
        {"warmup": 3},
    ],
    ids=str,
)
def test_changing_how_a_cell_is_measured_keeps_its_identity(made, change):
    assert ids(made()) == ids(made(**change))


def test_more_repeats_arms_or_launches_keep_what_was_measured(made):
    assert ids(made()) < ids(made(repeats=3))
    assert ids(made()) < ids(made(launches=2))
    assert ids(made()) < ids(made(k_values=[1, 2, 8]))


def test_a_changed_prompt_is_another_cell(made):
    cell = made().cells[0]
    changed = replace(cell, requests=(replace(cell.requests[0], text=cell.requests[0].text + "."),))
    assert changed.id != cell.id


@given(
    st.sampled_from(["launch", "repeat", "concurrency", "experiment", "endpoint"]),
    st.one_of(st.integers(10, 99), st.text(min_size=1, max_size=5)),
)
def test_every_place_of_a_cell_is_part_of_its_identity(build, field, value):
    cell = plan.make(build.study()).cells[0]
    assert replace(cell, **{field: value}).id != cell.id


def test_identities_are_the_same_on_every_machine_and_in_every_version(build):
    # another value means that every record on disk, and the committed reference run, is measured again
    cell = plan.make(build.study()).cells[0]
    assert replace(cell, requests=(plan.Request("p", "Wörter 日本", 1, 0),)).id == "6e8fd0d8f184"


def test_all_cells_of_a_study_differ(made):
    p = made(workloads=["py_code", "en_finance"], repeats=2, launches=2, greedy_tokens=10, raw_endpoint=True)
    assert len(ids(p)) == len(p.cells)


# -- refusals ------------------------------------------------------------------------------------------------------


def test_an_unknown_workload_is_refused_with_the_nearest_right_name(made):
    with pytest.raises(ParamsError, match="did you mean 'py_code'"):
        made(workloads=["py_cod"])


@pytest.mark.parametrize(
    "variants, told",
    [
        (
            [{"name": "again"}],
            "baseline: false",
        ),  # the same server would be measured once, and reported for one of them
        ([{"name": "again", "baseline": False}], "mtp-k1@again"),
        ([{"name": "sampled", "speculative": {"a": 1}}], "baseline: false in the variant 'sampled'"),
        ([{"name": "main", "server": {"enforce_eager": True}}], "one name"),
        ([{"name": "v", "server": {"enforce_eager": True}}, {"name": "v", "server": {"dtype": "half"}}], "one name"),
        ([{"name": "v", "server": {"enforce_eager": True}, "k_values": [2, 2]}], "one name"),
        ([{"name": "v", "server": {"port": 99}}], "are the same"),
    ],
    ids=str,
)
def test_two_arms_that_are_the_same_are_refused(made, variants, told):
    with pytest.raises(ParamsError) as error:
        made(variants=variants)
    assert told in str(error.value)


def test_a_variant_that_changes_the_drafter_alone_needs_no_baseline_of_its_own(made):
    p = made(variants=[{"name": "sampled", "baseline": False, "speculative": {"a": 1}}])
    assert [a.name for a in p.arms] == ["baseline", "mtp-k1", "mtp-k2", "mtp-k1@sampled", "mtp-k2@sampled"]


# -- chapters and estimates ----------------------------------------------------------------------------------------


def test_a_chapter_needs_its_own_cells_alone(made):
    p = made(greedy_tokens=10, code_programs=1, code_tokens=50)

    def needed(chapter):
        return {(c.experiment, c.arm.name) for c in p.needed(chapter)}

    assert needed("setup") == set()
    assert needed("baseline") == {("timing", "baseline")}
    assert needed("mtp") == {("timing", "baseline"), ("timing", "mtp-k2")}
    assert needed("k_sweep") == {("timing", a.name) for a in p.arms}
    assert needed("concurrency") == {("concurrency", "baseline"), ("concurrency", "mtp-k2")}
    assert needed("losslessness") == {("greedy", "baseline"), ("greedy", "mtp-k2")}
    assert needed("generated_python") == {("code", "baseline"), ("code", "mtp-k2")}
    assert len(p.needed("everything")) == len(p.cells)


def test_an_unknown_chapter_is_a_bug_of_ours(made):
    with pytest.raises(KeyError):
        made().needed("no_such_chapter")


def test_the_estimate_is_starts_plus_tokens_at_the_expected_speed(made):
    # 2 arms × (timing 1 × 20 tokens + concurrency at 1 stream 4 × 20 tokens) and 60 s a start:
    # baseline 100 tokens at 10 tok/s = 10 s; MTP 100 tokens at 15 tok/s = 6.67 s
    p = made(k_values=[2], concurrency=[1], concurrency_rounds=1, expect={"start_s": 60, "tok_s": 10})
    assert p.minutes() == pytest.approx((2 * 60 + 10 + 100 / 15) / 60)


def test_the_plan_leaves_the_caller_s_random_numbers_alone(made):
    random.seed(1)
    first = random.random()
    random.seed(1)
    made().launches()
    assert random.random() == first


def test_the_miniature_is_five_launches():
    assert len(plan.make(study_file.load_study("miniature")).launches()) == 5


def test_programs_are_generated_only_for_a_workload_that_has_a_check(made):
    cells = made(workloads=["py_code", "html_game"], code_programs=2).cells
    assert {c.workload for c in cells if c.experiment == "code"} == {"py_code"}

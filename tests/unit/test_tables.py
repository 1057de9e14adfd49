"""Every table and sentence from a small frame: computed words, right numbers, no crash where something is missing."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis import session
from analysis.science import acceptance, generated, losslessness, speedup
from analysis.science.stats import NoiseFloor
from analysis.servers import facts
from analysis.show import sentences, tables, under_load
from analysis.study import plan

FLOOR = NoiseFloor(1.05, "launches", 6)
UNKNOWN = NoiseFloor(float("nan"), "repeats of one launch", 0)


def cells_of(table) -> list[list[str]]:
    """Texts of the body's cells, row by row, as a reader sees them."""
    html = table._repr_mimebundle_()[0]["text/html"]
    rows = re.findall(r"<tr>(.*?)</tr>", html.split("<tbody>")[1], re.S)
    return [[re.sub("<.*?>", "", c) for c in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)] for row in rows]


def heads_of(table) -> list[str]:
    html = table._repr_mimebundle_()[0]["text/html"]
    return re.findall(r'<th scope="col"[^>]*>(.*?)</th>', html)


@pytest.fixture(scope="module")
def timing(build):
    rows = [{"k": k, "seconds": s, "repeat": r} for k, s in ((0, 12.0), (1, 8.0), (4, 6.0)) for r in (1, 2)]
    rows += [{"k": k, "seconds": s, "workload": "ja_finance"} for k, s in ((0, 12.0), (1, 9.0), (4, 12.2))]
    return build.requests(*rows)


def captions(table) -> str:
    data, about = table._repr_mimebundle_()
    assert about["table"]["caption"] == table.caption and "<caption>" in data["text/html"]
    return table.caption + " " + table.note


def test_the_plan_table_counts_launches_cells_and_tokens(build):
    made = plan.make(build.study(concurrency=[1], concurrency_rounds=1, expect={"start_s": 60, "tok_s": 10}))
    table = tables.plan(made)
    assert cells_of(table)[0] == [
        "1",
        "baseline",
        "0",
        "2",
        "5",
        "100",
    ]  # 1 timing + 4 concurrency requests of 20 tokens
    assert {row[1] for row in cells_of(table)} == {"baseline", "MTP with K = 1", "MTP with K = 2"}
    assert table.note.startswith("3 launches, 5 measurements, about ")


def test_the_preflight_table_shows_verdict_and_mend():
    checks = [SimpleNamespace(name="port", verdict="fail", evidence="in use", fix="Set server.port to 0.")]
    checks += [SimpleNamespace(name="engine", verdict="ok", evidence="0.32.0", fix="")]
    assert cells_of(tables.checks(checks)) == [
        ["port", "fail", "in use", "Set server.port to 0."],
        ["engine", "ok", "0.32.0", "–"],
    ]


def test_runs_and_speeds_have_a_row_each(timing):
    assert len(cells_of(tables.runs(timing))) == 9
    table = tables.speeds(speedup.by_workload(timing))
    row = dict(zip(heads_of(table), cells_of(table)[1], strict=True))
    assert (row["arm"], row["workload"], row["seconds per request [s]"], row["speed [tokens/s]"]) == (
        "baseline",
        "Python code",
        "12.00",
        "8.3",
    )
    assert (
        row["standard deviation [s]"] == "0.00"
        and cells_of(table)[0][heads_of(table).index("standard deviation [s]")] == "–"
    )


def test_cold_start_shows_only_what_was_found_in_the_logs(build):
    table = tables.cold_start(build.launches({"ready_s": 31.41, "facts": {"kv_tokens": 12345, "load_s": None}}))
    assert heads_of(table) == ["arm", "launch", "start to ready [s]", "first request [s]", "K/V cache [tokens]"]
    assert cells_of(table) == [["baseline", "1", "31.4", "1.50", "12,345"]]


def test_the_speedup_table_of_one_launch_has_no_interval_and_says_so(timing):
    table = tables.speedups(speedup.paired(timing), FLOOR)
    assert "range over prompts" in heads_of(table) and "One launch per arm gives no interval" in table.note
    assert sentences.noise_floor(FLOOR) in table.note
    rows = {(r[0], r[1]): dict(zip(heads_of(table), r, strict=True)) for r in cells_of(table)}
    code = rows["Python code", "MTP with K = 4"]
    assert (code["baseline [s]"], code["arm [s]"], code["speedup"]) == ("12.00", "6.00", "2.00×")
    assert (code["range over prompts"], code["ratio of mean seconds"]) == ("2.00 to 2.00×", "2.00×")
    assert (code["verdict"], rows["Japanese finance", "MTP with K = 4"]["verdict"]) == ("faster", "not distinguishable")


def test_the_speedup_table_of_two_launches_has_an_interval(build):
    # ratios 2·e^∓0.01: the half width is 12.7062 · 0.01 in logarithms (t of one degree of freedom)
    rows = [{"launch": n, "seconds": 12.0} for n in (1, 2)]
    rows += [{"k": 4, "launch": n, "seconds": 6 * math.exp(0.01 * sign)} for n, sign in ((1, -1), (2, 1))]
    table = tables.speedups(speedup.paired(build.requests(*rows)), UNKNOWN, headline=True)
    row = dict(zip(heads_of(table), cells_of(table)[0], strict=True))
    assert row["95 % interval"] == "1.76 to 2.27×"
    assert sentences.noise_floor(UNKNOWN) in table.note and "no interval" not in table.note
    assert table._repr_mimebundle_()[1]["headline"] is True


def test_head_to_head_compares_every_arm_with_the_baseline(timing):
    table = tables.head_to_head(speedup.by_workload(timing))
    assert [(r[0], r[-1]) for r in cells_of(table)][0] == ("baseline", "1.00×")
    assert [r[0] for r in cells_of(table)] == ["baseline", "MTP with K = 1", "MTP with K = 4"]


def test_the_sweep_has_a_row_for_each_k_as_the_articles_print_it(timing):
    table = tables.sweep(speedup.paired(timing))
    assert heads_of(table) == [
        "K",
        "Japanese finance [s]",
        "Japanese finance [×]",
        "Python code [s]",
        "Python code [×]",
    ]
    assert cells_of(table) == [["1", "9.00", "1.33", "8.00", "1.50"], ["4", "12.20", "0.98", "6.00", "2.00"]]


def test_the_recommendation_is_a_headline_and_a_sentence(timing):
    found = speedup.recommend(speedup.paired(timing), FLOOR)
    assert tables.recommendation(found)._repr_mimebundle_()[1]["headline"] is True
    assert sentences.best_k(found) == (
        "Use K = 1 for Japanese finance (1.33×); K = 4 for Python code (2.00×). 1 launch per arm."
    )
    noisy = speedup.recommend(speedup.paired(timing), NoiseFloor(1.4, "launches", 1))
    assert sentences.best_k(noisy) == (
        "Use no drafter for Japanese finance; K = 1 for Python code (1.50×; not distinguishable from K = 4). 1 launch per arm."
    )
    unknown = sentences.best_k(speedup.recommend(speedup.paired(timing), UNKNOWN))
    assert unknown == (
        "Which K to use is not known yet for Japanese finance (K = 1 was fastest, 1.33×); Python code (K = 4 was fastest, 2.00×)."
        " 1 launch per arm."
    )


def test_the_load_table_and_its_sentence(build):
    load = {"experiment": "concurrency"}
    rows = [(0, 1, 10.0), (0, 4, 3.125), (4, 1, 5.0), (4, 4, 2.5)]
    made = [{**load, "k": k, "concurrency": c, "wall_s": w, "seconds": w} for k, c, w in rows]
    table = speedup.concurrency(build.cells(*made), build.requests(*made))
    assert len(cells_of(under_load.speeds(table))) == 4
    assert under_load.reading(table) == (
        "At 4 streams baseline gives 32 tok/s, 3.2 times its single stream, "
        "MTP with K = 4 gives 40 tok/s, 2.0 times its single stream (means over workloads). 1 launch per arm."
    )


COUNTS = {"k": 4, "drafts": 1814, "draft_tokens": 7256, "accepted": 3591, "per_position": (1310, 973, 747, 561)}


def test_the_published_acceptance_is_printed_as_the_article_prints_it(build):
    table = tables.acceptance(acceptance.by_arm(build.cells(COUNTS)))
    assert cells_of(table) == [["MTP with K = 4", "Python code", "1,814", "7,256", "3,591", "49.5%", "2.98"]]
    by_position = tables.positions(acceptance.by_position(build.positions(COUNTS)))
    assert cells_of(by_position) == [
        ["MTP with K = 4", "Python code", "72.2 / 53.6 / 41.2 / 30.9", "72.2 / 74.3 / 76.8 / 75.1"]
    ]


def test_an_unknown_conditional_share_is_a_dash(build):
    counts = {**COUNTS, "per_position": (0, 0, 0, 0), "accepted": 0}
    table = tables.positions(acceptance.by_position(build.positions(counts)))
    assert cells_of(table)[0][-1] == "0.0 / – / – / –"


def test_identities_are_summed_up_with_the_first_that_fails(build):
    wrong = {**COUNTS, "accepted": 3590, "workload": "en_finance"}
    found = acceptance.identities(build.cells(COUNTS, wrong), build.positions(COUNTS, wrong))
    rows = {r[0]: r[1:] for r in cells_of(tables.identities(found))}
    assert rows["Σ accepted per position = accepted"] == ["2", "1", "MTP with K = 4, English finance: 3591 ≠ 3590"]
    assert rows["draft tokens ≤ K × drafts"] == ["2", "2", "–"]


def ledger(build, **changes):
    cell = {"k": 2, "requests": 1, "completion_tokens": 7, "drafts": 3, "draft_tokens": 6, "accepted": 3, **changes}
    cell["per_position"] = (2, 1)
    steps = {"k": 2, "completion_tokens": 7, "steps_accepted": [2, 0, 1], "steps_drafted": [2, 2, 2]}
    identities = acceptance.identities(build.cells(cell), build.positions(cell))
    return [acceptance.ledger(build.cells(cell), build.requests(r)) for r in (steps, {"k": 2})] + [identities]


def test_the_ledger_table_and_its_sentences(build):
    split, unsplit, identities = ledger(build)
    row = dict(zip(heads_of(tables.ledger(split)), cells_of(tables.ledger(split))[0], strict=True))
    assert (row["difference"], row["steps without a draft"], row["tokens cut at the end"], row["unexplained"]) == (
        "0",
        "0",
        "0",
        "0",
    )
    assert sentences.ledger(split, identities) == (
        "3 of 3 checks of the counters hold, and 0 of 7 completion tokens are unexplained."
    )
    told = sentences.ledger(unsplit, identities)
    assert told.startswith("3 of 3 checks of the counters hold; the engine keeps no record per request")
    assert cells_of(tables.ledger(unsplit))[0][-1] == "–"


def test_unexplained_tokens_are_said(build):
    split, _, identities = ledger(build, completion_tokens=9)
    assert "and 2 of 9 completion tokens are unexplained" in sentences.ledger(split, identities)


@pytest.fixture
def programs():
    rows = [{"arm": "baseline", "k": 0}, {"arm": "mtp-k4", "k": 4}, {"arm": "mtp-k4", "k": 4, "seed": 2}]
    plain = {
        "seed": 1,
        "generate_s": 10.0,
        "execute_s": 2.0,
        "tokens": 300,
        "rows": 119,
        "reason": "",
        "prompt_id": "p",
    }
    frame = pd.DataFrame([{**plain, **dict.fromkeys(generated.CHECKS, True), **row} for row in rows])
    frame.loc[2, ["passed", "ran"]] = False
    frame.loc[2, "reason"] = "NameError"
    return frame


def test_tables_of_generated_programs(programs):
    rates = generated.rates(programs)
    table = tables.programs(rates)
    row = dict(zip(heads_of(table), cells_of(table)[1], strict=True))
    assert (row["arm"], row["programs"], row["passed"], row["parses"]) == ("MTP with K = 4", "2", "50%", "100%")
    assert [r[-1] for r in cells_of(tables.every_program(programs))] == ["", "", "NameError"]
    assert sentences.programs(rates, (1.63, 1.72, 1.0)) == (
        "baseline: 100% of 1 programs pass; MTP with K = 4: 50% of 2 programs pass (exact McNemar test, p = 1.00). "
        "Generating and executing together, MTP is 1.63× as fast; generating alone 1.72×."
    )


def test_tables_and_sentence_of_agreement(build):
    texts = {(0, 1): "abcd", (0, 2): "abcd", (4, 1): "abXX"}
    pairs = losslessness.pairs(
        build.requests(*({"experiment": "greedy", "k": k, "repeat": r, "text": t} for (k, r), t in texts.items()))
    )
    agreed = losslessness.agreement(pairs)
    assert [r[:4] for r in cells_of(tables.agreement(agreed))] == [
        ["baseline against baseline", "1", "1", "100%"],
        ["baseline against MTP with K = 4", "1", "0", "0%"],
    ]
    assert cells_of(tables.partings(pairs))[1] == ["baseline against MTP with K = 4", "Python code", "1", "0", "50%"]
    assert sentences.agreement(agreed, {"mtp-k4": 1.0}) == (
        "Identical greedy texts, baseline against baseline: 1 of 1; baseline against MTP with K = 4: 0 of 1 "
        "(exact McNemar test against the control, p = 1.00)."
    )


def test_the_floor_sentence_says_how_it_was_measured():
    assert sentences.noise_floor(FLOOR) == (
        "Two arms that are the same differ by a factor of up to 1.050 in 95 of 100 studies, by the launches on record"
        " (6 degrees of freedom)."
    )
    said = sentences.noise_floor(replace(UNKNOWN, advice="set `launches` to 3 (about 12 minutes more here)"))
    assert said.startswith("No arm was started twice") and said.endswith("to 3 (about 12 minutes more here).")


def test_the_speedup_sentence_says_what_cannot_be_told_from_nothing(timing):
    arm = speedup.paired(timing).query("k == 4")
    assert sentences.speedup(arm, FLOOR) == (
        "MTP with K = 4 makes Japanese finance 0.98× as fast (not distinguishable from the baseline), Python code 2.00× as fast. "
        "1 launch per arm."
    )
    assert "Python code 2.00× as fast (not known yet)" in sentences.speedup(arm, UNKNOWN)
    three = arm[arm.workload == "py_code"].assign(lo=1.9, hi=2.1, launches=3)
    assert sentences.speedup(three, FLOOR) == (
        "MTP with K = 4 makes Python code 2.00× as fast (95 % interval 1.90 to 2.10). 3 launches per arm."
    )


# -- launches ------------------------------------------------------------------------------------------------------

LOG = """
INFO [core.py] Initializing a V1 LLM engine (v0.32.0) with config: speculative_config=SpeculativeConfig(method='mtp', \
model='m', num_spec_tokens=4), quantization=None, enforce_eager=True, kv_cache_dtype=fp8, enable_prefix_caching=False
INFO [model.py] Resolved architecture: Gemma4ForCausalLM
INFO [model.py] Resolved architecture: Gemma4MTPModel
INFO [gpu_model_runner.py] Model loading took 26.10 GiB memory and 81.5 seconds
INFO [kv_cache_utils.py] GPU KV cache size: 123,456 tokens
INFO [core.py] init engine (profile, create kv cache, warmup model) took 33.25 s
"""


def test_startup_facts_are_read_from_a_log():
    read = facts.read(LOG)
    assert (read.vllm_version, read.method, read.k) == ("0.32.0", "mtp", 4)
    assert (read.architecture, read.drafter_architecture) == ("Gemma4ForCausalLM", "Gemma4MTPModel")
    assert (read.weights_gib, read.load_s, read.kv_tokens, read.init_engine_s) == (26.1, 81.5, 123456, 33.25)
    assert (read.eager, read.prefix_caching, read.runner, read.kv_cache_dtype) == (True, False, "V1", "fp8")
    assert read.quantization is None and read.moe_config_missing is None


def test_a_silent_log_gives_no_facts():
    assert facts.read("") == facts.StartupFacts()


def test_differences_of_launches_leave_the_drafter_and_times_out(build):
    base = facts.read(LOG.replace("method='mtp'", "method='none'").replace("33.25", "20.0"))
    same, other = facts.read(LOG), facts.read(LOG.replace("enforce_eager=True", "enforce_eager=False"))
    made = [{"facts": base.model_dump(mode="json")}, {"k": 4, "facts": same.model_dump(mode="json")}]
    table = tables.launch_differences(build.launches(*made))
    assert cells_of(table) == [] and table.note.startswith("None")
    table = tables.launch_differences(build.launches(made[0], {"k": 8, "facts": other.model_dump(mode="json")}))
    assert cells_of(table) == [["MTP with K = 8", "eager", "True", "False"]] and table.note == ""


def test_launches_without_facts_differ_in_nothing(build):
    assert cells_of(tables.launch_differences(build.launches({}, {"k": 4}))) == []


# -- all of them ---------------------------------------------------------------------------------------------------


def test_every_table_has_a_caption_and_marks_what_is_missing(build, timing):
    paired = speedup.paired(timing)
    for table in (
        tables.runs(timing),
        tables.speeds(speedup.by_workload(timing)),
        tables.speedups(paired.assign(prompt_min=np.nan), FLOOR),
        tables.sweep(paired),
        tables.head_to_head(speedup.by_workload(timing)),
        tables.cold_start(build.launches({}, {"k": 4, "ready_s": None})),
    ):
        assert len(captions(table)) > 20
        assert "nan" not in {text.lower() for row in cells_of(table) for text in row}


# -- variants ------------------------------------------------------------------------------------------------------

SIDE = pd.DataFrame(
    [
        ("py_code", 4, "main", 4.0, 1.25, 3.2, 3.0, 3.4, 1.0, ""),
        ("py_code", 4, "moe", 4.0, 2.0, 2.0, 1.9, 2.1, 0.625, "less"),
    ],
    columns=["workload", "k", "variant", "al", "rho", "speedup", "lo", "hi", "ratio", "verdict"],
).assign(launches=3)
TARGETS = {"main": "dense", "moe": "experts"}


def test_variants_stand_side_by_side_with_the_names_of_their_targets():
    table = tables.variants(SIDE, TARGETS)
    assert cells_of(table) == [
        ["Python code", "4", "main", "dense", "4.00", "1.25", "3.20×", "3.00 to 3.40×", "–", "–"],
        ["Python code", "4", "moe", "experts", "4.00", "2.00", "2.00×", "1.90 to 2.10×", "0.62×", "less"],
    ]
    assert sentences.variants(SIDE, TARGETS) == (
        "At K = 4 experts accepts 4.00 tokens per step for 2.00 baseline steps, dense 4.00 for 1.25: its speedup is 0.62 "
        "times the other's, distinguishable on 1 of 1 workloads. 3 launches per arm."
    )


def test_a_study_of_one_variant_says_so():
    assert "nothing to compare" in tables.variants(SIDE[:0], {"main": "dense"}).note
    assert sentences.variants(SIDE[:0], {"main": "dense"}) == "One variant: nothing to compare."


def test_the_speedup_sentence_names_every_arm(build):
    rows = [
        {"k": k, "variant": v, "seconds": s}
        for v, k, s in (("main", 0, 8), ("main", 4, 4), ("moe", 0, 9), ("moe", 4, 6))
    ]
    said = sentences.speedup(speedup.paired(build.requests(*rows)), FLOOR)
    assert "MTP with K = 4 makes Python code 2.00× as fast." in said
    assert "MTP with K = 4 (moe) makes Python code 1.50× as fast." in said


def test_late_first_tokens_are_told_with_their_cause(build):
    rows = [{"repeat": n, "ttft": t} for n, t in ((1, 0.05), (2, 0.05), (3, 0.8))]
    late = speedup.late_first_tokens(build.requests(*rows))
    assert sentences.late(late).startswith(
        "1 request waited unusually long for the first token: baseline, Python code, launch 1, repeat 3: 0.80 s (median of the arm 0.05 s)."
    )
    assert sentences.late(late[:0]) == "No request waited unusually long for its first token."


def test_a_variant_of_the_same_target_is_told_by_its_own_name():
    made = session.open_study("h200-load", records="reference")
    assert made.targets() == {"main": "gemma-4-26B-A4B-it", "cover": "gemma-4-26B-A4B-it (cover)"}

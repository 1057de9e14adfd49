"""Claims against studies: what a measurement decides, what it cannot, and that it is the measurement that decides."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from analysis.errors import EvidenceError
from analysis.published import claims, evidence, verdicts
from analysis.published.claims import CONTRADICTED, REPRODUCED, UNCLEAR, UNTESTED
from analysis.science import speedup
from analysis.science.stats import NoiseFloor

sys.path.insert(0, str(Path(__file__).parent))
from study_frames import RHO, WORKLOADS, about, frames


@pytest.fixture(scope="module")
def tables() -> evidence.Evidence:
    return evidence.load()


def judged(tables, context=None, floor=None, beside=(), programs=None, **made) -> pd.DataFrame:
    found = frames(**made)
    own = verdicts.summarise(found, context or about(), programs)
    floor = floor or speedup.floor(found.requests)
    return verdicts.verdicts(tables, [own, *beside], "invented", floor).set_index("id")


def test_every_claim_gets_one_verdict(tables):
    table = judged(tables)
    assert table.index.is_unique and len(table) == len(tables.claims)
    assert set(table.verdict) <= {REPRODUCED, CONTRADICTED, UNCLEAR, UNTESTED}
    assert (table.detail != "").all()


def test_a_study_built_to_agree_reproduces_the_shapes(tables):
    table = judged(tables)
    for claim in (
        "sz-faster",
        "sz-order",
        "sz-falls",
        "sz-rate-falls",
        "sz-length-rises",
        "sz-gap-widens",
        "mu-scaling",
        "ai-cold",
    ):
        assert table.verdict[claim] == REPRODUCED, (claim, table.ours[claim])
    assert "py_code" in table.ours["sz-order"]


def test_a_changed_measurement_changes_the_verdict(tables):
    assert judged(tables).verdict["sz-order"] == REPRODUCED
    swapped = {"py_code": 0.60, "en_finance": 0.70, "ja_finance": 0.85}
    assert judged(tables, alpha=swapped).verdict["sz-order"] == CONTRADICTED
    equal = dict.fromkeys(WORKLOADS, 0.7)
    assert judged(tables, alpha=equal).verdict["sz-order"] == UNCLEAR


def test_no_claim_is_judged_by_a_load_outside_the_captured_graphs(tables):
    found = frames()
    beyond = (found.cells.experiment == "concurrency") & (found.cells.concurrency == 8) & (found.cells.k == 4)
    found.cells["in_graphs"] = beyond.map({True: "outside", False: "inside"})
    table = verdicts.verdicts(tables, [verdicts.summarise(found, about())], "invented").set_index("id")
    assert judged(tables).verdict["nv-load"] != UNTESTED
    assert table.verdict[["mu-scaling", "nv-load"]].tolist() == [UNTESTED, UNTESTED]


@pytest.mark.parametrize(
    ("claim", "mutation", "verdict"),
    [
        ("sz-faster", {"rho": {**RHO, 4: 4.5}}, CONTRADICTED),
        ("sz-k8-worse", {"rho": {**RHO, 8: 4.0}}, REPRODUCED),
        ("sz-k8-worse", {"rho": {**RHO, 8: 1.2}}, CONTRADICTED),
        ("sz-k1-enough", {}, CONTRADICTED),
        ("sz-k1-enough", {"rho": {**RHO, 1: 0.9, 4: 2.0}}, REPRODUCED),
        ("mu-scaling", {"scale": (1.0, 2.0, 3.0)}, CONTRADICTED),
        ("mu-agreement", {"agree": 190, "of": 200}, REPRODUCED),
        ("mu-agreement", {"agree": 9, "of": 10}, UNCLEAR),
        ("mu-agreement", {"agree": 20, "of": 200}, CONTRADICTED),
        ("by-ceiling", {"rho": {**RHO, 4: 1.01}}, CONTRADICTED),
    ],
)
def test_each_shape_can_fall_either_way(tables, claim, mutation, verdict):
    assert judged(tables, **mutation).verdict[claim] == verdict


def test_a_number_is_met_within_ten_percent_on_its_own_machine_and_model(tables):
    # AL of code at K = 4 with alpha 0.85 is 3.71; a step of 2.03 baseline steps gives the published 1.83x
    made = {"rho": {**RHO, 4: 3.71 / 1.83}}
    assert judged(tables, **made).verdict["sz-26b-py"] == REPRODUCED
    assert judged(tables, rho={**RHO, 4: 3.71 / 3.0}).verdict["sz-26b-py"] == CONTRADICTED
    row = judged(tables, **made).loc["sz-26b-py"]
    assert (row.published, row.stamp) == ("1.83 x", "measured")


@pytest.mark.parametrize("other", [{"hardware": "rtx-4090"}, {"model": "gemma-4-31B-it"}, {"quantisation": "nvfp4"}])
def test_another_machine_model_or_format_tests_nothing(tables, other):
    row = judged(tables, about(**other), rho={**RHO, 4: 3.71 / 1.83}).loc["sz-26b-py"]
    assert row.verdict == UNTESTED
    assert row.detail == "needs a measured study of gemma-4-26B-A4B-it (fp8-dynamic) on gb10, K = 4, py_code, 1 stream"


@pytest.mark.parametrize("stamp", ["miniature", "synthetic-acceptance"])
def test_no_stamped_study_ever_supports_a_number(tables, stamp):
    """Even where it claims the right machine and model and hits the number."""
    table = judged(tables, about(stamp=stamp), rho={**RHO, 4: 3.71 / 1.83})
    assert set(table[table.kind == "numeric"].verdict) == {UNTESTED}


def test_shapes_of_the_miniature_are_shown_and_labelled(tables):
    table = judged(tables, about(stamp="miniature", model="miniature", hardware="cpu"))
    shown = table[table.verdict == REPRODUCED]
    assert len(shown) >= 5
    assert set(shown.stamp) == {"miniature"}
    assert shown.detail.str.contains("no evidence about Gemma 4").all()
    assert "no evidence about Gemma 4" in verdicts.sentence(table.reset_index())


def test_two_models_decide_together_on_one_machine_only(tables):
    large = about(study="large", model="gemma-4-31B-it", architecture="dense")
    better = verdicts.summarise(frames(alpha={w: a + 0.1 for w, a in WORKLOADS.items()}), large)
    assert judged(tables).verdict["sz-31b-more"] == UNTESTED
    table = judged(tables, beside=[better])
    assert table.verdict["sz-31b-more"] == table.verdict["sz-31b-ahead"] == REPRODUCED
    assert table.verdict["bi-moe"] == REPRODUCED
    elsewhere = better.assign(hardware="h200")
    assert judged(tables, beside=[elsewhere]).verdict["sz-31b-more"] == UNTESTED
    mini = better.assign(stamp="miniature")
    assert judged(tables, beside=[mini]).verdict["sz-31b-more"] == UNTESTED


def test_one_launch_is_judged_with_the_noise_floor(tables):
    alpha = {"py_code": 0.85, "en_finance": 0.70, "ja_finance": 0.695}
    wide = judged(tables, launches=1, alpha=alpha, floor=NoiseFloor(1.03, "launches of earlier studies", 3))
    assert wide.verdict["sz-order"] == UNCLEAR
    assert "±3%, the noise floor" in wide.detail["sz-order"]


def test_one_launch_without_a_noise_floor_decides_no_speed(tables):
    one = judged(tables, launches=1)
    assert one.verdict["sz-order"] == UNCLEAR
    assert "not known yet" in one.detail["sz-order"] and "set `launches` to 3" in one.detail["sz-order"]
    assert "no interval yet" in one.ours["sz-order"]


def test_programs_count_where_they_were_run(tables):
    assert judged(tables).verdict["sz-programs"] == UNTESTED
    ran = pd.DataFrame(
        {"k": [0] * 200 + [4] * 200, "passed": [True] * 180 + [False] * 20 + [True] * 185 + [False] * 15}
    )
    assert judged(tables, programs=ran).verdict["sz-programs"] == REPRODUCED


@pytest.mark.parametrize(
    "bad",
    [
        {"id": "x", "source": "suzuki-shoten", "table": "3.1", "says": "s", "larger": {}},
        {"id": "x", "source": "suzuki-shoten", "table": "3.1", "says": "s", "number": {"k": 3}},
        {"id": "sz-faster", "source": "suzuki-shoten", "table": "A.3", "says": "s", "number": {"metric": "drafts"}},
    ],
)
def test_a_claim_without_predicate_number_or_name_of_its_own_is_refused(tables, bad):
    with pytest.raises(EvidenceError):
        claims.claims(dataclasses.replace(tables, claims=[*tables.claims, bad]))


def test_the_articles_have_claims_of_both_kinds(tables):
    kinds = pd.DataFrame([{"source": c.source, "kind": c.kind} for c in claims.claims(tables)])
    assert set(kinds.source) >= set(tables.sources[tables.sources.seed == "yes"].source)
    assert kinds.kind.value_counts().min() >= 25


def test_context_of_a_study():
    study = SimpleNamespace(
        study="gb10-26b-a4b",
        stamp="measured",
        hardware="gb10",
        model_shape="gemma-4-26B-A4B-it",
        target=SimpleNamespace(model="RedHatAI/gemma-4-26B-A4B-it-FP8-Dynamic"),
    )
    assert verdicts.context(study) == about(study="gb10-26b-a4b")

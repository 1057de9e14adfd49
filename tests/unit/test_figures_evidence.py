"""Figures and tables of chapters 08 and 09: what they say comes from the data, and every published one names its sources."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.published import consistency, evidence, physics, verdicts
from analysis.published import figures as figures_evidence
from analysis.published import tables as tables_evidence
from analysis.science import acceptance, costmodel
from analysis.science.money import Assumptions

sys.path.insert(0, str(Path(__file__).parent))
from study_frames import RHO, about, frames


@pytest.fixture(scope="module")
def published():
    return evidence.load()


@pytest.fixture(scope="module")
def checked(published):
    return physics.physics(published)


@pytest.fixture(scope="module")
def drawn(published, checked):
    speedups, costs = physics.speedups(published), physics.step_costs(published)
    lines = [physics.gain_by_load(r.model, r.quantisation, r.k, r.al, [1, 8, 16]) for r in physics.examples(costs)]
    return {
        "speedups": figures_evidence.published_speedups(speedups, published),
        "bound": figures_evidence.speed_against_bound(checked, published),
        "cost": figures_evidence.step_cost_published(costs, published),
        "load": figures_evidence.gain_by_load(pd.concat(lines), speedups, published),
        "money": figures_evidence.cost_per_million(checked, published, Assumptions()),
    }


@pytest.mark.parametrize("name", ["speedups", "bound", "cost", "load", "money"])
def test_every_published_figure_names_the_sources_of_its_rows(drawn, published, name):
    figure = drawn[name]
    assert figure.sources and len(figure.table)
    if "source" in figure.table:
        titles = published.sources.set_index("source")["title"]
        for source in figure.table["source"].unique():
            assert any(titles[source] in entry for entry in figure.sources), source


def test_doubtful_speeds_are_hollow(drawn):
    symbols = {trace.marker.symbol for trace in drawn["speedups"].live.data}
    assert {"circle", "circle-open", "square"} <= symbols
    hollow = [y for trace in drawn["speedups"].live.data if trace.marker.symbol == "circle-open" for y in trace.y]
    assert hollow and all(label.startswith("ai-muninn-27") for label in hollow)


def test_titles_are_computed(drawn, published, checked):
    assert "108.8, 348.3, 674.3 tok/s" in drawn["bound"].title
    calm = checked[checked["verdict"] != physics.DEGENERATE]
    assert "No published speed" in figures_evidence.speed_against_bound(calm, published).title
    assert "falls from 3.11× to 2.54× for 31B (jarvislabs)" in drawn["load"].title
    assert "rises from 1.49× to 1.85× for 26B-A4B (jarvislabs)" in drawn["load"].title


def test_drawing_twice_gives_the_same_bytes(published, checked):
    first, second = (figures_evidence.speed_against_bound(checked, published).static for _ in range(2))
    assert first == second


def test_dearer_energy_makes_tokens_dearer(published, checked, drawn):
    dear = figures_evidence.cost_per_million(checked, published, Assumptions(kwh_price=3.0))
    both = drawn["money"].table["cost"].reset_index(drop=True), dear.table["cost"].reset_index(drop=True)
    assert (both[1] > both[0]).all()
    assert not (drawn["money"].table["tok_s"] == 674.28).any()  # a speed above the bound prices nothing


def test_break_even_says_what_cannot_be_served(checked):
    text = tables_evidence.break_even(checked, Assumptions(api_prices=(0.1, 50))).frame.to_string()
    assert "never: energy costs more" in text


def test_the_study_s_own_figures():
    made = frames(wobble=0.0)
    costs = costmodel.step_cost(costmodel.step_time(made.cells, made.requests))
    figure = figures_evidence.step_cost(costs, "miniature")
    assert figure.stamp == "miniature" and f"{RHO[8]:.2f} baseline steps" in figure.title
    sweep = costmodel.predict_sweep(costs, acceptance.by_position(made.positions))
    title = figures_evidence.predicted_sweep(sweep, "miniature").title
    assert title == "Three arms predict the rest of the sweep: the largest error is 0%"
    off = sweep.assign(error=sweep.error.where(sweep.used, 0.31))
    title = figures_evidence.predicted_sweep(off, "miniature").title
    assert title == "Three arms do not predict the rest of the sweep: the largest miss is 31%"
    assert "(as measured)" in tables_evidence.sweep_sentence(sweep)
    two = costs[costs.k.isin([1, 8])]
    ends = costmodel.predict_sweep(two, acceptance.by_position(made.positions))
    assert "nothing is left to predict" in figures_evidence.predicted_sweep(ends, "miniature").title


def test_every_table_renders(published, checked):
    table = verdicts.verdicts(
        published, [verdicts.summarise(frames(), about(stamp="miniature", hardware="cpu"))], "invented"
    )
    found = consistency.findings(published)
    for shown in (
        tables_evidence.bounds(checked),
        tables_evidence.uncheckable(checked),
        tables_evidence.step_costs(physics.step_costs(published)),
        tables_evidence.conditional(published),
        tables_evidence.rooflines(physics.rooflines()),
        tables_evidence.footprints(physics.footprints()),
        tables_evidence.claim_counts(table),
        tables_evidence.claims(table),
        tables_evidence.inconsistencies(found),
        tables_evidence.advice(published),
        tables_evidence.failures(published),
    ):
        html = shown._repr_mimebundle_()[0]["text/html"]
        assert "<table" in html and len(shown.frame)
    sentence = tables_evidence.checks_sentence(consistency.counts(published), found)
    assert f"leave {len(found)} inconsistencies" in sentence

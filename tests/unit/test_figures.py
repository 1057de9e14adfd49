"""Every figure from a small frame: its title is computed, it has words and data beside the drawing, and it repeats."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from analysis.science import acceptance, losslessness, speedup
from analysis.science.stats import NoiseFloor
from analysis.show import figures, under_load
from analysis.show.outputs import PLOTLY_MIME

FLOOR = NoiseFloor(1.05, "launches", 2)
UNKNOWN = NoiseFloor(float("nan"), "repeats of one launch", 0)
WORKLOADS = ("py_code", "ja_finance")


@pytest.fixture(scope="module")
def frames(build):
    """Baseline and K = 1, 4 on two workloads, two streams; seconds, counts and texts chosen so that titles differ."""
    seconds = {(0, "py_code"): 12.0, (0, "ja_finance"): 12.0, (1, "py_code"): 8.0, (1, "ja_finance"): 9.0}
    seconds |= {(4, "py_code"): 6.0, (4, "ja_finance"): 10.0}
    timing = [{"k": k, "workload": w, "seconds": s} for (k, w), s in seconds.items()]
    load = [
        {"experiment": "concurrency", "k": k, "workload": w, "concurrency": c, "wall_s": wall, "seconds": wall}
        for w in WORKLOADS
        for k, c, wall in ((0, 1, 10.0), (0, 4, 4.0), (4, 1, 5.0), (4, 4, 3.2))
    ]
    counted = [
        {"k": 1, "workload": w, "drafts": 100, "draft_tokens": 100, "accepted": 80, "per_position": [80]}
        for w in WORKLOADS
    ]
    counted += [
        {"k": 4, "workload": w, "drafts": 100, "draft_tokens": 400, "accepted": a, "per_position": p}
        for w, a, p in (("py_code", 200, [80, 60, 40, 20]), ("ja_finance", 100, [60, 24, 12, 4]))
    ]
    texts = {(0, 1): "abcd", (0, 2): "abcd", (4, 1): "abXd"}
    greedy = [{"experiment": "greedy", "k": k, "repeat": r, "text": t} for (k, r), t in texts.items()]
    return {
        "requests": build.requests(*timing, *load, *greedy),
        "cells": build.cells(*counted, *load),
        "counted": build.cells(*counted),
        "positions": build.positions(*counted),
        "launches": build.launches({"ready_s": 31.4}, {"k": 4, "ready_s": 47.2}),
        "programs": pd.DataFrame(
            [
                {"arm": "baseline", "k": 0, "generate_s": 26.81, "execute_s": 2.35},
                {"arm": "mtp-k4", "k": 4, "generate_s": 15.58, "execute_s": 2.28},
            ]
        ),
    }


#: figure -> (how it is made from the frames, its title)
FIGURES = {
    "speed": (
        lambda f: figures.speed(speedup.by_workload(f["requests"]), "measured"),
        "MTP with K = 4 on Python code is fastest: 16.7 tok/s",
    ),
    "cold_start": (
        lambda f: figures.cold_start(f["launches"], "measured"),
        "A server needs up to 47 s before it answers",
    ),
    "speedup_by_workload": (
        lambda f: figures.speedup_by_workload(speedup.paired(f["requests"]), FLOOR, "measured"),
        "MTP with K = 4 makes Python code 2.00× as fast, Japanese finance 1.20×",
    ),
    "speedup_by_k": (
        lambda f: figures.speedup_by_k(speedup.paired(f["requests"]), FLOOR, "measured"),
        "The fastest K depends on the work: K = 4 for Python code, K = 1 for Japanese finance",
    ),
    "throughput": (
        lambda f: under_load.throughput(speedup.concurrency(f["cells"], f["requests"]), "measured"),
        "The highest throughput is 31 tok/s: MTP with K = 4, Japanese finance, 4 streams",
    ),
    "gain_under_load": (
        lambda f: under_load.gain(speedup.concurrency(f["cells"], f["requests"]), "measured"),
        "The gain shrinks with load: 2.00× at 1 stream, 1.25× at 4",
    ),
    "acceptance_by_position": (
        lambda f: figures.acceptance_by_position(acceptance.by_position(f["positions"]), "measured"),
        "Acceptance falls from 70% at position 0 to 12% at position 3",
    ),
    "conditional_acceptance": (
        lambda f: figures.acceptance_by_position(acceptance.by_position(f["positions"]), "measured", conditional=True),
        "Where all drafts before are accepted, the next is accepted 57% of the time",
    ),
    "acceptance_length": (
        lambda f: figures.acceptance_length(acceptance.by_arm(f["counted"]), "measured"),
        "A step yields up to 3.00 tokens: Python code at K = 4",
    ),
    "end_to_end": (
        lambda f: figures.end_to_end(f["programs"], "measured"),
        "Generating and executing a program is 1.63× faster with MTP",
    ),
    "agreement": (
        lambda f: figures.agreement(losslessness.agreement(losslessness.pairs(f["requests"])), "measured"),
        "baseline against baseline: 1 of 1 texts identical; baseline against MTP with K = 4: 0 of 1 texts identical",
    ),
}


@pytest.fixture(scope="module", params=FIGURES.items(), ids=FIGURES)
def drawn(request, frames):
    make, title = request.param[1]
    return make(frames), title, lambda: make(frames)


def test_the_title_says_what_the_data_say(drawn):
    figure, title, _ = drawn
    assert figure.title == title


def test_a_figure_has_caption_alternative_text_table_and_stamp(drawn):
    figure, _, _ = drawn
    data, about = figure.bundle()
    about = about["figure"]
    assert len(about["caption"]) > 30 and len(about["alt"]) > 30
    assert about["stamp"] == "measured" and "<th" in about["table_html"] and len(figure.table)
    assert data["text/plain"] == figure.alt
    assert "nan" not in (about["title"] + about["caption"] + about["alt"]).lower().split()


def test_both_drawings_name_their_axes_and_carry_the_stamp(drawn):
    figure, _, _ = drawn
    words = " ".join(ET.fromstring(figure.static).itertext())
    live = json.dumps(figure.bundle()[0][PLOTLY_MIME]["layout"], ensure_ascii=False)
    axis = figure.live.layout.yaxis.title.text
    assert axis in words and axis in live and figure.live.layout.xaxis.title.text in words
    assert "measured" in words and "measured" in live


def test_the_same_data_give_the_same_bytes(drawn):
    figure, _, again = drawn
    other = again()
    assert other.static == figure.static
    assert other.live.to_json() == figure.live.to_json()


# -- titles follow the data ----------------------------------------------------------------------------------------


def sweep(**speedups) -> pd.DataFrame:
    """One launch; ``a1=1.5`` is the speedup of workload a at K = 1."""
    rows = [
        {"variant": "main", "arm": f"mtp-k{n[1:]}", "k": int(n[1:]), "workload": n[0], "speedup": s, "launches": 1}
        for n, s in speedups.items()
    ]
    nothing = {"lo": np.nan, "hi": np.nan, "prompts": 1, "seconds": 5.0, "baseline_seconds": 9.0}
    table = pd.DataFrame(rows).assign(**nothing)
    return table.assign(prompt_min=table.speedup, prompt_max=table.speedup, ratio_of_means=table.speedup)


def test_the_title_of_the_sweep_changes_with_its_data():
    assert figures.speedup_by_k(sweep(a1=1.5, a4=2.0, b1=1.1, b4=1.2), FLOOR, "measured").title == (
        "K = 4 is fastest for every workload"
    )


def test_the_title_of_the_speed_figure_without_a_drafter_is_a_range(frames):
    table = speedup.by_workload(frames["requests"])
    title = figures.speed(table[table.k == 0], "measured").title
    assert title == "Without a drafter every workload runs at 8.3 to 8.3 tok/s"


@pytest.mark.parametrize("gains, word", [((1.2, 1.5), "grows"), ((1.5, 1.2), "shrinks"), ((1.5, 1.52), "stays")])
def test_the_title_of_the_load_figure_follows_the_trend(gains, word):
    table = pd.DataFrame(
        {"variant": "main", "arm": "mtp-k4", "k": 4, "workload": "w", "concurrency": [1, 8], "over_baseline": gains}
    ).assign(aggregate_tok_s=[10.0, 50.0])
    title = under_load.gain(table, "miniature").title
    assert title == f"The gain {word} with load: {gains[0]:.2f}× at 1 stream, {gains[1]:.2f}× at 8"


def test_the_caption_says_what_the_whiskers_and_the_grey_band_are():
    one = figures.speedup_by_workload(sweep(a4=1.5), UNKNOWN, "measured").caption
    assert "range over prompts. One launch gives no interval." in one and "No noise floor" in one
    two = figures.speedup_by_workload(sweep(a4=1.5).assign(lo=1.4, hi=1.6, launches=3), FLOOR, "measured").caption
    assert "95 % interval. 3 launches per arm." in two and "noise floor, 1.050×" in two


def test_the_stamp_of_a_figure_is_one_of_three():
    with pytest.raises(ValueError, match="stamp"):
        figures.speedup_by_workload(sweep(a4=1.5), FLOOR, "real")


# -- gaps ----------------------------------------------------------------------------------------------------------


def test_a_single_arm_and_workload_are_drawn_without_a_legend(frames):
    one = speedup.by_workload(frames["requests"]).iloc[:1]
    assert not figures.speed(one, "measured").live.layout.showlegend
    title = "K = 4 is fastest for every workload"
    assert figures.speedup_by_k(sweep(a4=1.5), FLOOR, "measured").title == title
    so_far = " (one launch: a verdict is not known yet)"
    assert figures.speedup_by_k(sweep(a4=1.5), UNKNOWN, "measured").title == title + so_far


def test_missing_values_leave_gaps_and_no_crash():
    table = sweep(a1=1.5, a4=1.2, b1=1.1, b4=1.3).assign(lo=[1.4, np.nan, np.nan, 1.2], hi=[1.6, np.nan, np.nan, 1.4])
    for make in (figures.speedup_by_workload, figures.speedup_by_k):
        figure = make(table, FLOOR, "measured")
        assert "<svg" in figure.static and "–" in figure.bundle()[1]["figure"]["table_html"]


def test_a_drafter_that_never_accepts_is_drawn(build):
    row = {"k": 2, "drafts": 10, "draft_tokens": 20, "accepted": 0, "per_position": [0, 0]}
    table = acceptance.by_position(build.positions(row))
    assert figures.acceptance_by_position(table, "measured").title == (
        "Acceptance falls from 0% at position 0 to 0% at position 1"
    )
    assert figures.acceptance_by_position(table, "measured", conditional=True).title.endswith("0% of the time")


def test_programs_of_the_baseline_alone_are_compared_with_nothing(frames):
    title = figures.end_to_end(frames["programs"].iloc[:1], "measured").title
    assert title == "Seconds to generate and to execute a program"


def test_an_arm_has_one_colour_in_every_figure(frames):
    def colour(figure, name):
        trace = next(t for t in figure.live.data if t.name == name)
        return trace.marker.color if trace.type == "bar" else trace.line.color

    one, other = (FIGURES[n][0](frames) for n in ("speed", "throughput"))
    assert colour(one, "MTP with K = 4") == colour(other, "MTP with K = 4") != colour(one, "baseline")


def test_series_differ_by_more_than_colour(frames):
    traces = FIGURES["speedup_by_k"][0](frames).live.data
    assert len({(t.line.dash, t.marker.symbol) for t in traces}) == len(traces) == 2

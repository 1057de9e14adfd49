"""Chapter 04 in words and pictures: what is outside the captured graphs is drawn hollow, and judged with nothing inside."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.science import load, speedup
from analysis.science.stats import NoiseFloor
from analysis.show import drawing, under_load

sys.path.insert(0, str(Path(__file__).parent))
from load_frames import measured, recorded

FLOOR, UNKNOWN = NoiseFloor(1.03, "launches, under load", 5), NoiseFloor(float("nan"), "", 0)


@pytest.fixture(scope="module")
def levels():
    return speedup.concurrency(*measured())


def traces(figure):
    return {t.name: t for t in figure.live.data if t.name}


@pytest.mark.parametrize("draw", [under_load.throughput, under_load.gain])
def test_points_outside_are_hollow_and_the_line_breaks_there(levels, draw):
    figure = draw(levels, "synthetic-acceptance")
    shown = traces(figure)
    fixed, cover = shown["MTP with K = 4"], shown["MTP with K = 4 (cover)"]
    assert list(fixed.x) == [64, 96, None, 112, 128, 192] and fixed.y[2] is None
    assert [s.endswith("-open") for s in fixed.marker.symbol] == [False, False, True, True, True, True]
    assert list(cover.x) == [64, 96, 112, 128, 192] and isinstance(cover.marker.symbol, str)
    assert (
        "Hollow points" in figure.caption
        and "192: 7228 tok/s (outside the graphs)" in under_load.throughput(levels, "measured").alt
    )
    whiskers = fixed.error_y.array
    assert whiskers is None or len(whiskers) == len(fixed.x)


def test_the_static_drawing_has_hollow_points_too(levels):
    inside = levels.assign(in_graphs="inside")
    hollow, filled = (under_load.throughput(t, "measured").static for t in (levels, inside))
    assert hollow != filled


def test_labels_of_close_loads_do_not_stand_on_each_other(levels):
    loads = [1, 8, 32, 64, 96, 112, 128, 192, 256]
    labels = drawing.Axes("streams", "", log_x=True, ticks=loads).tick_labels
    assert labels == ["1", "8", "32", "64", "", "", "128", "", "256"]
    assert drawing.Axes("K", "", ticks=range(17)).tick_labels[1] == "1"
    assert drawing.Axes("streams", "", log_x=True, ticks=[4]).tick_labels == ["4"]
    axis = under_load.gain(levels, "measured").live.layout.xaxis
    assert list(axis.tickvals) == [64, 96, 112, 128, 192] and list(axis.ticktext) == ["64", "96", "112", "128", "192"]


def test_a_legend_of_long_names_takes_fewer_columns(levels):
    """38 characters of about 4.6 points are 175: two columns fit into 518 points, three do not."""
    one = levels[levels.arm == "mtp-k4"]
    many = pd.concat((one.assign(arm=f"mtp-k4@long-name-long-name-{n}") for n in range(6)), ignore_index=True)
    still = under_load.throughput(many, "measured").static
    starts = {float(x) for x in re.findall(r'x="([\d.]+)"[^>]*>MTP with K = 4 \(long', still)}
    assert len(starts) == 2 and max(starts) + 175 < 518


def test_an_interval_over_two_launches_that_differ_does_not_flatten_the_picture(levels):
    wide = levels.assign(hi=levels.hi.where(levels.concurrency < 192, 29.8))
    assert levels.lo.notna().any()
    figure = under_load.gain(wide, "measured")
    assert list(figure.live.layout.yaxis.range) == [0, pytest.approx(1.3 * levels.over_baseline.max())]
    assert "leave the picture" in figure.caption and list(figure.table.hi)[-1] == 29.8
    kept = under_load.gain(levels, "measured")
    assert kept.live.layout.yaxis.range is None and "leave" not in kept.caption


def test_the_title_of_the_gain_keeps_the_two_sides_apart(levels):
    fixed = levels[levels.variant == "main"]
    assert under_load.gain(fixed, "measured").title == (
        "The gain stays with load: 1.66× at 64 streams, 1.64× at 96; outside the captured graphs 0.84× at 192"
    )
    assert "outside the captured graphs MTP with K = 4 0.84× at 192" in under_load.gain(levels, "measured").title
    beyond = fixed[(fixed.concurrency > 100) | (fixed.k == 0)]
    assert under_load.gain(beyond, "measured").title.startswith("Every load is outside the captured graphs")


def test_the_reading_names_the_sum_and_the_setting_that_covers(levels):
    said = under_load.reading(levels)
    assert "MTP with K = 4 from 112 streams (112 × 5 = 560 tokens per step)" in said
    assert "`server.graphs: cover`" in said and said.count("(cover) from") == 0
    assert "captured no CUDA graphs (eager mode)" in under_load.reading(levels.assign(in_graphs="none"))
    assert "inside the captured CUDA graphs" in under_load.reading(levels.assign(in_graphs="inside"))
    assert "graphs" not in under_load.reading(levels.assign(in_graphs="not known"))


def test_one_launch_is_named_where_it_is_as_good_as_the_best_everywhere_and_mixed_ones_are_not_judged(levels):
    said = under_load.verdict(load.one_for_all(levels, FLOOR), FLOOR)
    assert said == (
        "One launch is within the noise floor (1.030×) of the best at every load: MTP with K = 4 (cover). "
        "Not judged: MTP with K = 4, which leaves the graphs at 112 streams."
    )
    fixed = levels[levels.variant == "main"]
    said = under_load.verdict(load.one_for_all(fixed, UNKNOWN), UNKNOWN)
    assert said.startswith("Which launch is as good as the best at every load is not known yet")
    assert "set `launches` to 3. Nearest so far is baseline" in said and said.endswith("1 launch per arm.")
    both = load.one_for_all(fixed[fixed.k == 4], FLOOR)
    assert "none can be named" in under_load.verdict(both, FLOOR)


def test_the_tables_say_which_side_and_which_interval(levels):
    html = under_load.speeds(levels)._repr_mimebundle_()[0]["text/html"]
    assert "in CUDA graphs" in html and "outside" in html and "95 % from" in html
    plain = under_load.speeds(
        levels.assign(in_graphs="not known", lo=float("nan"), hi=float("nan"))
    )._repr_mimebundle_()[0]["text/html"]
    assert "in CUDA graphs" not in plain and "95 % from" not in plain
    best = under_load.winners(load.winners(levels, FLOOR), FLOOR)._repr_mimebundle_()[0]["text/html"]
    assert "within 3.0% of it" in best and "MTP with K = 4 (cover)" in best


def test_slots_are_called_slots_and_fixed_k_has_no_such_table():
    cells, _, requests = recorded()
    html = under_load.chosen(load.chosen(cells, requests))._repr_mimebundle_()[0]["text/html"]
    assert "accepted per slot drafted" in html and "no acceptance rate of the drafter" in html
    assert under_load.chosen(load.chosen(cells[cells.way == ""], requests)) is None


def test_the_table_by_batch_is_a_line_of_a_study_file_and_needs_two_k(levels):
    assert under_load.by_batch(levels) == ""
    more = pd.concat(
        [levels, levels[levels.arm == "mtp-k4"].assign(arm="mtp-k2", k=2, in_graphs="inside", aggregate_tok_s=9e9)]
    )
    assert under_load.by_batch(more).endswith("`batch_table: [[1, 192, 2]]`.")


def test_what_each_launch_captured_and_what_it_cost():
    frame = pd.DataFrame(
        [{"arm": "mtp-k4@cover", "launch": 1, "max_capture_size": 1280.0, "capture_s": 32.0, "capture_gib": 0.63}]
    )
    html = under_load.graphs(frame)._repr_mimebundle_()[0]["text/html"]
    assert "1280" in html and "0.63" in html and "captured graphs [GiB]" in html
    assert under_load.graphs(frame[["arm", "launch"]]) is None

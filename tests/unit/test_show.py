"""What figures, tables and sentences put into a notebook."""

from __future__ import annotations

import json

import matplotlib
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot

from analysis.show.look import INK, MATPLOTLIB, arm_style, static_svg
from analysis.show.outputs import PLOTLY_MIME, Figure, Panel, Say, SideBySide, Table, cell_text, table_html

matplotlib.use("Agg")


def drawing():
    with matplotlib.rc_context(MATPLOTLIB):
        figure, axes = pyplot.subplots()
        axes.plot([1, 2], [3, 4], marker="o", label="a")
        axes.legend()
    return figure


def figure(**changes) -> Figure:
    told = {
        "live": go.Figure(go.Bar(x=["a", "b"], y=[1.0, 2.0])),
        "static": drawing(),
        "title": "b is twice a",
        "caption": "Two bars [s].",
        "alt": "A bar of 1 and a bar of 2.",
        "table": pd.DataFrame({"name": ["a", "b"], "seconds": [1.0, 2.0]}),
        "stamp": "miniature",
    }
    return Figure(**(told | changes))


# ------------------------------------------------------------------------------------------------------- Figure
def test_a_figure_has_three_forms_and_all_the_report_needs():
    data, metadata = figure(sources=["article X"]).bundle()
    assert set(data) == {PLOTLY_MIME, "image/svg+xml", "text/plain"}
    about = metadata["figure"]
    assert about["title"] == "b is twice a"
    assert about["alt"] == data["text/plain"] == "A bar of 1 and a bar of 2."
    assert about["stamp"] == "miniature"
    assert about["sources"] == ["article X"]
    assert about["table_html"].count("<tr>") == 3
    json.dumps([data, metadata])


def test_a_figure_in_a_notebook_stays_far_below_the_size_of_the_library():
    data, metadata = figure().bundle()
    assert len(json.dumps([data, metadata])) < 40_000


def test_a_figure_shows_itself_and_then_its_caption(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.publish_display_data", lambda data, metadata: shown.append((data, metadata)))
    figure(sources=["article X"])._ipython_display_()
    (_, first), (data, second) = shown
    assert "figure" in first
    assert second == {"caption": True}
    assert data["text/markdown"] == "**b is twice a** Two bars [s].\n\nData: article X"


def test_the_stamp_is_in_both_twins():
    data, _ = figure(stamp="synthetic-acceptance").bundle()
    assert data[PLOTLY_MIME]["layout"]["title"]["text"] == "synthetic-acceptance"
    assert "synthetic-acceptance" in data["image/svg+xml"]


def test_the_given_plotly_figure_is_left_as_it_was():
    live = go.Figure(go.Bar(y=[1]))
    before = live.to_json()
    figure(live=live)
    assert live.to_json() == before


def test_plotlys_own_template_is_replaced_not_merged():
    layout = figure().bundle()[0][PLOTLY_MIME]["layout"]
    assert layout["template"]["layout"]["font"]["color"] == INK
    assert "heatmap" not in layout["template"]["data"]


def test_the_same_drawing_gives_the_same_svg():
    assert static_svg(drawing(), "measured") == static_svg(drawing(), "measured")


def test_the_svg_names_no_date_and_no_program_and_keeps_text_as_text():
    text = static_svg(drawing(), "measured")
    assert "<metadata" not in text
    assert "Matplotlib" not in text
    assert "date" not in text
    assert "<text" in text and ">measured</text>" in text


def test_a_drawn_matplotlib_figure_is_closed_so_that_it_is_not_shown_twice():
    before = pyplot.get_fignums()
    figure()
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize("change", [{"stamp": "real"}, {"alt": " "}, {"caption": ""}, {"title": ""}])
def test_a_figure_without_stamp_or_words_is_refused(change):
    with pytest.raises(ValueError, match="stamp is|needs a title"):
        figure(**change)


def test_a_headline_figure_says_so():
    assert figure(headline=True).bundle()[1]["headline"] is True
    assert "headline" not in figure().bundle()[1]


# -------------------------------------------------------------------------------------------------------- Table
def test_a_table_is_semantic_html():
    data, metadata = Table(pd.DataFrame({"arm": ["baseline"], "tok/s": [41.234]}), "Speed [tok/s]")._repr_mimebundle_()
    text = data["text/html"]
    assert "<caption>Speed [tok/s]</caption>" in text
    assert '<th scope="col" class="number">tok/s</th>' in text
    assert '<th scope="row" style="text-align:left">baseline</th>' in text
    assert '<td class="number">41.2</td>' in text
    assert metadata == {"table": {"caption": "Speed [tok/s]"}}
    assert "41.234" in data["text/plain"]


def test_an_index_heads_its_rows():
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["arm", "k"]))
    text = table_html(frame)
    assert text.count('scope="row"') == 4
    assert text.count("<td") == 2


def test_columns_of_two_levels_become_one_name():
    frame = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("TTFT", "p50"), ("TTFT", "p95")]))
    assert "TTFT p50</th>" in table_html(frame)


def test_markup_in_data_stays_text():
    data, _ = Table(pd.DataFrame({"<b>": ["<script>x</script>"]}), "a < b", note="c & d")._repr_mimebundle_()
    assert "<script>" not in data["text/html"]
    assert "<caption>a &lt; b</caption>" in data["text/html"]
    assert "c &amp; d" in data["text/html"]


def test_headline_and_provenance_are_metadata():
    frame = pd.DataFrame({"a": [1]})
    assert Table(frame, "c", headline=True)._repr_mimebundle_()[1]["headline"] is True
    assert Table(frame, "c", provenance=True)._repr_mimebundle_()[1]["provenance"] is True


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (np.nan, "–"),
        (pd.NA, "–"),
        (pd.NaT, "–"),
        (True, "yes"),
        (np.bool_(False), "no"),
        (12345, "12,345"),
        (np.int64(7), "7"),
        (1.0, "1"),
        (0.123456, "0.123"),
        (np.float32(41.25), "41.2"),
        (12345.6, "12,346"),
        ("mtp-k4", "mtp-k4"),
    ],
)
def test_values_read_well_without_a_format(value, text):
    assert cell_text(value) == text


def test_a_format_is_a_specification_or_a_function():
    assert cell_text(1.5, ".2f") == "1.50"
    assert cell_text(0.25, lambda share: f"{share:.0%}") == "25%"
    assert cell_text(None, ".2f") == "–"


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)))
def test_every_value_has_a_text(value):
    assert isinstance(cell_text(value), str)


# ---------------------------------------------------------------------------------------------- Say, SideBySide
@pytest.mark.parametrize("kind", ["reading", "headline"])
def test_a_sentence_is_markdown_that_says_what_it_is(kind):
    assert Say("K = 4 is **fastest**.", kind)._repr_mimebundle_() == (
        {"text/markdown": "K = 4 is **fastest**.", "text/plain": "K = 4 is **fastest**."},
        {"say": kind},
    )


def test_a_warning_is_called_one():
    data, metadata = Say("one launch", "warning")._repr_mimebundle_()
    assert data["text/markdown"] == "**Warning:** one launch"
    assert metadata == {"say": "warning"}


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="shout"):
        Say("x", "shout")


def test_code_side_by_side_is_escaped_and_says_how_it_went():
    good, bad = Panel("baseline", "print('<b>')", "table is right", True), Panel("mtp-k4", ok=False, outcome="no")
    data, _ = SideBySide([good, bad])._repr_mimebundle_()
    assert "print('&lt;b&gt;')" in data["text/html"]
    assert "Passed: table is right" in data["text/html"]
    assert "Failed: no" in data["text/html"]
    assert data["text/plain"] == "baseline: table is right\nmtp-k4: no"


# ------------------------------------------------------------------------------------------------------ arm_style
def test_an_arm_looks_the_same_everywhere():
    assert arm_style(4) == arm_style(4, "mtp-k4")
    assert arm_style(0) == arm_style(0, "baseline")


def test_the_usual_arms_differ_in_colour_dash_and_marker():
    styles = [arm_style(k) for k in (0, 1, 2, 4, 8)]
    for part in ("color", "dash", "symbol", "mpl_marker"):
        assert len({getattr(style, part) for style in styles}) == 5, part


def test_a_variant_keeps_the_colour_of_its_k_but_not_its_dash_and_marker():
    plain, variant = arm_style(4, "mtp-k4"), arm_style(4, "mtp-k4-fp8")
    assert variant.color == plain.color
    assert variant.dash != plain.dash
    assert variant.symbol != plain.symbol
    assert variant == arm_style(4, "mtp-k4-fp8")


@given(st.integers(0, 200), st.text(max_size=30))
def test_any_arm_has_a_style_that_plotly_accepts(k, name):
    style = arm_style(k, name)
    go.Scatter(line={"color": style.color, "dash": style.dash}, marker={"symbol": style.symbol})


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two #rrggbb colours (WCAG 2)."""

    def light(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(first), light(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_ink_reads_on_white_and_on_black():
    assert contrast(INK, "#ffffff") >= 4.5
    assert contrast(INK, "#000000") >= 4.5


@pytest.mark.parametrize("k", [0, 1, 2, 4, 8])
def test_usual_arms_stand_out_on_the_light_and_the_dark_page(k):
    assert contrast(arm_style(k).color, "#fdfdfb") >= 2.8
    assert contrast(arm_style(k).color, "#14171a") >= 3

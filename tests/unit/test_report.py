"""The report from notebooks built by hand: what is shown where, what is refused, and that it never changes."""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from analysis.errors import ReportError
from analysis.report import render
from analysis.report.executed import terminal_text
from analysis.report.fragments import clean
from analysis.report.page import LIMIT
from analysis.report.svg import inline_svg

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from report_demo import demo_notebooks, notebook, output_of, speedup_bars, write_demo

from analysis.show.outputs import Panel, Say, SideBySide, Table


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[list[Path], str]:
    folder = tmp_path_factory.mktemp("demo")
    paths = write_demo(folder)
    page = render(paths, folder / "index.html", title="A study", stamp="miniature", provenance={"vLLM": "0.32.0"})
    return paths, page.read_text(encoding="utf-8")


def rendered(tmp_path: Path, *parts, name: str = "03_k_sweep.ipynb", stamp: str = "miniature", **options) -> str:
    """Page of one notebook, without the library and the style."""
    nbformat.write(notebook(*parts), tmp_path / name)
    page = render([tmp_path / name], tmp_path / "index.html", title="T", stamp=stamp, **options).read_text("utf-8")
    return re.sub(r'<style>.*?</style>|<script data-library="plotly">.*?</script>', "", page, flags=re.DOTALL)


def section(page: str, anchor: str) -> str:
    return re.search(rf'<section class="[^"]*" id="{anchor}".*?</section>', page, re.DOTALL)[0]


# -------------------------------------------------------------------------------------------------- one whole page
def test_rendering_twice_gives_the_same_bytes(demo, tmp_path):
    paths, first = demo
    for path in paths:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    again = [tmp_path / path.name for path in reversed(paths)]
    page = render(again, tmp_path / "x" / "y.html", title="A study", stamp="miniature", provenance={"vLLM": "0.32.0"})
    assert page.read_bytes() == first.encode()


def test_the_page_is_small_enough_and_holds_the_library_once(demo):
    _, page = demo
    assert len(page.encode()) < LIMIT
    assert page.count('<script data-library="plotly">') == 1
    assert page.count("plotly.js v") == 1


def test_a_page_without_figures_has_no_library(tmp_path):
    rendered(tmp_path, "# A", ("1", ["one"]))
    assert (tmp_path / "index.html").stat().st_size < 40_000


def test_every_id_is_there_once_and_every_inner_link_has_its_target(demo):
    _, page = demo
    page = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r'(?:href|xlink:href)="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    targets |= set(re.findall(r'aria-labelledby="([^"]+)"', page))
    assert targets - set(ids) == set()


def test_headings_go_down_one_level_at_a_time(demo):
    levels = [int(level) for level in re.findall(r"<h([1-6])\b", demo[1].split("<script data-library")[0])]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_only_our_scripts_may_run(demo):
    _, page = demo
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    policy = html.unescape(policy)
    scripts = re.findall(r"<script(?: data-library=\"plotly\")?>(.*?)</script>", page, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src ([^;]+);", policy)[1].split() == hashes
    assert len(scripts) == 3


def test_nothing_is_loaded_from_elsewhere(demo):
    page = demo[1].split('<script data-library="plotly">')[0]
    assert not re.search(r"(?:src|action|poster)=[\"']?(?:https?:)?//", page)
    assert not re.search(r"<link\b|@import|url\(['\"]?(?:https?:)?//", page)


def test_the_page_names_no_machine_and_no_path(demo):
    assert str(Path.home()) + "/" not in re.sub(r"<script data-library.*?</script>", "", demo[1], flags=re.DOTALL)


def test_order_is_stamp_summary_chapters_provenance(demo):
    _, page = demo
    places = [page.index(text) for text in ("say nothing about Gemma 4", 'id="summary"', 'id="setup"', 'id="k-sweep"')]
    places += [page.index('id="concurrency"'), page.index('id="generated-python"'), page.index('id="provenance"')]
    assert places == sorted(places)


def test_contents_lists_every_chapter(demo):
    contents = re.search(r'<nav class="contents".*?</nav>', demo[1], re.DOTALL)[0]
    assert re.findall(r'href="#([^"]+)"', contents) == [
        "summary",
        "setup",
        "k-sweep",
        "concurrency",
        "generated-python",
        "provenance",
    ]


@pytest.mark.parametrize("stamp", ["measured", "synthetic-acceptance", "miniature"])
def test_the_stamp_is_on_top_and_only_the_miniature_says_nothing_about_gemma(tmp_path, stamp):
    page = rendered(tmp_path, "# A", stamp=stamp)
    assert f'<strong class="stamp stamp-{stamp}">{stamp}</strong>' in page
    assert ("say nothing about Gemma 4" in page) == (stamp == "miniature")


# ---------------------------------------------------------------------------------------------------- what is where
def test_headlines_open_the_report_and_stay_in_their_chapter(demo):
    _, page = demo
    summary = section(page, "summary")
    assert "<strong>1.71×</strong>" in summary
    assert "11 of 12 programs" in summary
    assert "Head to head on py_code" in summary
    assert summary.index("11 of 12 programs") < summary.index("Head to head")
    assert 'href="#k-sweep"' in summary
    assert "<strong>1.71×</strong>" in section(page, "k-sweep")


def test_a_headline_figure_is_drawn_in_both_places(tmp_path):
    shown = speedup_bars()
    shown.headline = True
    page = rendered(tmp_path, "# A", ("x", [shown]))
    plots = re.findall(r'data-plot="([^"]+)"', page)
    assert len(plots) == len(set(plots)) == 2
    assert len(re.findall(r'\sid="([^"]+)"', page)) == len(set(re.findall(r'\sid="([^"]+)"', page)))


def test_provenance_that_chapters_share_is_shown_once_at_the_end(demo):
    _, page = demo
    assert page.split('<script data-library="plotly">')[0].count("4c4382e") == 1
    assert "Chapters 0, 3, 4, 6" in section(page, "provenance")
    assert "0.32.0" in section(page, "provenance")


def test_a_provenance_output_moves_but_its_cell_stays(tmp_path):
    import pandas as pd

    table = Table(pd.DataFrame({"fact": ["commit"]}), "Facts", provenance=True)
    page = rendered(tmp_path, "# A", ("s.summary()", [table, "still here"]))
    assert "still here" in section(page, "k-sweep")
    assert "commit" not in section(page, "k-sweep")
    assert "commit" in section(page, "provenance")


def test_a_figure_has_title_alt_caption_stamp_data_and_a_still_picture(demo):
    shown = re.search(r'<figure class="figure" id="k-sweep-figure-1".*?</figure>', demo[1], re.DOTALL)[0]
    assert "Figure 3.1</span> MTP pays most on code" in shown
    assert re.search(r'role="img" aria-label="Grouped bars\.', shown)
    assert "<figcaption>Speedup by workload and K" in shown
    assert 'class="stamp stamp-miniature"' in shown
    assert '<details class="numbers"><summary>Data of figure 3.1</summary>' in shown
    assert shown.count("<tr>") == 13
    assert "<svg aria-hidden" in shown


def test_the_caption_for_the_notebook_is_not_said_twice(demo):
    assert demo[1].count("geometric mean of paired ratios") == 1


def test_code_is_folded_and_cells_that_show_nothing_join_the_next_one(tmp_path):
    page = rendered(tmp_path, "# A", ("import numpy", []), ("s = 1", []), ("s", ["one"]))
    assert page.count('<details class="code">') == 1
    assert "<details open" not in section(page, "k-sweep")
    assert '<span class="kn">import</span>' in page


def test_parameters_are_called_parameters(tmp_path):
    page = rendered(tmp_path, "# A", ("k = 4", [], "parameters"), ("k = 8", [], "injected-parameters"), ("k", ["8"]))
    assert page.count("<summary>Parameters</summary>") == 2


def test_links_between_notebooks_stay_inside_and_other_files_are_plain_text(tmp_path):
    page = rendered(
        tmp_path, "# A\n\n[here](03_k_sweep.ipynb) [there](../README.md) [web](https://example.org/a?b=1&c=2)"
    )
    assert '<a href="#k-sweep">here</a>' in page
    assert ">there<" not in page
    assert "there" in page
    assert '<a href="https://example.org/a?b=1&amp;c=2" rel="noreferrer">web</a>' in page


def test_a_warning_is_a_note_and_a_reading_is_prose(tmp_path):
    page = rendered(tmp_path, "# A", ("x", [Say("careful", "warning"), Say("just so")]))
    assert '<aside class="warning" role="note"><p><strong>Warning:</strong> careful</p>' in page
    assert '<div class="said"><p>just so</p>' in page


def test_same_headings_in_two_places_get_different_ids(tmp_path):
    page = rendered(tmp_path, "# A", "## Limits", "## Limits")
    assert 'id="k-sweep-limits"' in page
    assert 'id="k-sweep-limits-2"' in page


def test_a_notebook_without_a_title_is_called_by_its_file(tmp_path):
    assert "Cold start</h2>" in rendered(tmp_path, "text", name="cold_start.ipynb")
    assert "K sweep</h2>" in rendered(tmp_path, "text")


def test_the_summary_and_the_facts_given_are_shown(tmp_path):
    page = rendered(tmp_path, "# A", summary="Five *launches*.", provenance={"dirty": False, "cells": 1234})
    assert "<em>launches</em>" in section(page, "summary")
    assert "<dt>dirty</dt><dd>no</dd>" in page
    assert "<dd>1,234</dd>" in page


# --------------------------------------------------------------------------------------------- what outputs may hold
def test_terminal_colours_and_returns_are_handled(tmp_path):
    page = rendered(tmp_path, "# A", ("x", ["10 %\r50 %\r\x1b[32mdone\x1b[0m\n"]))
    assert "50 %" not in page
    assert '<span class="ansi-green-fg">done</span>' in page
    assert "\x1b" not in page


@pytest.mark.parametrize(("text", "shown"), [("a\rb", "b"), ("a\r\nb", "a\nb"), ("a\n", "a\n"), ("", "")])
def test_a_carriage_return_starts_the_line_again(text, shown):
    assert terminal_text(text) == shown


def test_messages_are_folded(tmp_path):
    node = notebook("# A", ("x", []))
    node.cells[1].outputs = [new_output("stream", name="stderr", text="loading\n")]
    nbformat.write(node, tmp_path / "a.ipynb")
    page = render([tmp_path / "a.ipynb"], tmp_path / "i.html", title="T", stamp="measured").read_text("utf-8")
    assert '<details class="log"><summary>Messages</summary>' in page


def test_progress_widgets_leave_no_trace(tmp_path):
    node = notebook("# A", ("x", []))
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "0f"}, "text/plain": "IntProgress(value=3)"}
    node.cells[1].outputs = [new_output("display_data", data=widget)]
    nbformat.write(node, tmp_path / "a.ipynb")
    page = render([tmp_path / "a.ipynb"], tmp_path / "i.html", title="T", stamp="measured").read_text("utf-8")
    assert "IntProgress" not in page


@pytest.mark.parametrize(
    "text",
    [
        "<script>steal()</script>ok",
        '<img src="https://example.org/x.png">ok',
        '<b onclick="steal()">ok</b>',
        '<iframe src="https://example.org"></iframe>ok',
        '<meta http-equiv="refresh" content="0;url=https://example.org">ok',
        '<link rel="stylesheet" href="https://example.org">ok',
        '<form action="https://example.org"><input></form>ok',
        "<style>body{display:none}</style>ok",
        '<a href="javascript:steal()">ok</a>',
    ],
)
def test_html_of_an_output_cannot_act(text):
    cleaned = clean(text)
    assert "ok" in cleaned
    assert not re.search(r"script\b|example|onclick|iframe|meta|<link|form|style|display", cleaned)


def test_tables_scroll_in_their_own_box():
    assert clean("<table><tr><td>1</td></tr></table>").startswith('<div class="wide" tabindex="0" role="region"')


def test_generated_code_is_shown_as_text_and_coloured(tmp_path):
    evil = SideBySide([Panel("mtp-k4", "x = '</code></pre><script>bad()</script>'", "ran", True)])
    page = rendered(tmp_path, "# A", ("x", [evil]))
    assert "<script>bad()" not in page
    assert '<code class="highlight">' in page
    assert "&lt;script&gt;bad()&lt;/script&gt;" in page


def test_a_figure_title_with_markup_stays_text(tmp_path):
    shown = speedup_bars()
    shown.title, shown.alt = 'a < b & "c"', '"<script>"'
    page = rendered(tmp_path, "# A", ("x", [shown]))
    assert "a &lt; b &amp; &quot;c&quot;</p>" in page
    assert 'aria-label="&quot;&lt;script&gt;&quot;"' in page


def test_figure_data_cannot_end_its_script(tmp_path):
    shown = speedup_bars()
    shown.live.data[0].name = "</script><script>bad()</script>"
    page = rendered(tmp_path, "# A", ("x", [shown]))
    assert "<script>bad()" not in page


def test_two_pictures_in_one_page_share_no_id_and_no_style():
    text = (
        '<?xml version="1.0"?><svg width="5pt" height="5pt" viewBox="0 0 5 5" xmlns="http://www.w3.org/2000/svg">'
        '<defs><style>*{fill:red}</style><clipPath id="p1"/></defs>'
        '<g id="g" clip-path="url(#p1)" style="fill: #757678">'
        '<use xlink:href="#p1"/></g></svg>'
    )
    shown = inline_svg(text, "one")
    assert '<clipPath id="one-p1"/>' in shown
    assert "url(#one-p1)" in shown
    assert 'href="#one-p1"' in shown
    assert "fill: currentColor" in shown
    assert "<style" not in shown
    assert shown.startswith('<svg aria-hidden="true" focusable="false" viewBox="0 0 5 5">')
    assert inline_svg("no picture", "x") == ""


# ------------------------------------------------------------------------------------------------------ what is refused
def fail(paths: list[Path], tmp_path: Path, **options) -> ReportError:
    with pytest.raises(ReportError) as caught:
        render(paths, tmp_path / "index.html", **({"title": "T", "stamp": "measured"} | options))
    assert not (tmp_path / "index.html").exists()
    return caught.value


def test_an_error_output_names_notebook_and_cell(tmp_path):
    node = notebook("# A", ("x = 1", []), ("boom()", []))
    node.cells[2].outputs = [new_output("error", ename="ValueError", evalue="no such arm", traceback=["…"])]
    nbformat.write(node, tmp_path / "02_mtp.ipynb")
    error = fail([tmp_path / "02_mtp.ipynb"], tmp_path)
    assert error.what == "02_mtp.ipynb stopped with an error in cell 3 (boom())."
    assert error.why == "ValueError: no such arm"


def test_a_notebook_that_was_not_executed_is_named(tmp_path):
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A"), new_code_cell("x = 1")]), tmp_path / "a.ipynb")
    assert fail([tmp_path / "a.ipynb"], tmp_path).what.startswith("a.ipynb was not executed: cell 2 (x = 1)")


def test_an_empty_code_cell_needs_no_run(tmp_path):
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A"), new_code_cell("")]), tmp_path / "a.ipynb")
    assert render([tmp_path / "a.ipynb"], tmp_path / "i.html", title="T", stamp="measured").exists()


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"nbformat": 4, "nbformat_minor": 5}', "\ufeff{"])
def test_a_file_that_is_no_notebook_is_named(tmp_path, text):
    (tmp_path / "a.ipynb").write_text(text, encoding="utf-8")
    assert fail([tmp_path / "a.ipynb"], tmp_path).what == "a.ipynb is not a notebook."


def test_a_missing_file_is_named_without_its_path(tmp_path):
    error = fail([tmp_path / "07_losslessness.ipynb"], tmp_path)
    assert error.what == "The executed notebook 07_losslessness.ipynb is missing."
    assert str(tmp_path) not in str(error)


def test_bytes_that_are_no_text_and_folders_are_named(tmp_path):
    (tmp_path / "a.ipynb").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b.ipynb").mkdir()
    assert fail([tmp_path / "a.ipynb"], tmp_path).what == "a.ipynb cannot be read."
    assert fail([tmp_path / "b.ipynb"], tmp_path).what == "b.ipynb cannot be read."


def test_no_notebook_at_all_says_what_to_run(tmp_path):
    assert "make study" in str(fail([], tmp_path))


def test_an_unknown_stamp_is_refused(tmp_path):
    nbformat.write(notebook("# A"), tmp_path / "a.ipynb")
    assert "'real' is not a stamp" in fail([tmp_path / "a.ipynb"], tmp_path, stamp="real").what


def test_a_miniature_figure_never_gets_into_a_measured_report(tmp_path):
    nbformat.write(demo_notebooks()["03_k_sweep.ipynb"], tmp_path / "a.ipynb")
    assert "a.ipynb has a miniature figure" in fail([tmp_path / "a.ipynb"], tmp_path).what


def test_two_notebooks_of_one_name_are_refused(tmp_path):
    assert "Two notebooks" in fail([tmp_path / "x" / "a.ipynb", tmp_path / "y" / "a.ipynb"], tmp_path).what


def test_an_old_report_survives_a_failed_one(tmp_path):
    nbformat.write(notebook("# A"), tmp_path / "a.ipynb")
    page = render([tmp_path / "a.ipynb"], tmp_path / "index.html", title="T", stamp="measured")
    before = page.read_bytes()
    with pytest.raises(ReportError):
        render([tmp_path / "b.ipynb"], page, title="T", stamp="measured")
    assert page.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []


def test_a_page_is_made_also_of_outputs_that_name_the_machine_and_does_not_name_it(tmp_path, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "baseline")
    monkeypatch.setattr("pathlib.Path.home", lambda: Path("/srv/homes/baseline"))
    node = demo_notebooks()["03_k_sweep.ipynb"]
    node.cells[-3].outputs = output_of(
        Say("The baseline ran in /srv/homes/baseline/study with --model /home/ada/x.", "reading")
    )
    nbformat.write(node, tmp_path / "a.ipynb")
    page = render([tmp_path / "a.ipynb"], tmp_path / "x.html", title="T", stamp="miniature").read_text()
    assert "/srv/homes/baseline" not in page and "/home/ada" not in page
    assert "The baseline ran in ~/study with --model /home/&lt;user&gt;/x." in page


def test_changing_one_number_changes_the_page(tmp_path):
    node = demo_notebooks()["03_k_sweep.ipynb"]
    other = copy.deepcopy(node)
    other.cells[-3].outputs = output_of(Say("changed"))
    pages = []
    for at, one in enumerate((node, other)):
        nbformat.write(one, tmp_path / "a.ipynb")
        out = tmp_path / f"{at}.html"
        pages.append(render([tmp_path / "a.ipynb"], out, title="T", stamp="miniature").read_bytes())
    assert pages[0] != pages[1]

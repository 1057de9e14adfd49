"""The notebooks from the committed reference run: they execute, they say something, and the report is made of them."""

import html
import json

import nbformat
import papermill
import pytest

from analysis import chapter, masking, places, report
from analysis.records.store import Store
from analysis.study import plan
from analysis.study.study_file import load_study

CHAPTERS = [p.stem for p in chapter.chapters(places.RECORDS["reference"] / "miniature" / "study.yaml")]
OPTIONAL = {p.stem for p in chapter.chapters() if p.stem[3:] in plan.OPTIONAL}


def outputs(path):
    return [o for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code" for o in cell.outputs]


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_executes_in_replay_and_shows_its_figures(replayed, name):
    shown = outputs(replayed[name])
    assert not [o for o in shown if o.output_type == "error"]
    figures = [o for o in shown if "figure" in o.get("metadata", {})]
    assert len(figures) >= (0 if name.startswith("00") else 1)
    assert any(o.get("metadata", {}).get("provenance") for o in shown)


def test_the_miniature_has_every_chapter_but_those_of_optional_axes():
    assert {p.stem for p in chapter.chapters()} - set(CHAPTERS) == OPTIONAL


@pytest.mark.parametrize("name", sorted(OPTIONAL))
def test_a_chapter_of_an_axis_that_a_study_does_not_have_says_so_in_one_line(name, tmp_path):
    study = places.RECORDS["reference"] / "miniature" / "study.yaml"
    shown = outputs(chapter.run(places.NOTEBOOKS / f"{name}.ipynb", study, tmp_path / f"{name}.ipynb"))
    about = [o.get("metadata", {}) for o in shown]
    assert [one["say"] for one in about if "say" in one] == ["reading"]
    assert not [o for o in shown if o.output_type == "error" or "figure" in o.get("metadata", {})]


def test_a_replay_launches_nothing(replayed):
    study = load_study("miniature")
    for name in CHAPTERS:
        text = replayed[name].read_text(encoding="utf-8")
        assert " measurements measured in " not in text
    assert (places.RECORDS["reference"] / study.study / "cells.jsonl").exists()


def test_every_headline_is_computed_and_stands_in_the_report(replayed, tmp_path):
    study = load_study("miniature")
    page = report.render(replayed.values(), tmp_path / "index.html", title=study.title, stamp=study.stamp)
    text = page.read_text(encoding="utf-8")
    said = [
        o.data["text/markdown"]
        for p in replayed.values()
        for o in outputs(p)
        if o.get("metadata", {}).get("say") == "headline"
    ]
    assert len(said) >= 5
    assert page.stat().st_size < 8 * 2**20
    for sentence in said:
        assert sentence.split(":")[0].split("(")[0].strip()[:40] in text


def test_rendering_twice_gives_the_same_bytes(replayed, tmp_path):
    study = load_study("miniature")
    pages = [
        report.render(replayed.values(), tmp_path / n / "index.html", title=study.title, stamp=study.stamp).read_bytes()
        for n in ("a", "b")
    ]
    assert pages[0] == pages[1]


def test_an_executed_notebook_has_no_path_of_this_machine(replayed):
    names = masking.here()
    outputs = {n: [c.get("outputs") for c in json.loads(p.read_text())["cells"]] for n, p in replayed.items()}
    assert {name: masking.masked_tree(tree, names)[1] for name, tree in outputs.items()} == dict.fromkeys(outputs, 0)


@pytest.mark.parametrize("name", CHAPTERS)
def test_papermill_sees_every_parameter_of_a_chapter(name):
    """Papermill passes over a line with a second equals sign, in its comment too."""
    path = places.NOTEBOOKS / f"{name}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    source = next(c.source for c in cells if "parameters" in c.metadata.get("tags", []))
    assert set(papermill.inspect_notebook(str(path))) == {
        line.split("=")[0].split(":")[0].strip() for line in source.splitlines()
    }


@pytest.mark.parametrize("folder", sorted(places.RECORDS["reference"].iterdir()), ids=lambda f: f.name)
def test_every_reference_run_has_its_page_made_from_these_records(folder):
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    page = (places.REPORTS / f"{folder.name}.html").read_text(encoding="utf-8")
    study = load_study(folder.name, records="reference")
    assert study.measure == "never" and study.title in html.unescape(page) and f">{study.stamp}<" in page
    assert about["provenance"]["time"] in page and about["provenance"]["parameters"] in page


def test_a_reference_run_is_read_with_the_parameters_it_was_measured_with():
    own = load_study("miniature", records="reference")
    assert own.launches > load_study("miniature").launches == 1
    store = Store("miniature", "reference")
    assert store.complete() == {c.id for c in plan.make(own).cells}


def test_the_template_of_a_chapter_runs_and_shows_a_figure_a_table_and_a_sentence(tmp_path):
    study = places.RECORDS["reference"] / "miniature" / "study.yaml"
    shown = outputs(chapter.run(places.NOTEBOOKS / "template.ipynb", study, tmp_path / "template.ipynb"))
    about = [o.get("metadata", {}) for o in shown]
    assert all(any(key in one for one in about) for key in ("figure", "table", "say", "provenance"))
    assert "template" not in CHAPTERS

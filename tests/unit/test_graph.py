"""The graph of the study: order, sources and quoting of the Snakefile, and a message whatever ends it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import chapter, graph
from analysis.errors import StudyError

ROOT = Path(__file__).resolve().parents[2]
#: A package with the doors that the Snakefile uses: each command writes its output and a line into the log.
PLACES = """
from pathlib import Path
HOME = ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS, PARAMS = ROOT / "notebooks", ROOT / "papermill_params"
"""
CHAPTER = """
from analysis.places import NOTEBOOKS
def chapters(file):
    assert file.endswith("toy.yaml"), repr(file)
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
"""
MAIN = """
import os, sys, time
from pathlib import Path
from analysis.places import HOME, NOTEBOOKS
command, file, *rest = sys.argv[1:]
assert file == str(HOME / "papermill_params/toy.yaml"), file
with open("log", "a") as log:
    print(Path(rest[0]).stem if rest else "page", file=log)
source = Path(rest[0]).read_text() if rest else ""
if "says why" in source:
    print("the reason", file=sys.stderr)
    Path(os.environ["ANALYSIS_TOLD"]).touch()
    sys.exit(1)
if "is killed" in source:
    os.kill(os.getpid(), 9)
Path(rest[1] if rest else "reports/toy/index.html").write_text("made")
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A toy checkout in a folder with a blank, an umlaut, Japanese, quotes and braces, with the real Snakefile."""
    root = tmp_path / "Übung 測定 'a' \"b\" {c} $d #e"
    for folder in ("notebooks", "papermill_params", "src/analysis/miniature", "src/analysis/report/templates"):
        (root / folder).mkdir(parents=True)
    for name, text in (("places", PLACES), ("chapter", CHAPTER), ("__main__", MAIN), ("__init__", "")):
        (root / f"src/analysis/{name}.py").write_text(text)
    for name in ("miniature/card.py", "report/page.py", "report/templates/page.css", "science.py"):
        (root / "src/analysis" / name).write_text("")
    for name in ("02_late", "00_first", "01_second"):
        (root / f"notebooks/{name}.ipynb").write_text('s.ensure("x")' if name != "00_first" else "")
    (root / "papermill_params/toy.yaml").write_text("")
    shutil.copyfile(ROOT / "Snakefile", root / "Snakefile")
    bin_ = root / ".venv/bin"
    bin_.mkdir(parents=True)
    (bin_ / "python").symlink_to(Path(sys.executable).resolve())
    (root / ".venv/lib").symlink_to(Path(sys.prefix) / "lib")
    if (Path(sys.prefix) / "pyvenv.cfg").is_file():
        shutil.copyfile(Path(sys.prefix) / "pyvenv.cfg", root / ".venv/pyvenv.cfg")
    monkeypatch.setenv("PYTHONPATH", str(root / "src"))
    monkeypatch.setattr(graph, "ROOT", root)
    monkeypatch.setattr(graph, "HOME", root)
    monkeypatch.setattr(graph.sys, "executable", str(bin_ / "python"))
    before = signal.getsignal(signal.SIGTERM)
    yield root
    signal.signal(signal.SIGTERM, before)


def run(root: Path) -> list[str]:
    """Run the graph; the commands that were started, in order."""
    (root / "log").write_text("")
    graph.run("toy", root / "papermill_params/toy.yaml")
    return (root / "log").read_text().split()


def test_chapters_run_in_the_order_of_their_numbers_in_a_folder_of_any_name(checkout):
    assert run(checkout) == ["00_first", "01_second", "02_late", "page"]
    assert run(checkout) == []
    (checkout / "notebooks/03_new.ipynb").write_text("")
    assert run(checkout) == ["03_new", "page"]


def test_the_miniature_runs_nothing_again_and_the_template_only_the_page(checkout):
    run(checkout)
    (checkout / "src/analysis/miniature/card.py").write_text("changed = 1")
    assert run(checkout) == []
    (checkout / "src/analysis/report/templates/page.css").write_text("changed = 1")
    assert run(checkout) == ["page"]
    (checkout / "src/analysis/science.py").write_text("changed = 1")
    assert graph.missing("toy", checkout / "papermill_params/toy.yaml") == [
        "00_first",
        "01_second",
        "02_late",
        "the page",
    ]


def test_a_chapter_that_says_why_it_failed_is_the_last_word(checkout, capfd):
    (checkout / "notebooks/01_second.ipynb").write_text("says why")
    with pytest.raises(SystemExit) as ended:
        run(checkout)
    shown = capfd.readouterr()
    assert ended.value.code == 1 and (shown.out + shown.err).split("\n") == ["the reason", ""]


def test_a_chapter_that_is_killed_is_not_silent(checkout):
    (checkout / "notebooks/01_second.ipynb").write_text("is killed")
    with pytest.raises(StudyError) as told:
        run(checkout)
    assert "left no message of its own" in str(told.value) and "01_second" in told.value.details


def test_a_snakemake_without_a_place_for_its_cache_is_not_silent(checkout, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/none")
    with pytest.raises(StudyError) as told:
        run(checkout)
    assert "/dev/null/none" in str(told.value)


def test_only_chapters_that_measure_hold_the_gpu(checkout, tmp_path):
    command = [*graph._command("toy", checkout / "papermill_params/toy.yaml", tmp_path), "--dry-run"]
    command.remove("--quiet")
    for word in ("progress", "host", "reason"):
        command.remove(word)
    text = (checkout / "Snakefile").read_text()
    (checkout / "Snakefile").write_text("\n".join(line for line in text.splitlines() if "message:" not in line))
    said = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    jobs = (said.stdout + said.stderr).split("rule chapter:")[1:]
    held = {job.partition("wildcards: name=")[2].split()[0]: "gpu=1" in job for job in jobs}
    assert held == {"00_first": False, "01_second": True, "02_late": True}


def test_the_studys_own_graph_has_every_chapter_and_the_page(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "study", "miniature", "--dry-run"],
        env={**os.environ, "STUDY_HOME": str(tmp_path / "Übung 測定")},
        capture_output=True,
        text=True,
        check=False,
    )
    names = [path.stem for path in chapter.chapters("miniature")]
    assert done.stdout.split("\n") == [*names, "the page", ""], done.stderr
    assert len(names) >= 10


def test_a_notebook_without_a_place_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(chapter, "NOTEBOOKS", tmp_path)
    for name in ("01_a.ipynb", "template.ipynb"):
        (tmp_path / name).write_text("{}")
    assert [path.name for path in chapter.chapters()] == ["01_a.ipynb"]
    (tmp_path / "Untitled.ipynb").write_text("{}")
    with pytest.raises(StudyError, match="notebooks/Untitled.ipynb has no place"):
        chapter.chapters()

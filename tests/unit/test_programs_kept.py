"""Where no wall of the sandbox holds, the study goes on: programs are kept, flagged, and run by a later command."""

from __future__ import annotations

import os
import time

import pytest

from analysis import __main__ as command
from analysis import chapter, sandbox
from analysis.errors import SandboxError
from analysis.records.store import Store
from analysis.sandbox import Availability
from analysis.science import generated
from analysis.servers import preflight
from analysis.session import Session
from analysis.show import figures, panels, sentences, tables
from analysis.study import plan
from analysis.study.study_file import load_study

NONE = Availability(False, "none", "", "bubblewrap 0.9.0: setting up uid map: Permission denied", "Load the profile.")


@pytest.fixture
def study(monkeypatch):
    """The reference run without its outcomes, on a machine without walls; nothing may be run or recorded."""
    monkeypatch.setattr(sandbox, "available", lambda: NONE)
    monkeypatch.setattr(sandbox, "run", lambda *_, **__: pytest.fail("run without walls"))
    monkeypatch.setattr(Store, "outcomes", lambda _: {})
    monkeypatch.setattr(Store, "append_outcome", lambda *_: pytest.fail("recorded"))
    return load_study("miniature", records="reference", measure="missing")


def test_the_chapter_is_made_and_says_that_programs_were_not_run(study):
    programs = Session(study).execute()
    assert Session(study).not_run() == len(programs)
    assert len(programs) and set(programs.wall) == {"none"} and programs.passed.isna().all()
    assert "Permission denied" in programs.reason.iloc[0] and programs.code.str.len().min() > 0
    rates, compared = generated.rates(programs), generated.compare(programs)
    said = sentences.programs(rates, compared)
    assert said.startswith(f"{len(programs)} generated programs are kept and were not run") and "run-programs" in said
    assert "nan" not in said and "nan to nan" not in str(tables.programs(rates)._repr_mimebundle_())
    assert all("not run" in panel.outcome for panel in panels.of_programs(programs))
    figures.end_to_end(programs, "miniature")
    tables.every_program(programs)


def test_preflight_warns_and_does_not_fail(study):
    (check,) = [c for c in preflight.run(plan.make(study)) if c.name == "sandbox"]
    assert check.verdict == "warn" and "kept and not run" in check.evidence and check.fix == "Load the profile."


def test_the_command_that_runs_them_later_says_why_it_cannot(study, monkeypatch, capsys):
    monkeypatch.setattr(command, "_shown", str)
    with pytest.raises(SandboxError, match="no wall of the sandbox holds"):
        Session(study).execute(required=True)


def test_they_are_run_once_a_wall_holds(study, monkeypatch):
    kept = []
    monkeypatch.setattr(sandbox, "available", lambda: Availability(True, "landlock", "1", "holds"))
    monkeypatch.setattr(sandbox, "run", lambda _: sandbox.Outcome(parsed=True, ran=True, passed=True, wall="landlock"))
    monkeypatch.setattr(Store, "append_outcome", lambda _, outcome: kept.append(outcome))
    monkeypatch.setattr(Store, "outcomes", lambda _: {(r["cell_id"], r["index"]): r for r in kept})
    programs = Session(study).execute(required=True)
    assert len(kept) == len(programs) and set(programs.wall) == {"landlock"} and programs.passed.all()


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Executed chapters and page of the miniature, older than a minute, and where its outcomes would be."""
    monkeypatch.setattr(chapter, "REPORTS", tmp_path)
    study = tmp_path / "miniature"
    (study / "notebooks").mkdir(parents=True)
    for path in (*(study / "notebooks" / c.name for c in chapter.chapters("miniature")), study / "index.html"):
        path.write_text("made")
        os.utime(path, (time.time() - 60,) * 2)
    return study


def drop(made, runnable=False):
    chapter.drop_old("miniature", "miniature", made / "outcomes.jsonl", lambda: runnable)
    left = {path.stem for path in (made / "notebooks").iterdir()}
    return {c.stem for c in chapter.chapters("miniature")} - left, (made / "index.html").stat().st_mtime == 0


def test_the_same_study_again_makes_the_chapter_and_the_page_anew_where_a_kept_program_can_run(made):
    assert drop(made) == (set(), False)
    assert drop(made, runnable=True) == ({"06_generated_python"}, True)


def test_outcomes_that_came_later_make_the_chapter_and_the_page_anew(made):
    (made / "outcomes.jsonl").write_text("")
    assert drop(made) == ({"06_generated_python"}, True)


def test_a_chapter_that_was_removed_makes_the_page_anew(made):
    (made / "notebooks" / "03_k_sweep.ipynb").unlink()
    assert drop(made) == ({"03_k_sweep"}, True)

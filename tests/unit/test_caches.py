"""Caches where the home folder cannot hold them, and the folder for what a machine makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import caches
from analysis.errors import StudyError

BELOW = Path("/study/data/cache")


def test_a_home_that_can_be_written_keeps_the_caches(tmp_path):
    assert caches.moved({}, tmp_path, BELOW) == {}


def test_without_a_home_every_cache_and_the_home_itself_go_below_data_cache():
    wanted = caches.moved({}, None, BELOW)
    assert set(wanted) == {*caches.CACHES, "HOME"}
    assert all(Path(folder).is_relative_to(BELOW) for folder in wanted.values())
    assert len(set(wanted.values())) == len(wanted)


def test_a_home_that_cannot_be_written_keeps_its_name_and_its_models(tmp_path, monkeypatch):
    (tmp_path / ".cache/huggingface/hub").mkdir(parents=True)
    monkeypatch.setattr(caches, "_writable", lambda path: False)
    wanted = caches.moved({}, tmp_path, BELOW)
    assert set(caches.CACHES) - set(wanted) == {"HF_HOME"} and "HOME" not in wanted


def test_a_variable_that_names_a_folder_that_can_be_written_stays(tmp_path):
    wanted = caches.moved({"MPLCONFIGDIR": str(tmp_path / "new"), "XDG_CACHE_HOME": "/dev/null/none"}, None, BELOW)
    assert "MPLCONFIGDIR" not in wanted and wanted["XDG_CACHE_HOME"] == str(BELOW / "xdg")


def test_a_second_process_finds_nothing_left_to_move(tmp_path):
    wanted = caches.moved({}, None, tmp_path)
    Path(wanted["HOME"]).mkdir()
    assert caches.moved(wanted, Path(wanted["HOME"]), tmp_path) == {}


def test_no_place_for_caches_at_all_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr(caches, "_home", lambda: None)
    monkeypatch.setattr(caches, "CACHE", Path("/dev/null/none"))
    with pytest.raises(StudyError, match="There is no folder for caches"):
        caches.settle()


def test_a_command_without_a_home_says_once_where_its_caches_are(tmp_path):
    env = {**os.environ, "HOME": "/nonexistent", "STUDY_HOME": str(tmp_path / "Übung 測定")}
    for name in caches.CACHES:
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "list"], env=env, capture_output=True, text=True, check=True
    )
    assert done.stderr == "The home folder cannot be written: caches go to data/cache.\n"
    assert (tmp_path / "Übung 測定/data/cache/home").is_dir()


def test_study_home_takes_measurements_caches_and_reports(tmp_path):
    code = (
        "from analysis import places as p; print(p.RECORDS['runs'], p.REPORTS, p.inside('data/cache/shapes/x'),"
        " p.RECORDS['reference'] == p.DATA / 'reference', p.inside('data/miniature') == p.DATA / 'miniature', sep='\\n')"
    )
    env = {**os.environ, "STUDY_HOME": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert (
        said.split()
        == [f"{tmp_path}/data/runs", f"{tmp_path}/reports", f"{tmp_path}/data/cache/shapes/x"] + ["True"] * 2
    )


def test_children_get_study_home_as_an_absolute_folder(monkeypatch):
    monkeypatch.setenv("STUDY_HOME", "some/folder")
    monkeypatch.setattr(caches, "HOME", Path("/from/the/start/some/folder"))
    caches.settle()
    assert os.environ["STUDY_HOME"] == "/from/the/start/some/folder"

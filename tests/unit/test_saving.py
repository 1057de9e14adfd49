"""Saving a chapter with its outputs is no change of the study; a change of its source is one."""

import json
import shutil
import subprocess
import sys

import pytest

from analysis.places import NOTEBOOKS, ROOT
from analysis.records import provenance


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "notebooks" / "mine").mkdir(parents=True)
    for name in (".gitattributes", ".gitignore", "notebooks/03_k_sweep.ipynb"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "filter.nbstripout.clean", f"'{sys.executable}' -m nbstripout --keep-id")
    git(tmp_path, "add", "-A")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "a chapter")
    return tmp_path


def git(folder, *words) -> str:
    return subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True).stdout


def saved(path, source=None) -> None:
    book = json.loads(path.read_text(encoding="utf-8"))
    cell = next(c for c in book["cells"] if c["cell_type"] == "code")
    cell["outputs"], cell["execution_count"] = [{"output_type": "stream", "name": "stdout", "text": ["a line"]}], 1
    cell["source"] = source or cell["source"]
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def test_a_saved_chapter_is_clean_and_a_changed_one_is_not(clone):
    path = clone / "notebooks" / "03_k_sweep.ipynb"
    saved(path)
    assert git(clone, "diff") == ""
    saved(path, "changed = 1")
    assert "03_k_sweep" in git(clone, "status", "--porcelain")


def test_a_copy_of_ones_own_is_ignored(clone):
    shutil.copyfile(NOTEBOOKS / "03_k_sweep.ipynb", clone / "notebooks" / "mine" / "03_mine.ipynb")
    assert git(clone, "status", "--porcelain") == ""


def test_outputs_make_no_measurement_dirty_and_a_changed_source_does(clone, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", clone)
    path = clone / "notebooks" / "03_k_sweep.ipynb"
    saved(path)
    assert not provenance.code()["dirty"]
    saved(path, "changed = 1")
    assert provenance.code()["dirty"]
    path.unlink()
    assert provenance.code()["dirty"]

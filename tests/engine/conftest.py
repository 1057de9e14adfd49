"""A small study on the stand-in engine: the real guard, client, counters, store and campaign; no model."""

import os
from pathlib import Path

import psutil
import pytest

from analysis.places import ROOT
from analysis.records import store
from analysis.study import plan, study_file

STAND_IN = Path(__file__).parent / "stand_in"


@pytest.fixture
def study(monkeypatch, tmp_path):
    """make(fault, **overrides) -> (plan, store) in a folder of its own."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(STAND_IN), str(ROOT / "src")]))

    def make(fault="", **overrides):
        server = {"env": {"FAULT": fault}, "start_minutes": 0.5, **overrides.pop("server", {})}
        settings = dict(
            k_values=[2],
            k=2,
            repeats=1,
            concurrency=[1, 2],
            prompts="published",
            timing_tokens=9,
            code_programs=1,
            code_tokens=9,
            greedy_tokens=5,
            warmup=1,
            remeasure=0,
        )
        made = plan.make(study_file.load_study("miniature", **{**settings, **overrides, "server": server}))
        return made, store.Store(made.study.study, root=tmp_path / "runs")

    return make


@pytest.fixture(autouse=True)
def no_orphans(tmp_path):
    """Every test leaves no process of its servers behind."""
    yield
    left = [p for p in psutil.process_iter() if _started_below(tmp_path, p)]
    for process in left:
        process.kill()
    assert not left, f"processes left behind: {left}"


def _started_below(folder, process) -> bool:
    try:
        return process.environ().get("ANALYSIS_LAUNCH", "").startswith(str(folder.resolve()))
    except psutil.Error:
        return False

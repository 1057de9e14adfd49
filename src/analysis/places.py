"""Where things are in a checkout: the only module that knows the folder names."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARAMS = ROOT / "papermill_params"
NOTEBOOKS = ROOT / "notebooks"
DATA = ROOT / "data"
REPORTS = ROOT / "reports"
#: ``records`` parameter of a study -> folder with one sub-folder a study
RECORDS = {"runs": DATA / "runs", "reference": DATA / "reference"}


def inside(path: str | Path) -> Path:
    """A path of a study file: absolute and ``~`` paths stay, others are taken from the root of the checkout."""
    try:
        expanded = Path(path).expanduser()
    except RuntimeError:  # ~name of nobody
        expanded = Path(path)
    return expanded if expanded.is_absolute() else ROOT / expanded

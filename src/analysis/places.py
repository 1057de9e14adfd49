"""Where things are in a checkout: the only module that knows the folder names.

``STUDY_HOME`` names a folder for what this machine makes (measurements, caches, reports) where the checkout itself cannot
be written or is shared.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARAMS = ROOT / "papermill_params"
NOTEBOOKS = ROOT / "notebooks"
DATA = ROOT / "data"
#: folder of what this machine makes
HOME = Path(os.environ.get("STUDY_HOME") or ROOT).expanduser().resolve()
CACHE = HOME / "data" / "cache"
REPORTS = HOME / "reports"
#: ``records`` parameter of a study -> folder with one sub-folder per study
RECORDS = {"runs": HOME / "data" / "runs", "reference": DATA / "reference"}


def inside(path: str | Path) -> Path:
    """A path of a study file: absolute and ``~`` paths stay, others are taken from the checkout (data/cache: from `HOME`)."""
    try:
        expanded = Path(path).expanduser()
    except RuntimeError:  # ~name of nobody
        expanded = Path(path)
    return (HOME if expanded.parts[:2] == ("data", "cache") else ROOT) / expanded

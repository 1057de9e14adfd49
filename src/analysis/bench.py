"""How long the study's own work takes, apart from any server: import, plan, records, figures, report.

Each step runs several times; minimum, median and maximum are printed, so that a slower version shows. Nothing here is
a test: times depend on the machine.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from analysis import chapter, report
from analysis.errors import MissingCells
from analysis.records.store import Store
from analysis.science import acceptance, speedup
from analysis.show import figures
from analysis.study import params, plan


def run(study: params.Study, runs: int = 5) -> list[tuple[str, float, float, float]]:
    """(step, minimum, median, maximum) in seconds over ``runs`` runs.

    Raises
    ------
    MissingCells
        The study has no records here.
    """
    made, store = plan.make(study), Store(study.study, study.records)
    if not store.complete():
        raise MissingCells(f"The study {study.study} has no records in data/{study.records}.", fix="Measure it first.")
    frames = store.frames(made.cells)
    sweep, floor = speedup.paired(frames.requests), speedup.floor(frames.requests)
    executed = chapter.executed(study.study)
    steps: dict[str, Callable[[], object]] = {
        "import the library": lambda: subprocess.run([sys.executable, "-c", "import analysis.session"], check=True),
        "plan": lambda: [c.id for c in plan.make(study).cells],
        "records to frames": lambda: Store(study.study, study.records).frames(made.cells),
        "acceptance": lambda: acceptance.by_position(frames.positions),
        "speedup": lambda: speedup.paired(frames.requests),
        "one figure": lambda: figures.speedup_by_k(sweep, floor, study.stamp).bundle(),
    }
    if executed:
        steps["report"] = lambda: _render(executed, study)
    return [(name, *_timed(step, runs)) for name, step in steps.items()]


def _render(executed: list[Path], study: params.Study) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report.render(executed, Path(folder) / "index.html", title=study.title, stamp=study.stamp)


def _timed(step: Callable[[], object], runs: int) -> tuple[float, float, float]:
    taken = []
    for _ in range(runs):
        begin = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begin)
    return min(taken), statistics.median(taken), max(taken)

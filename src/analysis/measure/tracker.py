"""What is happening while cells are measured, and how much is left: launch, cell k of n, request, minutes."""

from __future__ import annotations

import time

from analysis.progress import Line
from analysis.records.store import Store
from analysis.study.plan import Arm, Cell, Plan


class Tracker:
    """What is happening and how much is left: launch, cell k of n, minutes."""

    def __init__(self, plan: Plan, launches: list[tuple[Arm, int]], store: Store):
        complete = store.complete()
        self._plan, self._launches = plan, launches
        self._todo = [c for arm, number in launches for c in plan.of(arm, number) if c.id not in complete]
        self._tokens_left = sum(c.tokens for c in self._todo)
        self._line, self._begin = Line(), time.monotonic()
        self._at = self._measured = self._answers = self._seconds = self._tokens = 0
        self._where, self._cell = "", None

    def launch(self, arm: Arm, number: int) -> None:
        self._at += 1
        self._where = f"launch {self._at} of {len(self._launches)} ({arm.name})"
        self.stage("starting")

    def stage(self, text: str) -> None:
        self._line.show(f"{self._where} · {text}")

    def cell(self, cell: Cell) -> None:
        self._cell, self._answers = cell, 0
        self._show()

    def request(self, ended: int) -> None:
        """So many requests of the present cell have ended."""
        self._answers = ended
        self._show()

    def finished(self, cell: Cell, wall_s: float) -> None:
        self._measured += 1
        self._tokens_left -= cell.tokens
        self._tokens += cell.tokens
        self._seconds += wall_s

    def done(self, verb: str) -> str:
        minutes = (time.monotonic() - self._begin) / 60
        text = f"{self._measured} measurements {verb} in {self._at} launch{'es' * (self._at != 1)}, {minutes:.1f} min."
        self._line.show(text, final=True)
        return text

    def _show(self) -> None:
        cell = self._cell
        pace = self._seconds / self._tokens if self._tokens else 1 / self._plan.study.expect.tok_s
        left = (self._tokens_left * pace + (len(self._launches) - self._at) * self._plan.study.expect.start_s) / 60
        self._line.show(
            f"{self._where} · measurement {self._measured + 1} of {len(self._todo)} ({cell.experiment},"
            f" {cell.workload}, {cell.concurrency} stream{'s' * (cell.concurrency > 1)}) · request {self._answers} of"
            f" {len(cell.requests)} · {f'about {left:.0f} min' if left >= 1 else 'less than a minute'} left"
        )

"""What a cell counted: the server's own counters before and after it, or what its answers say, as its engine does it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from analysis.errors import CountersError
from analysis.servers import engines, web
from analysis.servers.engines.base import Engine
from analysis.servers.engines.counts import Counters, difference
from analysis.servers.engines.vllm import PER_POSITION, SCALARS, SPECULATIVE, parse
from analysis.study.plan import Arm

__all__ = ["PER_POSITION", "SCALARS", "SPECULATIVE", "Counters", "Meter", "difference", "parse", "snapshot"]


class Meter:
    """Counts between its making and `read`. ``model`` is the name that the arm's requests are sent with."""

    def __init__(self, url: str, arm: Arm, model: str | None = None):
        self._url, self._arm, self._model = url, arm, model
        self._engine = engines.of(arm)
        self._before = self._snapshot() if self._engine.has_counters else None

    def read(self, answers: Sequence[Any]) -> Counters:
        """What was counted since; raises CountersError as `snapshot` and `difference` do."""
        if self._before is None:
            return self._engine.of_answers(answers, self._arm.k)
        return difference(self._before, self._snapshot())

    def _snapshot(self) -> Counters:
        return snapshot(self._url, self._arm.k, engine=self._engine, model=self._model)


def snapshot(
    url: str, k: int, *, idle_s: float = 30.0, engine: Engine | None = None, model: str | None = None
) -> Counters:
    """Read ``/metrics`` once no request is running or waiting and two readings agree.

    Raises
    ------
    CountersError
        No answer, one without end, or not idle after ``idle_s`` seconds: somebody else uses the server.
    """
    engine = engine or engines.named("vllm")
    deadline = time.monotonic() + idle_s
    last: Counters | None = None
    while True:
        try:
            answer = web.get(f"{url}/metrics", seconds=web.METRICS_S, most=web.METRICS_BYTES)
        except web.WebError as error:
            raise CountersError(
                f"{url}/metrics did not answer.", why=f"{error}.", fix="Check that the server is alive."
            ) from None
        if answer.status != 200:
            raise CountersError(
                f"{url}/metrics did not answer.",
                why=f"It says HTTP {answer.status}.",
                fix="Check that statistics are not switched off (--disable-log-stats).",
            )
        now = engine.parse(answer.text, k, model)
        if now.running == 0 and now == last:
            return now
        if time.monotonic() > deadline:
            raise CountersError(
                f"{now.running} requests still run after {idle_s:.0f} s of waiting.",
                why="Somebody else uses this server, or it goes on with a request whose connection was closed.",
                fix="Keep the server to the study while it measures.",
            )
        last = now
        time.sleep(0.1)

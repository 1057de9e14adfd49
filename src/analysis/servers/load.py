"""How busy the client's event loop was: its share of the time, its CPU, and how late it saw what had come.

A round of the loop begins when the operating system says which connections have bytes, and ends when it asks again. Bytes
that come while it works wait until the next round: that round's busy time bounds how late their stamp is.
"""

from __future__ import annotations

import threading
import time
from array import array
from dataclasses import dataclass
from pathlib import Path

#: A wait shorter than this was none: the bytes were there before the loop asked.
NO_WAIT_S = 2e-5
#: Share of the time above which a loop is too busy for its stamps to count.
BUSY = 0.7
#: Fewer chunks than this are one burst, and say nothing about how busy a loop is.
SETTLED = 1000
#: Share of the time between two chunks by which a hundredth of the stamps may be late.
LATE = 0.1


@dataclass(frozen=True)
class Load:
    """What the client's own event loop did during a measurement.

    Attributes
    ----------
    cores : float
        CPU time of the loop's thread per second.
    busy : float
        Share of the time in which it worked, or was ready to work and had no core.
    lag_ms : float
        99th percentile over the bytes' arrivals of how late, at most, each was seen [ms].
    chunks : int
        Pieces of answers that came.
    """

    cores: float = 0.0
    busy: float = 0.0
    lag_ms: float = 0.0
    chunks: int = 0

    @property
    def saturated(self) -> str:
        """Why no time of this measurement can count; empty where it can."""
        full = self.busy > BUSY and self.chunks >= SETTLED
        return f"the client itself was the bottleneck: its loop was busy {self.busy:.0%} of the time" * full

    def late(self, gap_s: float) -> str:
        """Why its times are not the server's, where chunks came ``gap_s`` seconds apart; empty where they are."""
        late = self.lag_ms > 1 and gap_s > 0 and self.lag_ms / 1000 > LATE * gap_s
        return f"the client saw one chunk in a hundred {self.lag_ms:.1f} ms late or later" * late


class Rounds:
    """Keeps the rounds of one loop; ``now`` is when the present one began (``time.perf_counter``)."""

    def __init__(self) -> None:
        self.now = time.perf_counter()
        self._on = False

    def start(self) -> None:
        """Begin to keep them; to be called in the loop's thread, as `stop`."""
        self._busy, self._lags, self._counts = 0.0, array("d"), array("I")
        self._begin, self._cpu, self._queued = time.perf_counter(), time.thread_time(), _queued()
        self._on = True

    def woken(self, waited_from: float, now: float, ready: int) -> None:
        """The loop asked at ``waited_from`` and was told of ``ready`` connections at ``now``."""
        if self._on:
            busy = waited_from - max(self.now, self._begin)
            self._busy += busy
            if ready:
                self._lags.append(busy if now - waited_from < NO_WAIT_S else 0.0)
                self._counts.append(ready)
        self.now = now

    def stop(self, chunks: int) -> Load:
        """The load since `start`; ``chunks`` is how many pieces of answers came."""
        self._on = False
        wall = max(time.perf_counter() - self._begin, 1e-9)
        arrivals = sum(self._counts)
        left, lag = max(arrivals // 100, 1), 0.0
        for lag, count in sorted(zip(self._lags, self._counts, strict=True), reverse=True):  # noqa: B007
            left -= count
            if left <= 0:
                break
        return Load(
            cores=round((time.thread_time() - self._cpu) / wall, 4),
            busy=round(min((self._busy + _queued() - self._queued) / wall, 1.0), 4),
            lag_ms=round(lag * 1000, 3),
            chunks=chunks,
        )


def _queued() -> float:
    """Seconds that this thread was ready and had no core; 0 where the kernel does not tell."""
    try:
        return int(Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0

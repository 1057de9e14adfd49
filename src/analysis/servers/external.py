"""The ``external`` backend: a server that somebody else runs. It is looked at, waited for, never started or ended.

One address may serve one arm after the other: for each arm the study says what to start, and goes on when the server
there is that arm, as far as its engine says what it is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import ServerError
from analysis.servers import engines, render, web
from analysis.servers.engines.base import Seen
from analysis.servers.process import Progress, Running
from analysis.study.plan import Arm


@dataclass(frozen=True)
class Attached(Running):
    """A server of somebody else's: no log of ours, no process of ours."""

    def check(self, doing: str) -> None:
        """Raise `ServerError` where it no longer answers."""
        if not self.alive():
            raise ServerError(
                f"The external server at {self.url} stopped answering while {doing}.",
                why="It was ended, or it crashed: its log is with whoever started it.",
                fix="Start the same arm again, then run again: only the measurement that was cut is repeated.",
            )


@contextlib.contextmanager
def serve(arm: Arm, log: Path, launch_id: str, progress: Progress = lambda text: None) -> Iterator[Running]:
    """Wait until the server at ``server.url`` is this arm, and yield it; leave it alone afterwards.

    Raises
    ------
    ServerError
        Not this arm after ``start_minutes``; says what is there, and what to start.
    """
    url = (arm.server.url or "").rstrip("/")
    command = render.launch(arm, "external")
    log.write_text(f"The server of arm {arm.name} is external. Its launch:\n{command}\n", encoding="utf-8")
    begin = time.monotonic()
    limit = arm.server.start_minutes * 60
    while problem := mismatch(arm, seen := look(url, arm)):
        waited = time.monotonic() - begin
        if waited > limit:
            raise ServerError(
                f"The server at {url} is not arm {arm.name} after {arm.server.start_minutes:g} minutes.",
                why=problem,
                fix=f"Start that arm there; its launch is in {'/'.join(log.parts[-4:])}.",
                details=command,
            )
        progress(f"please start {arm.name} at {url} ({problem}); {waited:.0f} s of at most {limit:.0f} s")
        time.sleep(1)
    yield Attached(
        url=url,
        command=["external", url],
        log=None,
        ready_s=time.monotonic() - begin,
        facts=engines.of(arm).facts(seen),
        alive=lambda: _answers(url),
    )


def look(url: str, arm: Arm | None = None) -> Seen | None:
    """Ask the server what it is, as the engine of ``arm`` (or vLLM) does; None where nothing healthy and sound answers."""
    engine = engines.of(arm) if arm else engines.named("vllm")
    with contextlib.suppress(web.WebError, ValueError):
        if _answers(url):
            return engine.look(url, arm)
    return None


def mismatch(arm: Arm, seen: Seen | None) -> str:
    """Why a server is not the arm, as a phrase; empty where it is."""
    return "nothing healthy answers there" if seen is None else engines.of(arm).mismatch(arm, seen)


def _answers(url: str) -> bool:
    with contextlib.suppress(web.WebError):
        return web.get(f"{url}/health", seconds=5).status == 200
    return False

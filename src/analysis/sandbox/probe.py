"""Which wall holds on this machine: each is tried with a program that attempts to get out, the first that holds is used.

A program is never run without walls: where none holds, `available` says why for each and what would help.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.sandbox import advice, confined
from analysis.sandbox.limits import Limits
from analysis.sandbox.walls import Wall, bubblewrap, container, landlock

SELF_TEST = Path(__file__).parent / "inside/self_test.py"


@dataclass(frozen=True, slots=True)
class Availability:
    """Can generated code be run here? `wall` is the kind used ("none" where nothing holds), `reason` why, `fix` what helps."""

    ok: bool
    wall: str
    version: str
    reason: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """A wall that holds, and matplotlib's list of fonts as it is behind it."""

    wall: Wall
    fonts: dict[str, str]


def available() -> Availability:
    """Does a wall hold here? Tried once a process."""
    return ready()[0]


@functools.cache
def ready() -> tuple[Availability, Ready | None]:
    """The first wall that holds, tried in the order of `walls`."""
    reasons, raw = [], []
    for wall in walls():
        try:
            found = check(wall)
        except (OSError, subprocess.SubprocessError) as error:
            found = f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
        if isinstance(found, Ready):
            reason = f"{wall.name} {wall.version} confines Python"
            return Availability(True, wall.name, wall.version, reason), found
        raw.append((wall.name, found))
        reasons.append(f"{wall.name} {wall.version}: {found}")
    reason = "; ".join(dict.fromkeys(reasons)) or "neither bubblewrap nor sandlock nor a container's image was found"
    return Availability(False, "none", "", reason, advice.fix(raw)), None


def walls() -> Iterator[Wall]:
    """What this machine has, best first."""
    yield from bubblewrap.find()
    yield from landlock.find()
    yield from container.find()


def check(wall: Wall) -> Ready | str:
    """Run the self-test behind a wall: ready for use, or in words what did not hold."""
    code = SELF_TEST.read_text(encoding="utf-8")
    with tempfile.NamedTemporaryFile("w", prefix="canary-") as canary:
        canary.write("canary")
        canary.flush()
        code = f"CANARY, OUTSIDE = {canary.name!r}, {os.getpid()}\n{code}"
        traces = confined.run(wall, code, Limits(seconds=120, cpu_s=120, processes=16))
        changed = Path(canary.name).read_text(encoding="utf-8") != "canary"
    if not traces.started:
        return _last(traces.trouble) or traces.stopped or "it did not come up"
    said = traces.result
    if traces.status != 0 or traces.stopped or "held" not in said:
        return _last(traces.stderr) or traces.stopped or f"the self-test ended with {traces.status}"
    if changed:
        return "it does not hold: a file outside can be written"
    if said["held"] is not True:
        return f"it does not hold: {str(said.get('broken'))[:200]}"
    return Ready(wall, said["fonts"])


def _last(text: str) -> str:
    """The last line, cut; of paths only the last name. What bubblewrap itself advises is for the whole machine: left out."""
    line = (text.strip().splitlines() or [""])[-1].partition(" On e.g.")[0][:200]
    return re.sub(r"/(?:[^\s/'\":,;]+/)+", "", line)

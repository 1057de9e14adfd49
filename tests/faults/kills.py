"""kill -9 at random points of a measuring process: nothing acknowledged is lost, nothing is left, and the next run goes on.

A process of its own forks the measurer (all modules are loaded once), which measures a small study on the stand-in engine
and says each measurement that it has put on disk. It is killed at a random moment: while a server starts, in a request,
or just when a line was written. ``python kills.py COUNT FIRST FOLDER`` prints a line of JSON for each kill.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from doors import Row

from analysis.places import ROOT

STAND_IN = ROOT / "tests/engine/stand_in"
LANES = 3
"""Measurers at once, each with records of its own: most of their time they wait."""
GONE_S = 12.0
"""The guard gives a server ten seconds to end by itself."""
PROGRAM_GONE_S = 2.0
"""A second, as promised, and one for a busy machine."""

PROGRAM = """
import os, signal, sys, time
for at in range(4):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, "-S", "-c",
                "import os, signal, time\\n" + ("os.kill(os.getpid(), signal.SIGSTOP)\\n" if at % 2 else "")
                + "for n in range(1, 64):\\n try: signal.signal(n, signal.SIG_IGN)\\n except (OSError, ValueError): pass\\n"
                + "time.sleep(120)", "MARK"])
        os._exit(0)
time.sleep(60)
"""


# --- the process that forks measurers --------------------------------------------------------------------------------


def main(count: int, first: int, folder: Path) -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join([str(STAND_IN), str(ROOT / "src")])
    from analysis.records.store import Store
    from analysis.study import plan, study_file

    settings = {
        "k_values": [2],
        "k": 2,
        "repeats": 2,
        "concurrency": [1, 2],
        "prompts": "published",
        "timing_tokens": 9,
    }
    settings |= {"code_programs": 1, "code_tokens": 9, "greedy_tokens": 5, "warmup": 1, "remeasure": 0}
    made = plan.make(study_file.load_study("miniature", **settings, server={"start_minutes": 0.5}))
    number, run = 0, 0
    while number < count:
        root = folder / f"run-{run}"
        store, acknowledged = Store(made.study.study, root=root), set()
        while number < count and len(store.complete()) < len(made.cells):
            dice = random.Random(f"kill {first + number}")
            fault = _one(made, root, dice, acknowledged)
            store = Store(made.study.study, root=root)
            fault = fault or _read(store, made, acknowledged)
            print(json.dumps({"number": first + number, "fault": fault}), flush=True)
            number += 1
        run += 1


def _one(made, root: Path, dice: random.Random, acknowledged: set[str]) -> str:
    """One measurer, killed at a moment by the dice; what is wrong afterwards."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _measure(made, root, writing)
    os.close(writing)
    by_count = dice.random() < 0.6
    after = dice.randrange(1, 8) if by_count else None
    deadline = time.monotonic() + (20 if by_count else dice.uniform(0.02, 2.5))
    heard, ended = b"", False
    while time.monotonic() < deadline and not ended and (after is None or heard.count(b"\n") < after):
        if select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
            data = os.read(reading, 4096)
            heard, ended = heard + data, not data
    time.sleep(dice.choice((0, 0, dice.uniform(0, 0.05))))
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while data := os.read(reading, 4096):
        heard += data
    os.close(reading)
    *said, _ = heard.decode().split("\n")
    acknowledged.update(said)
    mark, end = str(root.resolve()).encode(), time.monotonic() + GONE_S
    while (left := _carrying(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return f"{len(left)} processes were left" if left else ""


def _measure(made, root: Path, writing: int) -> None:
    """In the fork: measure, and say each measurement once its line is on disk."""
    from analysis.measure import campaign
    from analysis.records.store import Store

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.setsid()
    append = Store.append

    def told(self, cell, requests=()):
        append(self, cell, requests)
        if cell["status"] == "ok":
            os.write(writing, f"{cell['cell_id']}\n".encode())

    Store.append = told
    try:
        campaign.ensure(made, made.cells, Store(made.study.study, root=root))
    finally:
        os._exit(0)


def _read(store, made, acknowledged: set[str]) -> str:
    """What is wrong with the records: an acknowledged measurement that is gone, a line or a frame that cannot be read."""
    try:
        lost = acknowledged - store.complete()
        if lost:
            return f"{len(lost)} acknowledged measurements are lost"
        if damage := store.damage():
            return f"damaged: {damage[0].file.rpartition('/')[2]}, {damage[0].why}"
        frames = store.frames([cell for cell in made.cells if cell.id in acknowledged])
        short = set(frames.cells.cell_id) ^ acknowledged
        return f"{len(short)} measurements are not in the frames" if short else ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]


def _carrying(mark: bytes) -> list[int]:
    """Processes of servers whose launch folder lies below the mark."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as stream:
                if b"ANALYSIS_LAUNCH=" + mark in stream.read():
                    found.append(int(entry))
    return found


# --- kinds of kills ----------------------------------------------------------------------------------------------------


def tried(count: int, folder: Path, first: int = 0) -> Row:
    """Kills of measuring processes, `LANES` at once."""
    row = Row("kill -9 while measuring")
    shares = [count // LANES + (lane < count % LANES) for lane in range(LANES)]

    def lane(at: int) -> list[dict]:
        command = [sys.executable, __file__, str(shares[at]), str(first + 1_000 * at), str(folder / f"lane-{at}")]
        done = subprocess.run(command, capture_output=True, text=True)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        missing = shares[at] - len(found)
        return found + [{"number": -1, "fault": f"the lane ended: {done.stderr[-300:]}"}] * missing

    with ThreadPoolExecutor(LANES) as pool:
        for kill in (kill for found in pool.map(lane, range(LANES)) for kill in found):
            row.add(f"{kill['fault']} [kill {kill['number']}]" if kill["fault"] else "")
    return row


def tried_programs(count: int, kind: str, who: str = "measurer", first: int = 0) -> Row:
    """Kills of a process that runs a program behind a wall (`who`: it, or the guard): nothing of the program is left."""
    row = Row(f"kill -9 of the {who}, {kind}")
    for number in range(first, first + count):
        dice, mark = random.Random(f"program {number}"), f"mark-{uuid.uuid4().hex}"
        row.add(_killed(kind, mark, who, dice.uniform(0.0, 1.0)))
    return row


def _killed(kind: str, mark: str, who: str, wait: float) -> str:
    code = f"""
from analysis.sandbox import probe, confined
from analysis.sandbox.limits import Limits
from analysis.sandbox.walls import {kind}
wall = next({kind}.find())
print("ready", flush=True)
confined.run(wall, {PROGRAM.replace("MARK", mark)!r}, Limits(seconds=100))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        parent.stdout.readline()
        time.sleep(wait)
        if who == "guard":
            for pid in _running(b"/sandbox/guard.py", parent.pid)[-1:]:
                os.kill(pid, signal.SIGKILL)
            if left := _gone(mark, parent.pid):
                return f"{len(left)} processes of the program outlived the guard"
        parent.kill()
        parent.wait()
    finally:
        parent.stdout.close()
    left = _gone(mark)
    return f"{len(left)} processes of the program were left" if left else ""


def _gone(mark: str, spared: int = 0) -> list[int]:
    """Processes with the mark that are there though their time to end is over; they are ended now."""
    end = time.monotonic() + PROGRAM_GONE_S
    while (left := [pid for pid in _running(mark.encode()) if pid != spared]) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in left:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return left


def _running(sign: bytes, above: int = 0) -> list[int]:
    """Processes with a sign in their command line, `above` somewhere above them, oldest first."""
    found, parents = [], {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with (
            contextlib.suppress(OSError),
            open(f"/proc/{entry}/stat", "rb") as stat,
            open(f"/proc/{entry}/cmdline", "rb") as line,
        ):
            fields = stat.read().rsplit(b")", 1)[1].split()
            parents[int(entry)] = int(fields[1])
            if sign in line.read() and fields[0] not in (b"Z", b"X"):
                found.append(int(entry))

    def below(pid: int) -> bool:
        while pid and pid != above:
            pid = parents.get(pid, 0)
        return pid == above

    return sorted(pid for pid in found if pid != os.getpid() and (not above or below(pid)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))

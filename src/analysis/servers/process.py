"""The ``process`` backend: vLLM's OpenAI server as a guarded child process on a free port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from analysis.errors import ServerError
from analysis.servers import diagnosis, engines, facts, launch, loglines, machine, web
from analysis.servers.guard import TAG
from analysis.study import environment
from analysis.study.plan import Arm

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Running:
    """A healthy server: where it answers, what it said while starting, how long it took."""

    url: str
    command: list[str]
    log: Path
    ready_s: float
    facts: facts.StartupFacts
    alive: Callable[[], bool]

    def said(self) -> str:
        """All that the server has logged so far; empty for one whose log is somebody else's."""
        return self.log.read_text(errors="replace") if self.log else ""

    def check(self, doing: str) -> None:
        """Raise `ServerError` with a diagnosis if the server is gone."""
        if not self.alive():
            raise failure(f"The server stopped while {doing}.", self.log)


@contextlib.contextmanager
def serve(arm: Arm, log: Path, launch_id: str, progress: Progress = lambda text: None) -> Iterator[Running]:
    """Start the arm's server, yield it when healthy, end it and all its children however the block is left.

    Raises
    ------
    ServerError
        Port in use, server died while loading (with diagnosis, fix and last log lines), not healthy in time.
    """
    port = arm.server.port or free_port()
    if not port_is_free(port):
        raise ServerError(
            f"Port {port} is in use, so the server of arm {arm.name} cannot listen there.",
            why="Another program (perhaps another server) holds it.",
            fix=f"Stop that program (ss -ltnp 'sport = :{port}' shows it), or set server.port to 0 for a free one.",
        )
    command = launch.process_command(arm, port)
    env = {
        **os.environ,
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1" if arm.target.local else "0"),
        **environment.resolved(arm.server.env, os.environ),
        TAG: str(log.parent.resolve()),
    }
    env.setdefault("VLLM_NO_USAGE_STATS", "1")
    env |= {"NO_COLOR": "1", "VLLM_LOGGING_COLOR": "0", "PYTHONUNBUFFERED": "1"}  # a log that can be read and parsed
    # `vllm serve` is the one beside this Python, also where the environment was not activated
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    started = time.monotonic()
    guard = subprocess.Popen(
        [
            sys.executable,
            "-S",
            "-m",
            "analysis.servers.guard",
            str(log),
            str(machine.memory_floor(arm)),
            "--",
            *command,
        ],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={
            **env,
            "PYTHONPATH": os.pathsep.join(p for p in (str(Path(__file__).parents[2]), env.get("PYTHONPATH")) if p),
        },
        cwd=log.parent,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(arm, url, guard, log, progress)
        yield Running(
            url=url,
            command=command,
            log=log,
            ready_s=time.monotonic() - started,
            facts=engines.of(arm).read_log(log.read_text(errors="replace")),
            alive=lambda: guard.poll() is None,
        )
    finally:
        _end(guard)


def sweep(folders: set[str]) -> list[int]:
    """End processes left over from earlier launches, told by the launch folders in their TAG; their pids."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(TAG) in folders and process.pid != os.getpid():
                found.append(process)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=10)
    return [p.pid for p in found]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until_healthy(arm: Arm, url: str, guard: subprocess.Popen, log: Path, progress: Progress) -> None:
    limit = arm.server.start_minutes * 60
    begin = time.monotonic()
    while (waited := time.monotonic() - begin) < limit:
        if guard.poll() is not None:
            raise failure(
                f"The server for arm {arm.name} stopped while loading (exit {guard.returncode}, {waited:.0f} s).", log
            )
        with contextlib.suppress(web.WebError):
            if web.get(f"{url}/health", seconds=2).status == 200:
                return
        progress(f"starting, {waited:.0f} s of at most {limit:.0f} s: {_stage(log)}")
        time.sleep(0.5)
    error = failure(f"The server for arm {arm.name} was not healthy after {arm.server.start_minutes:g} minutes.", log)
    if not error.fix or error.fix.startswith(("Read the log", "Look for that error")):
        error.fix = "Raise server.start_minutes (a first start downloads and compiles), or read the log."
    raise error


#: A disk with less room than this is full: a log's next lines may be lost.
FULL_GIB = 1 / 1024


def failure(what: str, log: Path) -> ServerError:
    """What a stopped server's log says: a known cause, else the engine's first error; with the log's path and lines."""
    text = log.read_text(errors="replace") if log.exists() else ""
    cause, root = diagnosis.of_stopped(text), loglines.first_error(text)
    room = machine.free_gib(log)
    if room is not None and room < FULL_GIB:  # the log itself may end in the middle
        why, fix = "the disk of the records is full.", "Free space on it, then run again: records are kept."
    elif cause:
        why, fix = cause.cause, cause.fix
    elif root:
        why = f"the engine's first error is not known to this study: {root.text[:300]}"
        fix = f"Look for that error, raised in {root.frame}." if root.frame else "Look for that error in the log."
    else:
        why, fix = "the log names no cause that this study knows.", "Read the log; its last lines are below."
    excerpt = "\n".join([*root.frames, root.text]) if root else _last_lines(text)
    fix = fix.replace("STUDY", log.parts[-4]) if len(log.parts) > 3 else fix
    return ServerError(what, why=why, fix=fix, details=f"Log: {_shown(log)}\n" + excerpt)


def _last_lines(text: str, count: int = 12) -> str:
    """The last lines that say something: no blank ones, no progress bars, no list of all flags."""
    dull = ("% Completed", "%|", "      [")
    lines = [line for line in text.splitlines() if line.strip() and not any(sign in line for sign in dull)]
    return "\n".join(lines[-count:])


def _shown(log: Path) -> str:
    return "/".join(log.parts[-4:])


def _stage(log: Path) -> str:
    """What the log says is going on, in a few words."""
    text = log.read_text(errors="replace") if log.exists() else ""
    stages = (
        ("Application startup complete", "ready"),
        ("init engine", "warming up"),
        ("KV cache size", "K/V cache"),
        ("Starting to load model", "loading weights"),
        ("Initializing a V1", "engine"),
        ("Resolved architecture", "reading the model's configuration"),
    )
    return next((stage for sign, stage in stages if sign in text), "importing vLLM")


def _end(guard: subprocess.Popen) -> None:
    """Close the guard's pipe and wait; a second Ctrl-C cannot leave the server behind."""
    previous = signal.getsignal(signal.SIGINT)
    with contextlib.suppress(ValueError):  # not in the main thread: no handler to hold
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if guard.stdin:
            guard.stdin.close()
        try:
            guard.wait(timeout=30)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()
    finally:
        with contextlib.suppress(ValueError, TypeError):
            signal.signal(signal.SIGINT, previous)

"""The guard of one confined program: starts the wall's command, and ends every process below it.

Run as ``python -S guard.py DESCRIPTOR CLEANUP MEMORY PROCESSES -- COMMAND…``. End of file on DESCRIPTOR means that the
measuring process wants an end or is gone (also by kill -9). The guard is a subreaper: what forks away from its parent comes to it and is
ended too, within a second. If the guard is killed, its warden (the process that it forked from) does that.
CLEANUP: a JSON list, a command for what lives elsewhere (a container), or []. MEMORY [bytes; 0: none] and PROCESSES limit a
control group, where one can be made. Exit status: that of the command.
The standard library only: it starts with every program.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time

if __package__:
    from analysis.sandbox import group
else:  # as a script, in milliseconds: the package is not loaded
    import group

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TIDY_S = 3.0
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def main(argv: list[str]) -> int:
    """Run the command until it ends or the descriptor does; its exit status, 128 + signal when killed."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.setsid()
    for name in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(name, signal.SIG_IGN)
    memory = int(argv[2])
    folder = group.make(memory, int(argv[3]), f"sandbox-{os.getpid()}") if memory else ""
    if guard := os.fork():
        return warden(guard, json.loads(argv[1]), folder)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # a fork does not inherit it
    return watch(int(argv[0]), json.loads(argv[1]), folder, argv[5:], libc)


def warden(guard: int, cleanup: list[str], folder: str) -> int:
    """Wait for the guard; what it left when it was killed comes to us and is ended. The guard's exit status."""
    for descriptor in (0, 1, 2):
        os.close(descriptor)  # who reads them sees the guard's end, not ours
    status = os.waitstatus_to_exitcode(os.waitpid(guard, 0)[1])
    if status < 0 and cleanup:
        subprocess.run(cleanup, **QUIET)
    while below := descendants(zombies=True):
        for pid in below:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)
    if folder:
        group.end(folder)
    return status if status >= 0 else 128 - status


def watch(line: int, cleanup: list[str], folder: str, command: list[str], libc: ctypes.CDLL) -> int:
    """The guard itself: see `main`."""

    def before() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if folder:
            group.enter(folder)

    try:
        wall = subprocess.Popen(command, preexec_fn=before, restore_signals=True, start_new_session=True)
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return 127
    # What the wall's command has inherited is closed here: its end is seen by those who read.
    for descriptor in (0, 1):
        os.close(descriptor)
    try:
        said = not folder
        while wall.poll() is None and not select.select([line], [], [], 0.02)[0]:
            if not said and group.ran_out(folder):
                said = True
                print(group.OVER, file=sys.stderr, flush=True)
    finally:
        if cleanup:
            tidy(cleanup, wall)
        end(wall)
    return wall.returncode if wall.returncode >= 0 else 128 - wall.returncode


def tidy(cleanup: list[str], wall: subprocess.Popen) -> None:
    """End what lives elsewhere, then let the client that started it put its own house in order."""
    subprocess.run(cleanup, **QUIET)
    deadline = time.monotonic() + TIDY_S
    while descendants() and time.monotonic() < deadline:
        reap(wall)
        time.sleep(0.02)
    subprocess.run(cleanup, **QUIET)  # both may have tried at once, and neither have done it


def end(wall: subprocess.Popen) -> None:
    """SIGSTOP to all below first, so that nothing forks meanwhile, then SIGKILL until nothing is left."""
    for number in (signal.SIGSTOP, *[signal.SIGKILL] * 500):
        wall.poll()
        below = descendants()
        if not below and wall.returncode is not None:
            return
        for pid in below:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        reap(wall)
        if number != signal.SIGSTOP:
            time.sleep(0.01)


def reap(wall: subprocess.Popen) -> None:
    wall.poll()
    for pid in descendants(zombies=True):
        if pid != wall.pid:
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)


def descendants(zombies: bool = False) -> list[int]:
    """Processes below this one; those that have ended only on request."""
    parents: dict[int, list[tuple[int, bool]]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stream:
                    fields = stream.read().rsplit(b")", 1)[1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append((int(entry), fields[0] in b"ZX"))
    found, queue = [], [os.getpid()]
    while queue:
        for pid, ended in parents.get(queue.pop(), []):
            queue.append(pid)
            if zombies or not ended:
                found.append(pid)
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

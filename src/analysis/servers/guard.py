"""The guard of one server: starts it, and ends every process of it when the study goes away.

Run as ``python -m analysis.servers.guard LOG FLOOR -- COMMAND…`` with a pipe on standard input; below FLOOR GiB of
available memory (0: no floor) the server is ended, and its log says so. End of file on that
pipe means that the study's process is gone (error, Ctrl-C, kernel death, kill -9): the guard then ends the
server's whole session, children that changed their group included. If the guard itself is killed, its warden (the
process that it forked from) ends all of that; if both are, the kernel sends the server SIGKILL (PR_SET_PDEATHSIG), and
`sweep` of the next run ends what may still be there.
The standard library only: a guard must start in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

from analysis.servers import memory

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_S = 10.0
#: Every process of a server inherits this variable; its value is the launch's folder.
TAG = "ANALYSIS_LAUNCH"


def main(argv: list[str]) -> int:
    """Run the command until it ends or the study goes away; its exit status, 128 + signal when killed."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphaned workers come to us, not to init
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # Ctrl-C belongs to the study, which then closes the pipe
    guard = os.fork() if libc else 0
    if guard:
        return warden(guard)
    if libc:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # a fork does not inherit it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return watch(argv[0], float(argv[1]), argv[3:], libc)


def warden(guard: int) -> int:
    """Wait for the guard; what it left when it was killed comes to us and is ended. The guard's exit status."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(guard, signal.SIGTERM))
    status = os.waitstatus_to_exitcode(os.waitpid(guard, 0)[1])
    while pids := _children():
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)
    return status if status >= 0 else 128 - status


def watch(log: str, floor: float, command: list[str], libc: ctypes.CDLL | None) -> int:
    """The guard itself: see `main`."""
    with open(log, "ab", buffering=0) as stream:
        try:
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=(lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)) if libc else None,
            )
        except OSError as error:  # no such program: the log must say so, it is all that is looked at
            stream.write(f"{error}\n".encode())
            return 127
    try:
        while server.poll() is None:
            ready, _, _ = select.select([sys.stdin], [], [], 0.25)
            if ready and not os.read(sys.stdin.fileno(), 1024):
                break
            if line := memory.below(floor):
                with open(log, "ab", buffering=0) as stream:
                    stream.write(line.encode())
                break
    finally:
        end(server)
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def end(server: subprocess.Popen) -> None:
    """SIGTERM to everything below us, SIGKILL to what is left after the grace time; returns when all are gone."""
    deadline = time.monotonic() + GRACE_S
    signal_now = signal.SIGTERM
    while pids := [server.pid] * (server.poll() is None) + _children():
        for pid in set(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_now)
        _reap(server)
        if time.monotonic() > deadline:
            signal_now = signal.SIGKILL
        time.sleep(0.1)


def _reap(server: subprocess.Popen) -> None:
    server.poll()
    for pid in _children():
        if pid != server.pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    """All living descendants of this process, deepest last."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stream:
                    fields = stream.read().rsplit(b")", 1)[1].split()
            except OSError:
                continue
            if fields[0] != b"Z" or int(fields[1]) == os.getpid():
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = [], [os.getpid()]
    while queue:
        below = parents.get(queue.pop(), [])
        found += below
        queue += below
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

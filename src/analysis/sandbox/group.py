"""A control group for one confined program, where this user may make one: the kernel then counts all of its memory.

Page tables, sockets, pipes and files in memory count too. Version 2 (a group beside ours, where its parent hands on the
memory controller) or version 1 (a group below ours). Elsewhere the sum over the processes, polled, has to do alone.
"""

from __future__ import annotations

import contextlib
import os
import time

OVER = "analysis sandbox: the memory of the group ran out"
"""The guard says this on its standard error when the kernel ended something for want of memory."""


def make(memory: int, processes: int, name: str, root: str = "/") -> str:
    """Folder of a new group with these limits [bytes, processes and threads]; empty where none can be made."""
    for base, below, limits in _places(root, memory, processes):
        folder = os.path.join(base, name) if below else os.path.join(os.path.dirname(base), name)
        try:
            os.mkdir(folder)
        except OSError:
            continue
        written = [_write(os.path.join(folder, file), str(value)) for file, value in limits]
        if written[0] and os.access(os.path.join(folder, "cgroup.procs"), os.W_OK):
            return folder
        end(folder)
    return ""


def enter(folder: str) -> None:
    """Put this process into the group; what it starts is in it too."""
    _write(os.path.join(folder, "cgroup.procs"), str(os.getpid()))


def ran_out(folder: str) -> bool:
    """Did the kernel end a process of the group for want of memory?"""
    for file in ("memory.events", "memory.oom_control"):
        with contextlib.suppress(OSError, ValueError), open(os.path.join(folder, file), encoding="ascii") as stream:
            counts = dict(line.split() for line in stream)
            return int(counts.get("oom_kill", 0)) > 0
    return False


def end(folder: str) -> None:
    """End what is in the group, and remove it."""
    _write(os.path.join(folder, "cgroup.kill"), "1")
    for _ in range(100):
        try:
            os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError:  # its last process is just ending
            time.sleep(0.01)


def _places(root: str, memory: int, processes: int):
    """(folder of our own group, a new one goes below it, limits) by version; the first limit is the one that must hold."""
    with contextlib.suppress(OSError), open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8") as stream:
        for line in stream:
            _, controllers, path = (*line.rstrip("\n").split(":", 2), "", "")[:3]
            if not controllers and path != "/":
                limits = [("memory.max", memory), ("memory.swap.max", 0), ("pids.max", processes)]
                yield os.path.join(root, "sys/fs/cgroup", path.strip("/")), False, limits
            elif controllers == "memory":
                limits = [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory)]
                yield os.path.join(root, "sys/fs/cgroup/memory", path.strip("/")).rstrip("/"), True, limits


def _write(path: str, text: str) -> bool:
    try:
        file = os.open(path, os.O_WRONLY)  # never made: a group's files are there or not
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
        return True
    except OSError:
        return False

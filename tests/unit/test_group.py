"""Control groups for confined programs: which one is made, by the version of the kernel's interface; and that it counts."""

import os
import sys
from pathlib import Path

import pytest

from analysis.sandbox import group


def machine(tmp_path, line, *folders, files=()):
    """A root folder with /proc/self/cgroup and the given groups."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(line + "\n")
    for folder in folders:
        (tmp_path / "sys/fs/cgroup" / folder).mkdir(parents=True)
    made = os.mkdir

    def mkdir(path, *more):  # the kernel puts its files into a new group
        made(path, *more)
        for name in files:
            (Path(path) / name).touch()

    return mkdir


V2 = ("memory.max", "memory.swap.max", "pids.max", "cgroup.procs", "cgroup.kill")
V1 = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cgroup.procs")


@pytest.mark.parametrize(
    "line, ours, made, files, limit",
    [
        (
            "0::/user.slice/app.slice/term.scope",
            "user.slice/app.slice/term.scope",
            "user.slice/app.slice/x",
            V2,
            "memory.max",
        ),
        ("4:memory:/ours", "memory/ours", "memory/ours/x", V1, "memory.limit_in_bytes"),
    ],
)
def test_a_group_is_made_beside_ours_or_below_it(tmp_path, monkeypatch, line, ours, made, files, limit):
    monkeypatch.setattr(os, "mkdir", machine(tmp_path, line, ours, files=files))
    folder = group.make(123_456, 7, "x", root=str(tmp_path))
    assert folder == str(tmp_path / "sys/fs/cgroup" / made)
    assert (Path(folder) / limit).read_text() == "123456"
    group.enter(folder)
    assert (Path(folder) / "cgroup.procs").read_text() == str(os.getpid())


@pytest.mark.parametrize("line", ["0::/", "0::/ours", "1:cpu:/", ""])
def test_where_the_kernel_counts_no_memory_there_is_no_group(tmp_path, monkeypatch, line):
    monkeypatch.setattr(os, "mkdir", machine(tmp_path, line, "ours", files=("cgroup.procs",)))
    assert group.make(1, 1, "x", root=str(tmp_path)) == ""


@pytest.mark.parametrize(
    "text, over", [("oom 2\noom_kill 1\n", True), ("oom 2\noom_kill 0\n", False), ("", False), ("x", False)]
)
def test_the_kernel_says_when_the_memory_ran_out(tmp_path, text, over):
    (tmp_path / "memory.events").write_text(text)
    assert group.ran_out(str(tmp_path)) is over


SOCKETS = """
import resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
held = []
while True:
    held.append(socket.socketpair())
    held[-1][0].setblocking(False)
    try:
        while True: held[-1][0].send(b"x" * 4096)
    except BlockingIOError: pass
"""


def test_memory_that_no_process_shows_counts():
    """Bytes in sockets and pipes stand in no process's memory."""
    if not (folder := group.make(64 << 20, 50, f"test-{os.getpid()}")):
        pytest.skip("no control group can be made here")
    try:
        child = os.fork()
        if child == 0:
            group.enter(folder)
            os.execv(sys.executable, [sys.executable, "-S", "-c", SOCKETS])
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == -9 and group.ran_out(folder)
    finally:
        group.end(folder)
    assert not os.path.exists(folder)

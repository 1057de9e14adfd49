"""The walls: what each holds back, which is used, and that nothing of a stopped program is left. Hostile programs: tests/faults."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
import uuid

import psutil
import pytest

from analysis import places
from analysis.errors import SandboxError
from analysis.sandbox import advice, available, filter, probe, run, run_many
from analysis.sandbox.limits import Limits
from analysis.sandbox.walls import bubblewrap, container, landlock

sys.path.insert(0, str(places.ROOT / "tests/faults"))
from programs import GOOD, KINDS, wall_of

holding = functools.cache(wall_of)


@pytest.fixture(params=KINDS)
def wall(request, monkeypatch):
    """Every program of the test runs behind this wall."""
    found = holding(request.param)
    if isinstance(found, str):
        pytest.skip(f"{request.param} does not hold here: {found}")
    monkeypatch.setattr(probe, "ready", lambda: found)
    assert run("x = 1").wall in (request.param, "docker", "podman")
    return request.param


def left(mark, seconds=1.0):
    """Processes with that mark after at most so many seconds."""
    end = time.monotonic() + seconds
    while found := [p.pid for p in psutil.process_iter() if mark in " ".join(_line(p))]:
        if time.monotonic() > end:
            return found
        time.sleep(0.05)
    return []


def _line(process):
    try:
        return process.cmdline() if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []


SPAWN = """
import os, signal, sys, time
def spawn(stop=False):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, "-S", "-c",
                "import os, signal, time\\n" + ("os.kill(os.getpid(), signal.SIGSTOP)\\n" if stop else "")
                + "for n in range(1, 64):\\n try: signal.signal(n, signal.SIG_IGN)\\n except (OSError, ValueError): pass\\n"
                + "time.sleep(120)", "MARK"])
        os._exit(0)
for at in range(6):
    spawn(stop=at % 2 == 1)
time.sleep(1)
"""


# --- what a program sees -------------------------------------------------------------------------------------------


def test_the_watching_process_cannot_be_looked_into(wall):
    program = """
import os
for road in ("/proc", "/dev/fd/../.."):
    for name in ("mem", "environ", "maps", *(f"fd/{number}" for number in range(8))):
        for mode in ("rb", "wb"):
            try:
                with open(f"{road}/{os.getppid()}/{name}", mode) as file:
                    print("OPENED", name, mode, file.read(1) if mode == "rb" else "")
            except OSError:
                pass
"""
    outcome = run(program)
    assert outcome.ran and outcome.stdout == ""


def test_nothing_outside_is_reached_and_output_names_no_folder_of_this_machine(wall, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    (tmp_path / "kept").write_text("kept")
    program = f"""
import os, shutil, socket
print(sorted(os.environ.values()))
for path in ({str(tmp_path / "kept")!r}, {__file__!r}, "/etc/shadow", f"/proc/{{os.getppid()}}/environ", "/proc/1/environ"):
    try:
        print("READ", path, open(path).read()[:20])
    except OSError:
        pass
for path in ("/x", "/usr/x", os.__file__, "/etc/x", {str(tmp_path / "kept")!r}):
    try:
        open(path, "a").write("x")
    except OSError:
        pass
for address in (("127.0.0.1", 80), ("192.0.2.1", 53)):
    try:
        socket.create_connection(address, timeout=2)
        print("REACHED", address)
    except TimeoutError:
        print("ASKED", address)
    except OSError:
        pass
shutil.rmtree({str(tmp_path)!r}, ignore_errors=True)
raise ValueError(os.getcwd() + " " + os.__file__)
"""
    outcome = run(program)
    assert "hunter2" not in outcome.stdout and not {"READ", "REACHED", "ASKED"} & set(outcome.stdout.split())
    assert (tmp_path / "kept").read_text() == "kept"
    assert sys.base_prefix not in outcome.stderr + outcome.stdout or sys.base_prefix == "/usr"
    assert outcome.reason.startswith("ValueError: /tmp/work ")


# --- stopped means gone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["time", "output", "memory", "nothing"])
def test_nothing_of_a_program_is_left_within_a_second(wall, end):
    mark = f"mark-{uuid.uuid4().hex}"
    rest = {
        "time": "time.sleep(100)",
        "output": "while True: print('x' * 10**6)",
        "memory": "x = []\nwhile True: x.append(bytearray(5_000_000))",
        "nothing": "",
    }[end]
    outcome = run(SPAWN.replace("MARK", mark) + rest, seconds=4, memory_mb=500)
    assert (outcome.ran, bool(outcome.reason)) == (end == "nothing", True)
    assert left(mark) == []


# --- which wall is used --------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """Let the probe find other walls."""

    def use(*walls):
        monkeypatch.setattr(probe, "walls", lambda: iter(walls))
        probe.ready.cache_clear()

    yield use
    probe.ready.cache_clear()


def refused(tmp_path, words="bwrap: setting up uid map: Permission denied"):
    binary = tmp_path / "bwrap"
    binary.write_text(
        f"#!/bin/sh\ncase $1 in --version|--help) echo bubblewrap 0.9.0; exit;; esac\necho '{words}' >&2; exit 1\n"
    )
    binary.chmod(0o755)
    return binary


def test_where_bubblewrap_gets_no_namespace_the_second_wall_is_used(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(bubblewrap, "candidates", lambda: [str(refused(tmp_path))])
    second = holding("landlock")
    if isinstance(second, str):
        pytest.skip(f"no second wall here: {second}")
    machine(*bubblewrap.find(), second[1].wall)
    assert available().wall == "landlock" and run(GOOD + "frame = good()\n").wall == "landlock"


def test_where_no_wall_holds_nothing_is_run_and_the_reason_and_the_fix_are_said(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(bubblewrap, "candidates", lambda: [str(refused(tmp_path))])
    machine(*bubblewrap.find())
    state = available()
    assert not state.ok and state.wall == "none" and "setting up uid map: Permission denied" in state.reason
    assert str(tmp_path) not in state.reason + state.fix
    with pytest.raises(SandboxError, match="run-programs"):
        run("print('never')")
    with pytest.raises(SandboxError):
        run_many(["x = 1", "x = 2"])


def test_a_wall_that_lets_something_through_is_not_used(machine):
    open_door = probe.Wall("open", "1", lambda limits, folder: landlock._confine(limits, folder), own_folder=True)
    naked = probe.Wall(
        "naked", "1", lambda limits, folder: _without_walls(open_door.confine(limits, folder)), own_folder=True
    )
    machine(naked)
    state = available()
    assert not state.ok and "it does not hold: a file outside can be" in state.reason


def _without_walls(confined):
    from dataclasses import replace

    return replace(confined, command=confined.command[-1:])


def test_the_probe_runs_once(monkeypatch):
    first = available()
    monkeypatch.setattr(probe, "walls", lambda: pytest.fail("probed again"))
    assert available() is first


def test_the_advice_fits_the_reason(tmp_path, monkeypatch):
    def sysctl(name, value):
        path = tmp_path / "proc/sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "apt install bubblewrap" in advice.namespaces("", False, tmp_path)
    sysctl("user/max_user_namespaces", "0\n")
    assert "user.max_user_namespaces = 0" in advice.namespaces("No space left on device", True, tmp_path)
    sysctl("kernel/apparmor_restrict_unprivileged_userns", "1\n")
    words = advice.namespaces("setting up uid map: Permission denied", True, tmp_path)
    assert "bwrap-userns-restrict" in words and "sysctl -w" not in words
    for name in ("user/max_user_namespaces", "kernel/apparmor_restrict_unprivileged_userns"):
        (tmp_path / "proc/sys" / name).unlink()
    assert "as in a chroot" in advice.namespaces("bwrap: No permissions to create a new namespace", True, tmp_path)
    (tmp_path / ".dockerenv").touch()
    assert "for this container alone" in advice.namespaces("not permitted", True, tmp_path)
    assert advice.fix([("bubblewrap", "x")]).startswith("Install the package sandlock")
    assert not advice.fix([("bubblewrap", "x"), ("landlock", "y")]).startswith("Install the package sandlock")


def test_a_container_gets_every_restriction_and_no_image_is_pulled(monkeypatch):
    said = {("images", "--quiet", "--no-trunc"): "sha256:abc\n", ("--version",): "podman version 4.3.1\n"}
    monkeypatch.setattr(container, "_output", lambda binary, *words: said[words] if binary == "podman" else "")
    monkeypatch.setattr(container.shutil, "which", lambda name: name)
    (wall,) = container.find()
    confined = wall.confine(Limits(), "")
    line = " ".join(confined.command)
    assert (wall.name, wall.version) == ("podman", "4.3.1") and confined.cleanup[:3] == ["podman", "rm", "--force"]
    for words in (
        "--pull never",
        "--network none",
        "--read-only",
        "--cap-drop ALL",
        "--memory 2048m",
        "--pids-limit 32",
    ):
        assert words in line
    assert "no-new-privileges" in line and ":rw" not in line.replace("/tmp:rw", "")


@pytest.mark.parametrize("machine_name", ["x86_64", "aarch64", "riscv64"])
def test_the_filter_is_whole_for_both_machines_and_absent_for_others(machine_name):
    data = filter.instructions(machine_name)
    assert (len(data) == 0) if machine_name == "riscv64" else (len(data) % 8 == 0 and data.endswith(b"\0\0\xff\x7f"))


def test_importing_the_sandbox_is_light():
    code = "import sys, analysis.sandbox; print(sorted({'pandas', 'numpy', 'PIL', 'psutil', 'sandlock'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(places.ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr

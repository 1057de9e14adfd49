"""The guard of one server: what it starts it ends, and a program that is not there is said in the log."""

import subprocess
import sys

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

"""The keeper of one container: copies its log to a file, and removes the container when the study goes away.

Run as ``python -m analysis.servers.keeper LOG ENGINE NAME FLOOR`` with a pipe on standard input; below FLOOR GiB of
available memory (0: no floor) the container is ended, and its log says so. End of file on that pipe
means that the study is done or gone (error, Ctrl-C, kernel death, kill -9): the container is then stopped and removed.
If the keeper itself is killed, the next run finds the container by its label. The standard library only.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from analysis.servers import memory

STOP_S = 15


def main(argv: list[str]) -> int:
    """Follow the container's log until the pipe closes; 0 when the container is gone."""
    log, engine, name, floor = *argv[:3], float(argv[3])
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C belongs to the study, which then closes the pipe
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with open(log, "ab", buffering=0) as stream:
        command = [engine, "logs", "-f", name]
        follower = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        try:
            while True:
                ready, _, _ = select.select([sys.stdin], [], [], 0.25)
                if ready and not os.read(sys.stdin.fileno(), 1024):
                    return 0
                if line := memory.below(floor):
                    stream.write(line.encode())
                    subprocess.run(
                        [engine, "kill", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
                    )
                    return 0
        finally:
            end(engine, name)
            try:
                follower.wait(timeout=5)
            except subprocess.TimeoutExpired:
                follower.kill()
                follower.wait()


def end(engine: str, name: str) -> None:
    """Stop the container (a server has seconds to finish), then remove it; nothing happens where it is gone."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
    subprocess.run([engine, "stop", "-t", str(STOP_S), name], **quiet)
    subprocess.run([engine, "rm", "-f", "-v", name], **quiet)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

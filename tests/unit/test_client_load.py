"""How busy the client was: rounds of its loop worked out by hand, and what a saturated one comes to."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from analysis.servers import load
from analysis.servers.load import Load, Rounds
from analysis.servers.wire import Sending, Wire


def rounds(*told):
    """The load of rounds given as (asked at, told at, connections), in seconds since the start."""
    kept = Rounds()
    kept.start()
    begin = kept._begin
    for asked, now, ready in told:
        kept.woken(begin + asked, begin + now, ready)
    return kept.stop(sum(ready for _, _, ready in told))


def test_bytes_that_come_while_the_loop_works_are_late_by_its_work_and_those_it_waited_for_are_not():
    """Three rounds: it waits, works 4 ms, finds two connections that were there already, works 1 ms, waits again."""
    found = rounds((0.0, 0.010, 2), (0.014, 0.014001, 2), (0.015001, 0.020, 1))
    assert (found.lag_ms, found.chunks) == (4.0, 5)
    assert rounds((0.0, 0.010, 2), (0.014, 0.019, 2)).lag_ms == 0.0


def test_one_late_round_in_a_thousand_arrivals_is_not_the_99th_percentile():
    on_time = [(i * 0.01, i * 0.01 + 0.009, 1) for i in range(1, 1000)]
    assert rounds(*on_time, (10.5, 10.50001, 1)).lag_ms == 0.0
    assert rounds(*on_time, *((10.5 + i / 10, 10.50001 + i / 10, 1) for i in range(12))).lag_ms > 90


@pytest.mark.parametrize(
    ("found", "refused", "late"),
    [
        (Load(0.6, 0.7, 1.0, 5000), False, False),
        (Load(0.6, 0.71, 1.0, 5000), True, False),
        (Load(0.6, 0.9, 1.0, 999), False, False),  # one burst
        (Load(0.1, 0.1, 1.5, 5000), False, False),  # a tenth of 15 ms
        (Load(0.1, 0.1, 1.6, 5000), False, True),
    ],
)
def test_a_client_counts_up_to_its_bounds(found, refused, late):
    assert bool(found.saturated) == refused and bool(found.late(0.015)) == late
    assert Load(0, 0, 0.9, 5000).late(0.001) == ""  # less than a millisecond is nothing


SERVER = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0), backlog=64)
print(server.getsockname()[1], flush=True)
piece = b"4\\r\\n: x\\n\\r\\n"
def serve(line):
    with line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.recv(65536)
        line.sendall(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
        for _ in range(1500):
            line.sendall(piece)
        line.sendall(b"0\\r\\n\\r\\n")
        line.recv(1)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


def test_a_server_faster_than_the_client_is_seen_as_such():
    """Streams as fast as the loopback carries them, into a loop that shares its core with a busy program."""
    core = {min(os.sched_getaffinity(0))}
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(hog.pid, core)
        wire = Wire(f"http://127.0.0.1:{int(server.stdout.readline())}")
        os.sched_setaffinity(wire._thread.native_id, core)
        asked = [[Sending("/", b"{}", 60.0, 10**6)] for _ in range(8)]
        _, captures, found = wire.exchange(asked)
        wire.close()
        assert all(len(c[0].body) == 1500 * 4 for c in captures)
        assert found.busy > load.BUSY and "bottleneck" in found.saturated
    finally:
        for process in (server, hog):
            process.kill()
            process.wait()


def test_connections_are_opened_before_the_clock_and_their_cost_is_kept_apart():
    """The second request of a stream finds its connection closed: opening a new one stands beside its times."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            line, _ = server.accept()
            time.sleep(0.05)
            line.recv(65536)
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            line.close()

    threading.Thread(target=serve, daemon=True).start()
    wire = Wire(f"http://127.0.0.1:{server.getsockname()[1]}")
    sending = Sending("/", json.dumps({}).encode(), 5.0, 100)
    begin, ((first, second),), _ = wire.exchange([[sending, sending]])
    wire.close()
    assert first.connect_s == 0.0 < second.connect_s
    assert begin <= first.sent < first.over <= second.sent - second.connect_s

"""The machine's state beside a cell: numbers worked out by hand, and what makes a cell a disturbed one."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from analysis.measure import state
from analysis.measure.state import Clocks, Gpu


def test_cores_of_others_are_what_is_left_of_the_machines_time():
    """10 s: 12 CPU seconds in all, 8 of the server, 1 of the client: 3 of others, 0.3 cores; 1 of 20 stolen."""
    before, after = Clocks(100, 5, 50, 7, 2), Clocks(112, 6, 58, 8, 5)
    found = state.summary(before, after, 10.0, 2, 20.0, Gpu())
    assert found == {
        "others_cores": 0.3,
        "client_cores": 0.1,
        "cores": 2,
        "steal": 0.05,
        "memory_gib": 20.0,
        "server_faults": 3,
    }


def test_a_gpu_adds_power_clocks_heat_and_energy():
    gpu = Gpu([200.0, 300.0], [1980.0, 1500.0], [55.0, 61.0], 0x20, 5000.0)
    found = state.summary(Clocks(0, 0, 0, 0, 0), Clocks(0, 0, 0, 0, 0), 20.0, 16, 100.0, gpu)
    assert (found["power_w"], found["clock_mhz"], found["temperature_c"]) == (250.0, [1500.0, 1980.0], 61.0)
    assert (found["energy_j"], found["throttled"]) == (5000.0, ["software thermal slowdown"])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"others_cores": 0.25}, ""),
        ({"others_cores": 0.26}, "other programs used 0.26 cores"),
        ({"others_cores": 0.9, "cores": 16}, ""),
        ({"others_cores": 2.1, "cores": 16}, "other programs used 2.10 cores"),
        ({"steal": 0.05}, ""),
        ({"steal": 0.06}, "the host took 6%"),
        ({"throttled": ["power brake"]}, "slowed: power brake"),
        ({"clock_mhz": [1584.0, 1980.0]}, ""),
        ({"clock_mhz": [850.0, 1980.0]}, "fell from 1980 to 850 MHz"),
        ({"clock_mhz": [1502.0, 1502.0], "most_clock_mhz": 3003.0}, ""),
        ({"clock_mhz": [690.0, 850.0], "most_clock_mhz": 3003.0}, "never above 850 of 3003 MHz"),
        ({}, ""),
    ],
)
def test_what_disturbs_a_cell_and_what_does_not(found, words):
    said = state.disturbance(found)
    assert bool(said) == bool(words) and words in said


def test_the_time_of_this_process_is_its_own_and_not_others(tmp_path):
    with state.Watch(str(tmp_path)) as watch:
        begin = os.times().user
        while os.times().user - begin < 0.2:
            pass
    assert watch.state["client_cores"] * watch.seconds > 0.15
    assert watch.state["memory_gib"] > 0


def test_a_workers_time_is_the_servers_though_its_environment_is_gone(tmp_path):
    """An engine names its workers by writing over their environment: they are found below the one that carries it."""
    worker = "import os, time; t = time.process_time() + 0.4\nwhile time.process_time() < t: pass\ntime.sleep(30)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}], env={{}})"
    server = subprocess.Popen([sys.executable, "-c", parent], env={**os.environ, state.TAG: str(tmp_path)})
    try:
        deadline = time.monotonic() + 30
        while state._clocks(str(tmp_path)).server < 0.4 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert state._clocks(str(tmp_path)).server >= 0.4
    finally:
        for process in psutil.Process(server.pid).children(recursive=True):
            process.kill()
        server.wait()


def test_the_gpu_that_is_watched_is_the_one_that_this_process_may_use(monkeypatch):
    import types

    fake = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda number: f"index {number}",
        nvmlDeviceGetHandleByUUID=lambda name: f"uuid {name}",
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    for named, handle in (("", "index 0"), ("2", "index 2"), ("3,1", "index 3"), ("GPU-8f", "uuid GPU-8f")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert state._nvml() == handle
        assert state.machine.only_visible() == ([f"--id={named}"] if named else [])

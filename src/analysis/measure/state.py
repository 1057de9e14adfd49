"""The state of the machine beside one cell: what else ran, memory, clocks, power, energy; and whether it was disturbed.

In: the launch folder of the server (its processes carry it in their environment). Out: a dictionary of numbers for the
cell's record, and a reason where the cell was measured on a disturbed machine. What cannot be read is left out.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import psutil

from analysis.servers import machine
from analysis.servers.guard import TAG
from analysis.servers.machine import HELD_CLOCK, slowed

#: Share of the machine's cores that other programs may use on average during a cell: a quarter of a core of two.
OTHERS_SHARE = 0.125
#: Share of the machine's time that its host may take away.
STEAL = 0.05
#: Share of its fastest clock below which a GPU is slow within one cell.
SLOW_CLOCK = 0.8
SAMPLE_S = 0.5


@dataclass(frozen=True)
class Clocks:
    """CPU time so far, in seconds: of the whole machine, stolen by its host, of the server's processes, of this one."""

    busy: float
    steal: float
    server: float
    client: float
    faults: int


@dataclass
class Gpu:
    """What NVML said during a cell; empty lists where there is no GPU or it does not say."""

    power_w: list[float] = field(default_factory=list)
    clock_mhz: list[float] = field(default_factory=list)
    temperature_c: list[float] = field(default_factory=list)
    reasons: int = 0
    energy_j: float | None = None
    most_mhz: float | None = None


class Watch:
    """``with Watch(folder) as watch: …; watch.state`` — the machine's state between the two ends of the block."""

    def __init__(self, launch_folder: str):
        self._folder = launch_folder
        self.state: dict[str, Any] = {}
        self.seconds = 0.0

    def __enter__(self) -> Watch:
        self._handle = _nvml()
        self._gpu, self._stop = Gpu(), threading.Event()
        self._energy = _energy(self._handle)
        self._sampler = threading.Thread(target=self._sample, daemon=True) if self._handle is not None else None
        self._begin, self._before = time.perf_counter(), _clocks(self._folder)
        if self._sampler:
            self._sampler.start()
        return self

    def __exit__(self, *error: object) -> None:
        after, self.seconds = _clocks(self._folder), time.perf_counter() - self._begin
        self._stop.set()
        if self._sampler:
            self._sampler.join(timeout=2)
            if (energy := _energy(self._handle)) is not None and self._energy is not None:
                self._gpu.energy_j = energy - self._energy
        memory = psutil.virtual_memory().available / 2**30
        self.state = summary(self._before, after, self.seconds, os.cpu_count() or 1, memory, self._gpu)

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            _read_gpu(self._handle, self._gpu)


def summary(before: Clocks, after: Clocks, seconds: float, cores: int, memory_gib: float, gpu: Gpu) -> dict[str, Any]:
    """The numbers of a cell's record.

    Returns
    -------
    dict
        ``others_cores`` and ``client_cores`` [mean cores in use], ``steal`` [share of the machine], ``memory_gib``
        [available at the end], ``server_faults`` [major page faults]; with a GPU ``power_w``, ``clock_mhz`` (lowest and
        highest), ``most_clock_mhz`` [what it can reach], ``temperature_c`` (highest), ``throttled`` (NVML's reasons) and ``energy_j``.
    """
    seconds = max(seconds, 1e-6)
    server, client = after.server - before.server, after.client - before.client
    others = max(after.busy - before.busy - server - client, 0.0)
    found: dict[str, Any] = {
        "others_cores": round(others / seconds, 3),
        "client_cores": round(client / seconds, 3),
        "cores": cores,
        "steal": round((after.steal - before.steal) / seconds / cores, 4),
        "memory_gib": round(memory_gib, 2),
        "server_faults": after.faults - before.faults,
    }
    if gpu.clock_mhz:
        found["clock_mhz"] = [min(gpu.clock_mhz), max(gpu.clock_mhz)]
        if gpu.most_mhz:
            found["most_clock_mhz"] = gpu.most_mhz
    if gpu.power_w:
        found["power_w"] = round(sum(gpu.power_w) / len(gpu.power_w), 1)
    if gpu.temperature_c:
        found["temperature_c"] = max(gpu.temperature_c)
    if gpu.energy_j is not None:
        found["energy_j"] = round(gpu.energy_j, 1)
    if gpu.reasons:
        found["throttled"] = list(slowed(gpu.reasons))
    return found


def disturbance(state: dict[str, Any]) -> str:
    """Why a cell's times are not those of a quiet machine; empty where nothing says so."""
    found = []
    if state.get("others_cores", 0) > OTHERS_SHARE * state.get("cores", 2):
        found.append(f"other programs used {state['others_cores']:.2f} cores")
    if state.get("steal", 0) > STEAL:
        found.append(f"the host took {state['steal']:.0%} of the machine's time")
    if state.get("throttled"):
        found.append(f"the GPU was slowed: {', '.join(state['throttled'])}")
    low, high = state.get("clock_mhz", (1, 1))
    if low < SLOW_CLOCK * high:
        found.append(f"the GPU's clock fell from {high:.0f} to {low:.0f} MHz")
    if high < HELD_CLOCK * state.get("most_clock_mhz", 0):
        most = state["most_clock_mhz"]
        found.append(
            f"the GPU's clock was never above {high:.0f} of {most:.0f} MHz (pull its power cable for a minute)"
        )
    return "; ".join(found)


def _clocks(folder: str) -> Clocks:
    busy, steal = _machine()
    server, faults = 0.0, 0
    for process in _processes(folder):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            server += times.user + times.system
            faults += _major_faults(process.pid)
    mine = os.times()
    return Clocks(busy, steal, server, mine.user + mine.system, faults)


def _processes(folder: str) -> set[psutil.Process]:
    """The server's processes: those that carry the folder, and all below them (an engine's workers write their title
    over their environment).
    """
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(TAG) == folder:
                found |= {process, *process.children(recursive=True)}
    return found


def _machine() -> tuple[float, float]:
    """CPU seconds of everybody, and those that the host took; zeros where the kernel does not tell."""
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq")
    return sum(getattr(times, name, 0.0) for name in names), getattr(times, "steal", 0.0)


def _major_faults(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return int(stream.read().rsplit(b")", 1)[1].split()[9])
    except (OSError, ValueError, IndexError):
        return 0


def _nvml() -> Any:
    """Handle of the first GPU that this process may use; None without one, or without NVML (which knows of all GPUs)."""
    try:
        import pynvml

        pynvml.nvmlInit()
        name = (*machine.visible(), "0")[0]
        return (
            pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(name)
        )
    except Exception:  # no library, no driver, no GPU: each has an error of its own
        return None


def _read_gpu(handle: Any, gpu: Gpu) -> None:
    import pynvml

    with contextlib.suppress(pynvml.NVMLError):
        gpu.power_w.append(pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)
    with contextlib.suppress(pynvml.NVMLError):
        gpu.clock_mhz.append(float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)))
    with contextlib.suppress(pynvml.NVMLError):
        gpu.most_mhz = float(pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM))
    with contextlib.suppress(pynvml.NVMLError):
        gpu.temperature_c.append(float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)))
    with contextlib.suppress(pynvml.NVMLError):
        gpu.reasons |= pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)


def _energy(handle: Any) -> float | None:
    """Joules that the GPU has used since its driver was loaded; None where it does not count."""
    if handle is None:
        return None
    import pynvml

    try:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    except pynvml.NVMLError:
        return None

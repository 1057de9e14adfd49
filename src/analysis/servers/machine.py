"""This machine, asked without starting anything: GPUs, memory, driver limits, container engines."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from analysis.servers import memory
from analysis.study.plan import Arm

GIB = 2**30
SHARED = Path("/dev/shm")
#: Share of the clock a GPU can reach below which it is held low under load: a GB10 may be stuck at 690 to 890 of
#: 3003 MHz until its power cable is pulled, and nothing else says so.
HELD_CLOCK = 0.5
#: A GPU that works for this share of its time is under load.
UNDER_LOAD = 0.5
#: NVML's reasons that mean heat or a power emergency: software and hardware thermal slowdown, hardware slowdown, power brake.
SLOWED = {
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x8: "hardware slowdown",
    0x80: "power brake",
}


@dataclass(frozen=True)
class Gpu:
    """One GPU as nvidia-smi tells; None where it does not (GB10 shares the system's memory and states none).

    ``clock_mhz`` is what it can reach, ``now_mhz`` what it runs at, ``busy`` the share of its time that it works,
    ``slowed`` why it is held back by heat or a power emergency.
    """

    name: str
    total_gib: float | None = None
    free_gib: float | None = None
    driver: str = ""
    clock_mhz: float | None = None
    power_limit_w: float | None = None
    now_mhz: float | None = None
    busy: float | None = None
    slowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Engine:
    """A container engine: found, answering, and able to hand out GPUs (None: not known)."""

    found: bool = False
    answers: bool = False
    gpus: bool | None = None


@dataclass(frozen=True)
class Machine:
    """What a launch needs to know of this machine. ``shared_gib`` is free in /dev/shm; None where there is none.

    ``unused_gib`` is memory that nothing uses, not even the page cache; ``free_gib`` counts the page cache as free.
    """

    gpus: tuple[Gpu, ...] = ()
    total_gib: float = 0.0
    free_gib: float = 0.0
    hami: str | None = None
    shared_gib: float | None = None
    unused_gib: float | None = None

    @property
    def device_gib(self) -> float | None:
        """Memory of the (first) GPU; the system's where it is shared; None without a GPU."""
        return (self.gpus[0].total_gib or self.total_gib) if self.gpus else None

    @property
    def device_free_gib(self) -> float | None:
        """Free memory of the (first) GPU; the system's available memory where it is shared; None without a GPU."""
        return (self.gpus[0].free_gib if self.gpus[0].total_gib else self.free_gib) if self.gpus else None


def look() -> Machine:
    """This machine now. Nothing here raises: what cannot be read is None."""
    memory = psutil.virtual_memory()
    shared = free_gib(SHARED) if SHARED.is_dir() else None
    return Machine(tuple(_gpus()), memory.total / GIB, memory.available / GIB, _hami(), shared, memory.free / GIB)


def memory_floor(arm: Arm) -> float:
    """GiB of available memory below which the arm's server is ended: the study's, else `memory.FLOOR_GIB` on a machine
    whose GPU shares the system's memory, else 0 (no floor).
    """
    if arm.server.memory_floor_gib is not None:
        return arm.server.memory_floor_gib
    return memory.FLOOR_GIB if any(gpu.total_gib is None for gpu in _gpus()) else 0.0


def engine(name: str) -> Engine:
    """A container engine by name; ``gpus`` is True where an NVIDIA runtime or a CDI description is there."""
    if not shutil.which(name):
        return Engine()
    text = _said([name, "info"])
    if text is None:
        return Engine(found=True)
    described = any(any(Path(d).glob("*nvidia*")) for d in ("/etc/cdi", "/var/run/cdi") if os.path.isdir(d))
    return Engine(True, True, "nvidia" in text.lower() or described)


def free_gib(path: Path) -> float | None:
    """Free space where ``path`` is or will be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        return shutil.disk_usage(path).free / GIB
    except OSError:
        return None


def visible() -> list[str]:
    """The GPUs that this process may use, by index or UUID; empty where it is given all of them."""
    return [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]


def only_visible() -> list[str]:
    """Words for nvidia-smi to ask about those GPUs alone. Its indices are CUDA's where all GPUs are alike."""
    return [f"--id={','.join(visible())}"] if visible() else []


def _gpus() -> list[Gpu]:
    fields = "name,memory.total,memory.free,driver_version,clocks.max.sm,power.limit"
    text = _said(["nvidia-smi", *only_visible(), f"--query-gpu={fields}", "--format=csv,noheader,nounits"])
    states = _states()
    gpus: list[Gpu] = []
    for line in (text or "").splitlines():
        words = [w.strip() for w in line.split(",")]
        if len(words) == 6:
            total, free = _number(words[1]), _number(words[2])
            clock, power = _number(words[4]), _number(words[5])
            now = states[len(gpus)] if len(gpus) < len(states) else (None, None, ())
            gpus.append(Gpu(words[0], total and total / 1024, free and free / 1024, words[3], clock, power, *now))
    return gpus


def _states() -> list[tuple[float | None, float | None, tuple[str, ...]]]:
    """(clock, busy, slowed) of each GPU now; [] where nvidia-smi is too old to tell."""
    fields = "clocks.sm,utilization.gpu,clocks_event_reasons.active"
    text = _said(["nvidia-smi", *only_visible(), f"--query-gpu={fields}", "--format=csv,noheader,nounits"])
    states = []
    for line in (text or "").splitlines():
        clock, busy, reasons = ([w.strip() for w in line.split(",")] + ["", "", ""])[:3]
        share = _number(busy)
        states.append((_number(clock), None if share is None else share / 100, slowed(_hexadecimal(reasons))))
    return states


def slowed(reasons: int) -> tuple[str, ...]:
    """NVML's bits of why a clock is low, those of them that mean heat or a power emergency, in words."""
    return tuple(words for bit, words in SLOWED.items() if reasons & bit)


def _hami() -> str | None:
    """HAMi's memory limit as this process has it; None where HAMi is not at work."""
    limit = os.environ.get("CUDA_DEVICE_MEMORY_LIMIT_0")
    if limit is None and os.path.isdir("/usr/local/vgpu"):
        return "unset"
    return limit


def _said(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _hexadecimal(word: str) -> int:
    try:
        return int(word, 16)
    except ValueError:
        return 0


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None

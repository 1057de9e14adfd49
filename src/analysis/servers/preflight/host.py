"""This machine against a plan: GPUs, limits of their memory, disk, walls of the sandbox, shared memory."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analysis import sandbox, shapes
from analysis.places import RECORDS
from analysis.servers import machine
from analysis.servers.preflight.check import Check
from analysis.study.plan import Arm, Plan

SHARED_MIB = 160  # ring buffer between the CPU engine's processes: 10 chunks of 16 MiB


def of_machine(plan: Plan, here: machine.Machine) -> Iterator[Check]:
    needs = needs_gpu(plan)
    for number, gpu in enumerate(here.gpus):
        memory = f"{gpu.total_gib:.1f} GiB" if gpu.total_gib else f"shares the system's {here.total_gib:.0f} GiB"
        yield Check(f"GPU {number}", "ok", f"{gpu.name}, {memory}, driver {gpu.driver}")
        readable = gpu.clock_mhz is not None and gpu.power_limit_w is not None
        clock = (
            f"at most {gpu.clock_mhz:.0f} MHz (the clock under load is kept beside every measurement)"
            if gpu.clock_mhz
            else "clock not readable"
        )
        power = f"{gpu.power_limit_w:.0f} W" if gpu.power_limit_w else "power limit not readable"
        fix = "" if readable else "Note the power mode by hand: it moves every speed."
        yield Check(f"GPU {number} clock and power", "ok" if readable else "warn", f"{clock}, {power}", fix)
        yield from _held(number, gpu)
    if needs and not here.gpus:
        yield Check(
            "GPU",
            "fail",
            f"nvidia-smi shows none, and the study is made for {hardware_name(plan)}",
            "Run it on that machine, or run the study miniature here; plan and --as work anywhere.",
        )
    limits = {a.server.env.get("CUDA_DEVICE_MEMORY_LIMIT_0", here.hami) for a in plan.arms} - {None}
    for limit in sorted(limits) if needs else ():
        broken = limit == "unset" or re.fullmatch(r"0+[a-zA-Z]*", limit) is not None
        shown = "HAMi is at work and no limit is set" if limit == "unset" else f"CUDA_DEVICE_MEMORY_LIMIT_0 = {limit}"
        fix = "Set server.env CUDA_DEVICE_MEMORY_LIMIT_0 to an explicit limit, such as 24000m." if broken else ""
        verdict = "ok" if not broken else "warn" if limit == "unset" else "fail"
        yield Check("HAMi memory limit", verdict, shown + (", which it reads as no memory" if broken else ""), fix)


def _held(number: int, gpu: machine.Gpu) -> Iterator[Check]:
    """A GPU that is held back now. At rest every clock is low, so the clock alone counts only under load."""
    name = f"GPU {number} held back"
    if gpu.slowed:
        yield Check(
            name, "warn", ", ".join(gpu.slowed), "Look at its cooling and its power supply, and wait until it is cool."
        )
    low = gpu.now_mhz is not None and gpu.clock_mhz and gpu.now_mhz < machine.HELD_CLOCK * gpu.clock_mhz
    if low and gpu.busy is not None and gpu.busy >= machine.UNDER_LOAD:
        evidence = f"{gpu.now_mhz:.0f} of {gpu.clock_mhz:.0f} MHz while it works {gpu.busy:.0%} of the time"
        fix = "End what uses it; if the clock stays low under load, shut down and pull its power cable for a minute (GB10)."
        yield Check(name, "fail", evidence, fix)


def disk_for_records() -> Iterator[Check]:
    free = machine.free_gib(RECORDS["runs"]) or 0.0
    fix = "" if free > 2 else "Free at least 2 GiB."
    yield Check("disk for records", "ok" if free > 2 else "fail", f"{free:.0f} GiB free", fix)


def of_sandbox(plan: Plan) -> Iterator[Check]:
    found = sandbox.available()
    if found.ok:
        yield Check("sandbox", "ok", found.reason)
        return
    kept = ": generated programs are kept and not run" if plan.study.code_programs else ""
    yield Check("sandbox", "warn", f"no wall holds here{kept} ({found.reason})", found.fix)


def shared_memory(arm: Arm, here: machine.Machine) -> Iterator[Check]:
    """Docker's default of 64 MB is too small for the CPU engine, which then stops after most of a minute."""
    if arm.server.backend != "process" or here.gpus or here.shared_gib is None:
        return
    free = here.shared_gib * 1024
    fits = free >= SHARED_MIB
    fix = "In a container: start it with --shm-size 1g (or --ipc=host). Elsewhere: sudo mount -o remount,size=1G /dev/shm."
    evidence = f"{free:,.0f} MiB free in /dev/shm, the engine needs {SHARED_MIB}"
    yield Check("shared memory", "ok" if fits else "fail", evidence, "" if fits else fix)


def needs_gpu(plan: Plan) -> bool:
    known = shapes.machines().get(plan.study.hardware or "")
    return bool(known and known.gpus) and any(a.server.backend != "external" for a in plan.arms)


def hardware_name(plan: Plan) -> str:
    known = shapes.machines().get(plan.study.hardware or "")
    return known.name if known else "another machine"

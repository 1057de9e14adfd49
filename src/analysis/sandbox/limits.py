"""What one generated program may use."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Wall and CPU time [s], memory per process and of all together, processes, one file, all files [MiB], their number."""

    seconds: float = 20.0
    cpu_s: int = 20
    memory_mb: int = 2_048
    processes: int = 32
    file_mb: int = 32
    disk_mb: int = 128
    files: int = 10_000
    output_mb: int = 16

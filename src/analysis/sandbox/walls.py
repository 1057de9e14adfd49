"""The walls: bubblewrap's command line for one confined Python. Nothing is started here but ``bwrap --help``.

Inside, the interpreter is at /python, its packages at /packages, what the run brings along at /inside: names that say
nothing about this machine.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
TMP_BYTES = 128 * MIB
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Door:
    """A way in that works here: the binary, and whether root becomes nobody first."""

    binary: str
    as_nobody: bool


def command(door: Door, handed: Mapping[str, int], variables: Mapping[str, str], program: Iterable[str]) -> list[str]:
    """The whole command. `handed`: path inside -> descriptor whose content stands there, read-only."""
    environment = ["--clearenv"]
    for name, value in {**_environment(), **variables}.items():
        environment += ["--setenv", name, value]
    return [*_way_in(door), *_walls(door, handed), *environment, "--", _interpreter(), *program]


def _way_in(door: Door) -> list[str]:
    """The command up to the inner bubblewrap's options."""
    if not door.as_nobody:
        return [door.binary]
    way = [door.binary, "--die-with-parent", "--dev-bind", "/", "/", "--tmpfs", "/mnt"]
    for outer, inner in _folders().items():
        way += ["--ro-bind", outer, f"/mnt{inner}"]
    ids = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    return [*way, "--", shutil.which("setpriv") or "/usr/bin/setpriv", *ids, _as_seen(door.binary, door)]


def _as_seen(path: str, door: Door) -> str:
    """A path of this machine, as the inner bubblewrap finds it."""
    for outer, inner in _folders().items():
        if door.as_nobody and Path(path).is_relative_to(outer):
            return f"/mnt{inner}/{Path(path).relative_to(outer)}".removesuffix("/.")
    return path


def _walls(door: Door, handed: dict[str, int]) -> list[str]:
    """All namespaces, the mounts, and nothing writable but /tmp and /dev/shm."""
    walls = ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--hostname", "sandbox"]
    walls += ["--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"]
    if _can(door.binary, "--disable-userns"):
        walls += ["--disable-userns"]
    walls += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            walls += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            walls += ["--ro-bind", str(path), str(path)]
    walls += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--proc", "/proc", "--dev", "/dev"]
    # The machine's own fonts are hidden: charts look alike everywhere and need no search.
    if Path("/usr/share/fonts").is_dir():
        walls += ["--tmpfs", "/usr/share/fonts", "--remount-ro", "/usr/share/fonts"]
    for outer, inner in _folders().items():
        walls += ["--ro-bind", _as_seen(outer, door), inner]
    walls += ["--size", str(TMP_BYTES), "--tmpfs", "/tmp", "--dir", "/tmp/work", "--dir", "/tmp/home"]
    walls += ["--size", str(TMP_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    for path, descriptor in handed.items():
        walls += ["--ro-bind-data", str(descriptor), path]
    return [*walls, "--remount-ro", "/", "--chdir", "/tmp/work"]


def _environment() -> dict[str, str]:
    variables = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp/home",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONPATH": ":".join(["/inside", *(inner for inner in _folders().values() if inner != "/python")]),
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": "/tmp/matplotlib",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    if "/python" in _folders().values():
        variables |= {"PYTHONHOME": "/python", "LD_LIBRARY_PATH": "/python/lib"}
    return variables


def _interpreter() -> str:
    """The venv's interpreter as it is called inside."""
    name = f"bin/python{sys.version_info.major}.{sys.version_info.minor}"
    base = "/python" if "/python" in _folders().values() else sys.base_prefix
    return f"{base}/{name}"


@functools.cache
def _folders() -> dict[str, str]:
    """Folders of this machine -> where the sandbox shows them, under names that say nothing about this machine."""
    folders = {}
    if not Path(sys.base_prefix).resolve().is_relative_to("/usr"):
        folders[str(Path(sys.base_prefix).resolve())] = "/python"
    for kind in ("purelib", "platlib"):
        path = Path(sysconfig.get_path(kind)).resolve()
        if path.is_dir() and str(path) not in folders:
            folders[str(path)] = "/packages" if "/packages" not in folders.values() else "/packages-more"
    return folders


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


@functools.cache
def _can(binary: str, option: str) -> bool:
    return option in output(binary, "--help")

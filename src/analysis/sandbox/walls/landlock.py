"""Walls without namespaces: Landlock and system-call filters, by the package sandlock. Linux 6.7 or later.

The program sees real paths of this machine, read-only, and only those of the interpreter; its output names them by what
they are called behind the other walls. Run as a script, this file is the supervisor of one program: ``landlock.py SPEC``.
"""

from __future__ import annotations

import json
import os
import sys

OLDEST_ABI = 4  # network rules; below 6 signals and abstract sockets are held by the filter alone


def find():
    """sandlock, where its wheel is installed and the kernel has Landlock."""
    from importlib import metadata

    from analysis.sandbox.walls import Wall

    try:
        import sandlock

        if sandlock.landlock_abi_version() < OLDEST_ABI:
            return
        version = metadata.version("sandlock")
    except Exception:  # not installed, or no library for this platform
        return
    yield Wall("landlock", f"sandlock {version}", _confine, own_folder=True)


def _confine(limits, folder: str):
    from analysis.sandbox.filter import REFUSED
    from analysis.sandbox.walls import Confined, view

    read = [*view.folders(), "/usr", *(f"/{name}" for name in view.SYSTEM if os.path.isdir(f"/{name}"))]
    read += [path for path in ("/etc/ld.so.cache", "/dev/urandom", "/dev/random", "/dev/zero") if os.path.exists(path)]
    env = view.environment({}, folder)
    spec = {
        "fs_readable": read,
        "fs_writable": [folder, "/dev/null"],
        "fs_denied": [path for path in (view.FONTS, "/proc") if os.path.isdir(path)],
        "max_processes": limits.processes,
        "max_open_files": 256,
        "extra_deny_syscalls": sorted(set(REFUSED) - {"symlink", "symlinkat"}),  # those it watches itself
        "clean_env": True,
        "env": {name: env[name] for name in ("PATH", "LANG", "PYTHONHOME", "LD_LIBRARY_PATH") if name in env},
        "cwd": folder,
        "workdir": folder,
        "fs_storage": f"{folder}.copy",
        "max_disk": limits.disk_mb * 2**20,
        "name": os.path.basename(folder),  # one at a time may have it
    }
    shown = {folder: "/tmp", **view.folders()}
    command = [sys.executable, "-B", os.path.abspath(__file__), json.dumps(spec), view.interpreter({})]
    return Confined(command, folder, env, shown, own_user=False)


def supervise(argv: list[str]) -> int:
    """Start the command confined, with this process's standard input and output; its exit status."""
    import ctypes

    import sandlock

    spec, command = json.loads(argv[0]), argv[1:]
    os.makedirs(spec["fs_storage"], exist_ok=True)
    _drop_capabilities(ctypes.CDLL(None, use_errno=True))
    older = [value for value in sandlock.Protection if sandlock.landlock_abi_version() < 6 and value.value >= 4]
    box = sandlock.Sandbox(**spec, allow_degraded=older, on_exit="abort", on_error="abort")
    process = box.popen(command)
    process.wait()
    return 0


def _drop_capabilities(libc) -> None:
    """Root keeps its name and loses its powers, also those that a new program would get back."""
    import ctypes

    for number in range(64):
        libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capset(header, data)


if __name__ == "__main__":
    raise SystemExit(supervise(sys.argv[1:]))

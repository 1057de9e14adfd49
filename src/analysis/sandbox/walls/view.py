"""What any wall shows of this machine: the interpreter, its packages and /usr, under names that say nothing about it."""

from __future__ import annotations

import functools
import sys
import sysconfig
from pathlib import Path

FONTS = "/usr/share/fonts"
SYSTEM = ("bin", "lib", "lib64", "sbin")


@functools.cache
def folders() -> dict[str, str]:
    """Folders of this machine -> what they are called inside: /python (unless below /usr) and /packages."""
    found = {}
    if not Path(sys.base_prefix).resolve().is_relative_to("/usr"):
        found[str(Path(sys.base_prefix).resolve())] = "/python"
    for kind in ("purelib", "platlib"):
        path = Path(sysconfig.get_path(kind)).resolve()
        if path.is_dir() and str(path) not in found:
            found[str(path)] = "/packages" if "/packages" not in found.values() else "/packages-more"
    return found


def interpreter(names: dict[str, str]) -> str:
    """The venv's interpreter, where `names` translates folders of this machine."""
    base = Path(sys.base_prefix).resolve()
    name = f"bin/python{sys.version_info.major}.{sys.version_info.minor}"
    return f"{names.get(str(base), str(base))}/{name}"


def environment(names: dict[str, str], folder: str) -> dict[str, str]:
    """Variables of the program. `folder`: where it works."""
    inside = {names.get(outer, outer): name for outer, name in folders().items()}
    variables = {
        "PATH": "/usr/bin:/bin",
        "HOME": f"{folder}/home",
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONPATH": ":".join([f"{folder}/inside", *(path for path, name in inside.items() if name != "/python")]),
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": f"{folder}/matplotlib",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "SANDBOX_RESULT": f"{folder}/result",
    }
    home = next((path for path, name in inside.items() if name == "/python"), "")
    if home:
        variables |= {"PYTHONHOME": home, "LD_LIBRARY_PATH": f"{home}/lib"}
    return variables

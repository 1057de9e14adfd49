"""What the study needs of a machine before anything is downloaded. `look` finds out, `message` says what is missing.

No type hints and no newer syntax: an older Python must be able to read this file, to say that it is too old.
"""

import collections
import ctypes
import importlib.util
import os
import shutil
import sys
import tempfile

OLDEST, NEWEST = (3, 11), (3, 13)
# lock -> (GiB to have free before the first install, oldest glibc that all its wheels run on)
NEEDS = {
    "cpu-x86_64": (6, (2, 31)),
    "cpu-aarch64": (6, (2, 31)),
    "cuda-x86_64": (20, (2, 31)),
    "cuda-aarch64": (20, (2, 34)),
}
# thing -> package of apt, dnf and conda; the environment of environment.yml has the last column
PACKAGES = {
    "python": ("python3.11 python3.11-venv", "python3.12", "python=3.12"),
    "venv": ("python{version}-venv", "python3", "pip"),
    "libnuma.so.1": ("libnuma1", "numactl-libs", "libnuma"),
    "git": ("git", "git", "git"),
    "make": ("make", "make", "make"),
}
SYSTEMS = ("apt", "dnf", "conda")

#: What was found. ``python``: (major, minor); ``venv``, ``git``, ``make``, ``conda``: there or not; ``libnuma``,
#: ``avx2``: True, False or None where it does not matter; ``glibc``: (major, minor) or None for another C library;
#: ``free_gib``: None where the packages are installed already; ``unwritable``: folders that cannot be written;
#: ``system``: apt, dnf or "" by the tool that is here; ``root``: runs as root.
Found = collections.namedtuple("Found", "python venv libnuma git make avx2 glibc free_gib unwritable system root conda")


def look(lock, venv, installed, folders):
    """A `Found` for this machine: nothing is downloaded, and nothing stays behind.

    `venv` is the environment to be filled, `installed` whether it has packages already, `folders` the folders that
    must be writable (the first existing one above each is tried).
    """
    conda = os.path.exists(os.path.join(venv, "conda-meta"))
    return Found(
        python=sys.version_info[:2],
        venv=conda or all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
        libnuma=_loads("libnuma.so.1", venv) if lock.startswith("cpu") else None,
        git=bool(shutil.which("git")),
        make=bool(shutil.which("make")),
        avx2=cpu_has("avx2") if lock == "cpu-x86_64" else None,
        glibc=_glibc(),
        free_gib=None if installed else shutil.disk_usage(_existing(venv)).free / 2.0**30,
        unwritable=[folder for folder in folders if not _writable(_existing(folder))],
        system="apt" if shutil.which("apt-get") else "dnf" if shutil.which("dnf") else "",
        root=hasattr(os, "geteuid") and os.geteuid() == 0,
        conda=conda,
    )


def message(found, lock):
    """Everything that `found` lacks for `lock`, and how to get it; empty where nothing is missing."""
    gib, glibc = NEEDS[lock]
    missing, packages = [], []  # (what, why), names in PACKAGES
    if not OLDEST <= found.python <= NEWEST:
        missing.append(
            ("Python 3.11, 3.12 or 3.13", "this is Python %d.%d, and no other is on the PATH" % found.python)
        )
        packages.append("python")
    elif not found.venv:
        missing.append(("Python's venv module", "it makes the environment"))
        packages.append("venv")
    if found.libnuma is False:
        missing.append(("libnuma.so.1", "vLLM's compiled library for CPUs cannot be loaded without it"))
        packages.append("libnuma.so.1")
    if not found.git:
        missing.append(("git", "every record says which state of the sources made it"))
        packages.append("git")
    if not found.make:
        missing.append(("make", "it starts every command of the README"))
        packages.append("make")
    fixes = _install(packages, found, lock)
    if found.avx2 is False:
        missing.append(("AVX2", "this CPU has none, and vLLM's CPU build cannot start without it"))
        fixes.append("for AVX2: another machine (the published pages in reports/ open in any browser)")
    if found.glibc is None or found.glibc < glibc:
        here = "%d.%d" % found.glibc if found.glibc else "another C library"
        missing.append(("glibc %d.%d or newer" % glibc, "the packages of %s need it; here is %s" % (lock, here)))
        fixes.append("for glibc: a newer system (Debian 12, Ubuntu 22.04 or later), or a container of one")
    if found.free_gib is not None and found.free_gib < gib:
        missing.append(("%d GiB of free disk" % gib, "%.1f GiB are free" % found.free_gib))
        fixes.append("for the disk: free some space, or put the repository on a larger disk")
    for folder in found.unwritable:
        missing.append(("a folder that can be written", "%s cannot" % folder))
    if found.unwritable:
        fixes.append("for the folder: make study STUDY_HOME=/a/folder/of/yours (measurements and reports go there too)")
    if not missing:
        return ""
    lines = [
        "%d need%s of the study %s missing here." % (len(missing), *(("", "is") if len(missing) == 1 else ("s", "are")))
    ]
    lines += ["  %s: %s" % pair for pair in missing]
    lines += ["Fix: " + fixes[0]] + ["     " + fix for fix in fixes[1:]]
    return "\n".join([*lines, "Then run the same command again."])


def cpu_has(flag):
    """True, False, or None where the CPU's flags cannot be read."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return flag in info.read()
    except OSError:
        return None


def _install(packages, found, lock):
    """Commands to paste, the one for this system first: apt, dnf, and conda where there is no root."""
    if not packages:
        return []
    names = {
        system: " ".join(PACKAGES[name][column].format(version="%d.%d" % found.python) for name in packages)
        for column, system in enumerate(SYSTEMS)
    }
    sudo = "" if found.root else "sudo "
    if found.conda:
        return ["conda install -c conda-forge " + names["conda"]]
    # environment.yml pins the CPU build; on a GPU conda brings Python only
    environment = "env create -f environment.yml"
    if lock.startswith("cuda"):
        environment = "create -y -n gemma4-mtp -c conda-forge python=3.12 pip make git"
    commands = {
        "apt": ("Debian, Ubuntu", "%sapt-get install -y %s" % (sudo, names["apt"])),
        "dnf": ("Fedora, RHEL", "%sdnf install -y %s" % (sudo, names["dnf"])),
        "conda": (
            "conda, no root needed",
            'conda %s && conda activate gemma4-mtp && make study VENV="$CONDA_PREFIX"' % environment,
        ),
    }
    order = sorted(commands, key=lambda system: system != found.system)
    return ["%s    # %s" % (commands[system][1], commands[system][0]) for system in order]


def _loads(library, venv):
    """The loader finds `library`, or the conda environment has it."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return os.path.exists(os.path.join(venv, "lib", library)) and os.path.exists(os.path.join(venv, "conda-meta"))
    return True


def _glibc():
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    return tuple(int(part) for part in version.split(".")[:2]) if name == "glibc" else None


def _existing(path):
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _writable(folder):
    """Tried, not asked: a read-only file system and access lists answer only to a try."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False

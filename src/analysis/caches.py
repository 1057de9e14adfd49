"""Caches of the packages that the study uses, moved below data/cache where the home folder cannot hold them.

Services, some clusters and containers with a bare user id have no home folder, or one that cannot be written: Snakemake,
matplotlib, vLLM, Jupyter and others then stop at start, some without a word.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from analysis.errors import StudyError
from analysis.places import CACHE, HOME

#: variable -> (where the package looks without it, folder below data/cache)
CACHES = {
    "XDG_CACHE_HOME": (".cache", "xdg"),
    "MPLCONFIGDIR": (".config/matplotlib", "matplotlib"),
    "VLLM_CACHE_ROOT": (".cache/vllm", "vllm"),
    "VLLM_CONFIG_ROOT": (".config/vllm", "vllm-config"),
    "HF_HOME": (".cache/huggingface", "huggingface"),
    "TRITON_CACHE_DIR": (".triton/cache", "triton"),
    "TORCHINDUCTOR_CACHE_DIR": (".cache/torchinductor", "torchinductor"),
    "FLASHINFER_WORKSPACE_BASE": (".", "flashinfer"),
    "IPYTHONDIR": (".ipython", "ipython"),
    "JUPYTER_CONFIG_DIR": (".jupyter", "jupyter/config"),
    "JUPYTER_DATA_DIR": (".local/share/jupyter", "jupyter/data"),
    "JUPYTER_RUNTIME_DIR": (".local/share/jupyter/runtime", "jupyter/runtime"),
}


def moved(environ: Mapping[str, str], home: Path | None, below: Path) -> dict[str, str]:
    """Variables to set so that every cache can be written; empty where the home folder holds them.

    Parameters
    ----------
    environ : mapping
        Environment as it is; a variable that names a folder that can be written stays.
    home : Path or None
        The user's home folder; None where there is none.
    below : Path
        Folder for the caches. A Hugging Face cache that has models stays where it is: it is read, not written.
    """
    wanted: dict[str, str] = {}
    for name, (usual, instead) in CACHES.items():
        place = Path(environ[name]) if environ.get(name) else home and home / usual
        if place and (_writable(place) or (name == "HF_HOME" and os.path.isdir(place / "hub"))):
            continue
        wanted[name] = str(below / instead)
    if home is None:
        wanted["HOME"] = str(below / "home")
    return wanted


def settle() -> str:
    """Apply `moved` to this process and its children. Returns one sentence of what was done, or an empty string.

    Raises
    ------
    StudyError
        Neither the home folder nor data/cache can be written.
    """
    if os.environ.get("STUDY_HOME"):  # a child may run in another folder
        os.environ["STUDY_HOME"] = str(HOME)
    wanted = moved(os.environ, _home(), CACHE)
    try:
        for folder in wanted.values():
            Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            "There is no folder for caches.",
            why=f"The home folder cannot be written, and neither can data/cache ({error.strerror}).",
            fix="Set STUDY_HOME to a folder that can be written: make study STUDY_HOME=/a/folder/of/yours",
        ) from None
    os.environ.update(wanted)
    _name_the_user(os.environ)
    return "The home folder cannot be written: caches go to data/cache." if wanted else ""


def _home() -> Path | None:
    """The home folder; None where it is not set, not there, or not a folder."""
    home = os.path.expanduser("~")
    return Path(home) if os.path.isabs(home) and os.path.isdir(home) else None


def _name_the_user(environ: MutableMapping[str, str]) -> None:
    """A user id without a name stops PyTorch's compiler and getpass: give it one."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        environ.setdefault("LOGNAME", "user")


def _writable(path: Path) -> bool:
    """The folder, or the first one above it that is there, can be written."""
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)

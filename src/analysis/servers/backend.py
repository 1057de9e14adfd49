"""The one door to the backends: an arm's server, whichever way the study starts it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from analysis.places import HOME, ROOT
from analysis.servers import docker, external, process
from analysis.servers.process import Running
from analysis.study import environment
from analysis.study.plan import Arm

SERVE = {"process": process.serve, "docker": docker.serve, "external": external.serve}


def serve(arm: Arm, log: Path, launch_id: str, progress: Callable[[str], None]) -> AbstractContextManager[Running]:
    """Start (or attach to) the arm's server; see the backend's `serve` for what it raises."""
    return SERVE[arm.server.backend](arm, log, launch_id, progress)


def sweep(folders: set[str], arms: Iterable[Arm] = ()) -> list[int | str]:
    """End servers that earlier, killed runs left behind, told by their launch folders: process ids, container names."""
    engines = {arm.server.engine for arm in arms if arm.server.backend == "docker"}
    return [*process.sweep(folders), *docker.sweep(folders, sorted(engines))]


def shown(command: list[str]) -> str:
    """A command as it is kept in records: without this machine's folders and without secrets."""
    words = environment.shown_words(command)
    for folder in sorted({HOME, ROOT}, key=lambda path: -len(str(path))):
        words = [word.replace(f"{folder}/", "") for word in words]  # before quoting: a folder may have blanks
    return re.sub(r"\S*/bin/python[\d.]*", "python", shlex.join(words), count=1)

"""The one door to the backends: an arm's server, whichever way the study starts it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from analysis.errors import ServerError
from analysis.places import ROOT
from analysis.plan import Arm
from analysis.servers import process
from analysis.servers.process import Running


def serve(arm: Arm, log: Path, launch_id: str, progress: Callable[[str], None]) -> AbstractContextManager[Running]:
    """Start (or attach to) the arm's server; see the backend's `serve` for what it raises."""
    if arm.server.backend == "process":
        return process.serve(arm, log, launch_id, progress)
    raise ServerError(f"The backend {arm.server.backend} cannot start servers yet.", mend="Start the printed command by hand, or use backend process.")


def sweep(launch_ids: set[str]) -> list[int]:
    """End servers that an earlier, killed run of this study left behind; their process ids."""
    return process.sweep(launch_ids)


def shown(command: list[str]) -> str:
    """A command as it is kept in records: without this machine's folders."""
    text = shlex.join(command)
    return re.sub(r"\S*/bin/python[\d.]*", "python", text.replace(f"{ROOT}/", ""), count=1)

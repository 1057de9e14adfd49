"""An arm -> a copy-pasteable launch: a shell line for a process or a container, a Kubernetes manifest, a systemd unit."""

from __future__ import annotations

from analysis.plan import Arm
from analysis.servers import launch as commands


def launch(arm: Arm, form: str) -> str:
    """Text of the launch of ``arm`` as ``process`` or ``docker``."""
    if form == "docker":
        return commands.shell(commands.docker_command(arm))
    return commands.shell(["python", *commands.process_command(arm, arm.server.port or 8000)[1:]], arm.server.env)

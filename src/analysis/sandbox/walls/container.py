"""Walls of a container, by docker or podman, in any image that is already there; nothing is pulled.

The image is only a place to stand: /usr, the interpreter and its packages of this machine are mounted over it, read-only.
"""

from __future__ import annotations

import functools
import os
import resource
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from analysis.sandbox.limits import Limits
from analysis.sandbox.walls import Confined, Wall, view

MOST_PROCESSES = 4_096
CLIENT = ("PATH", "HOME", "XDG_RUNTIME_DIR", "DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINERS_CONF")
"""Variables by which the engine's client finds its engine."""


def find() -> Iterator[Wall]:
    """docker, then podman, each where it answers and has an image."""
    for engine in ("docker", "podman"):
        binary = shutil.which(engine)
        images = _output(binary, "images", "--quiet", "--no-trunc").split() if binary else []
        version = _output(binary, "--version").replace(",", "").split() if images else []
        if version:
            number = next((word for word in version if word[0].isdigit()), "")
            yield Wall(engine, number, functools.partial(_confine, binary, images[0]))


def _confine(binary: str, image: str, limits: Limits, _: str) -> Confined:
    names, called = view.folders(), f"sandbox-{uuid.uuid4().hex[:12]}"
    command = [binary, "run", "--rm", "--interactive", "--name", called, "--pull", "never", "--network", "none"]
    command += ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--hostname", "sandbox"]
    command += ["--pids-limit", str(limits.processes), "--ulimit", "nofile=256:256", "--ulimit", "core=0:0"]
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]  # an engine's own default may be above what it may set
    most = MOST_PROCESSES if most == resource.RLIM_INFINITY else min(most, MOST_PROCESSES)
    command += ["--ulimit", f"nproc={most}:{most}"]
    command += ["--memory", f"{limits.memory_mb}m", "--memory-swap", f"{limits.memory_mb}m", "--user", "65534:65534"]
    # runc gives the folder the mode that the image's own has; podman can give it to the program's user
    podman = Path(binary).name == "podman"
    owned = ",U" if podman else ""
    command += ["--read-only-tmpfs=false"] * podman  # else /run and /var/tmp are folders without a limit
    command += ["--tmpfs", f"/tmp:rw,size={limits.disk_mb}m,mode=1777{owned}", "--workdir", "/tmp"]
    command += ["--shm-size", f"{limits.disk_mb // 4}m"]
    for path in ("/usr", *(f"/{name}" for name in view.SYSTEM), "/etc/ld.so.cache"):
        if Path(path).exists():
            command += ["--volume", f"{os.path.realpath(path)}:{path}:ro"]
    for outer, inside in names.items():
        command += ["--volume", f"{outer}:{inside}:ro"]
    env = view.environment(names, "/tmp")
    for variable in ("PATH", "LANG", "PYTHONHOME", "LD_LIBRARY_PATH"):
        if variable in env:
            command += ["--env", f"{variable}={env[variable]}"]
    command += ["--entrypoint", view.interpreter(names), image]
    gone = [binary, "rm", "--force", *(["--time", "0"] if Path(binary).name == "podman" else [])]
    outside = {name: os.environ[name] for name in CLIENT if name in os.environ}
    return Confined(command, "/tmp", env, cleanup=[*gone, called], outside=outside, own_user=False)


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""

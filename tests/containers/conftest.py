"""A real container engine and an image made from a folder: no registry is asked for anything."""

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from analysis.places import ROOT

IMAGE = "localhost/analysis-test:1"
#: For a podman that runs as root in a container of its own: runc, no systemd, limits that may be set there.
MODEST = """
[containers]
default_ulimits=["nofile=1024:1024","nproc=4096:4096"]
pids_limit=0
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
"""
#: The image's program: shows the mounted note, then becomes vLLM's server with the arguments it was given.
SERVE = f"""#!/bin/sh
echo "mounted file says: $(cat /note.txt)"
exec {sys.executable} -m vllm.entrypoints.openai.api_server --host 0.0.0.0 --port 8000 --model "$@"
"""


@dataclass(frozen=True)
class Engine:
    """A container engine that runs here, and what its containers need mounted to run this Python."""

    name: str
    mounts: tuple[str, ...]

    def __call__(self, *words):
        return subprocess.run([self.name, *words], capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    made, mounts = _root(folder)
    reasons = []
    before = dict(os.environ)
    for name, env in (("podman", {}), ("podman", _modest(folder)), ("docker", {})):
        os.environ.clear()
        os.environ.update({**before, **env})
        if not shutil.which(name):
            reasons.append(f"{name}: not installed")
            continue
        if problem := _usable(name, made, mounts):
            reasons.append(f"{name}: {problem}")
            continue
        yield Engine(name, mounts)
        subprocess.run([name, "rmi", "-f", IMAGE], capture_output=True, check=False)
        break
    else:
        os.environ.clear()
        os.environ.update(before)
        pytest.skip("no container engine can run here: " + "; ".join(reasons))
    os.environ.clear()
    os.environ.update(before)


def _root(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """A tar of an almost empty root, and the read-only mounts that give it the system's and our own Python."""
    root, mounts = folder / "root", ["/usr:/usr:ro"]
    for name in ("usr", "proc", "sys", "dev", "tmp", "etc", "run", "root"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        there = Path("/") / name
        if there.is_symlink():
            (root / name).symlink_to(os.readlink(there))
        elif there.is_dir():
            (root / name).mkdir()
            mounts.append(f"{there}:{there}:ro")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "serve").write_text(SERVE)
    (root / "serve").chmod(0o755)
    for path in dict.fromkeys([sys.prefix, sys.base_prefix, str(ROOT / "src")]):
        if not path.startswith("/usr/"):
            mounts.append(f"{path}:{path}:ro")
    with tarfile.open(folder / "root.tar", "w") as tar:
        tar.add(root, arcname=".")
    return folder / "root.tar", tuple(mounts)


def _modest(folder: Path) -> dict[str, str]:
    (folder / "containers.conf").write_text(MODEST)
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver="vfs"\ngraphroot="{folder}/store"\nrunroot="{folder}/run"\n'
    )
    return {"CONTAINERS_CONF": str(folder / "containers.conf"), "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf")}


def _usable(name: str, tar: Path, mounts: tuple[str, ...]) -> str:
    """Why the engine cannot run our image, in one line; empty where it can."""
    change = ["--change", 'ENTRYPOINT ["/serve"]']
    volumes = [word for mount in mounts for word in ("-v", mount)]
    for command in (
        [name, "import", *change, str(tar), IMAGE],
        [name, "run", "--rm", *volumes, "--entrypoint", "/bin/sh", IMAGE, "-c", "true"],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except subprocess.TimeoutExpired:
            return f"{command[1]} did not end"
        if done.returncode:
            return f"{command[1]}: {(done.stderr.strip().splitlines() or ['failed'])[-1][:200]}"
    return ""

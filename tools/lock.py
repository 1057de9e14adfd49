"""Write requirements/*.txt from the dependencies in pyproject.toml. Run by `make lock`.

In: pyproject.toml (project.dependencies, the extras, tool.locks). Out: one lock per platform, every version exact, its
header telling how it was made and the hash of what it was made from, which a test compares. Needs uv on the PATH (or
its path in UV). Versions already locked stay as long as they fit; `--upgrade` takes the newest of everything.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
HEADER = """\
# {name}: every package of this platform, exactly. Written by `make lock` from pyproject.toml: edit that, not this.
# Install with `pip install --no-deps -r` (`make setup` does): the list is complete, and pip's own resolving would add
# what tool.locks leaves out.
# Made by: {command}
# Inputs: sha256:{inputs}
"""


def load_pyproject(root: Path = ROOT) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def inputs_hash(pyproject: dict) -> str:
    """sha256 over the parts of pyproject.toml that decide what is locked, in one canonical spelling."""
    project = pyproject["project"]
    parts = {
        "requires-python": project["requires-python"],
        "dependencies": project["dependencies"],
        "optional-dependencies": project["optional-dependencies"],
        "locks": pyproject["tool"]["locks"],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def resolver_project(pyproject: dict, lock: dict) -> str:
    """A pyproject.toml for uv that holds this lock's platform and exclusions (JSON strings and arrays are TOML)."""
    project = pyproject["project"]
    upper = project["requires-python"].rpartition("<")[2]
    platform = f"sys_platform == 'linux' and platform_machine == '{lock['machine']}' and python_version < '{upper}'"
    # A local build such as torch==2.13.0+cpu is on no registry: its plain release stands for it while uv resolves.
    stand_ins = [pin.partition("+")[0] for pin in local_builds(pyproject, lock)]
    overrides = stand_ins + [f"{package}; sys_platform == 'never'" for package in lock["without"]]
    lines = [
        "[project]",
        f"name = {json.dumps(project['name'])}",
        f"version = {json.dumps(project['version'])}",
        f"requires-python = {json.dumps(project['requires-python'])}",
        f"dependencies = {json.dumps(project['dependencies'])}",
        "[project.optional-dependencies]",
        *(f"{extra} = {json.dumps(names)}" for extra, names in project["optional-dependencies"].items()),
        "[tool.uv]",
        f"environments = {json.dumps([platform])}",
        f"override-dependencies = {json.dumps(overrides)}",
    ]
    return "\n".join(lines) + "\n"


def local_builds(pyproject: dict, lock: dict) -> list[str]:
    """The pins with a local version (`torch==2.13.0+cpu`) among the extras of a lock."""
    extras = pyproject["project"]["optional-dependencies"]
    return [pin for extra in lock["extras"] for pin in extras[extra] if "+" in pin]


def uv_command(pyproject: dict, lock: dict) -> list[str]:
    lowest = pyproject["project"]["requires-python"].partition(">=")[2].partition(",")[0]
    command = ["uv", "pip", "compile", "pyproject.toml", "--universal", "--python-version", lowest]
    for extra in lock["extras"]:
        command += ["--extra", extra]
    return command


def without_platform(line: str, machine: str) -> str:
    """The line without the marker that every line of a one-platform lock would carry; markers on Python stay."""
    pin, found, marker = line.partition(" ; ")
    if not found or " or " in marker:
        return line
    given = {"python_full_version < '3.14'", "sys_platform == 'linux'", f"platform_machine == '{machine}'"}
    rest = [part for part in marker.split(" and ") if part not in given]
    return f"{pin} ; {' and '.join(rest)}" if rest else pin


def write_lock(name: str, pyproject: dict, uv: str, upgrade: bool) -> Path:
    lock = pyproject["tool"]["locks"][name]
    target = REQUIREMENTS / f"{name}.txt"
    command = uv_command(pyproject, lock)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / "pyproject.toml").write_text(resolver_project(pyproject, lock), encoding="utf-8")
        if target.exists() and not upgrade:
            (folder / "lock.txt").write_text(re.sub(r"\+\w+", "", target.read_text(encoding="utf-8")), encoding="utf-8")
        quiet = ["--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet", "--output-file", "lock.txt"]
        done = subprocess.run([uv, *command[1:], *quiet], cwd=folder, text=True, stderr=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(f"uv could not resolve {name}:\n{done.stderr}")
        body = (folder / "lock.txt").read_text(encoding="utf-8")
    for pin in local_builds(pyproject, lock):
        body = re.sub(rf"^{re.escape(pin.partition('+')[0])}(?= |$)", pin, body, flags=re.MULTILINE)
    body = "\n".join(without_platform(line, lock["machine"]) for line in body.splitlines()) + "\n"
    scope = f"for {lock['machine']} Linux" + (f", without {' '.join(lock['without'])}" if lock["without"] else "")
    header = HEADER.format(name=name, command=f"{' '.join(command)} ({scope})", inputs=inputs_hash(pyproject))
    target.write_text(header + body, encoding="utf-8")
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description="Write one lock per platform from pyproject.toml.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions, keep none")
    parser.add_argument("locks", nargs="*", help="only these locks (default: all)")
    asked = parser.parse_args()
    beside = Path(sys.executable).with_name("uv")
    uv = os.environ.get("UV") or shutil.which("uv") or (str(beside) if beside.exists() else None)
    if not uv:
        raise SystemExit("make lock needs uv.\nFix: pip install uv, or give its path: make lock UV=/path/to/uv")
    pyproject = load_pyproject()
    for name in asked.locks or pyproject["tool"]["locks"]:
        target = write_lock(name, pyproject, uv, asked.upgrade)
        pins = sum("==" in line and not line.startswith(("#", " ")) for line in target.read_text().splitlines())
        print(f"{target.relative_to(ROOT)}: {pins} packages")


if __name__ == "__main__":
    main()

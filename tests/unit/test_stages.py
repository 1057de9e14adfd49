"""The stages: imports in one direction, and each touches files, processes, network and clock only where it is for that."""

from __future__ import annotations

import ast
from pathlib import Path

import grimp
import pytest
from importlinter import cli

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "analysis"

# What a file may touch besides memory. One that is not named touches nothing: arithmetic, frames in, frames out.
MAY_TOUCH = {
    "caches": {"files"},
    "progress": {"files", "clock"},
    "masking": {"files", "network"},  # names alone: of the temporary folder and the host
    "shapes": {"files"},
    "study/fingerprint": {"files"},
    "study/params": {"files"},
    "study/study_file": {"files"},
    "study/prompts": {"files"},
    "study/neutral": {"files"},
    "study/axes": {"files"},
    "study/own": {"files"},
    "sandbox": {"files", "processes", "clock"},
    "servers": {"files", "processes", "network", "clock"},
    "servers/diagnosis": set(),
    "servers/signs": {"files"},
    "servers/facts": set(),
    "servers/loglines": set(),
    "servers/launch": set(),
    "servers/render": set(),
    "records/provenance": {"files", "processes"},
    "records/merge": {"files"},
    "records/earlier": {"files"},
    "records/store": {"files", "clock"},
    "measure/campaign": {"clock"},
    "measure/tracker": {"clock"},
    "measure/client": {"clock"},
    "measure/state": {"files", "clock"},
    "measure/counters": {"clock"},
    "published/evidence": {"files"},
    "report": {"files", "processes", "network", "clock"},
    "session": {"files", "clock"},
    "kernel": {"files"},
    "chapter": {"files", "processes", "clock"},
    "graph": {"files", "processes"},
    "new_study": {"files"},
    "miniature": {"files", "processes", "network", "clock"},
    "dummy": {"files"},
    "bench": {"files", "processes", "network", "clock"},
    "__main__": {"files", "processes", "clock"},
}


def granted(path: Path) -> set[str]:
    """What a file may touch: the grant of its own name, else that of its folder."""
    name = path.relative_to(SOURCE).with_suffix("").as_posix()
    return MAY_TOUCH.get(name, MAY_TOUCH.get(name.partition("/")[0], set()))


IMPORTS = {
    "processes": {"subprocess", "multiprocessing", "pty", "signal"},
    "network": {
        "socket",
        "ssl",
        "requests",
        "httpx",
        "openai",
        "urllib.request",
        "http.client",
        "aiohttp",
        "asyncio",
        "httptools",
    },
    "files": {"shutil", "tempfile", "fcntl", "glob", "huggingface_hub"},
    "clock": {"time"},
}
CALLS = {
    "processes": {"system", "popen", "fork", "execv", "execve", "execvp", "kill", "killpg", "spawnv", "posix_spawn"},
    "files": {
        *("read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "unlink", "touch", "iterdir", "rglob"),
        *("read_csv", "read_parquet", "read_json", "read_table", "to_parquet", "makedirs", "listdir", "scandir"),
    },
}


FILES = sorted(path for path in SOURCE.rglob("*.py") if "inside" not in path.parts)  # inside: runs in the sandbox


def effects(tree: ast.AST) -> dict[str, str]:
    """What code touches besides memory -> the first sign of it."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for kind, modules in IMPORTS.items():
            for name in names:
                if name in modules or name.partition(".")[0] in modules:
                    found.setdefault(kind, f"line {node.lineno}: import {name}")
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id == "open":
                found.setdefault("files", f"line {node.lineno}: open()")
            if isinstance(node.func, ast.Attribute):
                for kind, calls in CALLS.items():
                    if node.func.attr in calls:
                        found.setdefault(kind, f"line {node.lineno}: .{node.func.attr}()")
                if node.func.attr == "to_csv" and (node.args or node.keywords[:1]):
                    found.setdefault("files", f"line {node.lineno}: .to_csv()")
    return found


def test_stages_import_one_way():
    """The layers of pyproject.toml, every module placed: what `make lint` runs."""
    assert cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == cli.EXIT_STATUS_SUCCESS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_module_touches_only_what_it_is_for(path):
    allowed = granted(path)
    found = effects(ast.parse(path.read_text(encoding="utf-8")))
    assert {kind: sign for kind, sign in found.items() if kind not in allowed} == {}


def test_every_grant_is_for_something_that_is_there():
    there = {path.relative_to(SOURCE).with_suffix("").as_posix() for path in FILES} | {
        path.relative_to(SOURCE).parts[0] for path in FILES
    }
    assert set(MAY_TOUCH) - there == set()


def reach(module: str, graph: grimp.ImportGraph) -> set[str]:
    """What a module can touch by itself or by anything that it imports, however far away."""
    names = {module, *graph.find_upstream_modules(module)}
    paths = [SOURCE / f"{name.removeprefix('analysis.').replace('.', '/')}.py" for name in names]
    return set().union(*(granted(path) for path in paths))


def test_science_and_show_reach_no_server_and_no_clock():
    graph = grimp.build_graph("analysis", cache_dir=None)
    pure = [name for name in graph.modules if name.startswith(("analysis.science.", "analysis.show."))]
    assert pure and {name: reach(name, graph) - {"files"} for name in pure} == {name: set() for name in pure}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("import subprocess", "processes"),
        ("from subprocess import run", "processes"),
        ("import os\nos.kill(1, 9)", "processes"),
        ("def f():\n    import socket", "network"),
        ("import urllib.request", "network"),
        ("from urllib import request", "network"),
        ("open('x')", "files"),
        ("from pathlib import Path\nPath('x').read_text()", "files"),
        ("import pandas as pd\npd.read_csv('x')", "files"),
        ("frame.to_csv('x')", "files"),
        ("import time", "clock"),
    ],
)
def test_an_effect_is_seen_wherever_it_hides(text, kind):
    assert kind in effects(ast.parse(text))


def test_arithmetic_on_frames_is_no_effect():
    text = "import pandas as pd\nfrom urllib.parse import quote\nf = pd.DataFrame().rename(columns={}).to_csv()"
    assert effects(ast.parse(text)) == {}

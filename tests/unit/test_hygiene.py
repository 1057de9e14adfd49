"""Lines that hold the house together: thin notebooks, imports in one direction, effects at the two ends, no leaks."""

from __future__ import annotations

import ast
import copy
import io
import json
import re
import shutil
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "analysis"

# The direction the data flows: a stage imports only from those before it.
ORDER = [
    *("errors", "places", "progress", "shapes", "vllm_mend", "vllm_dummy"),  # on the ground
    *("study", "sandbox", "servers", "records", "measure", "science", "show", "published", "report"),
    *("session", "chapter", "miniature", "dummy", "bench", "__main__"),
]

# What a file may touch besides memory. One that is not named touches nothing: arithmetic, frames in, frames out.
MAY_TOUCH = {
    "progress": {"files", "clock"},
    "shapes": {"files"},
    "study/params": {"files"},
    "study/prompts": {"files"},
    "sandbox": {"files", "processes", "clock"},
    "servers": {"files", "processes", "network", "clock"},
    "records/provenance": {"files", "processes"},
    "records/store": {"files", "clock"},
    "measure/campaign": {"clock"},
    "measure/client": {"network", "clock"},
    "measure/counters": {"network", "clock"},
    "published/evidence": {"files"},
    "report": {"files", "processes", "network", "clock"},
    "session": {"files", "clock"},
    "chapter": {"files", "processes", "clock"},
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
    "network": {"socket", "ssl", "requests", "httpx", "openai", "urllib.request", "http.client", "aiohttp"},
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


def tracked(*patterns: str) -> list[Path]:
    """The files of the repository; in an exported copy without git, none."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return []
    listed = subprocess.run(["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- notebooks -----------------------------------------------------------------------------------------------------

NOTEBOOKS = [path for path in tracked("*.ipynb") if relative(path).startswith("notebooks/")]
LONGEST_CELL = 12
RESULT = re.compile(
    r"\d[\d.,]*\s*(?:tok(?:ens)?/s|ch(?:ars?|aracters)?/s|requests/s|%|percent\b|×|x\b|times (?:faster|slower)"
    r"|ms\b|s\b|seconds?\b|GiB\b|GB/s)",
    re.IGNORECASE,
)
MODULES_OF_THE_MACHINE = {
    "os",
    "subprocess",
    "socket",
    "shutil",
    "pathlib",
    "sys",
    "requests",
    "httpx",
    "multiprocessing",
}
ABSOLUTE = re.compile(r"^(?:/\w|~/|[A-Za-z]:\\)")


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tags(cell: dict) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def code_faults(text: str) -> list[str]:
    """What a code cell does that belongs into src/analysis."""
    faults = []
    rows = [row for row in text.splitlines() if row.strip()]
    if len(rows) > LONGEST_CELL:
        faults.append(f"{len(rows)} lines; {LONGEST_CELL} at most")
    if any(row.lstrip().startswith(("!", "%")) for row in rows):
        return [*faults, "shell escape or magic"]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            faults.append(f"defines {node.name}")
        elif isinstance(node, ast.While):
            faults.append("a while loop")
        elif isinstance(node, ast.For) and re.search(r"server|arm|launch|ensure|measure", ast.unparse(node)):
            faults.append("a loop over servers")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            faults += [f"imports {name}" for name in names if name.partition(".")[0] in MODULES_OF_THE_MACHINE]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ABSOLUTE.match(node.value):
            faults.append(f"absolute path {node.value}")
    return faults


def parameter_faults(text: str) -> list[str]:
    """Each parameter is a name, a literal and a comment that says what it is for."""
    comments = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    faults = []
    for statement in ast.parse(text).body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or not isinstance(target, ast.Name):
            faults.append(f"not a plain assignment: {ast.unparse(statement)}")
            continue
        try:
            ast.literal_eval(statement.value)
        except ValueError:
            faults.append(f"{target.id} is not a literal")
        if not comments & set(range(statement.lineno, statement.end_lineno + 1)):
            faults.append(f"{target.id} has no comment")
    return faults


def notebook_faults(notebook: dict) -> list[str]:
    cells = notebook["cells"]
    faults = []
    if not cells or cells[0]["cell_type"] != "markdown" or not source(cells[0]).startswith("# "):
        faults.append("does not begin with an H1")
    parameters = [cell for cell in cells if "parameters" in tags(cell)]
    if len(parameters) != 1:
        faults.append(f"{len(parameters)} cells tagged parameters; one is wanted")
    for cell in parameters:
        faults += parameter_faults(source(cell))
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            if cell["outputs"] or cell["execution_count"] is not None:
                faults.append(f"cell {number} is not stripped")
            faults += [f"cell {number}: {fault}" for fault in code_faults(source(cell))]
        elif cell["cell_type"] == "markdown":
            found = RESULT.search(source(cell))
            if found:
                faults.append(f"cell {number}: a typed result, {found.group(0)!r}; compute the sentence from data")
    return faults


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_thin_stripped_chapter(path):
    assert notebook_faults(json.loads(path.read_text(encoding="utf-8"))) == []


def code(text: str, **more) -> dict:
    return {"cell_type": "code", "source": text, "metadata": {}, "outputs": [], "execution_count": None, **more}


def markdown(text: str) -> dict:
    return {"cell_type": "markdown", "source": text, "metadata": {}}


CHAPTER = {
    "cells": [
        markdown("# How many tokens should the drafter propose?\nNeeds K = 0, 1, 2, 4, 8 · about 4 min"),
        code("from analysis import open_study, tables"),
        code('study = "miniature"  # name\nk_values = [  # drafts\n    1, 2]', metadata={"tags": ["parameters"]}),
        code("s = open_study(study)\nfor table in s.tables():\n    tables.show(table)"),
    ]
}


def test_a_sound_chapter_has_no_faults():
    assert notebook_faults(CHAPTER) == []


@pytest.mark.parametrize(
    ("position", "cell", "fault"),
    [
        (0, markdown("## Not a title"), "H1"),
        (2, code("study = 'miniature'  # name"), "0 cells tagged parameters"),
        (2, code("k = len('ab')  # drafts", metadata={"tags": ["parameters"]}), "k is not a literal"),
        (2, code("k = 4", metadata={"tags": ["parameters"]}), "k has no comment"),
        (2, code("print(4)  # help", metadata={"tags": ["parameters"]}), "not a plain assignment"),
        (3, code("1", outputs=[{"output_type": "stream"}]), "not stripped"),
        (3, code("1", execution_count=7), "not stripped"),
        (3, code("def f():\n    pass"), "defines f"),
        (3, code("class A:\n    pass"), "defines A"),
        (3, code("for arm in s.arms:\n    s.launch(arm)"), "loop over servers"),
        (3, code("import subprocess"), "imports subprocess"),
        (3, code("from os import path"), "imports os"),
        (3, code("!ls"), "shell escape"),
        (3, code("%matplotlib inline"), "shell escape"),
        (3, code("s.read('/data/x')"), "absolute path"),
        (3, code("\n".join(["s.x()"] * 13)), "13 lines"),
        (3, markdown("MTP gives 108.78 tok/s here."), "typed result"),
        (3, markdown("The speedup is 2.9x."), "typed result"),
        (3, markdown("Acceptance of 72 % at the first position."), "typed result"),
        (3, markdown("It took 13.74 s."), "typed result"),
    ],
)
def test_a_changed_chapter_is_caught(position, cell, fault):
    changed = copy.deepcopy(CHAPTER)
    changed["cells"][position] = cell
    assert fault in "; ".join(notebook_faults(changed))


@pytest.mark.parametrize("text", ["K = 4 on 8 streams", "design 7.5", "about 4 min", "1. first", "2 passes", "Gemma 4"])
def test_a_setting_is_no_result(text):
    assert not RESULT.search(text)


# --- modules -------------------------------------------------------------------------------------------------------

FILES = sorted(path for path in SOURCE.rglob("*.py") if "inside" not in path.parts)  # inside: runs in the sandbox


def owner(path: Path) -> str:
    """The module or package of src/analysis that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.AST, package: str) -> set[str]:
    """Modules of src/analysis that a file imports, anywhere in it; `package` is where `from .` points."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("analysis.")}
        elif isinstance(node, ast.ImportFrom):
            full = node.module or ""
            if node.level:
                base = ["analysis", *package.split("/")] if package else ["analysis"]
                base = base[: len(base) - node.level + 1]
                full = ".".join([*base, full]).rstrip(".")
            if full == "analysis":
                found |= {alias.name for alias in node.names}
            elif full.startswith("analysis."):
                found.add(full.split(".")[1])
    return found


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


def test_every_module_has_its_place_in_the_order():
    unplaced = sorted({owner(path) for path in FILES} - set(ORDER) - {"__init__"})
    assert unplaced == [], "give it a place in ORDER, after everything it imports"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_go_one_way(path):
    me = owner(path)
    if me not in ORDER:
        pytest.skip("not in the order, or the package's own front")
    package = "/".join(path.relative_to(SOURCE).parts[:-1])
    others = imported(ast.parse(path.read_text(encoding="utf-8")), package) - {me}
    below = sorted(other for other in others if other in ORDER and ORDER.index(other) > ORDER.index(me))
    assert below == [], f"{me} may import only from what stands before it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_module_touches_only_what_it_is_for(path):
    allowed = granted(path)
    found = effects(ast.parse(path.read_text(encoding="utf-8")))
    assert {kind: sign for kind, sign in found.items() if kind not in allowed} == {}


def test_every_grant_is_for_something_that_is_there():
    there = {path.relative_to(SOURCE).with_suffix("").as_posix() for path in FILES} | set(ORDER)
    assert set(MAY_TOUCH) - there == set()


def test_science_and_show_are_granted_nothing():
    assert not [name for name in MAY_TOUCH if name.split("/")[0] in {"science", "show"}]


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


@pytest.mark.parametrize(
    ("text", "package", "modules"),
    [
        ("from analysis import report, session", "", {"report", "session"}),
        ("from analysis.records.store import Store", "", {"records"}),
        ("import analysis.report.page", "", {"report"}),
        ("from .grammar import Grammar", "miniature", {"miniature"}),
        ("from ..plan import Plan", "servers", {"plan"}),
        ("from . import plan", "", {"plan"}),
        ("from pandas import plan", "", set()),
    ],
)
def test_an_import_is_seen_in_every_spelling(text, package, modules):
    assert imported(ast.parse(text), package) == modules


# --- all files -----------------------------------------------------------------------------------------------------

# A home folder with a name in it; container paths (/root/.cache) and invented names (/home/user, /home/ada) are fine.
MACHINE_PATH = re.compile(
    r"/home/(?!user\b|you\b|ada\b|alice\b|somebody\b)[A-Za-z0-9_.-]+/"
    r"|/Users/(?!user\b|you\b|ada\b|alice\b|somebody\b)[A-Za-z0-9_.-]+/"
    r"|[A-Za-z]:\\\\?Users\\\\?(?!user\b|you\b|ada\b|alice\b|somebody\b)\w+"
    r"|(?<!\w)/root/\w|/tmp/tmp\w{6,}|/var/folders/\w|site-packages/\S+\.py\b.*line \d+"
)
MERGE = re.compile(r"^(?:<{7}|>{7}|\|{7}) \S", re.MULTILINE)
BINARY = {".safetensors", ".png", ".parquet", ".npz", ".woff2", ".gz", ".ico", ".jpg"}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    found = {
        relative(path): path.read_text(encoding="utf-8", errors="replace")
        for path in tracked()
        if path.suffix not in BINARY
    }
    if not found:
        pytest.skip("not a git checkout")
    return found


def test_no_file_holds_a_path_of_somebodys_machine(texts):
    found = {name: MACHINE_PATH.search(text) for name, text in texts.items() if name != relative(Path(__file__))}
    assert {name: match.group(0) for name, match in found.items() if match} == {}


def test_no_file_holds_a_merge_marker(texts):
    assert [name for name, text in texts.items() if MERGE.search(text)] == []


@pytest.mark.parametrize("text", ["/home/bob/x", "/Users/bob/x", r"C:\Users\bob", "/root/work", "/tmp/tmpab12cd34"])
def test_a_leaked_path_is_seen(text):
    assert MACHINE_PATH.search(f"log: {text}/y")


@pytest.mark.parametrize("text", ["/root/.cache/huggingface", "/home/<name>/", "~/.cache", "/home/user/x", "/dev/shm"])
def test_a_container_path_or_placeholder_is_no_leak(text):
    assert not MACHINE_PATH.search(text)


def test_a_merge_marker_is_seen():
    assert MERGE.search("a\n" + "<" * 7 + " HEAD\n") and not MERGE.search("a\n=======\n")


def test_nothing_that_a_run_makes_is_in_the_repository(texts):
    made = re.compile(r"(^|/)(data/runs/|__pycache__/|\.ipynb_checkpoints/|\.venv/|[^/]+\.egg-info/)")
    assert [name for name in texts if made.search(name)] == []

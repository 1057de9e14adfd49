"""A notebook is a thin chapter: stripped, one parameters cell, no loops over servers, no typed results."""

from __future__ import annotations

import ast
import copy
import io
import json
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
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

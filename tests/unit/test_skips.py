"""A skipped test tells the reader what it lacks and how to get it."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def root():
    spec = importlib.util.spec_from_file_location("tests_conftest", TESTS / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reasons_are_grouped_and_each_has_its_remedy(root):
    sandbox = "no sandbox here: bwrap: setting up uid map: Permission denied"
    assert root.explain([sandbox, "make is not installed", sandbox]) == [
        f"   2  {sandbox}",
        "      To run them: sudo apt-get install -y bubblewrap; a container or a hardened kernel may refuse it all the same",
        "   1  make is not installed",
        "      To run it: sudo apt-get install -y make",
    ]
    assert root.explain([]) == []


def reasons(path: Path) -> list[str]:
    """Constant beginnings of the reasons of all skips in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        said = {word.arg: word.value for word in node.keywords}.get("reason")
        if node.func.attr == "importorskip":
            said = said or ast.Constant("could not import")
        elif node.func.attr == "skip" and node.args:
            said = said or node.args[0]
        elif node.func.attr not in {"skip", "skipif"}:
            continue
        words = [
            part.value for part in ast.walk(said) if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        found.append(" ".join(words))
    return found


def test_every_skip_of_the_repository_has_a_remedy(root):
    everything = {reason: path.name for path in TESTS.rglob("test_*.py") for reason in reasons(path)}
    everything |= {reason: path.name for path in TESTS.rglob("conftest.py") for reason in reasons(path)}
    assert len(everything) > 10
    assert {reason: name for reason, name in everything.items() if "no remedy" in root.explain([reason])[1]} == {}

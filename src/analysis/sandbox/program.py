"""The Python in a model's answer: text in, `Program` out. Pure; nothing is compiled or run here."""

from __future__ import annotations

import re
from dataclasses import dataclass

PYTHON = {"python", "py", "python3"}
# possessive: a line is read once, however many blanks or fence characters it has
OPENING = re.compile(r"(?P<indent>[ \t]*+)(?P<fence>`{3,}+|~{3,}+)(?P<info>[^`\n]*+)\Z")


@dataclass(frozen=True, slots=True)
class Program:
    """Code of one fenced block; `complete` is False where the answer ended before the fence was closed."""

    code: str
    complete: bool = True


def extract(text: str) -> Program | None:
    """The first block that is marked as Python; without one, the first unmarked block; else None.

    Blocks of other languages (``bash``: "pip install …") and empty blocks are passed over.
    """
    unmarked = None
    for info, program in blocks(text):
        language = info.split()[0].strip("{.}").lower() if info.split() else ""
        if not program.code.strip():
            continue
        if language in PYTHON:
            return program
        if not language and unmarked is None:
            unmarked = program
    return unmarked


def blocks(text: str) -> list[tuple[str, Program]]:
    """All fenced blocks as (info string, block), by CommonMark's rules: a fence is closed by one at least as long."""
    found: list[tuple[str, Program]] = []
    lines = text.replace("\r\n", "\n").split("\n")
    at = 0
    while at < len(lines):
        opening = OPENING.match(lines[at])
        at += 1
        if not opening:
            continue
        fence, indent = opening["fence"], opening["indent"]
        body: list[str] = []
        complete = False
        while at < len(lines) and not complete:
            line, at = lines[at], at + 1
            bare = line.strip()
            complete = len(bare) >= len(fence) and set(bare) == {fence[0]}
            if not complete:
                # A block inside a list item is indented as a whole.
                body.append(line.removeprefix(indent))
        found.append((opening["info"].strip(), Program("\n".join(body), complete)))
    return found

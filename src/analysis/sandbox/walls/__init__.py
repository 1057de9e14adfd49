"""The walls that a generated program can be run behind, best first. One shape: `Wall`; nothing is started here.

A wall turns "this Python, with these folders readable" into a command; `analysis.sandbox.probe` tries it before use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from analysis.sandbox.limits import Limits


@dataclass(frozen=True)
class Confined:
    """One command behind a wall: what to start, and how the program's world looks inside."""

    command: list[str]
    folder: str
    """Where the program works, as it is called inside."""
    env: dict[str, str]
    """Of the program."""
    shown: dict[str, str] = field(default_factory=dict)
    """Folder of this machine -> what output says instead."""
    cleanup: list[str] = field(default_factory=list)
    outside: dict[str, str] = field(default_factory=dict)
    """Environment of the command itself, outside; nothing of it reaches the program."""
    own_user: bool = True
    """Nobody else runs as the program's user, so that the kernel can count its processes."""


@dataclass(frozen=True)
class Wall:
    """A kind of wall on this machine: `name` is kept in outcomes, `version` shown; `confine` makes one command."""

    name: str
    version: str
    confine: Callable[[Limits, str], Confined]
    """(limits, a folder of this run's own on this machine) -> the command for ``python harness.py``'s arguments."""
    own_folder: bool = False
    """The program writes into a folder of this machine, made for the run and removed after it."""

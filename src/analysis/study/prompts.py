"""data/prompts.yaml -> workloads: prompt sets by name, published ones word for word."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import yaml

from analysis.errors import ParamsError, nearest
from analysis.frozen import Frozen
from analysis.places import DATA

FILE = DATA / "prompts.yaml"


class Prompt(Frozen):
    id: str
    source: str
    text: str
    held_out: bool = False


class Workload(Frozen):
    """A named prompt set; ``title`` is what readers see, ``kind`` says whether an answer is prose or a program.

    ``check`` names what makes a generated program right; None where programs are timed only.
    """

    name: str
    title: str = ""
    language: str
    kind: str
    check: Literal["monthly_returns"] | None = None
    published_sampling: dict[str, float | int] = {}
    prompts: tuple[Prompt, ...]

    def choose(self, which: str) -> tuple[Prompt, ...]:
        """``published``: the prompts an article printed (or the first where none is); ``all``: every one."""
        if which == "all":
            return self.prompts
        return tuple(p for p in self.prompts if p.source != "ours") or self.prompts[:1]


@lru_cache
def workloads() -> dict[str, Workload]:
    """Every workload of data/prompts.yaml by name. Raises ParamsError where the file is malformed."""
    try:
        raw = yaml.safe_load(FILE.read_text(encoding="utf-8"))["workloads"]
        return {name: Workload(name=name, **entry) for name, entry in raw.items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ParamsError(
            "data/prompts.yaml cannot be used.", why=str(error)[:300], fix="Restore it: git checkout data/prompts.yaml"
        ) from None


def workload(name: str) -> Workload:
    """One workload by name; an unknown name is a ParamsError with the nearest right one."""
    known = workloads()
    if name in known:
        return known[name]
    raise ParamsError(
        f"There is no workload '{name}'{nearest(name, known)}.",
        why=f"data/prompts.yaml has {', '.join(known)}.",
        fix="Correct the parameter workloads.",
    )

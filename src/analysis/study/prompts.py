"""data/prompts.yaml -> workloads: prompt sets by name, published ones word for word."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import yaml

from analysis.errors import ParamsError, nearest
from analysis.frozen import Frozen
from analysis.places import DATA

FILE = DATA / "prompts.yaml"


#: Titles of workloads that a study reads from files of its own.
TITLES: dict[str, str] = {}


class Prompt(Frozen):
    """One prompt; ``messages`` are (role, content) of a conversation, whose last one is the ``text``."""

    model_config = {"str_strip_whitespace": False}
    id: str
    source: str
    text: str
    held_out: bool = False
    messages: tuple[tuple[str, str], ...] = ()
    max_tokens: int | None = None


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
    own: bool = False

    def choose(self, which: str) -> tuple[Prompt, ...]:
        """``published``: the prompts an article printed (or the first where none is); ``all``: every one. Of a user's own
        file every one is taken.
        """
        if which == "all" or self.own:
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


def title(name: str) -> str:
    """What readers see of a workload: its title, or else its name."""
    known = workloads().get(name)
    return (known.title if known else TITLES.get(name)) or name


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

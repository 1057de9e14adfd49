"""papermill_params/*.yaml -> a validated `Study`: found, read, checked; every mistake is a sentence with the nearest right name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from analysis.errors import ParamsError, nearest
from analysis.places import PARAMS, RECORDS, ROOT
from analysis.study import environment
from analysis.study.own import PromptFile
from analysis.study.params import Expect, Model, Patch, Proposer, Server, Study, Variant

LONGEST = 200_000
"""Characters of a study file: the longest of ours has a hundredth."""


def load_study(name_or_path: str | Path, **overrides: Any) -> Study:
    """Read, override and validate one study.

    Parameters
    ----------
    name_or_path : str or Path
        ``miniature`` (a name in papermill_params) or the path of a YAML file. With ``records="reference"`` a name means
        the study as its reference run was measured: it may have more launches than one's own first run.
    **overrides
        Top-level keys that replace those of the file; None leaves the file's value.

    Raises
    ------
    ParamsError
        No such file, malformed YAML, unknown key (with the nearest right name), or a value of the wrong type.
    """
    path = _find(name_or_path, overrides.get("records") or "runs")
    try:
        text = path.read_text(encoding="utf-8")
        _plain(text, path.name)
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:  # 2026-02-30 is a ValueError
        raise ParamsError(
            f"{path.name} is not YAML.", why=_where(error), fix="Compare with papermill_params/miniature.yaml."
        ) from None
    if not isinstance(raw, dict):
        raise ParamsError(
            f"{path.name} must hold key: value lines, and holds a {type(raw).__name__}.",
            fix="Compare with papermill_params/miniature.yaml.",
        )
    return validate({**raw, **{key: value for key, value in overrides.items() if value is not None}}, path.name)


def _where(error: Exception) -> str:
    """What is wrong and in which line, without the line itself: it may hold a secret."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    words = " ".join(str(problem or error).split())[:300]
    return f"line {mark.line + 1}, column {mark.column + 1}: {words}" if mark else words


def _plain(text: str, name: str) -> None:
    """Raises ParamsError for a file that is larger than any study, or whose references could grow without end."""
    if len(text) > LONGEST:
        raise ParamsError(f"{name} has {len(text):,} characters.", fix=f"A study file has at most {LONGEST:,}.")
    open_nodes: list[str | None] = []
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent) and any(open_nodes) and event.anchor not in open_nodes:
            raise ParamsError(
                f"{name} has a reference inside what is referred to.",
                why=f"Line {event.start_mark.line + 1}: such references grow without end.",
                fix="Write the values out.",
            )


def validate(raw: dict[str, Any], where: str = "parameters") -> Study:
    """Validate a mapping as a `Study`; every problem in it becomes one line of a `ParamsError`."""
    try:
        study = Study.model_validate(raw)
        problems = _of_variants(study)
    except ValidationError as error:
        problems = [_problem(item) for item in error.errors()]
    except RecursionError:
        raise ParamsError(f"{where} refers to itself.", fix="Remove the YAML anchor that contains itself.") from None
    if problems:
        raise ParamsError(
            f"{where}: {len(problems)} parameter{'s are' if len(problems) > 1 else ' is'} wrong.",
            why=" ".join(problems) if len(problems) == 1 else "\n  " + "\n  ".join(problems[:12]),
            fix=f"Correct papermill_params/{where}."
            if where.endswith(".yaml")
            else "Correct the parameters cell, or the study's file.",
        )
    return study


def reference_file(study: Study) -> str:
    """YAML of a study as it was measured, to be read again without a server; defaults are left out."""
    kept = study.model_copy(update={"records": "reference", "measure": "never"})
    text = yaml.safe_dump(kept.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    return f"# The study as its reference run was measured; it starts no server.\n{text}"


def _find(name_or_path: str | Path, records: str = "runs") -> Path:
    given = Path(name_or_path)
    measured = RECORDS["reference"] / given / "study.yaml"
    if records == "reference" and not given.suffix and os.path.isfile(measured):
        return measured
    if given.suffix in {".yaml", ".yml"}:
        for candidate in (given, ROOT / given, PARAMS / given.name):
            if os.path.isfile(candidate):  # Path.is_file may raise for an impossible name
                return candidate
    elif os.path.isfile(PARAMS / f"{given}.yaml"):
        return PARAMS / f"{given}.yaml"
    names = sorted(p.stem for p in PARAMS.glob("*.yaml"))
    raise ParamsError(
        f"There is no study '{name_or_path}'.",
        why=f"papermill_params has {', '.join(names)}{nearest(given.stem, set(names))}.",
        fix="Name one of these, or copy one and change it.",
    )


def _of_variants(study: Study) -> list[str]:
    """What is wrong with the servers of a study's variants, as sentences."""
    problems = []
    for at, variant in enumerate(study.variants):
        try:
            if problem := study.too_long_for(study.server_of(variant)):
                problems.append(f"'variants.{at}.server': {problem}.")
        except ValidationError as error:
            problems += [_problem({**item, "loc": ("variants", at, "server", *item["loc"])}) for item in error.errors()]
    return problems


def _problem(item: dict[str, Any]) -> str:
    """One pydantic error as a sentence that names the key."""
    loc = [_cut(str(part)) for part in item["loc"]]
    key = ".".join(loc) or "the study"
    if item["type"] == "extra_forbidden":
        siblings = _fields_at(loc[:-1])
        return f"'{key}' is not a parameter{nearest(loc[-1], siblings)}."
    if item["type"] == "missing":
        return f"'{key}' is missing."
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    shown = repr(item.get("input"))
    plain = isinstance(item.get("input"), int | float | None)
    hidden = ({"env", "args"} & set(loc) and not plain) or environment.secret(loc[-1] if loc else "", shown)
    given = "" if len(loc) == 0 or len(shown) > 80 or hidden else f" (given: {shown})"
    return (
        f"'{key}' must be {message}{given}."
        if item["msg"].startswith("Input should be ")
        else f"'{key}': {message}{given}."
    )


def _cut(word: str) -> str:
    return word if len(word) <= 60 else f"{word[:60]}…"


def _fields_at(loc: list[str]) -> set[str]:
    here: Any = Study
    for part in loc:
        nested = {
            "target": Model,
            "drafter": Model,
            "server": Server,
            "variants": Variant,
            "speculators": Proposer,
            "prompt_files": PromptFile,
            "expect": Expect,
            "patch": Patch,
        }.get(part)
        here = nested or here
    return set(here.model_fields)

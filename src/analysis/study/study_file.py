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
DEEPEST = 30
"""Lists and mappings within one another: ours have five. The time to read YAML grows with the square of this."""

CELL = "the chapter's parameters cell"

#: start of a kind of error -> what is expected, in the words of a study file
TYPES = {
    "tuple_type": "a list, such as [1, 2]",
    "list_type": "a list, such as [1, 2]",
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "string_type": "text",
    "dict_type": "key: value lines",
    "model_type": "key: value lines",
}
LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


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
    chosen = {key: value for key, value in overrides.items() if value is not None}
    return validate({**raw, **chosen}, _shown(path), frozenset(chosen))


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
            if len(open_nodes) > DEEPEST:
                raise ParamsError(
                    f"{name} is nested more than {DEEPEST} deep.",
                    why=f"Line {event.start_mark.line + 1} opens one list or mapping too many.",
                    fix="Compare with papermill_params/miniature.yaml.",
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent) and any(open_nodes) and event.anchor not in open_nodes:
            raise ParamsError(
                f"{name} has a reference inside what is referred to.",
                why=f"Line {event.start_mark.line + 1}: such references grow without end.",
                fix="Write the values out.",
            )


def validate(raw: dict[str, Any], where: str = "parameters", cell: frozenset[str] = frozenset()) -> Study:
    """Validate a mapping as a `Study`; every problem in it becomes one line of a `ParamsError`.

    ``where`` is the file of the mapping; a mistake in one of the keys ``cell`` is one of the chapter's parameters cell.
    """
    try:
        study = Study.model_validate(raw)
        problems = _of_variants(study)
    except ValidationError as error:
        problems = [(item["loc"][:1], _problem(item)) for item in _innermost(error.errors())]
    except RecursionError:
        raise ParamsError(f"{where} refers to itself.", fix="Remove the YAML anchor that contains itself.") from None
    if not problems:
        return study
    blamed = " and ".join(sorted({CELL if loc and loc[0] in cell else where for loc, _ in problems}))
    sentences = [sentence for _, sentence in problems]
    many = f"{len(problems)} parameters are" if len(problems) > 1 else "1 parameter is"
    raise ParamsError(
        f"{blamed.replace(CELL, CELL.capitalize(), 1) if blamed.startswith(CELL) else blamed}: {many} wrong.",
        why=" ".join(sentences) if len(sentences) == 1 else "\n  " + "\n  ".join(sentences[:12]),
        fix=f"Correct {blamed}.",
    )


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


def _shown(path: Path) -> str:
    """A study file as a reader finds it: from the checkout where it lies there, else as it was named."""
    inside = path.resolve()
    return inside.relative_to(ROOT).as_posix() if inside.is_relative_to(ROOT) else str(path)


def _innermost(errors: list[Any]) -> list[Any]:
    """Errors without those of a list one of whose own items is wrong: it was only left short."""
    locs = [item["loc"] for item in errors]
    return [e for e in errors if not any(len(o) > len(e["loc"]) and o[: len(e["loc"])] == e["loc"] for o in locs)]


def _of_variants(study: Study) -> list[tuple[tuple, str]]:
    """What is wrong with the servers of a study's variants: place and sentence."""
    problems = []
    for at, variant in enumerate(study.variants):
        try:
            if problem := study.too_long_for(study.server_of(variant)):
                problems.append((("variants",), f"'variants.{at}.server': {problem}."))
        except ValidationError as error:
            place = ("variants", at, "server")
            problems += [(("variants",), _problem({**item, "loc": (*place, *item["loc"])})) for item in error.errors()]
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
    expected = _expected(item)
    shown = repr(item.get("input"))
    plain = isinstance(item.get("input"), int | float | None)
    hidden = ({"env", "args"} & set(loc) and not plain) or environment.secret(loc[-1] if loc else "", shown)
    given = "" if len(loc) == 0 or len(shown) > 80 or hidden else f" (given: {shown})"
    if item["type"] == "literal_error":
        names = [name.strip("' ") for name in item["ctx"]["expected"].replace(" or ", ",").split(",")]
        given += nearest(shown.strip("'"), names)
    if expected:
        return f"'{key}' must be {expected}{given}."
    return f"'{key}': {item['msg'].removeprefix('Value error, ').rstrip('.')}{given}."


def _expected(item: dict[str, Any]) -> str | None:
    """What a value should have been, in the words of a study file; None where the error says it in a sentence."""
    kind, context = item["type"], item.get("ctx", {})
    limit = next((f"{words} {context[key]}" for key, words in LIMITS.items() if key in context), None)
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return limit
    if kind == "literal_error":
        return context["expected"]
    plain = next((words for start, words in TYPES.items() if kind.startswith(start)), None)
    return plain or (
        item["msg"].removeprefix("Input should be ") if item["msg"].startswith("Input should be ") else None
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

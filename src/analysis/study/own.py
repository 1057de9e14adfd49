"""A user's own prompt files -> workloads: JSONL (``prompt``, or ``messages`` as OpenAI has them), CSV, or plain text.

Every fault of a file is one sentence with its line, before anything is launched.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from analysis.errors import ParamsError
from analysis.frozen import Frozen
from analysis.places import inside
from analysis.study import prompts
from analysis.study.prompts import Prompt, Workload
from analysis.study.sets import PLACEHOLDER, SETS, StandardSet

#: Longest line of a prompt file [bytes]: more is no prompt, or a file of another kind.
LINE = 2**20
ROLES = ("system", "developer", "user", "assistant")
FORM = 'A line is {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}, with "id" and "max_tokens" if wanted.'


class PromptFile(Frozen):
    """One workload of a study that is read from a file, as it stands among the study's ``workloads``."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    file: str = Field(
        "", description="JSONL or CSV, one prompt as .txt, or a folder of .txt; of a set: where prefetch put it"
    )
    set: Literal[*SETS] | None = Field(None, description="a standard set, whose rows have a form of their own")
    category: str | None = Field(None, description="of a set's rows those of one category; null: all")
    title: str = ""
    language: str | None = Field(None, description="ja, en or python; null: seen in the text")
    max_tokens: PositiveInt | None = Field(None, description="length of an answer; null: the study's timing_tokens")
    sample: PositiveInt | None = Field(None, description="so many of them, chosen by the study's seed; null: all")

    @model_validator(mode="before")
    @classmethod
    def _place_of_a_set(cls, raw: Any) -> Any:
        known = SETS.get(raw.get("set") or "") if isinstance(raw, dict) else None
        return (
            {**raw, "file": raw.get("file") or known.file, "title": raw.get("title") or known.title} if known else raw
        )

    @model_validator(mode="after")
    def _file_is_named(self) -> PromptFile:
        if not self.file:
            raise ValueError("'file' is missing")
        if self.category and not (self.set and SETS[self.set].category):
            raise ValueError("'category' is of standard sets that have some: mt_bench, speed_bench")
        return self


def workload(study: Any, name: str) -> Workload:
    """A workload of a study by its name: its own files first, then data/prompts.yaml. Raises ParamsError."""
    spec = next((own for own in study.prompt_files if own.name == name), None)
    return prompts.workload(name) if spec is None else read(spec, study.seed)


@lru_cache
def read(spec: PromptFile, seed: int) -> Workload:
    """The workload of a file.

    Raises
    ------
    ParamsError
        It is missing, empty, no text, or holds a line that is no prompt (with its number).
    """
    path = inside(spec.file)
    content = _rows(spec, path)
    rows = [_prompt(spec, *row) for row in (_of_set(spec, SETS[spec.set], content) if spec.set else content)]
    if not rows:
        raise _error(spec, "is empty", "It has no prompt.", FORM)
    seen: dict[str, str] = {}
    for prompt, where in rows:
        if (first := seen.setdefault(prompt.id, where)) != where:
            raise _error(
                spec, f"has the id '{prompt.id}' twice: {first} and {where}", "", "Give every prompt its own id."
            )
    forms = {bool(prompt.messages) for prompt, _ in rows}
    if len(forms) > 1:
        other = next(where for prompt, where in rows if bool(prompt.messages) != bool(rows[0][0].messages))
        raise _error(
            spec, f"mixes two forms: {rows[0][1]} and {other} differ", "One has 'prompt', the other 'messages'.", FORM
        )
    found = [prompt for prompt, _ in rows]
    if spec.sample and spec.sample < len(found):
        chosen = set(random.Random(f"{seed}-{spec.name}").sample(range(len(found)), spec.sample))
        found = [prompt for at, prompt in enumerate(found) if at in chosen]
    own_language = SETS[spec.set].language if spec.set else None
    language = spec.language or own_language or _language("".join(p.text for p in found))
    prompts.TITLES[spec.name] = spec.title or spec.name
    return Workload(name=spec.name, title=spec.title, language=language, kind="prose", prompts=tuple(found), own=True)


def _of_set(
    spec: PromptFile, known: StandardSet, rows: Iterator[tuple[Any, str, str]]
) -> Iterator[tuple[Any, str, str]]:
    """Rows of a standard set as rows of ours; those of another category are passed over."""
    categories, kept = set(), 0
    for row, where, name in rows:
        try:
            text = known.prompt(row)
            category = str(row[known.category]) if known.category else ""
            id_ = str(row[known.id]) if known.id and known.id in row else f"{known.name}-{name.rpartition('-')[2]}"
        except (LookupError, TypeError, AttributeError) as error:
            raise _error(
                spec,
                f"is not {known.title}: {where} has another form",
                f"It lacks {error}.",
                f"Get it anew: {known.hub}.",
            ) from None
        categories.add(category)
        if spec.category and category != spec.category:
            continue
        if PLACEHOLDER in text:
            raise _error(
                spec,
                f"has a placeholder in {where} instead of a prompt",
                "The public file leaves out texts that others own.",
                "Complete it with the set's own preparation script, name that file, or choose another category.",
            )
        kept += 1
        yield {"prompt": text, "id": id_}, where, name
    if categories and not kept:
        why = f"It has {', '.join(sorted(categories))}."
        raise _error(spec, f"has no row of the category '{spec.category}'", why, "Name one of these.")


def _rows(spec: PromptFile, path: Path) -> Iterator[tuple[Any, str, str]]:
    """(content, where it stands, its id unless it has one) of every prompt of a file or folder."""
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".txt", ".md"))
        for file in files:
            yield {"prompt": _text(spec, file)}, file.name, file.stem
        return
    text = _text(spec, path)
    reader: dict[str, Callable[..., Iterator]] = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv}
    if path.suffix in reader:
        yield from reader[path.suffix](spec, text)
    elif path.suffix in (".txt", ".md"):
        yield {"prompt": text}, path.name, path.stem
    else:
        raise _error(
            spec,
            f"has a name of no known kind ('{path.suffix}')",
            "",
            "Name a .jsonl, .csv or .txt, or a folder of .txt.",
        )


def _jsonl(spec: PromptFile, text: str) -> Iterator[tuple[Any, str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        where = f"line {number}"
        if not line.strip():
            continue
        if len(line) > LINE:
            raise _error(
                spec, f"has {len(line) / 2**20:.0f} MB in {where}", f"A line may have {LINE / 2**20:.0f} MB.", FORM
            )
        try:
            yield json.loads(line), where, f"{spec.name}-{number}"
        except (ValueError, RecursionError) as error:
            raise _error(spec, f"is not JSON in {where}", str(error)[:160], FORM) from None


def _csv(spec: PromptFile, text: str) -> Iterator[tuple[Any, str, str]]:
    csv.field_size_limit(LINE)
    try:
        table = csv.DictReader(io.StringIO(text), strict=True)
        if "prompt" not in (table.fieldnames or ()):
            raise _error(
                spec,
                "has no column 'prompt'",
                f"Its first line is {text.splitlines()[0][:80]!r}." if text else "",
                "Name the columns in the first line: id,prompt,max_tokens.",
            )
        for row in table:
            if None in row:
                raise csv.Error("more fields than the first line names")
            yield (
                {k: v for k, v in row.items() if v not in (None, "")},
                f"line {table.line_num}",
                f"{spec.name}-{table.line_num}",
            )
    except csv.Error as error:
        raise _error(
            spec,
            f"is not CSV in line {table.line_num}",
            str(error),
            "Put texts with commas or line breaks into double quotes.",
        ) from None


def _prompt(spec: PromptFile, content: Any, where: str, name: str) -> tuple[Prompt, str]:
    """One prompt and where it stands. Unknown keys are passed over: vLLM's own data sets have some."""
    if not isinstance(content, dict) or ("prompt" in content) == ("messages" in content):
        both = isinstance(content, dict) and "prompt" in content
        raise _error(spec, f"has no prompt in {where}", "It has both 'prompt' and 'messages'." if both else "", FORM)
    messages = _messages(spec, content["messages"], where) if "messages" in content else ()
    text = content["prompt"] if "prompt" in content else messages[-1][1]
    if not isinstance(text, str) or not text.strip():
        raise _error(spec, f"has an empty prompt in {where}", "", FORM)
    tokens = content.get("max_tokens")
    if isinstance(tokens, str) and tokens.strip().isdigit():
        tokens = int(tokens)  # CSV has no numbers
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1):
        raise _error(spec, f"has a max_tokens in {where} that is no number above 0", f"It is {tokens!r}."[:80], FORM)
    id_ = str(content.get("id", name))
    return Prompt(
        id=id_, source="own", text=text.strip(), messages=messages, max_tokens=tokens or spec.max_tokens
    ), where


def _messages(spec: PromptFile, given: Any, where: str) -> tuple[tuple[str, str], ...]:
    sound = (
        isinstance(given, list)
        and given
        and all(isinstance(m, dict) and m.get("role") in ROLES and isinstance(m.get("content"), str) for m in given)
    )
    if not sound:
        why = f"A message has a role ({', '.join(ROLES)}) and a content, which is text."
        raise _error(spec, f"has messages in {where} that are no conversation", why, FORM)
    if given[-1]["role"] != "user":
        raise _error(
            spec, f"ends in {where} with a message of the {given[-1]['role']}", "There is nothing to answer.", FORM
        )
    return tuple((m["role"], m["content"]) for m in given)


def _text(spec: PromptFile, path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        if spec.set and str(path) == SETS[spec.set].file:
            fix = "Run: python -m analysis prefetch STUDY, or name a file of your own."
            raise _error(spec, "is not here", f"{SETS[spec.set].title} was not fetched yet.", fix) from None
        known = sorted(p.name for p in path.parent.glob("*.*"))[:5] if path.parent.is_dir() else []
        there = f"Its folder has {', '.join(known)}." if known else "Nor is there such a folder."
        fix = f"Correct the file of the workload {spec.name}."
        raise _error(spec, "cannot be read", f"{error.strerror}. {there}", fix) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _error(spec, "is not text", f"Byte {error.start} is not UTF-8.", "Save it as UTF-8.") from None
    if "\0" in text:
        raise _error(spec, "is not text", "It holds a zero byte.", "Name a text file.")
    if not text.strip():
        raise _error(spec, "is empty", "It has no prompt.", FORM)
    return text


def _language(text: str) -> str:
    """``ja`` where Japanese letters are no rarity, else ``en``: for the neutral text that fills a context."""
    letters = len(re.findall(r"[぀-ヿ一-鿿]", text))
    return "ja" if letters > len(text) / 10 else "en"


def _error(spec: PromptFile, what: str, why: str, fix: str) -> ParamsError:
    return ParamsError(f"The prompt file {spec.file} (workload {spec.name}) {what}.", why=why, fix=fix)

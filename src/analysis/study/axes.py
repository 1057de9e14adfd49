"""The optional axes of a study: lengths of context and of answers. Each point of an axis is measured as timing is.

To add an axis: its key in `Study`, and its rows in `points`. A point that is off is not in the plan, and not in a hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from analysis.errors import ParamsError
from analysis.places import inside
from analysis.study import neutral

if TYPE_CHECKING:
    from analysis.study.params import Study
    from analysis.study.prompts import Workload


@dataclass(frozen=True)
class Context:
    """What stands before the question, up to ``tokens`` of the whole prompt, the chat template's own included.

    ``file`` holds the user's own text; without one, neutral text in the workload's language.
    """

    tokens: int
    language: str
    file: str = ""

    def identity(self) -> dict[str, Any]:
        """What stands in a cell's identity: the length and the text, not where the text lies."""
        own = f"{self.language} {neutral.fingerprint(self.language)}"
        return {"tokens": self.tokens, "text": _fingerprint(self.file) if self.file else own}

    def text(self, seed: int, characters: int) -> str:
        """The first characters of the text; a user's document may have fewer. Raises ParamsError as `read` does."""
        return read(self.file)[:characters] if self.file else neutral.text(self.language, seed, characters)


@dataclass(frozen=True)
class Point:
    """One value of an axis: its experiment, the answer's length [tokens], and what is put before the question."""

    experiment: str
    output_tokens: int
    context: Context | None = None
    thinking: bool | None = None


def points(study: Study, workload: Workload) -> Iterable[Point]:
    """Every point of a study's axes for one workload: none where no axis is on.

    Answers of other lengths are measured at the longest context, where the prompt costs most; at the plain prompt
    where the study has no contexts.
    """
    language, file = ("", study.context_document) if study.context_document else (workload.language, "")
    contexts = [Context(tokens, language, file) for tokens in study.context_tokens]
    for context in contexts:
        yield Point("context", study.timing_tokens, context)
    for tokens in study.output_tokens:
        yield Point("output", tokens, contexts[-1] if contexts else None)
    for thinking in study.thinking:
        yield Point("thinking", study.thinking_tokens or 4 * study.timing_tokens, thinking=thinking)


@lru_cache
def read(file: str) -> str:
    """The user's own document.

    Raises
    ------
    ParamsError
        It is missing, empty, or no text.
    """
    fix = "Name a text file in context_document, or leave the key out: neutral text is used then."
    try:
        text = inside(file).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ParamsError(f"context_document {file} is not text.", why="It is not UTF-8.", fix=fix) from None
    except OSError as error:
        raise ParamsError(f"context_document {file} cannot be read.", why=str(error.strerror), fix=fix) from None
    if not text or "\0" in text:
        raise ParamsError(
            f"context_document {file} is {'not text' if text else 'empty'}.",
            why="It holds a zero byte." if text else "It has no words.",
            fix=fix,
        )
    return text


def longest(study: Study) -> tuple[int, int]:
    """(tokens of prompt and answer together, of the answer alone) at the longest point; (0, 0) without axes.

    A point without a context counts its answer alone: its prompt is short, and unknown before it is counted.
    """
    deepest = max(study.context_tokens, default=0)
    answers = [study.timing_tokens] if study.context_tokens else []
    answers += [study.thinking_tokens or 4 * study.timing_tokens] if study.thinking and not deepest else []
    answer = max((*answers, *study.output_tokens), default=0)
    return deepest + answer, answer


@lru_cache
def _fingerprint(file: str) -> str:
    """Hash of a document's text; a document that is not here has no records, and preflight says so."""
    try:
        return hashlib.sha256(read(file).encode()).hexdigest()[:12]
    except ParamsError:
        return f"absent {file}"

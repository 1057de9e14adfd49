"""data/neutral.yaml -> neutral text of any length in three languages: the same seed gives the same text everywhere."""

from __future__ import annotations

import hashlib
import random
import re
from functools import lru_cache

import yaml
from pydantic import ValidationError

from analysis.errors import ParamsError
from analysis.frozen import Frozen
from analysis.places import DATA

FILE = DATA / "neutral.yaml"
JOIN = {"en": " ", "ja": "", "python": "\n\n"}
_SLOT = re.compile(r"\{(\w+)\}")


class Grammar(Frozen):
    """Sentences with slots, the words of each slot, and how sentences become paragraphs."""

    sentences: tuple[int, int]
    frames: tuple[str, ...]
    slots: dict[str, tuple[str, ...]]
    same: bool = False


def text(language: str, seed: int, characters: int) -> str:
    """The first ``characters`` of an endless text; a shorter one is the beginning of a longer one.

    ``language`` is ``en``, ``ja`` or ``python``; English stands in for any other.
    """
    language = language if language in JOIN else "en"
    grammar = grammars()[language]
    draw = random.Random(f"{language}-{seed}")
    parts: list[str] = []
    length = 0
    while length < characters:
        sentences = [_sentence(grammar, draw) for _ in range(draw.randint(*grammar.sentences))]
        parts.append(JOIN[language].join(sentences) + "\n\n")
        length += len(parts[-1])
    return "".join(parts)[:characters]


@lru_cache
def fingerprint(language: str) -> str:
    """Hash of what `text` gives: it changes when the grammar does."""
    return hashlib.sha256(text(language, 0, 20_000).encode()).hexdigest()[:12]


@lru_cache
def grammars() -> dict[str, Grammar]:
    """Every grammar by language. Raises ParamsError where the file is malformed."""
    try:
        raw = yaml.safe_load(FILE.read_text(encoding="utf-8"))
        return {language: Grammar.model_validate(entry) for language, entry in raw.items()}
    except (OSError, yaml.YAMLError, AttributeError, KeyError, ValidationError) as error:
        raise ParamsError(
            "data/neutral.yaml cannot be used.", why=str(error)[:300], fix="Restore it: git checkout data/neutral.yaml"
        ) from None


def _sentence(grammar: Grammar, draw: random.Random) -> str:
    drawn: dict[str, str] = {}

    def fill(slot: re.Match[str]) -> str:
        name = slot[1]
        if not grammar.same or name not in drawn:
            words = grammar.slots.get(name)
            drawn[name] = draw.choice(words) if words else str(draw.randint(2, 9999))
        return drawn[name]

    return _SLOT.sub(fill, draw.choice(grammar.frames)).replace("{{", "{").replace("}}", "}")

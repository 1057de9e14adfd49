"""Answers that are no language: repetition, special tokens in the text, thinking. Signs that mark a cell; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from analysis.records.schema import repetition

#: An answer of which more than this share of word windows was there before has collapsed into repetition.
MOST_REPETITION = 0.8
SHORTEST = 40  # characters; a shorter answer has no repetition to speak of

#: What tokenizers of Gemma and its kin write for tokens that are no text.
SPECIAL = re.compile(
    r"<(?:pad|bos|eos|unk|unused\d{1,4}|start_of_turn|end_of_turn|start_of_image)>|<\|[a-z_]{1,24}\|?>|<[a-z_]{1,24}\|>"
)


class Texts(Protocol):
    text: str
    thinking: str
    finish_reason: str


def signs(experiment: str, answers: Sequence[Texts]) -> list[dict[str, str]]:
    """What is odd about the answers of one cell, as causes with fixes; [] for sound ones.

    ``raw`` cells are allowed to repeat themselves: that this endpoint does it is what they show.
    """
    found = []
    repeated = [a for a in answers if level(a.text) > MOST_REPETITION]
    if repeated and experiment != "raw":
        worst = max(level(a.text) for a in repeated)
        found.append(
            _sign(
                "repetition",
                f"{_of(repeated, answers)} repeat themselves (up to {worst:.0%}, above {MOST_REPETITION:.0%}): "
                "acceptance and speed of such text say nothing about language.",
                "Read the texts; check chat template, checkpoint, quantisation and sampling.",
            )
        )
    special = [a for a in answers if SPECIAL.search(a.text)]
    if special:
        token = SPECIAL.search(special[0].text)[0]
        found.append(
            _sign(
                "special-tokens",
                f"{_of(special, answers)} hold special tokens as text, such as {token}.",
                "Check that the checkpoint's tokenizer and chat template belong together, and that the weights are whole.",
            )
        )
    thought = [a for a in answers if a.thinking]
    if thought and experiment != "thinking":
        found.append(
            _sign(
                "thinking",
                f"{_of(thought, answers)} begin with thinking: times and tokens include it, the text does not.",
                "Start the server without a reasoning parser and with thinking off where answers alone are to be measured.",
            )
        )
    return found


def level(text: str) -> float:
    """Share of a text that was there before, 0 to 1: 1 for one word over and over, 0 for a short text."""
    if len(text) < SHORTEST:
        return 0.0
    words = text.split()
    return 1.0 if len(set(words)) == 1 < len(words) else repetition(text)


def _of(some: Iterable[Texts], all_: Sequence[Texts]) -> str:
    return f"{len(list(some))} of {len(all_)} answers"


def _sign(id_: str, cause: str, fix: str) -> dict[str, str]:
    return {"id": id_, "cause": cause, "fix": fix, "source": "ours"}

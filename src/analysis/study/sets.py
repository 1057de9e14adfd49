"""Standard prompt sets by name: where each comes from, and how a row of it becomes a prompt. One row per set.

A set's rows lie in data/cache/sets/<name>.jsonl, where `prefetch` puts them, or in a file that the study names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from analysis.places import CACHE

HOME = CACHE / "sets"
#: What SPEED-Bench has in place of rows whose text must be fetched from elsewhere.
PLACEHOLDER = "FULL BENCHMARK DATA SHOULD BE FETCHED"


@dataclass(frozen=True)
class StandardSet:
    """One set.

    Parameters
    ----------
    hub, config, split : str
        The data set on the Hugging Face hub.
    prompt : callable
        A row -> what is asked; raises KeyError or another LookupError, TypeError for a row of another form.
    id, category : str
        Columns of a row; empty where it has none.
    """

    name: str
    title: str
    hub: str
    split: str
    prompt: Callable[[dict[str, Any]], str]
    config: str | None = None
    id: str = ""
    category: str = ""
    language: str = "en"

    @property
    def file(self) -> str:
        """Where `prefetch` puts it."""
        return str(HOME / f"{self.name}.jsonl")


def _first_turn(row: dict[str, Any]) -> str:
    """The first turn of a conversation: later turns would need the answers between them."""
    for key in ("prompt", "turns", "messages"):
        if row.get(key):
            turn = row[key] if isinstance(row[key], str) else row[key][0]
            return turn if isinstance(turn, str) else turn["content"]
    raise KeyError("prompt, turns or messages")


def _complete(row: dict[str, Any]) -> str:
    return f"Complete this Python function. Give the whole function.\n\n```python\n{row['prompt'].rstrip()}\n```"


SETS = {
    one.name: one
    for one in (
        StandardSet("gsm8k", "GSM8K", "openai/gsm8k", "test", lambda row: row["question"], config="main"),
        StandardSet(
            "humaneval", "HumanEval", "openai/openai_humaneval", "test", _complete, id="task_id", language="python"
        ),
        StandardSet(
            "mt_bench",
            "MT-Bench",
            "HuggingFaceH4/mt_bench_prompts",
            "train",
            _first_turn,
            id="prompt_id",
            category="category",
        ),
        StandardSet(
            "speed_bench",
            "SPEED-Bench",
            "nvidia/SPEED-Bench",
            "test",
            _first_turn,
            config="qualitative",
            id="question_id",
            category="category",
        ),
    )
}

"""What was counted, in tokens, drafts and events: totals of a server (a snapshot), or of a cell (a difference). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.errors import CountersError


@dataclass(frozen=True)
class Counters:
    """Totals since the server started (a snapshot) or over a cell (a difference), in tokens, drafts, events."""

    drafts: int = 0
    draft_tokens: int = 0
    accepted: int = 0
    per_position: tuple[int, ...] = ()
    generation_tokens: int = 0
    prompt_tokens: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    running: int = 0


TOTALS = ("drafts", "draft_tokens", "accepted", "generation_tokens", "prompt_tokens", "prefix_hits", "preemptions")


def difference(before: Counters, after: Counters) -> Counters:
    """What a cell added. Raises CountersError where anything fell: the engine restarted in between."""
    pairs = {key: (getattr(before, key), getattr(after, key)) for key in TOTALS}
    pairs |= {f"position {i}": pair for i, pair in enumerate(zip(before.per_position, after.per_position, strict=True))}
    if fell := [key for key, (a, b) in pairs.items() if b < a]:
        a, b = pairs[fell[0]]
        raise CountersError(
            f"The counter {fell[0]} fell from {a} to {b} during a measurement.",
            why="The engine restarted, or somebody reset it.",
            fix="Run again: the measurement is repeated.",
        )
    return Counters(
        **{key: b - a for key, (a, b) in pairs.items() if key in TOTALS},
        per_position=tuple(b - a for a, b in zip(before.per_position, after.per_position, strict=True)),
    )

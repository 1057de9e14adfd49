"""vLLM's Prometheus counters, read strictly: exact names, ``_total`` samples only, summed over engines.

Beside each counter stands a ``_created`` gauge with a Unix time, which a prefix match would add up; exact names
leave it out. A position that never accepted has no sample and counts 0. A counter that falls rejects the cell.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from analysis.errors import CountersError
from analysis.study.plan import Arm

SCALARS = {
    "drafts": "vllm:spec_decode_num_drafts_total",
    "draft_tokens": "vllm:spec_decode_num_draft_tokens_total",
    "accepted": "vllm:spec_decode_num_accepted_tokens_total",
    "generation_tokens": "vllm:generation_tokens_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "prefix_hits": "vllm:prefix_cache_hits_total",
    "preemptions": "vllm:num_preemptions_total",
}
SPECULATIVE = ("drafts", "draft_tokens", "accepted")
PER_POSITION = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
RUNNING = ("vllm:num_requests_running", "vllm:num_requests_waiting")


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


def parse(text: str, k: int) -> Counters:
    """Read one answer of ``/metrics`` of an arm with ``k`` drafts a step (0 = baseline: no speculative counters).

    Raises
    ------
    CountersError
        Not Prometheus text, a counter missing, a position at or beyond ``k``, a value that is no whole number.
    """
    values: dict[str, float] = {}
    positions: dict[int, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == PER_POSITION:
                    position = int(sample.labels["position"])
                    positions[position] = positions.get(position, 0) + sample.value
                elif sample.name in SCALARS.values() or sample.name in RUNNING:
                    values[sample.name] = values.get(sample.name, 0) + sample.value
    except (ValueError, KeyError) as error:
        raise CountersError(
            "The answer of /metrics is not Prometheus text.",
            why=str(error)[:200],
            fix="Check that server.url is a vLLM server.",
            details=text[:500],
        ) from None
    wanted = [name for key, name in SCALARS.items() if k or key not in SPECULATIVE]
    if missing := [name for name in [*wanted, RUNNING[0]] if name not in values]:
        why = (
            "An arm with a drafter shows these counters only while speculation is on."
            if k and missing[0] in [SCALARS[s] for s in SPECULATIVE]
            else "This engine does not export them."
        )
        raise CountersError(
            f"/metrics lacks {', '.join(missing)}.",
            why=why,
            fix="Check the launch's log for method='mtp', and that statistics are not switched off (--disable-log-stats).",
        )
    if k and (beyond := [p for p in positions if not 0 <= p < k]):
        raise CountersError(
            f"/metrics counts acceptance at position {beyond[0]}, and K is {k}.",
            why="The server runs another K than its arm says.",
            fix="End that server; let the study start it.",
        )
    counts = values | {f"{PER_POSITION} at {i}": v for i, v in positions.items() if k}
    if bad := [n for n, v in counts.items() if not math.isfinite(v) or v < 0 or v != int(v)]:
        raise CountersError(f"{bad[0]} is {counts[bad[0]]}, which is no count.", fix="Restart the server.")
    return Counters(
        **{key: int(values.get(name, 0)) for key, name in SCALARS.items()},
        per_position=tuple(int(positions.get(i, 0)) for i in range(k)),
        running=int(sum(values.get(name, 0) for name in RUNNING)),
    )


def difference(before: Counters, after: Counters) -> Counters:
    """What a cell added. Raises CountersError where anything fell: the engine restarted in between."""
    pairs = {key: (getattr(before, key), getattr(after, key)) for key in SCALARS}
    pairs |= {f"position {i}": pair for i, pair in enumerate(zip(before.per_position, after.per_position, strict=True))}
    if fell := [key for key, (a, b) in pairs.items() if b < a]:
        a, b = pairs[fell[0]]
        raise CountersError(
            f"The counter {fell[0]} fell from {a} to {b} during a cell.",
            why="The engine restarted, or somebody reset it.",
            fix="Run again: the cell is measured anew.",
        )
    return Counters(
        **{key: b - a for key, (a, b) in pairs.items() if key in SCALARS},
        per_position=tuple(b - a for a, b in zip(before.per_position, after.per_position, strict=True)),
    )


def of_answers(answers: Sequence[Any], k: int) -> Counters:
    """The counts of a cell on llama.cpp, which exports none: from the ``timings`` of its answers.

    It says how many tokens were drafted and accepted, not in how many drafts. A step makes one token more than it
    accepts, and the first token comes from the prompt, so drafts = tokens - 1 - accepted, at least draft tokens / K;
    a step that drafted nothing counts as a draft too, and the acceptance length is then a little too low.
    """
    drafting = [a for a in answers if a.draft_tokens]
    return Counters(
        drafts=sum(
            max(a.completion_tokens - 1 - a.accepted_tokens, math.ceil(a.draft_tokens / max(k, 1))) for a in drafting
        ),
        draft_tokens=sum(a.draft_tokens for a in drafting),
        accepted=sum(a.accepted_tokens for a in drafting),
        generation_tokens=sum(a.completion_tokens for a in answers),
        prompt_tokens=sum(a.prompt_tokens for a in answers),
        prefix_hits=sum(a.cached_tokens for a in answers),
    )


class Meter:
    """Counts between its making and `read`: by vLLM's counters, or by the answers where the server has none."""

    def __init__(self, url: str, arm: Arm):
        self._url, self._arm = url, arm
        self._before = None if arm.server.flavour == "llama.cpp" else snapshot(url, arm.k)

    def read(self, answers: Sequence[Any]) -> Counters:
        """What was counted since; raises CountersError as `snapshot` and `difference` do."""
        if self._before is None:
            return of_answers(answers, self._arm.k)
        return difference(self._before, snapshot(self._url, self._arm.k))


def snapshot(url: str, k: int, *, idle_s: float = 30.0) -> Counters:
    """Read ``/metrics`` once no request is running or waiting and two readings agree.

    Raises
    ------
    CountersError
        No answer, or not idle after ``idle_s`` seconds: somebody else uses the server.
    """
    deadline = time.monotonic() + idle_s
    last: Counters | None = None
    with httpx.Client(timeout=10, trust_env=False) as http:
        while True:
            try:
                answer = http.get(f"{url}/metrics")
                answer.raise_for_status()
            except httpx.HTTPError as error:
                raise CountersError(
                    f"{url}/metrics did not answer.",
                    why=str(error)[:200] or type(error).__name__,
                    fix="Check that the server is alive.",
                ) from None
            now = parse(answer.text, k)
            if now.running == 0 and now == last:
                return now
            if time.monotonic() > deadline:
                raise CountersError(
                    f"{now.running} requests still run after {idle_s:.0f} s of waiting.",
                    why="Somebody else uses this server.",
                    fix="Keep the server to the study while it measures.",
                )
            last = now
            time.sleep(0.1)

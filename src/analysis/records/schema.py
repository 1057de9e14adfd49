"""The tidy frames: their columns, units and what must hold. Pure: lists of records in, checked frames out."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pandera.pandas as pa

from analysis.errors import StoreError
from analysis.records import withheld
from analysis.records.withheld import repetition
from analysis.study.engine_k import WAYS
from analysis.study.graphs import SIDES
from analysis.study.speculator import SPECULATORS

EXPERIMENTS = ("timing", "concurrency", "code", "greedy", "raw", "context", "output", "thinking")
_KEYS = {
    "cell_id": pa.Column(str),
    "launch_id": pa.Column(str),
    "launch": pa.Column(int, pa.Check.ge(1)),
    "arm": pa.Column(str),
    "variant": pa.Column(str),
    "k": pa.Column(int, pa.Check.ge(0)),
    "speculator": pa.Column(str, pa.Check.isin(list(SPECULATORS))),
    "experiment": pa.Column(str, pa.Check.isin(EXPERIMENTS)),
    "workload": pa.Column(str),
    "concurrency": pa.Column(int, pa.Check.ge(1)),
    "repeat": pa.Column(int, pa.Check.ge(1)),
    "context_tokens": pa.Column(int, pa.Check.ge(0)),  # 0: the prompt as it is
    "output_tokens": pa.Column(int, pa.Check.ge(0)),  # 0: not measured for its length of answer
    "thinks": pa.Column(str, pa.Check.isin(["", "off", "on"])),  # "": thinking was not asked about
    "way": pa.Column(str, pa.Check.isin(["", *WAYS])),  # how the engine chooses K or verifies; empty: fixed K
}
_COUNT = pa.Column(int, pa.Check.ge(0))
_SECONDS = pa.Column(float, pa.Check.ge(0))

CELLS = pa.DataFrameSchema(
    {
        **_KEYS,
        "status": pa.Column(str),
        "reason": pa.Column(str),
        "wall_s": _SECONDS,
        "requests": _COUNT,
        "prompt_tokens": _COUNT,
        "completion_tokens": _COUNT,
        "drafts": _COUNT,
        "draft_tokens": _COUNT,
        "accepted": _COUNT,
        "generation_tokens": _COUNT,
        "prefix_hits": _COUNT,
        "preemptions": _COUNT,
        "in_graphs": pa.Column(str, pa.Check.isin(SIDES)),
        "energy_j": pa.Column(float, pa.Check.ge(0), nullable=True),  # of the GPU; NaN where no counter was readable
    },
    coerce=True,
    strict="filter",
)
REQUESTS = pa.DataFrameSchema(
    {
        **_KEYS,
        "index": _COUNT,
        "prompt_id": pa.Column(str),
        "seed": pa.Column(int),
        "stream": _COUNT,
        "seconds": _SECONDS,
        "ttft": _SECONDS,
        "last": _SECONDS,
        "chunks": _COUNT,
        "prompt_tokens": _COUNT,
        "completion_tokens": pa.Column(int, pa.Check.ge(1)),
        "finish_reason": pa.Column(str),
        "text": pa.Column(str),
        "gap_p50": pa.Column(float, nullable=True),
        "steps": _COUNT,
        "step_accepted": _COUNT,
        "undrafted_steps": _COUNT,
        "thought_tokens": _COUNT,
        "thought_steps": _COUNT,
        "thought_accepted": _COUNT,
        "thought_s": _SECONDS,
        # derived
        "chars": _COUNT,
        "tpot": pa.Column(float, pa.Check.ge(0), nullable=True),
        "tok_s": _SECONDS,
        "decode_tok_s": pa.Column(float, nullable=True),
        "chars_s": _SECONDS,
        "repetition": pa.Column(float, pa.Check.in_range(0, 1)),
    },
    coerce=True,
    strict="filter",
)
POSITIONS = pa.DataFrameSchema(
    {**_KEYS, "position": _COUNT, "drafts": _COUNT, "accepted": _COUNT}, coerce=True, strict="filter"
)


#: Column that a frame gained after records were already kept -> the value it has in those. An entry here, and the
#: column in its frame above, is all that a new column takes; `analysis.records.store.FORMAT` stays.
DEFAULTS: dict[str, Any] = {
    "context_tokens": 0,
    "output_tokens": 0,
    "way": "",
    "in_graphs": "not known",
    "energy_j": float("nan"),
    "thinks": "",
    "thought_tokens": 0,
    "thought_steps": 0,
    "thought_accepted": 0,
    "thought_s": 0.0,
}


def cells(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per cell: keys, status, wall_s [s], tokens and drafts [counts]."""
    return _frame(records, CELLS)


def requests(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per request: seconds, ttft, last [s]; tpot [s/token] = (last − ttft)/(completion_tokens − 1); speeds [1/s].

    ``repetition`` is the share of 8-word windows (16-character ones in a text without spaces) seen before: a text
    that collapsed into repetition is near 1.
    """
    frame = _raw(records, REQUESTS)
    if len(frame):
        try:
            frame = _derived(frame)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StoreError(
                "A record of a request lacks a value or has one of a wrong kind.",
                why=f"{type(error).__name__}: {error}"[:200],
                fix="Move the study's folder away and measure again, or restore it from a copy.",
            ) from None
    return _checked(frame, REQUESTS)


def positions(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per cell and draft position (0-based): drafts and accepted tokens [counts]."""
    return _frame(records, POSITIONS)


def launches(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per launch: arm, k, launch, ready_s, first_request_s [s] and the startup facts as columns."""
    columns = [
        "launch_id",
        "launch",
        "arm",
        "variant",
        "k",
        "speculator",
        "ready_s",
        "first_request_s",
        "command",
        "causes",
    ]
    rows = [
        {
            **{c: r.get(c) for c in columns},
            "speculator": r.get("speculator") or _of_old(r["k"]),
            **{fact: v for fact, v in r["facts"].items() if fact != "k"},
        }
        for r in records
        if r
    ]
    return pd.DataFrame(rows, columns=None if rows else columns)


def _derived(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the columns that follow from others."""
    gaps = frame.get("gaps", pd.Series([()] * len(frame), index=frame.index))
    frame["gap_p50"] = [float(pd.Series(g).median()) if g else float("nan") for g in gaps]
    frame["steps"] = [len(s) for s in frame["steps_accepted"]]
    frame["step_accepted"] = [sum(s) for s in frame["steps_accepted"]]
    frame["undrafted_steps"] = [sum(d == 0 for d in s) for s in frame["steps_drafted"]]
    if "thinking_chunks" in frame:
        thoughts = [
            _thought(*row) for row in zip(frame.thinking_chunks, frame.chunks, frame.steps_accepted, gaps, strict=True)
        ]
        for at, column in enumerate(("thought_tokens", "thought_steps", "thought_accepted", "thought_s")):
            frame[column] = [thought[at] for thought in thoughts]
    frame["chars"] = withheld.derived(frame, "chars", frame["text"].str.len())
    decoded = frame["completion_tokens"].where(frame["completion_tokens"] > 1) - 1
    frame["tpot"] = (frame["last"] - frame["ttft"]) / decoded
    frame["decode_tok_s"] = 1 / frame["tpot"].where(frame["tpot"] > 0)
    frame["tok_s"] = frame["completion_tokens"] / frame["seconds"]
    frame["chars_s"] = frame["chars"] / frame["seconds"]
    frame["repetition"] = withheld.derived(frame, "repetition", frame["text"].map(repetition))
    return frame


def _thought(chunks: float, of: int, accepted: list[int], gaps: list[float]) -> tuple[int, int, int, float]:
    """(tokens, steps, accepted tokens, seconds) of an answer's thinking, whose chunks come first.

    The first chunk comes with the prompt and every step gives one, so ``chunks`` are chunks - 1 steps. A parser may
    swallow a chunk (the marks around a thought): then steps are shared out as the chunks are.
    """
    if not chunks or chunks != chunks:
        return 0, 0, 0, 0.0
    chunks, steps = int(chunks), len(accepted)
    own = chunks - 1 if steps in (0, of - 1) else round(steps * chunks / of)
    inside = sum(accepted[:own])
    return 1 + own + inside, own, inside, float(sum(gaps[: chunks - 1]))


def _frame(records: list[dict[str, Any]], schema: pa.DataFrameSchema) -> pd.DataFrame:
    return _checked(_raw(records, schema), schema)


def _raw(records: list[dict[str, Any]], schema: pa.DataFrameSchema) -> pd.DataFrame:
    if not records:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in schema.columns})
    frame = pd.DataFrame(records)
    return frame if "speculator" in frame or "k" not in frame else frame.assign(speculator=frame.k.map(_of_old))


def _of_old(k: int) -> str:
    """The speculator of a record from before it was kept: every arm that drafted did so by MTP."""
    return "mtp" if k else "none"


def _checked(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> pd.DataFrame:
    for column, value in DEFAULTS.items():
        if column in schema.columns:
            frame[column] = frame[column].fillna(value) if column in frame else value
    try:
        return schema.validate(frame, lazy=True).reset_index(drop=True)[list(schema.columns)]
    except pa.errors.SchemaErrors as error:
        first = error.failure_cases.iloc[0]
        raise StoreError(
            f"A record has a wrong value in '{first['column']}': {first['failure_case']}.",
            why=f"The rule is {first['check']}.",
            fix="Move the study's folder away and measure again, or restore it from a copy.",
        ) from None

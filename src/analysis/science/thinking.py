"""Thought and answer apart: how much is thought, how fast, and how many drafts are accepted in each. Pure."""

from __future__ import annotations

import pandas as pd

KEYS = ["variant", "arm", "k", "workload", "thinks"]


def by_part(requests: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, workload, switch (on, off) and part (thought, answer); empty where the study has no such axis.

    Out: requests; tokens (mean per request that has the part); tok_s = tokens after the part's first over its seconds
    [tokens/s]; al [tokens/step] = 1 + accepted / steps, from the engine's record of each request (NaN without one, and
    for the baseline); seconds (mean per request, of the part).
    """
    own = requests[requests.experiment == "thinking"].copy()
    if own.empty:
        return pd.DataFrame(columns=[*KEYS, "part", "requests", "tokens", "seconds", "tok_s", "al"])
    thought = own.assign(
        part="thought",
        tokens=own.thought_tokens,
        taken=own.thought_s,
        own_steps=own.thought_steps,
        got=own.thought_accepted,
    )
    answer = own.assign(
        part="answer",
        tokens=own.completion_tokens - own.thought_tokens,
        taken=own["last"] - own.ttft - own.thought_s,
        own_steps=own.steps - own.thought_steps.where(own.steps > 0, 0),
        got=own.step_accepted - own.thought_accepted,
    )
    parts = pd.concat([thought, answer])
    parts = parts[parts.tokens > 0]
    parts["decoded"] = parts.tokens - (
        (parts.part == "thought") | (parts.thought_tokens == 0)
    )  # one comes with the prompt
    table = parts.groupby([*KEYS, "part"], as_index=False).agg(
        requests=("tokens", "size"),
        tokens=("tokens", "mean"),
        seconds=("taken", "mean"),
        decoded=("decoded", "sum"),
        taken=("taken", "sum"),
        steps=("own_steps", "sum"),
        got=("got", "sum"),
        ledger=("steps", "sum"),
    )
    table["tok_s"] = table.decoded / table.taken.where(table.taken > 0)
    known = (table.k > 0) & (table.ledger > 0) & (table.steps > 0)
    table["al"] = (1 + table.got / table.steps.where(table.steps > 0)).where(known)
    order = table.assign(last=table.part == "answer").sort_values(["workload", "variant", "k", "thinks", "last"])
    return order[[*KEYS, "part", "requests", "tokens", "seconds", "tok_s", "al"]].reset_index(drop=True)

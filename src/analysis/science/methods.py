"""Ways of proposing tokens side by side: what each gains, what it costs, and whether one wins. Pure: frames in, frames out."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.science import arms, costmodel, speedup
from analysis.science.intervals import Spread
from analysis.science.stats import NoiseFloor
from analysis.study import speculator

KEYS = ["variant", "arm", "k", "workload"]
_WINNER = ["workload", "arm", "speedup", "method"]
#: Startup facts in which methods may differ beside the way they propose: confounds of the comparison.
CONFOUNDS = (
    "runner",
    "attention",
    "drafter_attention",
    "graph_mode",
    "async_scheduling",
    "eager",
    "max_scheduled_tokens",
)


def side_by_side(
    cells: pd.DataFrame, requests: pd.DataFrame, floor: NoiseFloor, earlier: Spread | None = None
) -> pd.DataFrame:
    """One row per speculating arm and workload. `earlier` as in `speedup.paired`.

    Out: method; speedup with lo, hi, prompt_min, prompt_max and verdict, as in `speedup.paired`; drafted (share of the
    steps that had a draft: a method that looks into the text has none where nothing repeats); ar (accepted / draft
    tokens); al (tokens per step with a draft); per_step (tokens per step of any kind); rho (cost of a step in baseline
    steps). Speedup at one stream is per_step / rho, but for the prompt.
    """
    steps = costmodel.step_time(cells, requests)
    costs = costmodel.step_cost(steps)[[*KEYS, "rho"]]
    steps["per_step"] = steps.step_s / steps.tpot
    paired = speedup.paired(requests, earlier)
    counts = ["requests", "completion_tokens", "drafts", "draft_tokens", "accepted"]
    timing = cells[cells.experiment == "timing"].groupby(KEYS, as_index=False)[counts].sum()
    table = paired.merge(costs, on=KEYS).merge(timing, on=KEYS)
    table = table.merge(steps.groupby(KEYS, as_index=False).per_step.mean(), on=KEYS)
    table["method"] = table.arm.map(lambda name: speculator.of_arm(name)[0].method)
    all_steps = (table.completion_tokens - table.requests) / table.per_step  # the first token comes with the prompt
    table["drafted"] = (table.drafts / all_steps).clip(upper=1)
    table["ar"] = table.accepted / table.draft_tokens.where(table.draft_tokens > 0)
    table["al"] = 1 + table.accepted / table.drafts.where(table.drafts > 0)
    table["verdict"] = [speedup.verdict(row, floor) for _, row in table.iterrows()]
    spread = ["lo", "hi", "prompt_min", "prompt_max", "launches"]
    columns = ["method", *KEYS, "speedup", *spread, "verdict", "drafted", "ar", "al", "per_step", "rho"]
    return table[columns].sort_values(["workload", "method", "variant", "k"], ignore_index=True)


def winners(table: pd.DataFrame, floor: NoiseFloor) -> pd.DataFrame:
    """Per workload the arm to use, or that none can be told from the others. In: `side_by_side`.

    Each method stands with its fastest K; the baseline stands with 1. Out: workload, arm (of the fastest; ``baseline``
    where no method is faster), speedup, method, others (methods that cannot be told from it, "none" for the baseline),
    clear (True where there is none of these), known (False where nothing says how much a restart changes), launches.
    """
    rows = []
    for workload, own in table.groupby("workload", sort=False):
        best = own.loc[own.groupby("method").speedup.idxmax()]
        standing = [r._asdict() for r in best.itertuples()]
        standing.append({"method": "none", "arm": "baseline", "speedup": 1.0, "lo": float("nan"), "hi": float("nan")})
        first, *rest = sorted(standing, key=lambda r: -r["speedup"])
        near = [r["method"] for r in rest if not _differs(first, r, floor)]
        known = floor.known or bool(own.lo.notna().all())
        start = [workload, first["arm"], first["speedup"], first["method"]]
        rows.append([*start, tuple(near), known and not near, known, own.launches.max()])
    return pd.DataFrame(rows, columns=[*_WINNER, "others", "clear", "known", "launches"])


def costs(launches: pd.DataFrame) -> pd.DataFrame:
    """What a method costs before the first token. In: launch frame.

    Out: one row per arm, means over launches: ready_s, first_request_s [s]; weights_gib, kv_tokens and, against the
    baseline, more_weights_gib and less_kv (share of the K/V cache that is gone); NaN where the engine does not say.
    """
    if launches.empty:
        return pd.DataFrame(columns=["arm"])
    wanted = [c for c in ("ready_s", "first_request_s", "weights_gib", "kv_tokens") if c in launches]
    table = launches.groupby(["variant", "k", "arm"], as_index=False)[wanted].mean()
    table = table.reindex(columns=["variant", "k", "arm", "ready_s", "first_request_s", "weights_gib", "kv_tokens"])
    numbers = ["weights_gib", "kv_tokens"]
    table[numbers] = table[numbers].astype(float)
    base = table[table.arm == "baseline"]
    first = base.iloc[0] if len(base) else pd.Series({"weights_gib": float("nan"), "kv_tokens": float("nan")})
    table["more_weights_gib"] = table.weights_gib - first.weights_gib
    table["less_kv"] = 1 - table.kv_tokens / first.kv_tokens
    order = table.assign(first=table.arm != "baseline").sort_values(["first", "variant", "k"])
    return order.drop(columns=["first"]).reset_index(drop=True)


def confounds(launches: pd.DataFrame) -> pd.DataFrame:
    """Startup facts that are not the same in all arms: what differs beside the method. In: launch frame.

    Out: fact, and one row per value: arms that have it (names).
    """
    rows = []
    for fact in (c for c in CONFOUNDS if c in launches):
        own = launches[arms.speculating(launches)] if fact.startswith("drafter") else launches
        values = own[fact].map(_plain)
        if values.nunique() > 1:
            rows += [
                {"fact": fact, "value": value, "arms": tuple(dict.fromkeys(own.arm[values == value]))}
                for value in dict.fromkeys(values)
            ]
    return pd.DataFrame(rows, columns=["fact", "value", "arms"])


def _differs(a: dict[str, Any], b: dict[str, Any], floor: NoiseFloor) -> bool:
    """Whether two speedups can be told apart: intervals that do not overlap, else a ratio beyond the noise floor."""
    if all(r[end] == r[end] for r in (a, b) for end in ("lo", "hi")):
        return a["lo"] > b["hi"] or a["hi"] < b["lo"]
    if a["lo"] == a["lo"] and b["arm"] == "baseline":
        return not a["lo"] <= 1 <= a["hi"] and not floor.inside(a["speedup"])
    return floor.known and not floor.inside(a["speedup"] / b["speedup"])


def _plain(value: Any) -> str:
    return "not said" if value is None or value != value else str(value)

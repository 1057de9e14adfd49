"""Acceptance from counters: AL, AR, p_i and c_i, and the token ledger. Pure: frames in, frames out.

Definitions are vLLM's: AL = 1 + accepted/drafts (the bonus token counted), AR = accepted/draft tokens,
p_i = accepted at position i / drafts (unconditional), c_i = p_i / p_{i-1} (conditional, c_0 = p_0).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.science import arms as which
from analysis.science.stats import wilson

_COUNTS = ["requests", "completion_tokens", "drafts", "draft_tokens", "accepted"]


def by_arm(cells: pd.DataFrame, by: Sequence[str] = ("variant", "arm", "k", "workload")) -> pd.DataFrame:
    """AL [tokens/step] and AR of the speculating arms. In: cell frame. Out: one row per group with counts, al, ar."""
    sums = cells[which.speculating(cells)].groupby(list(by), as_index=False)[_COUNTS].sum()
    sums["al"] = 1 + sums.accepted / sums.drafts.where(sums.drafts > 0)
    sums["ar"] = sums.accepted / sums.draft_tokens.where(sums.draft_tokens > 0)
    return sums


def by_position(positions: pd.DataFrame, by: Sequence[str] = ("variant", "arm", "k", "workload")) -> pd.DataFrame:
    """p_i with its Wilson interval, and c_i. In: position frame. Out: one row per group and position (0-based).

    The interval treats drafts as independent, which neighbours in a text are not: read it as a lower bound of the spread.
    """
    sums = positions.groupby([*by, "position"], as_index=False)[["drafts", "accepted"]].sum()
    sums["p"] = sums.accepted / sums.drafts.where(sums.drafts > 0)
    bounds = [wilson(int(a), int(d)) for a, d in zip(sums.accepted, sums.drafts, strict=True)]
    sums["p_lo"], sums["p_hi"] = [b[0] for b in bounds], [b[1] for b in bounds]
    before = sums.groupby(list(by)).p.shift(1).where(sums.position > 0, 1.0)
    sums["c"] = sums.p / before.where(before > 0)
    return sums


def al_from_positions(p: Sequence[float], k: int) -> float:
    """AL at K = k from unconditional p_0 … p_{n-1} measured at n ≥ k drafts: 1 + Σ_{i<k} p_i (drafting is autoregressive)."""
    if k > len(p):
        raise ValueError(f"K = {k} needs {k} positions; {len(p)} were measured")
    return 1.0 + float(np.sum(p[:k]))


def ledger(cells: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """The identities of every cell that speculates, summed by arm and workload.

    Out: counts; ``sum_positions``-free residual: completion tokens − (requests + drafts + accepted) = undrafted steps
    − cut tokens; both from the engine's per-request ledger where it has one (``explained``), so that ``unexplained``
    is 0 where every token is accounted for, NaN where the engine reports no ledger.
    """
    cells = cells[which.speculating(cells)]
    speculating = requests[which.speculating(requests)].assign(
        undrafted=lambda r: r.undrafted_steps,
        made=lambda r: 1 + r.steps + r.step_accepted,  # the first token comes with the prompt; each step gives one more
    )
    speculating = speculating.assign(
        cut=(speculating.made - speculating.completion_tokens).where(speculating.steps > 0)
    )
    keys = ["variant", "arm", "k", "workload"]
    table = cells.groupby(keys)[_COUNTS].sum()
    table["residual"] = table.completion_tokens - (table.requests + table.drafts + table.accepted)
    per_request = speculating.groupby(keys).agg(
        undrafted=("undrafted", "sum"), cut=("cut", "sum"), known=("steps", lambda s: bool((s > 0).all()))
    )
    table = table.join(per_request)
    table["unexplained"] = (table.residual - (table.undrafted - table.cut)).where(table.known)
    return table.drop(columns="known").reset_index()


def identities(cells: pd.DataFrame, positions: pd.DataFrame) -> pd.DataFrame:
    """Checks of every speculating arm and workload: (identity, left side, right side, holds)."""
    sums = by_arm(cells)
    p = by_position(positions).groupby(["arm", "workload"]).agg(accepted=("accepted", "sum"), sum_p=("p", "sum"))
    rows = []
    for r in sums.itertuples():
        sums_of_arm = p.loc[(r.arm, r.workload)]
        rows += [
            (
                r.arm,
                r.workload,
                "Σ accepted per position = accepted",
                float(sums_of_arm.accepted),
                float(r.accepted),
                sums_of_arm.accepted == r.accepted,
            ),
            (
                r.arm,
                r.workload,
                "AL = 1 + Σ p_i",
                r.al,
                1 + sums_of_arm.sum_p,
                bool(np.isclose(r.al, 1 + sums_of_arm.sum_p, atol=1e-9)),
            ),
            (
                r.arm,
                r.workload,
                "draft tokens ≤ K × drafts",
                float(r.draft_tokens),
                float(r.k * r.drafts),
                r.draft_tokens <= r.k * r.drafts,
            ),
        ]
    return pd.DataFrame(rows, columns=["arm", "workload", "identity", "left", "right", "holds"])

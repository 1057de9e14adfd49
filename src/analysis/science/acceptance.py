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
    """AL [tokens/step] and AR of the speculating arms. In: cell frame. Out: one row per group with counts, al, ar.

    Arms whose counters count slots are left out (`analysis.science.load.chosen` has them): theirs is not the drafter's.
    """
    return _sums(cells[which.of_the_drafter(cells)], by)


def _sums(cells: pd.DataFrame, by: Sequence[str] = ("variant", "arm", "k", "workload")) -> pd.DataFrame:
    sums = cells[which.speculating(cells)].groupby(list(by), as_index=False)[_COUNTS].sum()
    sums["al"] = 1 + sums.accepted / sums.drafts.where(sums.drafts > 0)
    sums["ar"] = sums.accepted / sums.draft_tokens.where(sums.draft_tokens > 0)
    return sums


def by_position(positions: pd.DataFrame, by: Sequence[str] = ("variant", "arm", "k", "workload")) -> pd.DataFrame:
    """p_i with its Wilson interval, and c_i. In: position frame. Out: one row per group and position (0-based).

    The interval treats drafts as independent, which neighbours in a text are not: read it as a lower bound of the spread.
    Arms whose counters count slots are left out: what was not verified counts there as rejected.
    """
    return _positions(positions[which.of_the_drafter(positions)], by)


def _positions(positions: pd.DataFrame, by: Sequence[str] = ("variant", "arm", "k", "workload")) -> pd.DataFrame:
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
    is 0 where every token is accounted for, NaN where the engine reports no ledger. A step with K = 0 by the batch is in no
    record: there the tokens that no recorded step made are such steps.
    """
    cells = cells[which.speculating(cells)]
    speculating = requests[which.speculating(requests)]
    by_batch = speculating.way.eq("by_batch") if "way" in speculating else pd.Series(False, index=speculating.index)
    made = (
        1 + speculating.steps + speculating.step_accepted
    )  # the first token comes with the prompt; each step gives one
    unrecorded = (speculating.completion_tokens - made).clip(lower=0).where(by_batch, 0)
    recorded = (speculating.steps > 0) | by_batch
    speculating = speculating.assign(
        undrafted=speculating.undrafted_steps + unrecorded,
        cut=(made + unrecorded - speculating.completion_tokens).where(recorded),
        recorded=recorded,
    )
    keys = ["variant", "arm", "k", "workload"]
    table = cells.groupby(keys)[_COUNTS].sum()
    table["residual"] = table.completion_tokens - (table.requests + table.drafts + table.accepted)
    per_request = speculating.groupby(keys).agg(
        undrafted=("undrafted", "sum"), cut=("cut", "sum"), known=("recorded", "all")
    )
    table = table.join(per_request)
    table["unexplained"] = (table.residual - (table.undrafted - table.cut)).where(table.known)
    return table.drop(columns="known").reset_index()


def identities(cells: pd.DataFrame, positions: pd.DataFrame) -> pd.DataFrame:
    """Checks of every speculating arm and workload: (identity, left side, right side, holds).

    They hold for every way in which an engine chooses K, with one difference. K fixed, or adaptive (slots that were not
    verified count as drafted and rejected): every draft has K tokens but at the end of an answer. By batch: a step with
    K = 0 counts no draft, and one below the arm's K fewer tokens; positions beyond a step's K count as rejected.
    """
    sums = _sums(cells)
    p = _positions(positions).groupby(["arm", "workload"]).agg(accepted=("accepted", "sum"), sum_p=("p", "sum"))
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

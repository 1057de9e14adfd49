"""Which setting is best at which load, and whether one launch serves every load. Pure: frames in, frames out.

A decode step larger than the captured CUDA graphs is slow by a launch setting, not by the drafter: rows *outside* are
never fitted or judged together with rows *inside* (`analysis.study.graphs`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.science import arms, intervals
from analysis.science.stats import NoiseFloor, geometric_mean

PLACE = ["workload", "concurrency"]


def floor(cells: pd.DataFrame) -> NoiseFloor:
    """How far two arms that are the same differ under load, a restart included; see `intervals.floor`.

    In: cell frame. Speeds are tokens per second of all streams. With one launch it is not known.
    """
    base = cells[(cells.experiment == "concurrency") & arms.baseline(cells) & (cells.variant == "main")]
    return intervals.floor(intervals.under_load(cells), base.launch.nunique(), "launches, under load")


def winners(table: pd.DataFrame, floor: NoiseFloor) -> pd.DataFrame:
    """The setting with the most tokens per second at each load. In: `speedup.concurrency`.

    Out: workload, concurrency, arm, in_graphs, aggregate_tok_s, over_baseline, as_good: the other arms within the noise
    floor of it, in order of speed.
    """
    rows = []
    for (workload, streams), group in table.groupby(PLACE, sort=False):
        order = group.sort_values("aggregate_tok_s", ascending=False)
        best = order.iloc[0]
        near = order[order.aggregate_tok_s * _factor(floor) >= best.aggregate_tok_s].arm.iloc[1:]
        rows.append(
            {
                "workload": workload,
                "concurrency": streams,
                "arm": best.arm,
                "in_graphs": best.in_graphs,
                "aggregate_tok_s": best.aggregate_tok_s,
                "over_baseline": best.over_baseline,
                "as_good": tuple(near),
            }
        )
    return pd.DataFrame(rows).sort_values(PLACE, ignore_index=True)


def one_for_all(table: pd.DataFrame, floor: NoiseFloor) -> pd.DataFrame:
    """How far each launch is from the best at its worst load. In: `speedup.concurrency`.

    An arm that leaves the captured graphs at some load is not judged: its loads are of two kinds.
    Out: arm, judged, leaves (the least load outside; 0 for none), worst (its speed over the best one's, at its worst
    load, at most 1), at (that load), workload, within (worst within the noise floor of the best), mean (geometric mean
    of that share over loads). Sorted by worst, those judged first.
    """
    best = table.groupby(PLACE).aggregate_tok_s.transform("max")
    shares = table.assign(share=table.aggregate_tok_s / best)
    full = shares.groupby(PLACE).ngroups
    rows = []
    for arm, group in shares.groupby("arm", sort=False):
        if len(group) < full:
            continue  # it was not measured at every load
        outside = group[group.in_graphs == "outside"].concurrency
        worst = group.loc[group.share.idxmin()]
        rows.append(
            {
                "arm": arm,
                "judged": outside.empty,
                "leaves": 0 if outside.empty else int(outside.min()),
                "worst": worst.share,
                "at": int(worst.concurrency),
                "workload": worst.workload,
                "within": bool(outside.empty and worst.share * _factor(floor) >= 1),
                "mean": geometric_mean(group.share),
            }
        )
    return pd.DataFrame(rows).sort_values(["judged", "worst"], ascending=False, ignore_index=True)


def batch_table(table: pd.DataFrame) -> list[list[int]]:
    """[[from, to, K], …] by the arms of fixed K: the fastest inside the graphs at each load, mean over workloads.

    The rows of ``batch_table`` of a study file. Variants that are compared with the main baseline count too: one of them
    covers the loads that the main arms leave. Loads between two that were measured have the K of the lower one; where no K
    beats the baseline it is 0. Empty where no load has a speculating arm of fixed K inside the graphs.
    """
    own = set(table[arms.baseline(table)].variant) - {"main"}
    known = table[(table.in_graphs != "outside") & ~table.variant.isin(own)]
    if "way" in known:
        known = known[known.way == ""]
    if not arms.speculating(known).any():
        return []
    logs = known.assign(log=np.log(known.aggregate_tok_s)).groupby(["concurrency", "arm", "k"]).log.mean().reset_index()
    best = logs.loc[logs.groupby("concurrency").log.idxmax()].sort_values("concurrency")
    rows: list[list[int]] = []
    for streams, k in zip(best.concurrency, best.k, strict=True):
        if rows and rows[-1][2] == k:
            rows[-1][1] = int(streams)
        else:
            rows.append([int(streams), int(streams), int(k)])
    rows[0][0] = 1
    for row, after in zip(rows, rows[1:], strict=False):
        row[1] = after[0] - 1
    return rows


def chosen(cells: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """What an engine that chooses K itself did at each load: only arms whose counters count slots (`engine_k.Way.slots`).

    Out: arm, workload, concurrency, slots (drafted per step with a draft), per_slot (accepted over slots drafted: no
    figure of the drafter), drafted (share of steps with a draft), tokens_per_step: tokens decoded over all steps. A step
    without a draft leaves no trace in the engine's counters, and gives one token: steps = tokens − accepted.
    """
    part = cells[(cells.experiment == "concurrency") & ~arms.of_the_drafter(cells)]
    sums = part.groupby(["arm", *PLACE], as_index=False)[
        ["completion_tokens", "requests", "drafts", "draft_tokens", "accepted"]
    ].sum()
    decoded = sums.completion_tokens - sums.requests
    steps = np.maximum(decoded - sums.accepted, sums.drafts)  # tokens cut at the end of an answer make it a little low
    return sums[["arm", *PLACE]].assign(
        slots=sums.draft_tokens / sums.drafts.where(sums.drafts > 0),
        per_slot=sums.accepted / sums.draft_tokens.where(sums.draft_tokens > 0),
        drafted=sums.drafts / steps.where(steps > 0),
        tokens_per_step=1 + sums.accepted / steps.where(steps > 0),
    )


def _factor(floor: NoiseFloor) -> float:
    return floor.factor if floor.known else 1.0

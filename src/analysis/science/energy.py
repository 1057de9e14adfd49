"""Joules per token and tokens per second per watt, of what the GPU's own counter says. Pure: cell frame in, frame out."""

from __future__ import annotations

import pandas as pd

from analysis.science import arms

PLACE = ["variant", "arm", "k", "workload", "concurrency"]


def per_token(cells: pd.DataFrame, idle_w: float = 0.0) -> pd.DataFrame:
    """Energy by arm, workload and load; only measurements whose counter was readable.

    In: cell frame with energy_j [J], wall_s [s] and tokens; the idle power to subtract [W] (0: nothing is subtracted).
    Out: watts (mean), j_per_output [J per output token], j_per_token [J per token in and out], tok_s_per_w [output tokens/s
    per watt, which is output tokens per joule], against (j_per_output over the baseline's at the same workload and load).
    """
    sums = (
        _readable(cells)
        .groupby(PLACE)[["energy_j", "wall_s", "prompt_tokens", "completion_tokens"]]
        .sum()
        .reset_index()
    )
    used = sums.energy_j - idle_w * sums.wall_s
    table = sums[PLACE].assign(
        watts=used / sums.wall_s,
        j_per_output=used / sums.completion_tokens,
        j_per_token=used / (sums.completion_tokens + sums.prompt_tokens),
        tok_s_per_w=sums.completion_tokens / used,
    )
    place = ["variant", "workload", "concurrency"]
    base = arms.baselines(table).set_index(place).j_per_output
    table["against"] = table.j_per_output / base.reindex(pd.MultiIndex.from_frame(table[place])).to_numpy()
    return table.sort_values(["workload", "concurrency", "variant", "k"], ignore_index=True)


def watts(cells: pd.DataFrame) -> float | None:
    """Mean power of the GPU over all readable timing and load measurements [W]; None where there are none."""
    own = _readable(cells)
    return float(own.energy_j.sum() / own.wall_s.sum()) if len(own) else None


def _readable(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[cells.experiment.isin(["timing", "concurrency"]) & cells.energy_j.notna()]

"""What a speculative step costs and what it must bring. Pure: frames and numbers in and out.

Speedup at one stream S(K) = AL(K) / rho(K): AL tokens per step, a step costing rho baseline steps (Leviathan et al.
2211.17192). rho is measured, never assumed: the time of a step is decode time over steps, and the engine counts steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from analysis.science import arms as which
from analysis.science.acceptance import al_from_positions
from analysis.science.stats import NOT_KNOWN, NoiseFloor, geometric_mean, ratio_interval

KEYS = ["variant", "arm", "k", "workload"]


def step_time(cells: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """Seconds of one decode step, by arm, workload and launch, from timing cells (one stream).

    In: cells with accepted [tokens] and drafts; requests with tpot [s/token], completion_tokens and undrafted_steps. A
    request's first token comes with its prompt, so T - 1 tokens are decoded; steps = drafts + undrafted steps, and T - 1
    at the baseline. (T - 1 - accepted would leave out the tokens that the last step accepts beyond the length asked for:
    at 96 tokens and K = 8 a fifth of the step time.)
    Arms whose engine chooses how much is verified are left out: their steps have no one K.
    Out: step_s [s], tpot [s/token], al [tokens/step] (1 + accepted/drafts; 1 at the baseline).
    """
    keys = [*KEYS, "launch"]
    cells, requests = cells[which.of_the_drafter(cells)], requests[which.of_the_drafter(requests)]
    timing = requests[(requests.experiment == "timing") & (requests.completion_tokens > 1)]
    decoded = timing.assign(tokens=timing.completion_tokens - 1)
    decoded["decode_s"] = decoded.tpot * decoded.tokens
    table = decoded.groupby(keys)[["tokens", "decode_s", "undrafted_steps"]].sum()
    counts = cells[cells.experiment == "timing"].groupby(keys)[["accepted", "drafts"]].sum()
    table = table.join(counts).reset_index()
    # an engine's ledger may leave out the steps without a draft: there are no fewer than tokens that no draft gave
    counted = np.maximum(table.drafts + table.undrafted_steps, table.tokens - table.accepted)
    steps = counted.where(which.speculating(table), table.tokens)
    table["step_s"] = table.decode_s / steps.where(steps > 0)
    table["tpot"] = table.decode_s / table.tokens
    table["al"] = 1 + (table.accepted / table.drafts.where(table.drafts > 0)).fillna(0)
    return table[[*keys, "step_s", "tpot", "al"]]


def step_cost(steps: pd.DataFrame) -> pd.DataFrame:
    """rho(K) by workload: step time over the baseline's step time of the same launch. In: `step_time`.

    Out: one row a speculating arm and workload: rho with lo, hi (95 % over launches, NaN for one), launches, al, break_even
    (the AL at which the arm is as fast as the baseline: rho itself), predicted (al / rho), measured (ratio of TPOT).
    """
    base = which.baselines(steps).set_index(["variant", "workload", "launch"])
    rows = []
    for (variant, arm, k, workload), group in steps[which.speculating(steps)].groupby(KEYS):
        base_step = base.reindex(pd.MultiIndex.from_frame(group[["variant", "workload", "launch"]]))
        if base_step.step_s.isna().any():  # launches of unequal number: the baseline's mean stands in
            mean_step = base.loc[(variant, workload)].mean(numeric_only=True)
            base_step = base_step.fillna(mean_step)
        ratios = group.step_s.to_numpy() / base_step.step_s.to_numpy()
        lo, hi = ratio_interval(ratios)
        rho, al = geometric_mean(ratios), float(group.al.mean())
        rows.append(
            dict(zip(KEYS, (variant, arm, k, workload), strict=True))
            | {
                "rho": rho,
                "lo": lo,
                "hi": hi,
                "launches": len(group),
                "al": al,
                "break_even": rho,
                "predicted": al / rho,
            }
            | {"measured": geometric_mean(base_step.tpot.to_numpy() / group.tpot.to_numpy())}
        )
    columns = [*KEYS, "rho", "lo", "hi", "launches", "al", "break_even", "predicted", "measured"]
    return pd.DataFrame(rows, columns=columns).sort_values(["variant", "workload", "k"], ignore_index=True)


def side_by_side(paired: pd.DataFrame, costs: pd.DataFrame, floor: NoiseFloor) -> pd.DataFrame:
    """Variants at equal K: what a step brings, what it costs, what is gained, and whether the gain differs from main's.

    In: `speedup.paired`, `step_cost`, the noise floor. Out: one row per workload, K and variant that main has too: al, rho,
    speedup, lo, hi, launches, ratio (its speedup over main's), verdict ("" for main; more | less | not distinguishable | not known yet:
    intervals that do not overlap, or where there are none a ratio beyond the noise floor). Empty where there is one variant.
    """
    table = paired.merge(costs[[*KEYS, "al", "rho"]], on=KEYS)
    place = ["workload", "k"]
    main = table[table.variant == "main"].set_index(place)[["speedup", "lo", "hi"]].add_prefix("main_")
    table = table.join(main, on=place, how="inner")
    table["ratio"] = table.speedup / table.main_speedup
    table["verdict"] = [_against_main(r, floor) for r in table.itertuples()]
    table = table[table.groupby(place).variant.transform("size") > 1]
    table = table.assign(other=table.variant != "main").sort_values(["workload", "k", "other", "variant"])
    columns = ["workload", "k", "variant", "al", "rho", "speedup", "lo", "hi", "launches", "ratio", "verdict"]
    return table[columns].reset_index(drop=True)


def _against_main(row: Any, floor: NoiseFloor) -> str:
    if row.variant == "main":
        return ""
    if row.lo == row.lo and row.main_lo == row.main_lo:
        differs = row.lo > row.main_hi or row.hi < row.main_lo
    elif not floor.known:
        return NOT_KNOWN
    else:
        differs = not floor.inside(row.ratio)
    return ("more" if row.ratio > 1 else "less") if differs else "not distinguishable"


def predict_sweep(costs: pd.DataFrame, positions: pd.DataFrame) -> pd.DataFrame:
    """The whole K sweep from three launches: baseline, the smallest and the largest K.

    rho(K) = a + b K through the two; AL(K) = 1 + the sum of p_i, i < K, at the largest K (drafting is autoregressive).
    In: `step_cost`, and `acceptance.by_position` (columns workload, k, position, p). Out: workload, k, used (True for
    the two K that were fitted), rho, rho_predicted, al, al_predicted, measured, predicted (speedup), error (relative).
    """
    rows = []
    for (variant, workload), group in costs.groupby(["variant", "workload"]):
        known = group.set_index("k").sort_index()
        low, high = known.index.min(), known.index.max()
        p = positions[(positions.variant == variant) & (positions.workload == workload) & (positions.k == high)]
        p = p.sort_values("position").p.to_numpy()
        a, b = line(low, known.rho[low], high, known.rho[high])
        for k, row in known.iterrows():
            rho, al = a + b * k, al_from_positions(p, int(k))
            rows.append(
                {
                    "variant": variant,
                    "workload": workload,
                    "k": k,
                    "used": k in (low, high),
                    "rho": row.rho,
                    "rho_predicted": rho,
                    "al": row.al,
                    "al_predicted": al,
                    "measured": row.measured,
                    "predicted": al / rho,
                    "error": al / rho / row.measured - 1,
                }
            )
    return pd.DataFrame(rows)


def line(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float]:
    """(a, b) of y = a + b x through two points; a flat line where they are one."""
    slope = 0.0 if x0 == x1 else (y1 - y0) / (x1 - x0)
    return y0 - slope * x0, slope


def expected_al(alpha: float, k: int) -> float:
    """AL at constant conditional acceptance alpha: (1 - alpha^(K+1)) / (1 - alpha) (Leviathan et al. 2211.17192)."""
    return float(k + 1) if alpha >= 1 else (1 - alpha ** (k + 1)) / (1 - alpha)


def alpha(p: Sequence[float]) -> float:
    """The constant conditional acceptance that gives the same AL as unconditional p_0 .. p_{K-1}; in [0, 1]."""
    accepted = float(np.sum(p))
    if accepted <= 0 or accepted >= len(p):
        return float(accepted > 0)
    return float(brentq(lambda a: expected_al(a, len(p)) - 1 - accepted, 0.0, 1 - 1e-12))


def geometric_fit(positions: pd.DataFrame, by: Sequence[str] = ("variant", "arm", "k", "workload")) -> pd.DataFrame:
    """alpha, al and the worst |p_i - alpha^(i+1)| of each group. In: `acceptance.by_position`."""
    rows = []
    for key, group in positions.groupby(list(by)):
        p = group.sort_values("position").p.to_numpy()
        fit = alpha(p)
        worst = float(np.abs(p - fit ** np.arange(1, len(p) + 1)).max())
        rows.append(dict(zip(by, key, strict=True)) | {"alpha": fit, "al": 1 + float(p.sum()), "worst": worst})
    return pd.DataFrame(rows)

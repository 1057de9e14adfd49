"""The Python that the arms generated: requests and sandbox outcomes -> one tidy frame, comparisons. Pure."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.science import arms
from analysis.science.stats import mcnemar, wilson

CHECKS = ["parsed", "ran", "columns_ok", "rows_ok", "returns_ok", "chart_written", "passed"]


def frame(requests: pd.DataFrame, outcomes: dict[tuple[str, int], dict[str, Any]]) -> pd.DataFrame:
    """One row per program: arm, k, seed, code, generate_s [s], tokens, then the outcome's columns with execute_s [s].

    ``outcomes`` are records by (cell_id, index) as `Session.execute` keeps them. A program that was not run has no value
    in the columns of checks; ``wall`` says behind which it ran ("" in records from before it was kept).
    """
    rows = []
    unknown = dict.fromkeys([*CHECKS, "rows", "execute_s"]) | {"wall": "", "chart": "", "reason": ""}
    code = requests[requests.experiment == "code"].rename(columns={"index": "at"}).sort_values(["k", "arm", "seed"])
    for r in code.itertuples():
        outcome = outcomes[(r.cell_id, r.at)]
        rows.append(
            {
                "arm": r.arm,
                "k": r.k,
                "prompt_id": r.prompt_id,
                "seed": r.seed,
                "generate_s": r.seconds,
                "tokens": r.completion_tokens,
                **unknown,
                **{k: v for k, v in outcome.items() if k not in ("cell_id", "index")},
            }
        )
    frame = pd.DataFrame(rows)
    return frame.assign(execute_s=frame.execute_s.astype(float)) if len(frame) else frame


def rates(programs: pd.DataFrame) -> pd.DataFrame:
    """Share of the programs run that pass each check, by arm, with Wilson interval of ``passed`` and mean seconds."""
    rows = []
    for (arm, k), group in programs.groupby(["arm", "k"]):
        run = group[group.passed.notna()]
        lo, hi = wilson(int(run.passed.sum()), len(run)) if len(run) else (float("nan"), float("nan"))
        rows.append(
            {
                "arm": arm,
                "k": k,
                "programs": len(group),
                **{c: run[c].astype(float).mean() for c in CHECKS},
                "passed_lo": lo,
                "passed_hi": hi,
                "generate_s": group.generate_s.mean(),
                "execute_s": group.execute_s.mean(),
                "total_s": (group.generate_s + group.execute_s).mean(),
            }
        )
    return pd.DataFrame(rows).sort_values("k", ignore_index=True)


def compare(programs: pd.DataFrame, arm: str | None = None) -> tuple[float, float, float]:
    """(end-to-end speedup, generate-only speedup, exact McNemar p of passing) of ``arm`` against the baseline.

    Without ``arm``: the only one that speculates. Speedups are ratios of mean seconds, as published; programs are paired
    by seed for the test.
    """
    base = programs[arms.baseline(programs)].set_index("seed")
    own = programs[programs.arm == arms.only_arm(programs, arm)].set_index("seed")
    total = (base.generate_s + base.execute_s).mean() / (own.generate_s + own.execute_s).mean()
    both = base.merge(own, left_index=True, right_index=True, suffixes=("_base", "_arm"))
    both = both[both.passed_base.notna() & both.passed_arm.notna()]
    first, second = both.passed_base.astype(bool), both.passed_arm.astype(bool)
    return (
        float(total),
        float(base.generate_s.mean() / own.generate_s.mean()),
        mcnemar(int((first & ~second).sum()), int((~first & second).sum())),
    )

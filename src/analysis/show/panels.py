"""Generated programs -> panels side by side: code, outcome and chart of one program per arm."""

from __future__ import annotations

from base64 import b64decode

import pandas as pd

from analysis.show.outputs import Panel


def of_programs(programs: pd.DataFrame) -> list[Panel]:
    """One panel per arm: its first program that has a chart (else its first), with outcome and chart."""
    found = []
    for (arm, _k), group in programs.sort_values("k").groupby(["arm", "k"], sort=False):
        group = group.assign(**{c: group[c].fillna("") for c in ("chart", "code", "reason")})
        charted = group[group.chart.str.len() > 0]
        r = (charted if len(charted) else group).iloc[0]
        outcome = (
            f"{int(r.rows)} rows, returns right; generated in {r.generate_s:.2f} s, executed in {r.execute_s:.2f} s"
            if r.passed
            else r.reason
        )
        found.append(
            Panel(
                f"{arm}, seed {r.seed}",
                r.code,
                outcome,
                bool(r.passed),
                b64decode(r.chart) if r.chart else None,
                f"Bar chart of monthly returns drawn by the program of {arm}",
            )
        )
    return found

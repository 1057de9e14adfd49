"""Energy per token: a table and a sentence. Pure: `science.energy.per_token` in."""

from __future__ import annotations

import pandas as pd

from analysis.science import arms
from analysis.science.stats import geometric_mean
from analysis.show import words
from analysis.show.outputs import Table


def per_token(table: pd.DataFrame, idle_w: float = 0.0) -> Table | None:
    """Energy by arm, workload and load; None where no counter was readable."""
    if table.empty:
        return None
    formats = {
        "watts": ".0f",
        "j_per_output": ".3f",
        "j_per_token": ".3f",
        "tok_s_per_w": ".3f",
        "against": "{:.2f}×".format,
    }
    return Table(
        table.drop(columns=["variant", "k"]),
        "Energy of the GPU by its own counter, in both definitions",
        formats,
        f"Idle power subtracted: {idle_w:g} W."
        if idle_w
        else "Idle power is not subtracted; the rest of the machine is not counted.",
    )


def said(table: pd.DataFrame) -> str:
    """Energy of the speculating arms against the baseline, or that it is not readable here."""
    if table.empty:
        return "Energy: not readable. No counter of the GPU was readable while this study was measured (a CPU has none here)."
    rest = table[arms.speculating(table) & (table.variant == "main") & table.against.notna()]
    parts = [
        f"{words.arm(arm)} uses {geometric_mean(own.against):.2f} times the baseline's energy per output token"
        for arm, own in rest.groupby("arm", sort=False)
    ]
    return f"{'; '.join(parts)} (geometric mean over workloads and loads)." if parts else "No arm speculates."

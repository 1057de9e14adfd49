"""Published speeds under load against the captured CUDA graphs: inside, outside, or not known. Pure."""

from __future__ import annotations

import pandas as pd

from analysis.published.evidence import Evidence
from analysis.show.outputs import Table
from analysis.study.graphs import DEFAULT_LARGEST, DEFAULT_SEQUENCES, FLAG, Captured, grid, step_tokens

_SETTING = ["source", "hardware", "model", "arm", "k", "concurrency"]


def sides(evidence: Evidence) -> pd.DataFrame:
    """One row per published setting with more than one stream.

    The sum is that of `analysis.study.graphs`, for a launch whose flags the source prints and that leaves the graphs to
    vLLM. Out: the setting, tokens (of one decode step), in_graphs (inside | outside | none | not known), why.
    """
    rows = evidence.measurements
    many = rows[rows["concurrency"].fillna(1) > 1].drop_duplicates(_SETTING)
    found = [{**{c: row[c] for c in _SETTING}, **_side(row, evidence.recipes)} for row in many.to_dict("records")]
    return pd.DataFrame(found, columns=[*_SETTING, "tokens", "in_graphs", "why"])


def table(sides: pd.DataFrame) -> Table:
    """The sums as a table. In: `sides`."""
    count = sides.in_graphs.value_counts()
    parts = ", ".join(f"{count[side]} {side}" for side in ("inside", "outside", "none", "not known") if side in count)
    note = f"Of {len(sides)} settings with more than one stream: {parts}. vLLM by itself captures steps of up to {DEFAULT_LARGEST} tokens."
    return Table(
        sides,
        "Published loads against the captured CUDA graphs: streams × (K + 1) tokens per step",
        dict.fromkeys(("k", "concurrency", "tokens"), ".0f"),
        note,
    )


def _side(row: dict, recipes: pd.DataFrame) -> dict:
    if pd.isna(row["k"]):
        return {"tokens": None, "in_graphs": "not known", "why": "K is not stated"}
    streams, k = int(row["concurrency"]), int(row["k"])
    tokens = {"tokens": step_tokens(streams, k)}
    if row["engine"] != "vllm":
        return {**tokens, "in_graphs": "not known", "why": f"{row['engine']} has rules of its own"}
    own = recipes[(recipes["source"] == row["source"]) & (recipes["part"] == "flag")]
    flags = own[own["recipe"].str.contains("launch")].set_index("name")["value"]  # not those of other people's set-ups
    if flags.empty:
        return {**tokens, "in_graphs": "not known", "why": "its launch is not published"}
    if str(flags.get("enforce-eager", "off")) == "on":
        return {**tokens, "in_graphs": "none", "why": "eager mode"}
    if FLAG.strip("-") in flags:
        return {**tokens, "in_graphs": "not known", "why": "it sets a size of its own"}
    inside = Captured(grid(DEFAULT_LARGEST), DEFAULT_SEQUENCES).holds(streams, k)
    sign = "≤" if inside else ">"
    why = f"{streams} × {k + 1} = {tokens['tokens']} {sign} {DEFAULT_LARGEST}"
    return {**tokens, "in_graphs": "inside" if inside else "outside", "why": why}

"""Published speeds against what bandwidth allows: possible, above the bound unless text is degenerate, impossible.

Pure. The bound moves weights only and accepts every draft, so it favours the published number.
"""

from __future__ import annotations

import pandas as pd

from analysis import shapes
from analysis.evidence import Evidence

POSSIBLE, DEGENERATE, IMPOSSIBLE = "possible", "above the bound unless text is degenerate", "impossible"
SETTING = ["source", "hardware", "model", "quantisation", "arm", "k", "workload", "concurrency", "label"]


def speeds(evidence: Evidence) -> pd.DataFrame:
    """Published speeds in tok/s, all streams together, one row a setting (the most digits win).

    Out: the setting's columns, table, tok_s, reading, confidence, computed (True where seconds and a fixed number of
    tokens were printed instead of a speed: suzuki-shoten's ledger shows that its requests ran to their limit of 600).
    """
    rows = evidence.measurements
    printed = rows[rows["metric"].isin(["tok_s", "aggregate_tok_s"])].assign(computed=False, tok_s=lambda f: f["value"])
    timed = rows[
        (rows["metric"] == "seconds") & (rows["source"] == "suzuki-shoten") & rows["sampling"].str.endswith("max=600")
    ]
    timed = timed.assign(computed=True, tok_s=600 / timed["value"])
    found = pd.concat([printed, timed[~timed["table"].isin(["headline", "2.3", "2.4-text", "2.6", "6"])]])
    found = found.assign(digits=found["printed"].str.len()).sort_values("digits", ascending=False, kind="stable")
    found["sense"] = found["reading"].where(found["reading"].isin(["at-least", "up-to"]), "point")
    # seconds of two launches are two measurements; a speed repeated in prose is one
    found["launch"] = found["table"].where(found["computed"], "")
    kept = found.drop_duplicates([*SETTING, "sense", "launch"]).sort_index()
    return kept[[*SETTING, "table", "tok_s", "reading", "confidence", "computed"]]


def check_speed(tok_s: float, independent: float, least: float) -> str:
    """Verdict on a speed by the bounds with each token on its own experts (`independent`) or on the same (`least`)."""
    return POSSIBLE if tok_s <= independent else DEGENERATE if tok_s <= least else IMPOSSIBLE


def physics(evidence: Evidence) -> pd.DataFrame:
    """Every published speed with its bounds [tok/s] and verdicts.

    Out: the columns of `speeds`, and step_gb (bytes of one step, independent routing), bound (independent),
    bound_same (all tokens on the same experts), bound_identical (identical streams), share (of `bound`), needs_al
    (acceptance length that the speed needs at the data sheet's bandwidth), verdict, verdict_measured (at the best
    bandwidth others measured), why (where it cannot be checked).
    """
    return pd.DataFrame([{**row, **_check(row)} for row in speeds(evidence).to_dict("records")])


def _check(row: dict) -> dict:
    target, machine = shapes.shape_of(row["model"]), shapes.machines()[row["hardware"]]
    fmt = shapes.models()[1].get(row["quantisation"])
    reasons = {
        "the model's shape is not known": target is None,
        "the machine is not named": machine.bandwidth_gb_s is None,
        "the format's bytes are not known": fmt is None,
        "the drafter's shape is not known": row["arm"] not in ("baseline", "mtp"),
        "K is not stated": pd.isna(row["k"]),
    }
    why = next((reason for reason, holds in reasons.items() if holds), "")
    if why:
        return {"verdict": "not checkable", "verdict_measured": "not checkable", "why": why}
    k, streams = int(row["k"]), int(row["concurrency"])

    def bound(gb_s: float, routing: shapes.Routing) -> float:
        return shapes.speed_bound(target, fmt, gb_s, k, streams, routing)

    sheet = {
        routing: bound(machine.bandwidth_gb_s, routing) for routing in ("independent", "same", "identical-streams")
    }
    measured = ""
    if machine.measured_gb_s:
        best = machine.measured_gb_s[1]
        measured = check_speed(row["tok_s"], bound(best, "independent"), bound(best, "same"))
    return {
        "step_gb": shapes.step_bytes(target, fmt, k, streams) / 1e9,
        "bound": sheet["independent"],
        "bound_same": sheet["same"],
        "bound_identical": sheet["identical-streams"],
        "share": row["tok_s"] / sheet["independent"],
        "needs_al": (k + 1) * row["tok_s"] / sheet["independent"],
        "verdict": check_speed(row["tok_s"], sheet["independent"], sheet["same"]),
        "verdict_measured": measured,
        "why": "",
    }

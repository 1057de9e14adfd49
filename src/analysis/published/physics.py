"""Published speeds against what bandwidth allows: possible, above the bound unless text is degenerate, impossible.

Pure. The bound moves weights only and accepts every draft, so it favours the published number.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis import shapes
from analysis.published.evidence import Evidence
from analysis.science.stats import geometric_mean

POSSIBLE, DEGENERATE, IMPOSSIBLE = "possible", "above the bound unless text is degenerate", "impossible"
SETTING = [
    *("source", "hardware", "engine_version", "model", "quantisation"),
    *("arm", "k", "workload", "concurrency", "label"),
]


def speeds(evidence: Evidence) -> pd.DataFrame:
    """Published speeds in tok/s, all streams together, one row per setting (the most digits win).

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


# ---------------------------------------------------------------------------------------------- what follows from them


def speedups(evidence: Evidence) -> pd.DataFrame:
    """Published speedups of MTP, computed from the published speeds: MTP's over the baseline's of the same setting.

    A baseline without a named workload serves every workload of its source. Out: the setting's columns, table, tok_s,
    baseline, speedup, reading, doubtful (the source's confidence, or a speed above the bound).
    """
    checked = physics(evidence)
    base = checked[(checked["arm"] == "baseline") & (checked["reading"].isin(["exact", "about"]))]
    place = ["source", "hardware", "model", "quantisation", "concurrency", "label"]
    rows = []
    for row in checked[checked["arm"] == "mtp"].to_dict("records"):
        same = base[(base[place] == pd.Series({name: row[name] for name in place})).all(axis=1)]
        same_work = same[same["workload"].isin([row["workload"], "unstated"])]
        same_work = same_work.assign(
            near=(same_work["table"] == row["table"]) + 2 * (same_work["workload"] == row["workload"])
        )
        if len(same_work):
            speed = float(same_work.sort_values("near", ascending=False, kind="stable")["tok_s"].iloc[0])
            odd = row["confidence"] == "doubtful" or row["verdict"] in (DEGENERATE, IMPOSSIBLE)
            rows.append({**row, "baseline": speed, "speedup": row["tok_s"] / speed, "doubtful": odd})
    return pd.DataFrame(rows)[[*SETTING, "table", "tok_s", "baseline", "speedup", "reading", "doubtful"]]


def step_costs(evidence: Evidence) -> pd.DataFrame:
    """The overhead as it should have been stated: published AL over published speedup, against bytes moved.

    Only settings whose acceptance and speedup are both printed (suzuki-shoten's sweep and its 31B; billings). Speedup
    is the geometric mean over workloads, as acceptance is pooled over them. Out: source, model, quantisation, k, al,
    speedup, rho (= al / speedup, baseline steps), rho_independent and rho_same (bytes of a step over the baseline's).
    """
    gains = speedups(evidence)
    gains = gains[~gains["doubtful"] & (gains["concurrency"] == 1)]
    counted = evidence.acceptance[evidence.acceptance["metric"] == "acceptance_rate"]
    counted = counted[counted["table"].isin(["A.1", "A.3", "sweep"])]
    rows = []
    for r in counted.drop_duplicates(["source", "model", "k"]).itertuples():
        same_work = gains[(gains["source"] == r.source) & (gains["model"] == r.model) & (gains["k"] == r.k)]
        same_work = same_work[
            same_work["table"] == same_work["table"].max()
        ]  # the sweep is one series of launches; 2.1 is another
        target, fmt = shapes.shape_of(r.model), shapes.models()[1][r.quantisation]
        al, gain, k = 1 + r.value / 100 * r.k, geometric_mean(same_work["speedup"]), int(r.k)
        bytes_at = {kind: shapes.step_bytes(target, fmt, k, routing=kind) for kind in ("independent", "same")}
        base = shapes.step_bytes(target, fmt)
        setting = {"source": r.source, "model": r.model, "quantisation": r.quantisation, "k": k}
        costs = {f"rho_{kind}": size / base for kind, size in bytes_at.items()}
        rows.append({**setting, "al": al, "speedup": gain, "rho": al / gain, **costs})
    return pd.DataFrame(rows).sort_values(["source", "model", "k"], ignore_index=True)


def examples(costs: pd.DataFrame) -> list:
    """The published K = 4 setting of each model, to follow under load. In: `step_costs`."""
    return list(costs[costs["k"] == 4].drop_duplicates("model").itertuples())


def gain_by_load(model: str, quantisation: str, k: int, al: float, streams: Sequence[int]) -> pd.DataFrame:
    """Speedup that bytes alone allow, by streams: baseline step bytes / MTP step bytes x AL, with independent routing.

    A dense target reads the same weights at every load, so bandwidth never takes the gain away: arithmetic does. An MoE
    target reads more experts at every step until all are used; then extra tokens are free, and the gain rises.
    """
    target, fmt = shapes.shape_of(model), shapes.models()[1][quantisation]
    rows = [
        {
            "model": model,
            "k": k,
            "streams": n,
            "gain": al * shapes.step_bytes(target, fmt, 0, n) / shapes.step_bytes(target, fmt, k, n),
        }
        for n in streams
    ]
    return pd.DataFrame(rows)


def footprints(context: int = 4096) -> pd.DataFrame:
    """Memory of each target and drafter in GB: FP8 layers, BF16 embedding and drafter, FP8 K/V of one context."""
    targets, formats, _ = shapes.models()
    rows = []
    for name, target in targets.items():
        parts = shapes.footprint(target, formats["fp8"], context)
        rows.append({"model": name, **{part: size / 1e9 for part, size in parts.items()}})
    return pd.DataFrame(rows)


def rooflines(quantisation: str = "fp8", k: int = 4) -> pd.DataFrame:
    """The bound of each model on each machine, one stream: baseline and K with every draft accepted [tok/s]."""
    targets, formats, _ = shapes.models()
    fmt = formats[quantisation]
    rows = []
    for machine, about in shapes.machines().items():
        if about.bandwidth_gb_s and about.basis == "datasheet" and machine != "olares-one":
            for model, target in targets.items():
                fits = shapes.footprint(target, fmt, 4096)["total"] / 1e9 <= (about.memory_gb or 0)
                rows.append(
                    {
                        "machine": machine,
                        "model": model,
                        "fits": fits,
                        "gb_a_token": shapes.step_bytes(target, fmt) / 1e9,
                        "baseline": shapes.speed_bound(target, fmt, about.bandwidth_gb_s),
                        f"k{k}": shapes.speed_bound(target, fmt, about.bandwidth_gb_s, k),
                    }
                )
    return pd.DataFrame(rows)

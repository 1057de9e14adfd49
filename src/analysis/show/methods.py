"""Chapter 11: figures, tables and sentences on ways of proposing tokens. Pure: frames of `science.methods` in.

Where a study has one method each of them is None, which a notebook does not show; `compared` says so once.
"""

from __future__ import annotations

import pandas as pd

from analysis.science.stats import NOT_KNOWN, NoiseFloor
from analysis.show import drawing, words
from analysis.show.drawing import Axes
from analysis.show.outputs import Figure, Table
from analysis.study.speculator import SPECULATORS

_TIMES = "{:.2f}×".format


def compared(table: pd.DataFrame) -> str:
    """What a reader is told first: the methods, or that this study has one alone."""
    if table.empty:
        return (
            "This study has one way of proposing tokens: name several in its file, such as `speculators: [mtp, ngram]`, "
            "to compare them."
        )
    return f"Compared: {', '.join(_title(m) for m in dict.fromkeys(table.method))}, each with its own K."


def gains(table: pd.DataFrame, floor: NoiseFloor, stamp: str) -> Figure | None:
    """Speedup of each method's fastest arm by workload."""
    if table.empty:
        return None
    best = table.loc[table.groupby(["workload", "method"]).speedup.idxmax()].sort_values(["workload", "method"])
    best = best.assign(way=best.method.map(_title))
    first = {title: arm for title, arm in zip(best.way, best.arm, strict=True)}
    lo, hi = ("lo", "hi") if best.lo.notna().any() else ("prompt_min", "prompt_max")
    band = (1 / floor.factor, floor.factor) if floor.known else None
    axes = Axes("workload", "speedup over baseline [×]", level=1.0, band=band)
    live, still = drawing.bars(
        best, "workload", "speedup", "way", axes, lambda way: drawing.style_of_arm(first[way]), lo=lo, hi=hi
    )
    top = best.loc[best.speedup.idxmax()]
    return Figure(
        live,
        still,
        f"{_capital(words.arm(top.arm))} gains most: {words.workload(top.workload)} {top.speedup:.2f}× as fast as without",
        "Each method with its fastest K for the workload: geometric mean of paired per-prompt ratios of seconds per token, "
        f"one stream. Whiskers: {'95 % interval' if lo == 'lo' else 'range over prompts; one launch gives no interval'}.",
        "Bars: "
        + "; ".join(f"{words.workload(r.workload)}, {words.arm(r.arm)}: {r.speedup:.2f}×" for r in best.itertuples())
        + ".",
        best[["workload", "arm", "speedup", "prompt_min", "prompt_max", "lo", "hi", "verdict"]],
        stamp,
        headline=True,
    )


def acceptance(table: pd.DataFrame, stamp: str) -> Figure | None:
    """Tokens per step of any kind, by workload, of each method's fastest arm."""
    if table.empty:
        return None
    best = table.loc[table.groupby(["workload", "method"]).per_step.idxmax()].sort_values(["workload", "method"])
    best = best.assign(way=best.method.map(_title))
    first = {title: arm for title, arm in zip(best.way, best.arm, strict=True)}
    axes = Axes("workload", "tokens per step", level=1.0)
    live, still = drawing.bars(best, "workload", "per_step", "way", axes, lambda way: drawing.style_of_arm(first[way]))
    spread = table.groupby("method").per_step.agg(["min", "max"])
    uneven = (spread["max"] / spread["min"]).idxmax()
    low = table[table.method == uneven].sort_values("per_step")
    return Figure(
        live,
        still,
        f"{_capital(_title(uneven))} depends most on the work: {low.per_step.iloc[0]:.2f} tokens per step on "
        f"{words.workload(low.workload.iloc[0])}, {low.per_step.iloc[-1]:.2f} on {words.workload(low.workload.iloc[-1])}",
        "Decoded tokens over all steps, with a draft or without, at the K that yields most. 1 is the baseline.",
        "Bars: "
        + "; ".join(f"{words.workload(r.workload)}, {words.arm(r.arm)}: {r.per_step:.2f}" for r in best.itertuples())
        + ".",
        best[["workload", "arm", "drafted", "ar", "al", "per_step"]],
        stamp,
    )


def every_arm(table: pd.DataFrame) -> Table | None:
    """Every speculating arm on every workload."""
    if table.empty:
        return None
    columns = ["workload", "arm", "speedup", "verdict", "drafted", "ar", "al", "per_step", "rho"]
    formats = {"speedup": _TIMES, "drafted": ".0%", "ar": ".0%", "al": ".2f", "per_step": ".2f", "rho": ".2f"}
    return Table(
        table[columns],
        "Every method at every K: what it gains, how often it drafts, what is accepted, what a step costs",
        formats,
    )


def costs(table: pd.DataFrame) -> Table | None:
    """Memory and start of every arm. In: `methods.costs`."""
    if table.empty:
        return None
    formats = {
        "ready_s": ".0f",
        "first_request_s": ".2f",
        "less_kv": ".1%",
        "weights_gib": ".2f",
        "more_weights_gib": "+.2f",
    }
    return Table(
        table.drop(columns=["variant", "k"]),
        "What each method costs before the first token: start, weights, and room for the K/V cache",
        formats | {"kv_tokens": ",.0f"},
        "Weights and K/V cache as the engine's log says; – where it does not say.",
    )


def confounds(table: pd.DataFrame, compared: pd.DataFrame) -> Table | None:
    """What differs between the arms beside the method. In: `methods.confounds`, `methods.side_by_side`."""
    if compared.empty:
        return None
    shown = table.assign(arms=table.arms.map(lambda names: ", ".join(map(words.arm, names))))
    note = (
        ""
        if len(table)
        else "None: all arms started with the same runner, kernels and scheduling, as far as the log says."
    )
    return Table(shown, "What differs between the arms beside the method: read a gain with this in mind", note=note)


def verdict(table: pd.DataFrame) -> str:
    """Per workload the winner, or that there is none. In: `methods.winners`."""
    sentences = []
    if len(table) and not table.known.any():
        best = ", ".join(
            f"{words.workload(r.workload)}: {words.arm(r.arm)} {r.speedup:.2f}×" for r in table.itertuples()
        )
        return f"Which method is best is {NOT_KNOWN}: set `launches` to 3. Fastest so far: {best}. {words.started(table.launches.max())}"
    for r in table.itertuples():
        who = "no method" if r.arm == "baseline" else words.arm(r.arm)
        gain = "" if r.arm == "baseline" else f" ({r.speedup:.2f}×)"
        others = [("no speculation" if m == "none" else _title(m)) for m in r.others]
        sentences.append(
            f"{words.workload(r.workload)}: {who}{gain}"
            + (f", not distinguishable from {' and '.join(others)}" if others else "")
        )
    return f"{'; '.join(sentences)}. {words.started(table.launches.max())}" if sentences else ""


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _title(method: str) -> str:
    return SPECULATORS[method].title

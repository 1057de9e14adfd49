"""The figures of chapters 01 to 07. Pure: tidy frames in, `Figure` out; titles are computed from the data."""

from __future__ import annotations

import pandas as pd

from analysis.science.speedup import recommend
from analysis.science.stats import NOT_KNOWN, NoiseFloor
from analysis.show import drawing, words
from analysis.show.drawing import Axes
from analysis.show.outputs import Figure
from analysis.study import speculator


def speed(table: pd.DataFrame, stamp: str) -> Figure:
    """Tokens per second by workload and arm. In: `speedup.by_workload`."""
    live, still = drawing.bars(
        table, "workload", "tok_s", "arm", Axes("workload", "speed of one request [tok/s]"), drawing.style_of_arm
    )
    fastest = table.loc[table.tok_s.idxmax()]
    title = f"{words.arm(fastest.arm)} on {words.workload(fastest.workload)} is fastest: {fastest.tok_s:.1f} tok/s"
    if table.arm.nunique() == 1:
        title = f"Without a drafter every workload runs at {table.tok_s.min():.1f} to {table.tok_s.max():.1f} tok/s"
    return Figure(
        live,
        still,
        title,
        "Completion tokens per second from sending to the last token, one stream, mean over prompts and repeats.",
        "Grouped bars: "
        + "; ".join(
            f"{words.arm(r.arm)}, {words.workload(r.workload)}: {r.tok_s:.1f} tok/s" for r in table.itertuples()
        )
        + ".",
        table[["arm", "workload", "requests", "seconds", "tok_s", "chars_s", "ttft", "tpot"]],
        stamp,
    )


def cold_start(launches: pd.DataFrame, stamp: str) -> Figure:
    """Seconds from start to ready, and of the first request, by arm. In: launch frame."""
    long = launches.melt(["arm", "launch"], ["ready_s", "first_request_s"], "phase", "seconds")
    long["phase"] = long.phase.map({"ready_s": "start to ready", "first_request_s": "first request"})
    long = long.groupby(["arm", "phase"], as_index=False, sort=False).seconds.mean()
    styles = {"start to ready": drawing.style_of_arm("baseline"), "first request": drawing.style_of_arm("mtp-k4")}
    live, still = drawing.bars(long, "arm", "seconds", "phase", Axes("arm", "seconds"), styles.__getitem__)
    slowest = launches.loc[launches.ready_s.idxmax()]
    return Figure(
        live,
        still,
        f"A server needs up to {slowest.ready_s:.0f} s before it answers",
        "Cold start, kept apart from every speed: seconds from the start of the process to the first healthy answer,"
        " and the first request.",
        "Bars by arm: "
        + "; ".join(f"{words.arm(r.arm)} ready after {r.ready_s:.0f} s" for r in launches.itertuples())
        + ".",
        launches[["arm", "launch", "ready_s", "first_request_s"]],
        stamp,
    )


def speedup_by_workload(paired: pd.DataFrame, floor: NoiseFloor, stamp: str) -> Figure:
    """Speedup of the MTP arms by workload with the noise floor. In: `speedup.paired`."""
    lo, hi, whiskers = _whiskers(paired)
    axes = Axes("workload", "speedup over baseline [×]", level=1.0, band=_band(floor))
    live, still = drawing.bars(paired, "workload", "speedup", "arm", axes, drawing.style_of_arm, lo=lo, hi=hi)
    best, worst = paired.loc[paired.speedup.idxmax()], paired.loc[paired.speedup.idxmin()]
    other = f"{words.arm(worst.arm)} makes " if worst.arm != best.arm else ""
    return Figure(
        live,
        still,
        f"{words.arm(best.arm)} makes {words.workload(best.workload)} {best.speedup:.2f}× as fast,"
        f" {other}{words.workload(worst.workload)} {worst.speedup:.2f}×{_so_far(floor)}",
        f"Geometric mean of paired per-prompt ratios of seconds per token. {whiskers} {_band_text(floor)}",
        "Bars: "
        + "; ".join(f"{words.workload(r.workload)}, {words.arm(r.arm)}: {r.speedup:.2f}×" for r in paired.itertuples())
        + ".",
        paired.drop(columns="variant"),
        stamp,
        headline=True,
    )


def speedup_by_k(sweep: pd.DataFrame, floor: NoiseFloor, stamp: str) -> Figure:
    """Speedup over K, one line per workload. In: `speedup.paired`."""
    sweep = sweep[sweep.variant == "main"]
    lo, hi, whiskers = _whiskers(sweep)
    ks = sorted(sweep.k.unique())
    axes = Axes(
        "K (tokens drafted per step)", "speedup over baseline [×]", level=1.0, band=_band(floor), log_x=True, ticks=ks
    )
    live, still = drawing.lines(sweep, "k", "speedup", "workload", axes, drawing.workload_style, lo=lo, hi=hi)
    best = sweep.loc[sweep.groupby("workload").speedup.idxmax()].sort_values("speedup", ascending=False)
    among = recommend(sweep, floor).set_index("workload").among
    best = best.assign(named=[_either(among[r.workload] or (r.k,)) for r in best.itertuples()])
    named = ", ".join(f"{r.named} for {words.workload(r.workload)}" for r in best.itertuples())
    return Figure(
        live,
        still,
        (
            f"The fastest K depends on the work: {named}"
            if best.named.nunique() > 1
            else f"{best.named.iloc[0]} is fastest for every workload"
        )
        + _so_far(floor),
        f"Geometric mean of paired per-prompt ratios of seconds per token, one stream. {whiskers} {_band_text(floor)}",
        "Lines over K: "
        + "; ".join(
            f"{words.workload(w)}: " + ", ".join(f"K={r.k} {r.speedup:.2f}×" for r in g.itertuples())
            for w, g in sweep.groupby("workload")
        )
        + ".",
        sweep.drop(columns="variant"),
        stamp,
        headline=True,
    )


def acceptance_by_position(positions: pd.DataFrame, stamp: str, conditional: bool = False) -> Figure:
    """p_i (or c_i) over positions, one line per arm, one panel per workload. In: `acceptance.by_position`."""
    y, what = ("c", "conditional acceptance c_i") if conditional else ("p", "acceptance p_i")
    part = positions[(positions.variant == "main") & positions[y].notna()]
    axes = Axes("draft position i", what, ticks=sorted(part.position.unique()))
    interval = {} if conditional else {"lo": "p_lo", "hi": "p_hi"}
    live, still = drawing.lines(part, "position", y, "arm", axes, drawing.style_of_arm, panel="workload", **interval)
    deepest = part[part.k == part.k.max()]
    first, last = (
        deepest[deepest.position == 0][y].mean(),
        deepest[deepest.position == deepest.position.max()][y].mean(),
    )
    if conditional:
        title = f"Where all drafts before are accepted, the next is accepted {deepest[y].mean():.0%} of the time"
        caption = "c_i = p_i / p_(i−1): where the line is flat, every position is as hard as the one before."
    else:
        title = (
            f"Acceptance falls from {first:.0%} at position 0 to {last:.0%} at position {int(deepest.position.max())}"
        )
        caption = (
            "p_i = accepted at position i over drafts, from the engine's counters. Whiskers: 95 % Wilson interval,"
            " drafts taken as independent."
        )
    return Figure(
        live,
        still,
        title,
        caption,
        f"Lines over positions by arm and workload. {title}.",
        part[["arm", "workload", "position", "drafts", "accepted", "p", "p_lo", "p_hi", "c"]],
        stamp,
    )


def acceptance_length(arms: pd.DataFrame, stamp: str) -> Figure:
    """AL over K, one line per workload. In: `acceptance.by_arm`."""
    part = arms[arms.variant == "main"]
    axes = Axes(
        "K (tokens drafted per step)", "acceptance length AL [tokens/step]", log_x=True, ticks=sorted(part.k.unique())
    )
    live, still = drawing.lines(part, "k", "al", "workload", axes, drawing.workload_style)
    top = part.loc[part.al.idxmax()]
    return Figure(
        live,
        still,
        f"A step yields up to {top.al:.2f} tokens: {words.workload(top.workload)} at K = {top.k}",
        "AL = 1 + accepted / drafts, the bonus token counted, from the engine's counters over the timing measurements.",
        "Lines over K: "
        + "; ".join(f"{words.workload(r.workload)}, K={r.k}: {r.al:.2f}" for r in part.itertuples())
        + ".",
        part.drop(columns="variant"),
        stamp,
    )


def end_to_end(programs: pd.DataFrame, stamp: str) -> Figure:
    """Mean seconds of generating and of executing a program, by arm. In: `generated.frame`."""
    long = programs.melt(["arm", "k"], ["generate_s", "execute_s"], "phase", "seconds")
    long["phase"] = long.phase.map({"generate_s": "generate", "execute_s": "execute"})
    long = (
        long.groupby(["arm", "k", "phase"], as_index=False)
        .seconds.mean()
        .sort_values(["k", "phase"], ascending=[True, False])
    )
    long = long[long.seconds.notna()]  # programs that were kept and not run
    live, still = drawing.bars(
        long, "phase", "seconds", "arm", Axes("phase", "mean seconds per program"), drawing.style_of_arm
    )
    means = programs.groupby("arm")[["generate_s", "execute_s"]].mean()
    total = means.sum(axis=1)  # without seconds to execute: generating alone
    title = "Seconds to generate and to execute a program"
    if "baseline" in total.index and len(total) > 1:
        deepest = programs.loc[programs.k.idxmax(), "arm"]
        how = speculator.of_arm(deepest)[0].title
        title = f"Generating and executing a program is {total['baseline'] / total[deepest]:.2f}× faster with {how}"
    return Figure(
        live,
        still,
        title,
        "Natural stop, so that answers differ in length; executing includes importing pandas and matplotlib in a fresh sandbox.",
        "Bars: " + "; ".join(f"{words.arm(r.arm)}, {r.phase}: {r.seconds:.2f} s" for r in long.itertuples()) + ".",
        long.drop(columns="k"),
        stamp,
    )


def agreement(table: pd.DataFrame, stamp: str) -> Figure:
    """Share of prompts with identical greedy text, the control first. In: `losslessness.agreement`."""
    live, still = drawing.bars(
        table,
        "comparison",
        "share",
        "arm",
        Axes("comparison", "share of prompts with identical text", level=0.8),
        drawing.style_of_arm,
        lo="lo",
        hi="hi",
    )
    return Figure(
        live,
        still,
        "; ".join(
            f"{words.comparison(r.comparison)}: {r.identical} of {r.prompts} texts identical"
            for r in table.itertuples()
        ),
        "Greedy texts at temperature 0. Whiskers: 95 % Wilson interval. The line is the bar of vLLM's own test (0.8).",
        "Bars: " + "; ".join(f"{words.comparison(r.comparison)}: {r.share:.0%}" for r in table.itertuples()) + ".",
        table.drop(columns=["k", "arm"]),
        stamp,
    )


def _whiskers(table: pd.DataFrame) -> tuple[str, str, str]:
    if table.lo.notna().any():
        return "lo", "hi", f"Whiskers: 95 % interval. {words.started(table.launches.max())}"
    return "prompt_min", "prompt_max", "Whiskers: range over prompts. One launch gives no interval."


def _either(ks: tuple[int, ...]) -> str:
    """``K = 4``, or ``K = 2, 4 or 8`` where the data do not tell which."""
    *most, last = map(str, ks)
    return f"K = {', '.join(most)} or {last}" if most else f"K = {last}"


def _so_far(floor: NoiseFloor) -> str:
    """What follows a headline that nothing says the noise of."""
    return "" if floor.known else f" (one launch: a verdict is {NOT_KNOWN})"


def _band(floor: NoiseFloor) -> tuple[float, float] | None:
    return (1 / floor.factor, floor.factor) if floor.known else None


def _band_text(floor: NoiseFloor) -> str:
    if not floor.known:
        return "No noise floor: how much a restart changes is not known."
    return f"Grey: the noise floor, {floor.factor:.3f}× ({floor.between})."

"""Chapter 04: figures, tables and sentences on speed under load, inside and outside the captured CUDA graphs. Pure."""

from __future__ import annotations

import pandas as pd

from analysis.science import arms
from analysis.science.load import batch_table
from analysis.science.stats import NOT_KNOWN, NoiseFloor
from analysis.show import drawing, words
from analysis.show.drawing import Axes
from analysis.show.outputs import Figure, Table
from analysis.study.graphs import step_tokens

_TIMES = "{:.2f}×".format
_HOLLOW = "Hollow points, where the line breaks: decode steps larger than the captured CUDA graphs."


def throughput(table: pd.DataFrame, stamp: str) -> Figure:
    """Aggregate tok/s over concurrent streams, one panel per workload. In: `speedup.concurrency`."""
    live, still = _lines(table, "aggregate_tok_s", "arm", Axes("concurrent streams", "aggregate [tok/s]"), "workload")
    top = table.loc[table.aggregate_tok_s.idxmax()]
    return Figure(
        live,
        still,
        f"The highest throughput is {top.aggregate_tok_s:.0f} tok/s: {words.arm(top.arm)},"
        f" {words.workload(top.workload)}, {top.concurrency} streams",
        _caption(
            "Completion tokens of all streams over the wall time of the measurement. Each level is one measurement per"
            " launch.",
            table,
        ),
        "Lines over streams: "
        + "; ".join(
            f"{words.workload(r.workload)}, {words.arm(r.arm)}, {r.concurrency}: {r.aggregate_tok_s:.0f}"
            f" tok/s{_mark(r)}"
            for r in table.itertuples()
        )
        + ".",
        table.drop(columns=["variant", "way"], errors="ignore"),
        stamp,
    )


def gain(table: pd.DataFrame, stamp: str) -> Figure:
    """Aggregate of the speculating arms over the baseline's at the same load. In: `speedup.concurrency`."""
    part = table[arms.speculating(table)].reset_index(drop=True)
    axes = Axes("concurrent streams", "aggregate over the baseline's [×]", level=1.0)
    several = part.arm.nunique() > 1
    whiskers = bool("lo" in part and part.lo.notna().any())
    live, still = _lines(
        part,
        "over_baseline",
        *(("arm", axes, "workload") if several else ("workload", axes, None)),
        **({"lo": "lo", "hi": "hi"} if whiskers else {}),
    )
    spread = " Whiskers: 95 % interval over launches." if whiskers else ""
    if whiskers and drawing.leaves(part, "over_baseline", "hi"):
        spread = f"{spread[:-1]}; where launches differ much they leave the picture, and the table has their ends."
    return Figure(
        live,
        still,
        _trend(part),
        _caption(
            f"Aggregate tok/s of each arm over the baseline's at the same number of streams.{spread} The title has the"
            f" mean over workloads{', of the fastest arm' * several}.",
            part,
        ),
        "Lines over streams: "
        + "; ".join(
            f"{words.workload(r.workload)}, {f'{words.arm(r.arm)}, ' * several}{r.concurrency}:"
            f" {r.over_baseline:.2f}×{_mark(r)}"
            for r in part.itertuples()
        )
        + ".",
        part[
            [
                "arm",
                "workload",
                "concurrency",
                *_known(part),
                "aggregate_tok_s",
                "over_baseline",
                *("lo", "hi") * whiskers,
            ]
        ],
        stamp,
        formats=dict.fromkeys(("over_baseline", "lo", "hi"), _TIMES),
        headline=True,
    )


def speeds(table: pd.DataFrame) -> Table:
    """Aggregate and per-request speed by load. In: `speedup.concurrency`."""
    formats = {
        "aggregate_tok_s": ".1f",
        "per_request": ".1f",
        "per_request_sd": ".1f",
        "ttft": ".3f",
        **dict.fromkeys(("scaling", "over_baseline", "lo", "hi"), _TIMES),
    }
    unknown = [c for c in ("lo", "hi") if c in table and table[c].isna().all()]
    first = ["arm", "workload", "concurrency", *_known(table)]
    rest = [c for c in table if c not in {*first, *unknown, "variant", "k", "cells", "way", "in_graphs"}]
    return Table(
        table[[*first, *rest]],
        "Speed under load: tokens of all streams per second, speed of each request, and the gain of MTP at the same number of streams",
        formats,
    )


def winners(table: pd.DataFrame, floor: NoiseFloor) -> Table:
    """The fastest setting at each load. In: `load.winners`."""
    others = [", ".join(map(words.arm, names)) or "none" for names in table.as_good]
    near = f"within {floor.factor - 1:.1%} of it" if floor.known else "as good"
    others = others if floor.known else [NOT_KNOWN] * len(table)
    return Table(
        table[[c for c in table if c not in {"as_good", "in_graphs"} or c in _known(table)]].assign(**{near: others}),
        "Which setting is fastest at which load",
        {"aggregate_tok_s": ".1f", "over_baseline": _TIMES},
        "" if floor.known else "No arm was started twice: set `launches` to 3 to know which differences are real.",
    )


def graphs(launches: pd.DataFrame) -> Table | None:
    """What each launch captured, and what that cost; None where no log names a size. In: launch frame."""
    columns = ["arm", "launch", "max_capture_size", "graph_mode", "capture_s", "capture_gib", "ready_s", "kv_tokens"]
    table = launches.reindex(columns=columns)
    kept = [c for c in columns if table[c].notna().any()]
    if "max_capture_size" not in kept:
        return None
    return Table(
        table[kept],
        "Captured CUDA graphs by the log of each launch: the largest step they hold, and what capturing took",
        {"max_capture_size": ".0f", "capture_s": ".0f", "capture_gib": ".2f", "ready_s": ".0f"},
    )


def chosen(table: pd.DataFrame) -> Table | None:
    """What an engine that chooses K did at each load; None where every arm has a fixed K. In: `load.chosen`."""
    if table.empty:
        return None
    return Table(
        table,
        "What the engine chose. Accepted per slot drafted is no acceptance rate of the drafter: slots that were not"
        " verified count as rejected",
        {"slots": ".2f", "per_slot": ".1%", "drafted": ".1%", "tokens_per_step": ".2f"},
    )


def reading(table: pd.DataFrame) -> str:
    """The speed of each arm at the largest load, and which loads are outside the graphs. In: `speedup.concurrency`."""
    means = table.groupby(["arm", "k", "concurrency"], as_index=False)[["aggregate_tok_s", "scaling"]].mean()
    top = means[means.concurrency == means.concurrency.max()].sort_values("k")
    speeds = (
        f"{words.arm(r.arm)} gives {r.aggregate_tok_s:.0f} tok/s, {r.scaling:.1f} times its single stream"
        for r in top.itertuples()
    )
    return (
        f"At {int(top.concurrency.iloc[0])} streams {', '.join(speeds)} (means over workloads)."
        f" {words.started(table.launches.max())} {sides(table)}".strip()
    )


def sides(table: pd.DataFrame) -> str:
    """Where the loads are against the captured graphs; empty where no log says. In: `speedup.concurrency`."""
    if "in_graphs" not in table or (table.in_graphs == "not known").all():
        return ""
    if (table.in_graphs == "none").all():
        return "The engine captured no CUDA graphs (eager mode), so nothing of their limit shows here."
    if _outside(table).empty:
        return "Every load is inside the captured CUDA graphs."
    found = []
    for arm, rows in _outside(table).groupby("arm", sort=False):
        row = rows.loc[rows.concurrency.idxmin()]
        streams, k = int(row.concurrency), int(row.k)
        fixed = "way" not in rows or row.way == ""
        tokens = f" ({streams} × {k + 1} = {step_tokens(streams, k)} tokens per step)" if fixed else ""
        found.append(f"{words.arm(arm)} from {streams} streams{tokens}")
    return (
        f"Outside the captured CUDA graphs: {'; '.join(found)}. There speed is lost to the launch, not to the drafter: "
        "`server.graphs: cover` captures them."
    )


def verdict(shares: pd.DataFrame, floor: NoiseFloor) -> str:
    """Whether one launch is as good as the best at every load. In: `load.one_for_all`, the floor under load."""
    judged = shares[shares.judged]
    if not floor.known and len(judged):
        best = judged.iloc[0]
        return (
            f"Which launch is as good as the best at every load is {NOT_KNOWN}: no arm was started twice, so set `launches` to"
            f" 3. Nearest so far is {words.arm(best.arm)}, with {best.worst:.0%} of the best at its worst load. {words.started(1)}"
        )
    if judged.empty:
        return "No launch was measured inside the captured graphs at every load, so none can be named for all of them."
    of = f"within the noise floor ({floor.factor:.3f}×) of"
    good = judged[judged.within]
    if len(good):
        others = f" (also {', '.join(map(words.arm, good.arm.iloc[1:]))})" if len(good) > 1 else ""
        text = f"One launch is {of} the best at every load: {words.arm(good.arm.iloc[0])}{others}."
    else:
        best = judged.iloc[0]
        text = (
            f"No launch is {of} the best at every load. Nearest is {words.arm(best.arm)}: at its worst load,"
            f" {words.plural(int(best['at']), 'stream')} of {words.workload(best.workload)}, it reaches"
            f" {best.worst:.0%} of the best."
        )
    left = [
        f"{words.arm(r.arm)}, which leaves the graphs at {r.leaves} streams"
        for r in shares[~shares.judged].itertuples()
    ]
    return (
        text
        + (f" Not judged: {'; '.join(left)}." if left else "")
        + (f" {words.started(floor.launches)}" if floor.launches else "")
    )


def by_batch(table: pd.DataFrame) -> str:
    """The table of K by load that these measurements give, as a line of a study file; empty for fewer than two K."""
    fixed = table[arms.speculating(table) & (table.variant == "main")]
    rows = batch_table(table) if fixed.k.nunique() > 1 and "in_graphs" in table else []
    return f"K by the number of running requests, from these measurements: `batch_table: {rows}`." if rows else ""


def _lines(table: pd.DataFrame, y: str, series: str, axes: Axes, panel: str | None, **whiskers: str):
    levels = sorted(table.concurrency.unique())
    drawn = table.assign(outside=table.in_graphs == "outside" if "in_graphs" in table else False)
    style = drawing.style_of_arm if series == "arm" else drawing.workload_style
    axes = Axes(axes.x, axes.y, level=axes.level, log_x=True, ticks=levels)
    return drawing.lines(drawn, "concurrency", y, series, axes, style, panel=panel, hollow="outside", **whiskers)


def _trend(part: pd.DataFrame) -> str:
    """The title of the gain: first against last load on one side of the graphs, then what is beyond them."""
    beyond = _outside(part)
    inside = part.drop(beyond.index)
    if inside.empty:
        worst = beyond.over_baseline.min()
        return f"Every load is outside the captured graphs: {worst:.2f}× at worst"
    best = inside.groupby(["arm", "concurrency"]).over_baseline.mean().groupby("concurrency").max()
    first, last = best.iloc[0], best.iloc[-1]
    trend = "shrinks" if last < first * 0.95 else "grows" if last > first * 1.05 else "stays"
    streams = int(best.index[0])
    text = f"The gain {trend} with load: {first:.2f}× at {words.plural(streams, 'stream')}, {last:.2f}× at {best.index[-1]}"
    if beyond.empty:
        return text
    lost = beyond.groupby(["arm", "concurrency"], as_index=False).over_baseline.mean()
    row = lost.loc[lost.over_baseline.idxmin()]
    name = f"{words.arm(row.arm)} " if part.arm.nunique() > 1 else ""
    return f"{text}; outside the captured graphs {name}{row.over_baseline:.2f}× at {int(row.concurrency)}"


def _outside(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.in_graphs == "outside"] if "in_graphs" in table else table.iloc[:0]


def _mark(row) -> str:
    return " (outside the graphs)" if getattr(row, "in_graphs", "") == "outside" else ""


def _known(table: pd.DataFrame) -> list[str]:
    """The column in_graphs, where an engine captured graphs and its log says so."""
    return ["in_graphs"] if "in_graphs" in table and table.in_graphs.isin(["inside", "outside"]).any() else []


def _caption(text: str, table: pd.DataFrame) -> str:
    return text if _outside(table).empty else f"{text} {_HOLLOW}"

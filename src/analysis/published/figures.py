"""The figures of chapters 08 and 09. Pure: tidy frames in, `Figure` out; titles are computed from the data."""

from __future__ import annotations

import matplotlib
import pandas as pd
import plotly.graph_objects as go

from analysis import shapes
from analysis.published import physics
from analysis.published.claims import family
from analysis.published.evidence import Evidence
from analysis.science import money
from analysis.science.money import Assumptions
from analysis.show import drawing, words
from analysis.show.drawing import Axes
from analysis.show.look import INK, MATPLOTLIB, Style, arm_style
from analysis.show.outputs import Figure

#: what published figures carry instead of a study's stamp: others measured them
PUBLISHED = "measured"
#: a prediction of a speedup that is further off is a miss
HIT = 0.10
_MODELS = {
    "gemma-4-31B-it": Style("#0072B2", "solid", "square", "s", "-"),
    "gemma-4-26B-A4B-it": Style("#D55E00", "dash", "circle", "o", "--"),
    "gemma-4-26B-A4B": Style("#CC79A7", "dot", "diamond", "D", ":"),
    "gemma-4-E4B-it": Style("#009E73", "dashdot", "triangle-up", "^", "-."),
}
_KINDS = {
    "measured": Style("#D55E00", "solid", "circle", "o", "-"),
    "bytes, each token on its own experts": Style("#0072B2", "dash", "triangle-down", "v", "--"),
    "bytes, all tokens on the same experts": Style("#009E73", "dot", "triangle-up", "^", ":"),
    "predicted": Style("#0072B2", "dash", "square", "s", "--"),
}
_TIMES = "{:.2f}×".format


def published_speedups(speedups: pd.DataFrame, evidence: Evidence) -> Figure:
    """Every published speedup of MTP, one dot per setting; doubtful ones are hollow. In: `physics.speedups`."""
    frame = speedups.assign(label=[_setting(r) for r in speedups.itertuples()])
    frame = frame.sort_values(["doubtful", "speedup"], ascending=[False, True], ignore_index=True)
    sure = frame[~frame["doubtful"]]
    kinds = sure["model"].map(
        lambda name: "MoE" if shapes.shape_of(name) and shapes.shape_of(name).experts else "dense"
    )
    middle = sure[sure["speedup"] > 1].groupby(kinds)["speedup"].median()
    live, still = _dots(frame, "speedup", "published speedup over the baseline of the same source [×]", level=1.0)
    return Figure(
        live,
        still,
        "Published gains, in the middle: " + ", ".join(f"{kind} targets {gain:.2f}×" for kind, gain in middle.items()),
        "MTP speed over the baseline speed of the same setting, computed from the published speeds. Hollow: doubtful "
        "(the source's method, a number listed twice, or more than bandwidth allows). Models by colour and shape.",
        "Dots by setting: " + "; ".join(f"{r.label} {r.speedup:.2f}×" for r in sure.itertuples()) + ".",
        frame[
            [
                "source",
                "table",
                "hardware",
                "model",
                "quantisation",
                "k",
                "workload",
                "concurrency",
                "speedup",
                "doubtful",
            ]
        ],
        PUBLISHED,
        sources=sources_of(frame, evidence),
        formats={"speedup": _TIMES, "k": "{:.0f}".format},
    )


def speed_against_bound(checked: pd.DataFrame, evidence: Evidence) -> Figure:
    """Published speeds as a share of what bandwidth allows; above 1 is more than the bandwidth allows. In: `physics.physics`."""
    frame = checked[checked["verdict"] != "not checkable"].copy()
    frame["label"] = [_setting(r) + f", {r.tok_s:.4g} tok/s" for r in frame.itertuples()]
    frame["doubtful"] = frame["verdict"] != physics.POSSIBLE
    frame = frame.sort_values("share", ignore_index=True)
    setting = ["source", "hardware", "model", "quantisation", "arm", "k", "concurrency"]
    shown = frame.drop_duplicates(setting, keep="last")
    above = frame[frame["doubtful"]]
    live, still = _dots(shown, "share", "speed / bandwidth bound", level=1.0)
    names = ", ".join(f"{v:.4g}" for v in sorted(above["tok_s"].unique()))
    return Figure(
        live,
        still,
        f"{len(above)} published speeds are above what bandwidth allows: {names} tok/s"
        if len(above)
        else "No published speed is above what bandwidth allows",
        "Speed over the bound from weight bytes moved at the data sheet's bandwidth, all streams together, every draft "
        "accepted, experts chosen independently. The fastest workload of each setting is drawn; all are in the data. Hollow: "
        "possible only if the tokens of a step use the same experts, as identical or degenerate text makes them.",
        "Dots by setting: " + "; ".join(f"{r.label}: {r.share:.0%}" for r in shown.itertuples()) + ".",
        frame[
            [
                "source",
                "table",
                "hardware",
                "model",
                "k",
                "concurrency",
                "tok_s",
                "bound",
                "bound_same",
                "share",
                "needs_al",
                "verdict",
            ]
        ],
        PUBLISHED,
        sources=sources_of(frame, evidence),
        formats={"share": ".0%", "k": "{:.0f}".format},
    )


def step_cost_published(costs: pd.DataFrame, evidence: Evidence) -> Figure:
    """What a step costs by the published numbers, between the two bounds of bytes. In: `physics.step_costs`."""
    reference = costs[(costs["source"] == "suzuki-shoten") & (costs["model"] == "gemma-4-26B-A4B-it")]
    long = reference.melt(["k"], ["rho", "rho_independent", "rho_same"], "kind", "cost")
    long["kind"] = long["kind"].map(dict(zip(["rho", "rho_independent", "rho_same"], list(_KINDS)[:3], strict=True)))
    ks = sorted(reference["k"].unique())
    live, still = drawing.lines(
        long,
        "k",
        "cost",
        "kind",
        Axes("K (tokens drafted per step)", "cost of a step [baseline steps]", level=1.0, log_x=True, ticks=ks),
        _KINDS.__getitem__,
    )
    rho = reference.set_index("k")["rho"]
    return Figure(
        live,
        still,
        f"A speculative step of the 26B costs {rho.iloc[0]:.1f} to {rho.iloc[-1]:.1f} baseline steps on GB10, never below one",
        "Measured: published acceptance length over published speedup (geometric mean of three workloads). Lines: bytes of "
        "the step over bytes of a baseline step, with each token on its own experts and with all on the same.",
        "Lines over K: "
        + "; ".join(
            f"K = {r.k}: measured {r.rho:.2f}, bytes {r.rho_same:.2f} to {r.rho_independent:.2f}"
            for r in reference.itertuples()
        )
        + ".",
        costs,
        PUBLISHED,
        sources=sources_of(costs, evidence),
        formats={"speedup": _TIMES},
    )


def gain_by_load(model_gain: pd.DataFrame, speedups: pd.DataFrame, evidence: Evidence) -> Figure:
    """How the gain changes with load: bytes alone (lines), and published points. In: `physics.gain_by_load`, `speedups`."""
    many = speedups[speedups.groupby(["source", "model"])["concurrency"].transform("nunique") > 1]
    points = many.assign(
        series=many["source"] + ", " + many["model"].map(_short), streams=many["concurrency"], gain=many["speedup"]
    )
    lines = model_gain.assign(series="bytes alone, " + model_gain["model"].map(_short))
    frame = pd.concat([lines, points])[["series", "model", "streams", "gain"]].sort_values(["series", "streams"])
    names = list(dict.fromkeys(frame["series"]))
    looks = {name: arm_style(1 + i, f"s{i}") for i, name in enumerate(names)}
    ticks = sorted(frame["streams"].unique())
    live, still = drawing.lines(
        frame,
        "streams",
        "gain",
        "series",
        Axes(
            "concurrent streams", "speedup over the baseline at the same load [×]", level=1.0, log_x=True, ticks=ticks
        ),
        looks.__getitem__,
    )
    live.update_layout(height=520, legend_orientation="v", legend_y=-0.25, legend_yanchor="top", margin_b=200)
    turns = {}
    for (source, name), group in points.sort_values("streams").groupby(["source", "model"]):
        first, last = group["gain"].iloc[[0, -1]]
        turns[f"{_short(name)} ({source})"] = f"{'falls' if last < first else 'rises'} from {first:.2f}× to {last:.2f}×"
    return Figure(
        live,
        still,
        "As streams are added the published gain " + ", ".join(f"{turn} for {name}" for name, turn in turns.items()),
        "Dots and lines of sources: published. Lines 'bytes alone': what weight bytes allow at the published acceptance; "
        "they leave out arithmetic, which ends the gain at high load, and K/V.",
        "Lines over streams: "
        + "; ".join(
            f"{n}: " + ", ".join(f"{r.streams} {r.gain:.2f}×" for r in g.itertuples())
            for n, g in frame.groupby("series")
        )
        + ".",
        frame,
        PUBLISHED,
        sources=sources_of(many, evidence),
        formats={"gain": _TIMES},
    )


def cost_per_million(checked: pd.DataFrame, evidence: Evidence, given: Assumptions) -> Figure:
    """Cost of a million tokens on one machine by model, arm and load, from published speeds that are possible."""
    frame = checked[
        (checked["hardware"] == given.machine)
        & (checked["verdict"] == physics.POSSIBLE)
        & (checked["confidence"] != "doubtful")
    ]
    frame = frame[frame["reading"].isin(["exact", "about"]) & ~frame["workload"].eq("production")].copy()
    frame["label"] = [_setting(r) for r in frame.itertuples()]
    frame["cost"] = [money.cost_per_million(v, given) for v in frame["tok_s"]]
    frame = frame.drop_duplicates("label").sort_values("cost", ascending=False, ignore_index=True)
    cheap, dear = frame.iloc[-1], frame.iloc[0]
    live, still = _dots(
        frame.assign(doubtful=frame["arm"] == "baseline"), "cost", "cost of a million tokens [currency of the price]"
    )
    return Figure(
        live,
        still,
        f"A million tokens cost {cheap.cost:.2f} ({cheap.label}) to {dear.cost:.2f} ({dear.label})",
        f"Price {given.price:g} written off over {given.years:g} years, busy {given.utilisation:.0%} of the time, "
        f"{given.watts:g} W while busy, {given.kwh_price:g} per kWh; published speeds on {given.machine}. Hollow: baseline.",
        "Dots by setting: " + "; ".join(f"{r.label}: {r.cost:.2f}" for r in frame.itertuples()) + ".",
        frame[["source", "table", "model", "quantisation", "arm", "k", "workload", "concurrency", "tok_s", "cost"]],
        PUBLISHED,
        sources=sources_of(frame, evidence),
        formats={"cost": "{:.2f}".format, "k": "{:.0f}".format},
    )


def step_cost(costs: pd.DataFrame, stamp: str) -> Figure:
    """Measured cost of a step by K and workload, with the acceptance length that pays it. In: `costmodel.step_cost`."""
    main = costs[costs["variant"] == "main"]
    ks = sorted(main["k"].unique())
    has = main["lo"].notna().any()
    live, still = drawing.lines(
        main,
        "k",
        "rho",
        "workload",
        Axes("K (tokens drafted per step)", "cost of a step [baseline steps]", level=1.0, log_x=True, ticks=ks),
        drawing.workload_style,
        lo="lo" if has else None,
        hi="hi" if has else None,
    )
    last = main[main["k"] == ks[-1]]["rho"].mean()
    return Figure(
        live,
        still,
        f"A step with K = {ks[-1]} costs {last:.2f} baseline steps, so it must bring that many tokens",
        "Time of a step over the baseline's, from TPOT and counters at one stream; it is also the acceptance length at"
        " which the arm breaks even.",
        "Lines over K: "
        + "; ".join(
            f"{words.workload(w)}: " + ", ".join(f"K={r.k} {r.rho:.2f}" for r in g.itertuples())
            for w, g in main.groupby("workload")
        )
        + ".",
        main.drop(columns="variant"),
        stamp,
    )


def predicted_sweep(sweep: pd.DataFrame, stamp: str) -> Figure:
    """The K sweep predicted from its ends, beside what was measured. In: `costmodel.predict_sweep`."""
    main = sweep[sweep["variant"] == "main"]
    long = main.melt(["workload", "k"], ["measured", "predicted"], "kind", "speedup")
    ks = sorted(main["k"].unique())
    live, still = drawing.lines(
        long,
        "k",
        "speedup",
        "kind",
        Axes("K", "speedup [×]", level=1.0, log_x=True, ticks=ks),
        _KINDS.__getitem__,
        panel="workload",
    )
    rest = main[~main["used"]]
    worst = rest["error"].abs().max() if len(rest) else float("nan")
    title = "Two K only: nothing is left to predict"
    if len(rest):
        hit = f"Three arms predict the rest of the sweep: the largest error is {worst:.0%}"
        missed = f"Three arms do not predict the rest of the sweep: the largest miss is {worst:.0%}"
        title = hit if worst <= HIT else missed
    return Figure(
        live,
        still,
        title,
        "Cost of a step as a line through the smallest and the largest K; acceptance length from the positions of the largest K.",
        "Lines over K by workload: "
        + "; ".join(
            f"{words.workload(r.workload)}, K={r.k}: {r.measured:.2f}× measured, {r.predicted:.2f}× predicted"
            for r in main.itertuples()
        )
        + ".",
        main.drop(columns="variant"),
        stamp,
        formats={
            "error": "+.1%",
            "measured": _TIMES,
            "predicted": _TIMES,
            "used": lambda v: "fitted" if v else "predicted",
        },
    )


def sources_of(frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Where the rows of a figure come from: author, title and tables, one entry per source."""
    about = evidence.sources.set_index("source")
    entries = []
    for source, group in frame.groupby("source", sort=False):
        tables = f", tables {', '.join(dict.fromkeys(group['table']))}" if "table" in group else ""
        entries.append(
            f"{about.loc[source, 'author']}, {about.loc[source, 'title']} ({about.loc[source, 'date']}){tables}"
        )
    return entries


def _short(model: str) -> str:
    return model.removeprefix("gemma-4-").removesuffix("-it")


def _setting(row) -> str:
    """Label of a published setting: source, machine, model, K, workload, streams."""
    model = _short(row.model)
    k = "baseline" if row.arm == "baseline" else "K = ?" if pd.isna(row.k) else f"K = {int(row.k)}"
    work = "" if row.workload == "unstated" else f", {words.workload(row.workload)}"
    streams = f", {row.concurrency} streams" if row.concurrency > 1 else ""
    twice = ", 2nd launch" if row.source == "suzuki-shoten" and row.table == "3.1" and row.k == 4 else ""
    label = f", {row.label}" if row.label else ""
    bound = {"at-least": ", at least", "up-to": ", up to"}.get(row.reading, "")
    form = "" if row.quantisation == "unstated" else f" {family(row.quantisation)}"
    return f"{row.source}: {model}{form} on {row.hardware}, {k}{work}{streams}{label}{twice}{bound}"


def _dots(frame: pd.DataFrame, x: str, title: str, level: float | None = None):
    """One dot per row of `frame` (column label), from bottom to top; hollow where `doubtful`. Live and static."""
    frame = frame.reset_index(drop=True)
    height = 150 + 19 * len(frame)
    live = go.Figure()
    with matplotlib.rc_context(MATPLOTLIB):
        from matplotlib import pyplot

        still, axis = pyplot.subplots(figsize=(9.4, height / 95), layout="constrained")
        for model, group in frame.groupby("model", sort=False):
            look = _MODELS.get(model, Style(INK, "solid", "star", "*", "-"))
            for hollow, part in group.groupby("doubtful", sort=False):
                symbol = look.symbol + ("-open" if hollow else "")
                named = bool(not hollow or group["doubtful"].all())
                live.add_scatter(
                    x=part[x],
                    y=part["label"],
                    mode="markers",
                    name=model,
                    legendgroup=model,
                    showlegend=named,
                    marker={"color": look.color, "symbol": symbol, "size": 10},
                )
                axis.scatter(
                    part[x],
                    part.index,
                    marker=look.mpl_marker,
                    s=34,
                    color="none" if hollow else look.color,
                    edgecolors=look.color,
                    linewidths=1.4,
                    label=model if named else None,
                    zorder=3,
                )
        axis.set_yticks(range(len(frame)), frame["label"], fontsize=7.5)
        axis.set_xlabel(title)
        axis.set_xlim(left=0)
        axis.grid(axis="x", visible=True)
        if level is not None:
            live.add_vline(x=level, line={"color": INK, "width": 1, "dash": "dash"})
            axis.axvline(level, color=INK, lw=0.9, ls="--")
        still.legend(ncols=4, loc="outside upper left", fontsize=8)
    live.update_xaxes(title_text=title, rangemode="tozero")
    live.update_yaxes(categoryorder="array", categoryarray=frame["label"].tolist(), tickfont={"size": 10})
    live.update_layout(height=height + 60)
    return live, still

"""Two drawings that every figure of the study is made of, each live (plotly) and as its static twin (seaborn).

Pure: tidy frames in, (plotly figure, matplotlib figure) out. Series are told apart by colour and by marker or dash,
intervals are whiskers, and panels share their axes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from plotly.subplots import make_subplots

from analysis.show import words
from analysis.show.look import INK, MATPLOTLIB, Style, arm_style
from analysis.study import speculator

_WORKLOAD = {
    "py_code": Style("#009E73", "solid", "circle", "o", "-"),
    "en_finance": Style("#0072B2", "dash", "square", "s", "--"),
    "ja_finance": Style("#D55E00", "dot", "diamond", "D", ":"),
}
_OTHERS = [
    Style("#CC79A7", "dashdot", "triangle-up", "^", "-."),
    Style("#E69F00", "longdash", "cross", "P", "--"),
    Style("#56B4E9", "solid", "star", "*", "-"),
]


_PATTERNS = ("/", "x", "-", ".")


def workload_style(name: str) -> Style:
    """Colour, dash and marker of a workload: the same in every figure."""
    return _WORKLOAD.get(name) or _OTHERS[sum(name.encode()) % len(_OTHERS)]


def pattern(name: str) -> str:
    """Hatching of a bar: none, or for an arm of a variant (``mtp-k4@eager``) one of four by the variant's name."""
    variant = name.partition("@")[2]
    return _PATTERNS[zlib.crc32(variant.encode()) % len(_PATTERNS)] if variant else ""


def style_of_arm(name: str) -> Style:
    """Style of an arm by its name (``baseline``, ``mtp-k4``, ``mtp-k4@eager``)."""
    return arm_style(speculator.of_arm(name)[1], name)


@dataclass(frozen=True)
class Axes:
    """Titles with units, and marks: ``level`` is a line to compare with, ``band`` a grey zone around it."""

    x: str
    y: str
    level: float | None = None
    band: tuple[float, float] | None = None
    log_x: bool = False
    zero: bool = True
    ticks: Sequence[float] | None = None

    @property
    def tick_labels(self) -> list[str]:
        """A label for each tick; on a logarithmic axis an empty one where two would stand on each other: the ends come
        first, then powers of two."""
        ticks = list(self.ticks or ())
        if not self.log_x or len(ticks) < 2:
            return [f"{t:g}" for t in ticks]
        places, least = np.log2(ticks), 0.1 * np.ptp(np.log2(ticks))
        order = sorted(range(len(ticks)), key=lambda i: (0 < i < len(ticks) - 1, places[i] % 1 > 0, i))
        kept: list[int] = []
        for i in order:
            if all(abs(places[i] - places[j]) >= least for j in kept):
                kept.append(i)
        return [f"{t:g}" if i in kept else "" for i, t in enumerate(ticks)]


def lines(
    frame: pd.DataFrame,
    x: str,
    y: str,
    series: str,
    axes: Axes,
    style: Callable[[str], Style],
    panel: str | None = None,
    lo: str | None = None,
    hi: str | None = None,
    hollow: str | None = None,
):
    """A line with markers for each ``series``; one panel for each value of ``panel``. ``lo`` and ``hi`` are whiskers.

    Where ``hollow`` (a column of booleans) changes, the line breaks; points where it is true have no filling.
    """
    return _draw(frame, x, y, series, axes, style, panel, lo, hi, hollow, bars=False)


def bars(
    frame: pd.DataFrame,
    x: str,
    y: str,
    series: str,
    axes: Axes,
    style: Callable[[str], Style],
    panel: str | None = None,
    lo: str | None = None,
    hi: str | None = None,
):
    """Grouped bars: a group for each ``x``, a bar for each ``series``; as `lines` otherwise."""
    return _draw(frame, x, y, series, axes, style, panel, lo, hi, None, bars=True)


def leaves(frame: pd.DataFrame, y: str, hi: str | None) -> bool:
    """Whether a whisker is more than twice as high as every point: the axis then ends above the points, and the whisker
    leaves the picture. An interval over two launches that differ is that wide."""
    return hi is not None and bool(frame[hi].max() > 2 * frame[y].max() > 0)


def _draw(frame, x, y, series, axes, style, panel, lo, hi, hollow, *, bars):
    names = list(dict.fromkeys(frame[series]))
    panels = list(dict.fromkeys(frame[panel])) if panel else [""]
    live = make_subplots(
        1,
        len(panels),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=[words.name(p) for p in panels] if panel else None,
    )
    with matplotlib.rc_context(MATPLOTLIB):
        from matplotlib import pyplot

        still, grid = pyplot.subplots(
            1,
            len(panels),
            sharey=True,
            squeeze=False,
            figsize=(7.2 if len(panels) == 1 else 8.4, 3.9),
            layout="constrained",
        )
        xs = list(dict.fromkeys(frame[x]))
        for column, title in enumerate(panels):
            axis = grid[0][column]
            part = frame[frame[panel] == title] if panel else frame
            for number, name in enumerate(names):
                one_series = part[part[series] == name]
                if len(one_series):
                    _series(
                        live,
                        axis,
                        one_series,
                        name,
                        style(name),
                        x,
                        y,
                        lo,
                        hi,
                        hollow,
                        bars,
                        column + 1,
                        number,
                        len(names),
                        xs,
                    )
            _marks(live, axis, axes, column + 1)  # plotly leaves them out of a panel without data
            if bars:
                axis.set_xticks(range(len(xs)), map(words.value, [x] * len(xs), xs), rotation=0 if len(xs) < 5 else 30)
            elif axes.ticks is not None:
                if axes.log_x:
                    axis.set_xscale("log", base=2)
                axis.set_xticks(list(axes.ticks), axes.tick_labels)
                axis.minorticks_off()
            axis.set_xlabel(axes.x)
            axis.set_title(words.name(title), fontsize=10)
            sns.despine(ax=axis)
        grid[0][0].set_ylabel(axes.y)
        limit = 1.3 * frame[y].max() if axes.zero and leaves(frame, y, hi) else None
        if axes.zero:
            grid[0][0].set_ylim(bottom=0, top=limit)
        handles, labels = grid[0][0].get_legend_handles_labels()
        if len(names) > 1:
            columns = _legend_columns(labels, still.get_figwidth())
            still.legend(handles, labels, ncols=columns, loc="outside upper left", fontsize=9)
    live.update_xaxes(title_text=axes.x)
    live.update_yaxes(title_text=axes.y, col=1)
    if axes.zero:
        live.update_yaxes(**({"range": [0, limit]} if limit else {"rangemode": "tozero"}))
    if bars:
        live.update_layout(barmode="group")
    elif axes.ticks is not None:
        live.update_xaxes(tickvals=list(axes.ticks), ticktext=axes.tick_labels, type="log" if axes.log_x else "linear")
    live.update_layout(showlegend=len(names) > 1, margin_t=72 if panel else 48)
    if panel:
        live.update_layout(legend_y=1.12)
    return live, still


def _legend_columns(labels: list[str], width: float) -> int:
    """How many columns of labels (9 pt) fit into a figure's width [inches]; matplotlib fills them from top to bottom."""
    for columns in range(min(5, len(labels)), 1, -1):
        deep, more = divmod(len(labels), columns)
        ends = [n * deep + min(n, more) for n in range(columns + 1)]
        if sum(0.61 + 0.064 * max(map(len, labels[a:b])) for a, b in zip(ends, ends[1:], strict=False)) <= width:
            return columns
    return 1


def _series(live, axis, own, name, look, x, y, lo, hi, hollow, bars, column, number, count, xs) -> None:
    has_interval = lo is not None and own[lo].notna().any()
    whiskers = None
    if has_interval:
        whiskers = {
            "type": "data",
            "symmetric": False,
            "array": (own[hi] - own[y]).clip(0).tolist(),
            "arrayminus": (own[y] - own[lo]).clip(0).tolist(),
        }
    spread = (
        np.vstack([own[y] - own[lo], own[hi] - own[y]]).clip(0) if has_interval else None
    )  # rounding can give −1e-17
    if bars:
        live.add_bar(
            x=[words.value(x, v) for v in own[x]],
            y=own[y],
            name=words.name(name),
            legendgroup=name,
            showlegend=column == 1,
            marker_color=look.color,
            marker_pattern_shape=pattern(name),
            error_y=whiskers,
            row=1,
            col=column,
        )
        places = [xs.index(v) + (number - (count - 1) / 2) * 0.8 / count for v in own[x]]
        axis.bar(
            places,
            own[y],
            0.72 / count,
            color=look.color,
            label=words.name(name),
            yerr=spread,
            ecolor=INK,
            capsize=2,
            hatch=2 * pattern(name),
            edgecolor="white",
            linewidth=0,
        )
        return
    empty = own[hollow].astype(bool).tolist() if hollow else [False] * len(own)
    live.add_scatter(
        x=own[x],
        y=own[y],
        name=words.name(name),
        legendgroup=name,
        showlegend=column == 1,
        mode="lines+markers",
        line={"color": look.color, "dash": look.dash},
        marker={"symbol": [f"{look.symbol}-open" if e else look.symbol for e in empty] if any(empty) else look.symbol},
        error_y=whiskers,
        row=1,
        col=column,
    )
    if any(empty) and not all(empty):
        _break(live.data[-1], empty)
    for number, part in enumerate(_stretches(own, empty)):
        sns.lineplot(
            data=part,
            x=x,
            y=y,
            ax=axis,
            color=look.color,
            marker=look.mpl_marker,
            linestyle=look.mpl_linestyle,
            label=words.name(name) if number == 0 else None,
            legend=False,
            errorbar=None,
            **(
                {"markerfacecolor": "none", "markeredgecolor": look.color}
                if empty[own.index.get_loc(part.index[0])]
                else {"markeredgewidth": 0}
            ),
        )
    if spread is not None:
        axis.errorbar(own[x], own[y], yerr=spread, fmt="none", ecolor=look.color, capsize=2, lw=1)


def _stretches(own: pd.DataFrame, empty: list[bool]) -> list[pd.DataFrame]:
    """The rows in stretches within which all points are filled, or all are hollow."""
    turns = [i for i in range(1, len(empty)) if empty[i] != empty[i - 1]]
    return [own.iloc[a:b] for a, b in zip([0, *turns], [*turns, len(own)], strict=True)]


def _break(trace, empty: list[bool]) -> None:
    """Put a gap into a line where its points turn from filled to hollow or back."""
    turns = [i for i in range(1, len(empty)) if empty[i] != empty[i - 1]]
    for name in ("x", "y"):
        values = list(trace[name])
        for turn in reversed(turns):
            values.insert(turn, None)
        trace[name] = values
    symbols = list(trace.marker.symbol)
    for turn in reversed(turns):
        symbols.insert(turn, symbols[turn])
        for side in ("array", "arrayminus"):
            if trace.error_y[side] is not None:
                trace.error_y[side] = [*trace.error_y[side][:turn], 0, *trace.error_y[side][turn:]]
    trace.marker.symbol = symbols


def _marks(live, axis, axes: Axes, column: int) -> None:
    if axes.band is not None:
        live.add_hrect(
            y0=axes.band[0],
            y1=axes.band[1],
            fillcolor=INK,
            opacity=0.18,
            line_width=0,
            layer="below",
            row=1,
            col=column,
        )
        axis.axhspan(*axes.band, color=INK, alpha=0.18, lw=0)
    if axes.level is not None:
        live.add_hline(y=axes.level, line={"color": INK, "width": 1, "dash": "dash"}, row=1, col=column)
        axis.axhline(axes.level, color=INK, lw=0.9, ls="--")

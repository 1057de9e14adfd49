"""The look of every arm, once: colour, dash and marker, the same in plotly and in matplotlib, and the stamp of a figure."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import matplotlib.figure
    import plotly.graph_objects as go

STAMPS = ("measured", "synthetic-acceptance", "miniature")
INK = "#757678"  # text and axes: readable on white and on black; the report puts the page's own text colour there
GRID = "rgba(127,128,129,0.28)"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Style:
    """How one arm is drawn, the same in plotly and in matplotlib."""

    color: str
    dash: str
    symbol: str
    mpl_marker: str
    mpl_linestyle: str | tuple[int, tuple[int, ...]]


# Okabe and Ito's palette without its black and yellow, which vanish on a dark and on a white page. The K that most
# studies sweep (1, 2, 4, 8) have the colours that stand out best on both.
_PURPLE, _GREEN, _SKY, _VERMILION, _ORANGE, _BLUE = "#CC79A7", "#009E73", "#56B4E9", "#D55E00", "#E69F00", "#0072B2"
_BASELINE = "#7F7F7F"
_COLORS = {1: _PURPLE, 2: _GREEN, 3: _SKY, 4: _VERMILION, 5: _ORANGE, 6: _SKY, 7: _PURPLE, 8: _BLUE}
_DASHES: dict[str, str | tuple[int, tuple[int, ...]]] = {
    "dash": "--",
    "solid": "-",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (9, 3)),
    "longdashdot": (0, (9, 3, 2, 3)),
}
_SYMBOLS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "cross": "P",
    "star": "*",
    "pentagon": "p",
}
_PLACES = {0: (0, 0), 1: (2, 1), 2: (3, 2), 3: (4, 5), 4: (1, 4), 5: (5, 6), 6: (2, 7), 7: (4, 0), 8: (4, 3)}


def arm_style(k: int, name: str = "") -> Style:
    """Colour, dash and marker of an arm, from its K and its name alone.

    Parameters
    ----------
    k : int
        ``num_speculative_tokens``; 0 is the baseline.
    name : str
        Arm name. ``baseline`` and ``mtp-k<K>`` have the plain style of their K; any other name of the same K
        (say ``mtp-k4-fp8``) keeps the colour and takes another dash and marker, always the same ones.
    """
    dash_at, symbol_at = _PLACES.get(k, (k % len(_DASHES), k % len(_SYMBOLS)))
    if name not in ("", "baseline", f"mtp-k{k}"):
        turn = zlib.crc32(name.encode())
        dash_at += 1 + turn % (len(_DASHES) - 1)
        symbol_at += 1 + turn % (len(_SYMBOLS) - 1)
    hues = (_GREEN, _VERMILION, _BLUE, _PURPLE, _SKY, _ORANGE)
    color = _BASELINE if k == 0 else _COLORS.get(k, hues[k % len(hues)])
    dash, linestyle = list(_DASHES.items())[dash_at % len(_DASHES)]
    symbol, marker = list(_SYMBOLS.items())[symbol_at % len(_SYMBOLS)]
    return Style(color, dash, symbol, marker, linestyle)


_AXIS = {
    "color": INK,
    "gridcolor": GRID,
    "zerolinecolor": GRID,
    "linecolor": GRID,
    "ticks": "outside",
    "tickcolor": GRID,
    "automargin": True,
    "title": {"standoff": 12, "font": {"size": 13}},
}
_WHISKERS = {"color": INK, "thickness": 1.4, "width": 5}
PLOTLY_LAYOUT: dict[str, Any] = {
    "font": {"family": FONTS, "size": 13, "color": INK},
    "colorway": [_VERMILION, _BLUE, _GREEN, _PURPLE, _SKY, _ORANGE, _BASELINE],
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "xaxis": _AXIS,
    "yaxis": _AXIS,
    "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "title": {"text": ""}},
    "margin": {"l": 56, "r": 16, "t": 48, "b": 76},
    "height": 440,
    "bargap": 0.28,
    "bargroupgap": 0.06,
    "hoverlabel": {"font": {"family": FONTS}},
}
PLOTLY_TEMPLATE: dict[str, Any] = {
    "layout": PLOTLY_LAYOUT,
    "data": {
        "bar": [{"error_x": _WHISKERS, "error_y": _WHISKERS, "marker": {"line": {"width": 0}}}],
        "scatter": [{"line": {"width": 2}, "marker": {"size": 8}}],
    },
}
MATPLOTLIB: dict[str, Any] = {
    "svg.hashsalt": "analysis",  # the same drawing gets the same ids: the same bytes
    "svg.fonttype": "none",  # text stays text: small, sharp, searchable
    "font.family": "sans-serif",
    "font.size": 10,
    "figure.figsize": (7.2, 4.0),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def stamp_live(live: go.Figure, stamp: str) -> go.Figure:
    """The figure with its stamp in the lower right corner; the figure given is changed and returned.

    The stamp is plotly's title, which keeps a line of its own below long axis titles: the figure's real title is a
    heading of the page, not a part of the drawing.
    """
    place = {"x": 1, "xref": "paper", "xanchor": "right", "y": 0, "yref": "container", "yanchor": "bottom"}
    return live.update_layout(
        title={"text": stamp, "font": {"size": 10, "color": INK}, "automargin": True, "pad": {"b": 4, "t": 4}, **place}
    )


def static_svg(drawing: matplotlib.figure.Figure, stamp: str) -> str:
    """SVG text of a matplotlib figure with its stamp in the lower right corner; same drawing, same bytes.

    The figure is closed, so that the notebook does not show it a second time.
    """
    import matplotlib
    from matplotlib import pyplot

    engine = drawing.get_layout_engine()
    if hasattr(engine, "execute") and "rect" in engine.get():
        engine.set(rect=(0, 0.04, 1, 0.96))  # the stamp has a line of its own
    drawing.text(0.995, 0.008, stamp, ha="right", va="bottom", size=7.5, color=INK)
    text = io.StringIO()
    with matplotlib.rc_context(MATPLOTLIB):
        drawing.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    pyplot.close(drawing)
    return text.getvalue()

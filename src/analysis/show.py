"""Things a notebook cell shows: figures, tables, sentences, code side by side; and the look of every arm.

In: drawings, frames and text. Out: objects that put their own MIME bundle into the notebook. Plotly's renderers
are never asked: they either drop the figure at export or put the whole library into every notebook. The output
metadata written here is what ``analysis.report`` reads to build the page, so nothing is described twice.

| metadata key | value                                                                        |
|--------------|------------------------------------------------------------------------------|
| figure       | title, caption, alt, stamp, sources, table_html                              |
| table        | caption                                                                      |
| say          | reading, warning or headline                                                 |
| headline     | true: the summary at the top of the report shows this output as well         |
| provenance   | true: the report moves this output to its last section                       |
| caption      | true: a caption for the notebook only; the report has it from ``figure``     |
"""

from __future__ import annotations

import html
import io
import json
import math
import numbers
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import matplotlib.figure
    import plotly.graph_objects as go

STAMPS = ("measured", "synthetic-acceptance", "miniature")
PLOTLY_MIME = "application/vnd.plotly.v1+json"
INK = "#757678"  # text and axes: readable on white and on black; the report puts the page's own text colour there
GRID = "rgba(127,128,129,0.28)"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

Formats = Mapping[str, str | Callable[[Any], str]]
Bundle = tuple[dict[str, Any], dict[str, Any]]


# ---------------------------------------------------------------------------------------------- look of an arm
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


# ------------------------------------------------------------------------------------------------ what is shown
@dataclass
class Figure:
    """A drawing in two forms, with what a reader needs who cannot see it.

    Parameters
    ----------
    live : plotly.graph_objects.Figure
        Copied; gets the template of this module and the stamp.
    static : matplotlib.figure.Figure or str
        The same drawing, or its SVG text. A matplotlib figure gets the stamp and is closed.
    title : str
        The message, one sentence.
    caption : str
        What is drawn, the units, the interval.
    alt : str
        What a sighted reader sees, in words.
    table : pandas.DataFrame
        The drawn data.
    stamp : str
        One of ``STAMPS``.
    sources : tuple of str
        Where the data come from, if not from this study.
    formats : mapping, optional
        Formats of the data table, as for ``Table``.
    headline : bool
        Show it in the report's summary too.
    """

    live: go.Figure
    static: Any
    title: str
    caption: str
    alt: str
    table: pd.DataFrame
    stamp: str
    sources: Iterable[str] = ()
    formats: Formats | None = None
    headline: bool = False

    def __post_init__(self) -> None:
        import plotly.graph_objects as go

        if self.stamp not in STAMPS:
            raise ValueError(f"stamp is {self.stamp!r}; it must be one of {', '.join(STAMPS)}")
        if not (self.title.strip() and self.caption.strip() and self.alt.strip()):
            raise ValueError("a figure needs a title, a caption and an alt text")
        live = go.Figure(self.live)
        live.layout.template = go.layout.Template(PLOTLY_TEMPLATE)  # replaces plotly's own, which an update would keep
        live.for_each_annotation(lambda note: note.update(font_size=13), selector={"font.size": 16})  # panel titles
        self.live = stamp_live(live, self.stamp)
        if not isinstance(self.static, str):
            self.static = static_svg(self.static, self.stamp)
        self.sources = tuple(self.sources)

    def bundle(self) -> Bundle:
        """MIME data and output metadata of the figure."""
        about = {
            "title": self.title,
            "caption": self.caption,
            "alt": self.alt,
            "stamp": self.stamp,
            "sources": list(self.sources),
            "table_html": table_html(self.table, formats=self.formats),
        }
        data = {PLOTLY_MIME: json.loads(self.live.to_json()), "image/svg+xml": self.static, "text/plain": self.alt}
        return data, _metadata({"figure": about}, self.headline)

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        publish_display_data(*self.bundle())
        lines = [f"**{self.title}** {self.caption}"]
        if self.sources:
            lines.append("Data: " + "; ".join(self.sources))
        text = "\n\n".join(lines)
        publish_display_data({"text/markdown": text, "text/plain": text}, {"caption": True})


@dataclass
class Table:
    """A frame as a semantic HTML table.

    Parameters
    ----------
    frame : pandas.DataFrame
        A default index is not shown; the first column, or the index, heads its row.
    caption : str
        What the table holds, with units.
    formats : mapping, optional
        Column name to format specification (``".2f"``) or function. Others get thousands separators or three
        significant digits; a missing value is a dash.
    note : str
        A sentence under the table.
    headline, provenance : bool
        Show it in the report's summary too; move it to the report's last section.
    """

    frame: pd.DataFrame
    caption: str
    formats: Formats | None = None
    note: str = ""
    headline: bool = False
    provenance: bool = False

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        text = table_html(self.frame, self.caption, self.formats)
        if self.note:
            text += f'\n<p class="note">{html.escape(self.note)}</p>'
        plain = f"{self.caption}\n{self.frame.to_string()}" + (f"\n{self.note}" if self.note else "")
        metadata = _metadata({"table": {"caption": self.caption}}, self.headline, self.provenance)
        return {"text/html": text, "text/plain": plain}, metadata


@dataclass
class Say:
    """A sentence computed from data; markdown is read. ``headline`` sentences also open the report."""

    text: str
    kind: Literal["reading", "warning", "headline"] = "reading"

    def __post_init__(self) -> None:
        if self.kind not in ("reading", "warning", "headline"):
            raise ValueError(f"kind is {self.kind!r}; it must be reading, warning or headline")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        text = f"**Warning:** {self.text}" if self.kind == "warning" else self.text
        return {"text/markdown": text, "text/plain": text}, {"say": self.kind}


@dataclass(frozen=True)
class Panel:
    """One column of ``SideBySide``: generated code, how it went (``ok``: None if nothing was run), its chart."""

    title: str
    code: str = ""
    outcome: str = ""
    ok: bool | None = None
    png: bytes | None = None
    alt: str = ""


@dataclass
class SideBySide:
    """Panels next to each other, one below the other on a narrow screen."""

    panels: Iterable[Panel]
    caption: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        panels = list(self.panels)
        inner = "\n".join(_panel_html(panel) for panel in panels)
        caption = f'<p class="panels-caption">{html.escape(self.caption)}</p>\n' if self.caption else ""
        text = f'<div class="panels">{caption}<div class="side-by-side" style="{_ROW}">\n{inner}\n</div></div>'
        plain = "\n".join([self.caption, *(f"{panel.title}: {panel.outcome or 'not run'}" for panel in panels)])
        return {"text/html": text, "text/plain": plain.strip()}, {"panels": True}


_ROW = "display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start"
_COLUMN = "flex:1 1 20rem;min-width:0;margin:0"
_CODE = "overflow:auto;max-height:30rem;text-align:left"


def _panel_html(panel: Panel) -> str:
    state = {None: "not-run", True: "passed", False: "failed"}[panel.ok]
    parts = [f'<figure class="panel" style="{_COLUMN}">', f"<figcaption><strong>{html.escape(panel.title)}</strong>"]
    if panel.outcome:
        mark = {None: "", True: "Passed: ", False: "Failed: "}[panel.ok]
        parts.append(f'<span class="outcome {state}">{mark}{html.escape(panel.outcome)}</span>')
    parts.append("</figcaption>")
    if panel.png:
        picture = b64encode(panel.png).decode()
        parts.append(f'<img alt="{html.escape(panel.alt or panel.title)}" src="data:image/png;base64,{picture}">')
    if panel.code:
        code = html.escape(panel.code.rstrip(), quote=False)
        parts.append(f'<pre class="generated" style="{_CODE}"><code class="language-python">{code}</code></pre>')
    return "\n".join([*parts, "</figure>"])


def table_html(frame: pd.DataFrame, caption: str = "", formats: Formats | None = None) -> str:
    """Semantic ``<table>`` of a frame: caption, ``scope`` on headers, text left and numbers right."""
    plain_index = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    shown = frame if plain_index else frame.reset_index()
    heads = 1 if plain_index else frame.index.nlevels
    names = [" ".join(map(str, c)).strip() if isinstance(c, tuple) else str(c) for c in shown.columns]
    numeric = [pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_bool_dtype(t) for t in shown.dtypes]
    rows = [f"<caption>{html.escape(caption)}</caption>"] if caption else []
    cells = (f'<th scope="col"{_side(number)}>{html.escape(n)}</th>' for n, number in zip(names, numeric, strict=True))
    rows.append(f"<thead><tr>{''.join(cells)}</tr></thead>\n<tbody>")
    for values in shown.itertuples(index=False, name=None):
        cells = []
        for at, (name, value) in enumerate(zip(names, values, strict=True)):
            tag, scope = ("th", ' scope="row"') if at < heads else ("td", "")
            text = html.escape(cell_text(value, (formats or {}).get(name)))
            cells.append(f"<{tag}{scope}{_side(numeric[at])}>{text}</{tag}>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return '<table class="data">' + "\n".join([*rows, "</tbody></table>"])


def cell_text(value: Any, spec: str | Callable[[Any], str] | None = None) -> str:
    """Text of one value: ``–`` if missing, yes/no, 12,345, three significant digits, or as ``spec`` says."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if callable(spec):
        return str(spec(value))
    if spec is not None:
        return format(value, spec)
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}"
    if isinstance(value, numbers.Real):
        number = float(value)
        return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
    return str(value)


def _side(number: bool) -> str:
    return ' class="number"' if number else ' style="text-align:left"'


def _metadata(about: dict[str, Any], headline: bool = False, provenance: bool = False) -> dict[str, Any]:
    return about | ({"headline": True} if headline else {}) | ({"provenance": True} if provenance else {})

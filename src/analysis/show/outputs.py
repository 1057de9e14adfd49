"""Things a notebook cell shows: figures, tables, sentences, code side by side.

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
import json
import math
import numbers
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from analysis.show import words
from analysis.show.look import PLOTLY_TEMPLATE, STAMPS, stamp_live, static_svg
from analysis.visible import visible

if TYPE_CHECKING:
    import plotly.graph_objects as go

PLOTLY_MIME = "application/vnd.plotly.v1+json"
Formats = Mapping[str, str | Callable[[Any], str]]
Bundle = tuple[dict[str, Any], dict[str, Any]]


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
            text += f'\n<p class="note">{_html(self.note)}</p>'
        plain = f"{self.caption}\n{self.frame.to_string()}" + (f"\n{self.note}" if self.note else "")
        metadata = _metadata({"table": {"caption": self.caption}}, self.headline, self.provenance)
        return {"text/html": text, "text/plain": visible(plain)}, metadata


@dataclass
class Say:
    """A sentence computed from data; markdown is read. ``headline`` sentences also open the report."""

    text: str
    kind: Literal["reading", "warning", "headline"] = "reading"

    def __post_init__(self) -> None:
        if self.kind not in ("reading", "warning", "headline"):
            raise ValueError(f"kind is {self.kind!r}; it must be reading, warning or headline")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        text = visible(f"**Warning:** {self.text}" if self.kind == "warning" else self.text)
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
        caption = f'<p class="panels-caption">{_html(self.caption)}</p>\n' if self.caption else ""
        text = f'<div class="panels">{caption}<div class="side-by-side" style="{_ROW}">\n{inner}\n</div></div>'
        plain = "\n".join([self.caption, *(f"{panel.title}: {panel.outcome or 'not run'}" for panel in panels)])
        return {"text/html": text, "text/plain": visible(plain.strip())}, {"panels": True}


_ROW = "display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start"
_COLUMN = "flex:1 1 20rem;min-width:0;margin:0"
_CODE = "overflow:auto;max-height:30rem;text-align:left"


def _panel_html(panel: Panel) -> str:
    state = {None: "not-run", True: "passed", False: "failed"}[panel.ok]
    parts = [f'<figure class="panel" style="{_COLUMN}">', f"<figcaption><strong>{_html(panel.title)}</strong>"]
    if panel.outcome:
        mark = {None: "", True: "Passed: ", False: "Failed: "}[panel.ok]
        parts.append(f'<span class="outcome {state}">{mark}{_html(panel.outcome)}</span>')
    parts.append("</figcaption>")
    if panel.png:
        picture = b64encode(panel.png).decode()
        parts.append(f'<img alt="{_html(panel.alt or panel.title)}" src="data:image/png;base64,{picture}">')
    if panel.code:
        code = _html(panel.code.rstrip(), quote=False)
        parts.append(f'<pre class="generated" style="{_CODE}"><code class="language-python">{code}</code></pre>')
    return "\n".join([*parts, "</figure>"])


def table_html(frame: pd.DataFrame, caption: str = "", formats: Formats | None = None) -> str:
    """Semantic ``<table>`` of a frame: caption, ``scope`` on headers, text left and numbers right; names in words."""
    plain_index = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    shown = frame if plain_index else frame.reset_index()
    heads = 1 if plain_index else frame.index.nlevels
    names = [" ".join(map(str, c)).strip() if isinstance(c, tuple) else str(c) for c in shown.columns]
    numeric = [pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_bool_dtype(t) for t in shown.dtypes]
    rows = [f"<caption>{_html(caption)}</caption>"] if caption else []
    cells = (
        f'<th scope="col"{_side(number)}>{_html(words.heading(n))}</th>'
        for n, number in zip(names, numeric, strict=True)
    )
    rows.append(f"<thead><tr>{''.join(cells)}</tr></thead>\n<tbody>")
    for values in shown.itertuples(index=False, name=None):
        cells = []
        for at, (name, value) in enumerate(zip(names, values, strict=True)):
            tag, scope = ("th", ' scope="row"') if at < heads else ("td", "")
            text = _html(cell_text(words.value(name, value), (formats or {}).get(name)))
            cells.append(f"<{tag}{scope}{_side(numeric[at])}>{text}</{tag}>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return '<table class="data">' + "\n".join([*rows, "</tbody></table>"])


def _html(text: str, quote: bool = True) -> str:
    """Text of a model or a program as HTML: nothing in it is markup, and nothing is unseen."""
    return html.escape(visible(text), quote=quote)


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

"""Cells and outputs to HTML, by nbconvert with the templates of this folder. Pure: nodes in, text out."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import bleach
from bleach.css_sanitizer import CSSSanitizer
from nbconvert.exporters import TemplateExporter
from nbconvert.filters import ansi2html
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from analysis.report.svg import inline_svg
from analysis.show.outputs import PLOTLY_MIME

TEMPLATES = Path(__file__).parent / "templates"
_ATTRIBUTES = {
    "*": ["class", "title", "lang", "dir", "style"],
    "a": ["href"],
    "img": ["alt", "src", "width", "height"],
    "th": ["scope", "colspan", "rowspan", "headers"],
    "td": ["colspan", "rowspan", "headers"],
    "ol": ["start"],
    "details": ["open"],
}
_TAGS = frozenset(
    [
        "a",
        "abbr",
        "article",
        "aside",
        "b",
        "blockquote",
        "br",
        "caption",
        "cite",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "details",
        "dfn",
        "div",
        "dl",
        "dt",
        "em",
        "figcaption",
        "figure",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "li",
        "mark",
        "ol",
        "p",
        "pre",
        "q",
        "s",
        "samp",
        "section",
        "small",
        "span",
        "strong",
        "sub",
        "summary",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "time",
        "tr",
        "u",
        "ul",
        "var",
    ]
)
_HEADING = re.compile(r"<h([1-6])[^>]*>(.*?)</h\1>", re.DOTALL)
_PYTHON = re.compile(r'<pre([^>]*)><code class="language-python">(.*?)</code></pre>', re.DOTALL)


class Fragments:
    """HTML of cells and of single outputs; ``anchors`` maps notebook file names to the ids of their chapters."""

    def __init__(self, anchors: dict[str, str]):
        self.anchors = anchors

    def cells(self, cells: list[NotebookNode], anchor: str, number: str) -> str:
        """HTML of cells; ids start with ``anchor``, figures are numbered ``number``.1, .2, …"""
        _number_figures([o for cell in cells for o in cell.get("outputs", [])], anchor, number)
        exporter = TemplateExporter(
            template_paths=[str(TEMPLATES)],  # these alone: no template of the machine can change the page
            template_file="cells.html.j2",
            default_preprocessors=[],
            filters=self._filters(anchor),
        )
        text, _ = exporter.from_notebook_node(new_notebook(cells=cells))
        return text

    def outputs(self, outputs: list[NotebookNode], anchor: str, number: str) -> str:
        """HTML of outputs without their code; a markdown cell among them is shown as text."""
        cells = [o if "cell_type" in o else new_code_cell(outputs=[o]) for o in outputs]
        return self.cells(cells, anchor, number)

    def _filters(self, anchor: str) -> dict[str, Callable[..., str]]:
        seen: dict[str, int] = {}
        return {
            "prose": lambda text, inline=False: self._prose(text, anchor, seen, inline),
            "clean": clean,
            "code": lambda text: Highlight2HTML(pygments_lexer="python")(text.strip("\n")),
            "terminal": lambda text: ansi2html(text.strip("\n")),
            "svg": inline_svg,
            "json_block": json_block,
            "e": lambda text: html.escape(str(text)),
        }

    def _prose(self, text: str, anchor: str, seen: dict[str, int], inline: bool) -> str:
        """Markdown as HTML: headings one level down with ids of their own, links between notebooks turned inward."""
        body = clean(markdown(text))

        def heading(match: re.Match[str]) -> str:
            level, label = min(int(match[1]) + 1, 6), match[2]
            slug = re.sub(r"[^a-z0-9]+", "-", html.unescape(re.sub(r"<[^>]+>", "", label)).lower()).strip("-")
            key = f"{anchor}-{slug or 'part'}"
            seen[key] = seen.get(key, 0) + 1
            ident = key if seen[key] == 1 else f"{key}-{seen[key]}"
            return f'<h{max(level, 3)} id="{ident}">{label}</h{max(level, 3)}>'

        body = re.sub(r'<a href="([^"]*)">(.*?)</a>', self._link, _HEADING.sub(heading, body), flags=re.DOTALL)
        lone = re.fullmatch(r"\s*<p>(.*)</p>\s*", body, re.DOTALL)
        return lone[1] if inline and lone and "<p>" not in lone[1] else body

    def _link(self, match: re.Match[str]) -> str:
        target, label = html.unescape(match[1]), match[2]
        if target.startswith(("https://", "http://", "mailto:", "#")):
            return f'<a href="{match[1]}" rel="noreferrer">{label}</a>'
        anchor = self.anchors.get(target.rsplit("/", 1)[-1].split("#")[0])
        return f'<a href="#{anchor}">{label}</a>' if anchor else label  # a file beside the notebook is not in the page


def markdown(text: str) -> str:
    """Markdown to HTML as Jupyter reads it, without heading anchors."""
    return MarkdownWithMath(renderer=IPythonRenderer(escape=False, exclude_anchor_links=True)).render(text)


def clean(text: str) -> str:
    """HTML without scripts, styles, frames, forms and remote pictures; tables scroll in a box; Python is coloured."""
    text = re.sub(r"<(script|style|iframe|object|noscript)\b.*?</\1\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"<img(?![^>]*\balt=)", '<img alt="No description given"', _cleaner().clean(text))
    text = re.sub(r"<table\b", '<div class="wide" tabindex="0" role="region" aria-label="Table"><table', text)
    return _PYTHON.sub(_coloured, text.replace("</table>", "</table></div>"))


def json_block(data: dict) -> str:
    """JSON that is safe inside a ``<script type="application/json">``; keys sorted, so the same bytes every time."""
    return json.dumps(data, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _cleaner() -> bleach.Cleaner:
    def allowed(tag: str, name: str, value: str) -> bool:
        if tag == "img" and name == "src":
            return value.startswith("data:image/")
        return name in _ATTRIBUTES["*"] or name in _ATTRIBUTES.get(tag, ())

    styles = CSSSanitizer(allowed_css_properties=["text-align", "font-weight"])
    return bleach.Cleaner(
        tags=_TAGS, attributes=allowed, protocols=["http", "https", "mailto", "data"], strip=True, css_sanitizer=styles
    )


def _coloured(match: re.Match[str]) -> str:
    code = Highlight2HTML(pygments_lexer="python")(html.unescape(match[2]))
    inner = re.search(r"<pre[^>]*>(.*)</pre>", code, re.DOTALL)
    return f'<pre{match[1]}><code class="highlight">{inner[1] if inner else match[2]}</code></pre>'


def _number_figures(outputs: list[NotebookNode], anchor: str, number: str) -> None:
    count = 0
    for output in outputs:
        if PLOTLY_MIME in output.get("data", {}):
            count += 1
            output.metadata["id"] = f"{anchor}-figure-{count}"
            output.metadata["number"] = f"{number}.{count}" if number else str(count)

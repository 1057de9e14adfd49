"""Chapters to one HTML page that needs no network. In: executed notebooks. Out: the page's path."""

from __future__ import annotations

import copy
import hashlib
import html
import json
import os
import re
import warnings
from base64 import b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from nbformat import NotebookNode
from plotly.offline import get_plotlyjs

from analysis.errors import ReportError
from analysis.report.executed import Chapter, read_chapters
from analysis.report.fragments import TEMPLATES, Fragments, clean, markdown
from analysis.show.look import STAMPS
from analysis.show.outputs import cell_text

LIMIT = 8 * 1024**2  # bytes of a page that can still be mailed
STAMP_MEANING = {
    "measured": "Measured on the machine and with the models named under Provenance.",
    "synthetic-acceptance": (
        "Acceptance was set by hand, not produced by a drafter. Times show what the engine does at that acceptance; "
        "they do not say how many tokens a Gemma 4 drafter gets right."
    ),
    "miniature": (
        "Measured with the built-in miniature pair. The server and its code path are real, the models are toys: "
        "these numbers say nothing about Gemma 4."
    ),
}


def render(
    executed: Iterable[Path],
    out: Path,
    *,
    title: str,
    stamp: str,
    summary: str = "",
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """Write the report and return its path.

    Parameters
    ----------
    executed : iterable of Path
        Executed notebooks; chapters follow the order of their file names.
    out : Path
        The page. Replaced as a whole or not at all; missing folders are made.
    title : str
        Heading of the page.
    stamp : str
        ``measured``, ``synthetic-acceptance`` or ``miniature``.
    summary : str, optional
        Markdown put before the headline sentences and tables, which come from the notebooks.
    provenance : mapping, optional
        Facts shown first in the last section.

    Raises
    ------
    ReportError
        A notebook is missing, is not one, has an error or was not executed; a figure contradicts the stamp; or the
        page would name this machine or its user.
    """
    text = page(read_chapters(executed), title, stamp, summary, provenance or {})
    out = Path(out)
    size = len(text.encode())
    if size > LIMIT:
        warnings.warn(f"The report has {size / 1024**2:.1f} MB; the aim is {LIMIT // 1024**2} MB.", stacklevel=2)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(out.name + ".part")
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, out)
    except OSError as error:
        fix = "Free space, or allow writing to the folder of reports."
        raise ReportError("The report cannot be written.", error.strerror or str(error), fix) from None
    return out


def page(chapters: list[Chapter], title: str, stamp: str, summary: str, provenance: Mapping[str, object]) -> str:
    """HTML text of the whole page: the same chapters give the same bytes."""
    if stamp not in STAMPS:
        raise ReportError(f"{stamp!r} is not a stamp.", fix=f"Use one of: {', '.join(STAMPS)}.")
    _check_stamps(chapters, stamp)
    fragments = Fragments({chapter.source: chapter.anchor for chapter in chapters})
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    head_script = "document.documentElement.classList.add('scripted');"
    page_script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    context = {
        "title": title,
        "stamp": stamp,
        "meaning": STAMP_MEANING[stamp],
        "lead": Markup(clean(markdown(summary))),
        "headlines": [Markup(text) for text in _headlines(fragments, chapters)],
        "chapters": [_chapter(fragments, chapter) for chapter in chapters],
        "facts": {key: cell_text(value) for key, value in provenance.items()},
        "records": _provenance(fragments, chapters),
        "style": Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        "head_script": Markup(head_script),
        "page_script": Markup(page_script),
        "library": "",
        "policy": "",
    }
    draft = template.render(context)
    library = get_plotlyjs() if 'class="plot-data"' in draft else ""
    scripts = [script for script in (head_script, library, page_script) if script]
    return template.render(context | {"library": Markup(library), "policy": _policy(scripts)})


def _chapter(fragments: Fragments, chapter: Chapter) -> dict[str, object]:
    body = fragments.cells(chapter.cells, chapter.anchor, chapter.number)
    return {"chapter": chapter, "title": Markup(_title(chapter.title)), "body": Markup(body)}


def _headlines(fragments: Fragments, chapters: list[Chapter]) -> list[str]:
    """Sentences of all chapters first, then tables and figures, each with the way to its chapter."""
    sentences, rest = [], []
    for chapter in chapters:
        where = f'<a class="where" href="#{chapter.anchor}">{_title(chapter.title)}</a>'
        for number, output in enumerate(copy.deepcopy(chapter.headlines), start=1):
            said = output.metadata.get("say") == "headline"
            number_text = f"{chapter.number}." if chapter.number else ""
            text = fragments.outputs([output], f"summary-{chapter.anchor}-{number}", f"{number_text}S")
            (sentences if said else rest).append(f'<div class="headline">{text}{where}</div>')
    return sentences + rest


def _provenance(fragments: Fragments, chapters: list[Chapter]) -> list[dict[str, object]]:
    """Provenance of every chapter; what several chapters say alike is shown once, under all their numbers."""
    records: dict[str, tuple[list[NotebookNode], list[str]]] = {}
    for chapter in chapters:
        if chapter.provenance:
            shown = [node.get("data") or node.get("text") or node.get("source") for node in chapter.provenance]
            _, owners = records.setdefault(json.dumps(shown, sort_keys=True), (chapter.provenance, []))
            owners.append(chapter.number or chapter.source)
    return [
        {
            "heading": f"Chapter{'s' * (len(owners) > 1)} {', '.join(owners)}",
            "body": Markup(fragments.outputs(outputs, f"provenance-{at}", f"P{at}")),
        }
        for at, (outputs, owners) in enumerate(records.values(), start=1)
    ]


def _title(text: str) -> str:
    """Heading text: markdown's inline marks only."""
    return re.sub(r"</?(?:p|a)\b[^>]*>", "", clean(markdown(text))).strip()


def _check_stamps(chapters: list[Chapter], stamp: str) -> None:
    for chapter in chapters:
        for cell in chapter.cells:
            for output in cell.get("outputs", []):
                own = output.get("metadata", {}).get("figure", {}).get("stamp", stamp)
                if own == "miniature" != stamp:
                    raise ReportError(
                        f"{chapter.source} has a miniature figure in a report stamped {stamp}.",
                        "A miniature number is never shown as evidence about Gemma 4.",
                        "Run this notebook with the parameters of the study that is reported.",
                    )


def _policy(scripts: list[str]) -> str:
    """Content security policy: no network at all, and no script but ours, by hash."""
    hashes = " ".join(f"'sha256-{b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _where(snippet: str, chapters: list[Chapter]) -> str:
    for chapter in chapters:
        for number, cell in enumerate(chapter.cells, start=1):
            if snippet in str(cell) or html.escape(snippet) in str(cell):
                return f"{chapter.source}, shown cell {number}: {cell.source.strip().splitlines()[0][:80]}"
    return ""

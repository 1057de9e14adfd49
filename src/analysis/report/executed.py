"""Read executed notebooks and sort what they show. In: paths. Out: chapters, headline outputs, provenance."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from analysis import masking
from analysis.errors import ReportError

WIDGET = "application/vnd.jupyter.widget-view+json"
_TITLE = re.compile(r"^# +(.+?) *#*$", re.MULTILINE)


@dataclass
class Chapter:
    """One notebook: its cells without title and provenance, and the outputs that go elsewhere.

    ``anchor`` is the id of the chapter and the prefix of every id inside it; ``number`` is what the file name starts
    with ("03" gives "3"), or empty.
    """

    source: str
    number: str
    anchor: str
    title: str
    cells: list[NotebookNode]
    headlines: list[NotebookNode] = field(default_factory=list)
    provenance: list[NotebookNode] = field(default_factory=list)


def read_chapters(paths: Iterable[Path]) -> list[Chapter]:
    """Chapters in the order of their file names; ReportError names the notebook and the cell that is not fit."""
    ordered = sorted(map(Path, paths), key=lambda path: path.name)
    if not ordered:
        raise ReportError("There is no executed notebook to report.", fix="Run the study first: make study")
    names = [path.name for path in ordered]
    for name in names:
        if names.count(name) > 1:
            raise ReportError(f"Two notebooks are called {name}.", "Chapters go by their file names.", "Rename one.")
    return [sort(check(read(path), path.name), path.name) for path in ordered]


def read(path: Path) -> NotebookNode:
    """The notebook in ``path``, upgraded to format 4; what names the machine or its user in an output is replaced."""
    again = "Run the study again; it executes only what is missing: make study"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ReportError(f"The executed notebook {path.name} is missing.", "No such file.", again) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path.name} cannot be read.", type(error).__name__, again) from None
    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises several unrelated kinds for text that is not a notebook
        raise ReportError(f"{path.name} is not a notebook.", str(error).splitlines()[0][:200], again) from None
    names = masking.here()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = masking.masked_tree(cell.outputs, names)[0]
    return notebook


def check(notebook: NotebookNode, name: str) -> NotebookNode:
    """The same notebook, if every code cell ran without an error."""
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        first = cell.source.strip().splitlines()[0][:80]
        for output in cell.outputs:
            if output.output_type == "error":
                reason = f"{output.ename}: {output.evalue}".strip()
                raise ReportError(
                    f"{name} stopped with an error in cell {number} ({first}).",
                    _without_ansi(reason.splitlines()[0][:300]),
                    "Correct the cause and run the study again; what was measured is kept.",
                    _without_ansi(reason) if "\n" in reason else "",
                )
        if cell.execution_count is None:
            raise ReportError(
                f"{name} was not executed: cell {number} ({first}) has no run number.",
                "The report is made from executed notebooks, not from those in notebooks/.",
                "Run the study: make study",
            )
    return notebook


def sort(notebook: NotebookNode, name: str) -> Chapter:
    """Chapter of one notebook: title cut off, captions and widgets dropped, headlines copied, provenance moved."""
    stem = Path(name).stem
    number, _, rest = stem.partition("_") if stem[:1].isdigit() else ("", "", stem)
    anchor = re.sub(r"[^a-z0-9]+", "-", (rest or stem).lower()).strip("-") or "chapter"
    chapter = Chapter(name, number.lstrip("0") or number[-1:], anchor, "", [])
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and not chapter.title and (found := _TITLE.search(cell.source)):
            chapter.title = found[1]
            cell.source = cell.source[: found.start()] + cell.source[found.end() :]
        if not cell.source.strip() or cell.cell_type == "raw":
            continue
        tagged = "provenance" in cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            (chapter.provenance if tagged else chapter.cells).append(cell)
            continue
        outputs = [_tidy(output) for output in cell.outputs if _shown(output)]
        chapter.headlines += [o for o in outputs if _is_headline(o)]
        if tagged:
            chapter.provenance += outputs
            continue
        chapter.provenance += [o for o in outputs if _meta(o, "provenance")]
        cell.outputs = [o for o in outputs if not _meta(o, "provenance")]
        if chapter.cells and _continues(chapter.cells[-1], cell):
            cell.source = f"{chapter.cells.pop().source.rstrip()}\n\n{cell.source.lstrip()}"
        chapter.cells.append(cell)
    chapter.title = chapter.title or rest.replace("_", " ").strip().capitalize() or stem
    return chapter


def terminal_text(text: str) -> str:
    """What a terminal would show at the end: a carriage return starts the line again."""
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def _meta(output: NotebookNode, key: str) -> object:
    return output.get("metadata", {}).get(key)


def _continues(before: NotebookNode, cell: NotebookNode) -> bool:
    """Code that shows nothing is folded together with the code after it."""
    tags = [*before.metadata.get("tags", []), *cell.metadata.get("tags", [])]
    return before.cell_type == "code" and not before.outputs and not {"parameters", "injected-parameters"} & set(tags)


def _is_headline(output: NotebookNode) -> bool:
    return bool(_meta(output, "headline")) or _meta(output, "say") == "headline"


def _shown(output: NotebookNode) -> bool:
    if output.output_type == "stream":
        return bool(output.text.strip())
    return not _meta(output, "caption") and WIDGET not in output.get("data", {})


def _tidy(output: NotebookNode) -> NotebookNode:
    if output.output_type == "stream":
        output.text = terminal_text(output.text)
    return output


def _without_ansi(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)

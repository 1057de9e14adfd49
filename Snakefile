# The study as a graph: one rule for the chapters, one for the page. `make study` runs it; Snakemake's own executors can too:
#   snakemake --cores 1 --resources gpu=1 --config study=gb10-31b
# The store decides what is measured: the order of the chapters is only the order in which they are read.
import sys
from pathlib import Path

from analysis import chapter
from analysis.places import HOME, NOTEBOOKS, PARAMS, ROOT

STUDY = config.get("study", "miniature")
FILE = str(Path(config.get("params", PARAMS / f"{STUDY}.yaml")).resolve())
OUT = f"reports/{STUDY}/notebooks"
SOURCES = ROOT / "src" / "analysis"
PAGE = sorted(path for path in (SOURCES / "report").rglob("*") if path.is_file() and path.suffix != ".pyc")
# what no chapter imports: a change there runs no notebook
APART = {"report", "miniature", "bench.py", "dummy.py", "graph.py", "new_study.py", "__main__.py"}
CODE = [path for path in sorted(SOURCES.rglob("*.py")) if path.relative_to(SOURCES).parts[0] not in APART]


workdir: str(HOME)


def near(path: Path) -> str:
    """As seen from the working folder: a brace above it would be read as a wildcard."""
    return str(path.relative_to(HOME) if path.is_relative_to(HOME) else path)


def measures(name: str) -> bool:
    """A chapter that ensures measurements holds the GPU while it runs."""
    return ".ensure(" in (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")


rule page:
    input: [f"{OUT}/{notebook.name}" for notebook in chapter.chapters(FILE)], lambda _: [*map(near, PAGE)]
    output: f"reports/{STUDY}/index.html"
    params: python=lambda _: sys.executable, file=lambda _: FILE
    message: "the page"
    shell: "{params.python:q} -m analysis report {params.file:q} 2>&1"


rule chapter:
    input: lambda chapter: near(NOTEBOOKS / f"{chapter.name}.ipynb"), lambda _: [*map(near, [Path(FILE), *CODE])]
    output: f"{OUT}/{{name}}.ipynb"
    wildcard_constraints: name="[0-9][0-9]_.+"
    priority: lambda chapter: 100 - int(chapter.name[:2])
    resources: gpu=lambda chapter: int(measures(chapter.name))
    params: python=lambda _: sys.executable, file=lambda _: FILE
    message: "chapter {wildcards.name}"
    shell: "{params.python:q} -m analysis chapter {params.file:q} {input[0]:q} {output:q} 2>&1"

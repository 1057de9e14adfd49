"""The ways in for a newcomer: every link leads somewhere, every term is where the glossary says, every recipe is true."""

from __future__ import annotations

import csv
import json
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from analysis.published import evidence, physics
from analysis.show import words
from analysis.study import engines, plan, prompts

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.stem[:2].isdigit()]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
ROWS = re.findall(r'^\| <a id="([^"]+)"></a>([^|]+) \| ([^|]+) \| ([^|]+) \| `([^`]+)` \|$', GLOSSARY, re.MULTILINE)


def prose(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def dead_links(text: str, folder: Path) -> list[str]:
    dead = []
    for target, anchor in LINK.findall(text):
        if target.startswith(("http://", "https://")):
            continue
        if target and not (folder / target).exists():
            dead.append(target)
        elif target.endswith("glossary.md") and anchor and f'<a id="{anchor[1:]}">' not in GLOSSARY:
            dead.append(target + anchor)
    return dead


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_of_a_page_leads_somewhere(path):
    assert dead_links(path.read_text(encoding="utf-8"), path.parent) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_link_of_a_chapter_leads_somewhere_and_the_glossary_is_among_them(path):
    text = "\n".join(prose(path))
    assert dead_links(text, path.parent) == [] and "../docs/glossary.md" in text


def test_a_dead_link_is_seen():
    text = "[a](nowhere.md) [b](glossary.md#nothing) [c](glossary.md#k)"
    assert dead_links(text, ROOT / "docs") == ["nowhere.md", "glossary.md#nothing"]


def test_every_chapter_links_to_the_next():
    for path, following in zip(CHAPTERS, CHAPTERS[1:], strict=False):
        assert f"({following.name})" in prose(path)[-1], path.name


def test_the_glossary_has_the_terms_that_chapters_use():
    wanted = {
        "ttft",
        "tpot",
        "acceptance-length",
        "acceptance-rate",
        "per-position",
        "p_i",
        "c_i",
        "noise-floor",
        "launch",
    }
    wanted |= {"arm", "stream", "measurement", "mcnemar-test", "bonus-token", "verify-step", "k", "drafter", "target"}
    assert wanted <= {row[0] for row in ROWS}
    assert len(ROWS) == GLOSSARY.count("<a id=")  # every row was read


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_term_is_defined_where_the_glossary_says(row):
    module, _, name = row[4].rpartition(".")
    assert hasattr(import_module(module), name)
    assert row[3].endswith(".") and row[3].count(". ") == 0  # one sentence


def test_every_workload_has_a_title():
    assert [name for name, known in prompts.workloads().items() if not known.title] == []
    assert words.workload("py_code") == "Python code" and words.workload("unknown") == "unknown"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("mtp-k4", "MTP with K = 4"),
        ("mtp-k4@eager", "MTP with K = 4 (eager)"),
        ("baseline", "baseline"),
        ("ngram-k3", "n-gram lookup with K = 3"),
        ("toy-k3", "toy-k3"),
    ],
)
def test_an_arm_has_a_title_and_an_unknown_one_keeps_its_name(name, title):
    assert words.arm(name) == title


# -- recipes of CONTRIBUTING.md -------------------------------------------------------------------------------------

RECIPES = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "title",
    [
        "A workload of your own",
        "A speculator",
        "An engine",
        "A metric",
        "A chapter",
        "A published number",
        "Repeating the bare-machine check",
    ],
)
def test_there_is_a_recipe(title):
    assert f"\n## {title}\n" in RECIPES


def test_the_workload_of_the_recipe_is_one():
    example = re.search(r"```yaml\n(.*?)```", RECIPES, re.DOTALL)[1]
    ((name, entry),) = yaml.safe_load(example).items()
    workload = prompts.Workload(name=name, **entry)
    assert workload.title == "SQL reports" and workload.choose("all")[0].id == "sql-revenue"


def test_every_engine_of_the_table_has_its_file():
    folder = ROOT / "src" / "analysis" / "servers" / "engines"
    assert [name for name, file in engines.ENGINES.items() if not (folder / f"{file}.py").exists()] == []


def test_a_published_number_is_a_source_and_a_row(tmp_path):
    """The recipe, done: two lines in two files, and it is checked against physics like every other number."""
    folder = tmp_path / "published"
    shutil.copytree(evidence.FOLDER, folder)
    before = physics.physics(evidence.load(folder))
    rows = {
        "sources.csv": {"source": "somebody", "author": "Somebody", "title": "A test", "date": "2026-06", "seed": "no"},
        "measurements.csv": {
            **{
                "source": "somebody",
                "date": "2026-06",
                "table": "1",
                "hardware": "gb10",
                "engine": "vllm",
                "engine_version": "0.32.0",
            },
            **{"model": "gemma-4-31B-it", "quantisation": "fp8-dynamic", "arm": "baseline", "k": "0"},
            **{
                "workload": "py_code",
                "concurrency": "1",
                "endpoint": "chat",
                "sampling": "T=0",
                "metric": "tok_s",
                "value": "6.5",
            },
            **{"unit": "tok/s", "reading": "exact", "confidence": "high"},
        },
    }
    for name, row in rows.items():
        path = folder / name
        columns = path.read_text(encoding="utf-8").splitlines()[0].split(",")
        like = next(csv.DictReader(path.open(encoding="utf-8")))
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, columns, lineterminator="\n").writerow(
                {**dict.fromkeys(columns, ""), **(like if name == "sources.csv" else {}), **row}
            )
    after = physics.physics(evidence.load(folder))
    (added,) = after[after.source == "somebody"].itertuples()
    assert len(after) == len(before) + 1 and added.tok_s == 6.5 and added.verdict == physics.POSSIBLE


def test_every_chapter_says_which_measurements_it_needs():
    assert {re.sub(r"^\d+_", "", path.stem) for path in CHAPTERS} - {"setup", "evidence", "cost_model"} <= set(
        plan.NEEDS
    )


def test_the_citation_names_the_version_of_the_package():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f'version = "{cited["version"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")

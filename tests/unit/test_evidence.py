"""The published tables: complete, spot-checked, and strict about what may be in them."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from analysis.errors import EvidenceError
from analysis.published import evidence

# Numbers a table of each article holds: rows of measurements.csv and acceptance.csv. A table of r rows and c number
# columns gives r x c: 2.1 is 3 workloads x (3 + 3 + 1), 3.1 is 3 + 4 x 3 x 2, A.1 is 4 x 5 and 1 + 2 + 4 + 8 positions.
NUMBERS = {
    "suzuki-shoten": {
        "title": 4,
        "title-subtitle": 1,
        "lead": 2,
        "headline": 18,
        "2.1-26b": 21,
        "2.1-31b": 21,
        "2.1-text": 2,
        "2.2": 5,
        "2.3": 12,
        "2.4-text": 13,
        "2.4-theory": 10,
        "2.5": 13,
        "2.6": 10,
        "3.1": 27,
        "3.2": 1,
        "4.5": 5,
        "5": 1,
        "6": 8,
        "A.1": 35,
        "A.2": 16,
        "A.3": 15,
    },
    "ai-muninn-27": {
        "title": 2,
        "tldr": 8,
        "intro": 7,
        "trap-base": 10,
        "trap-it": 6,
        "trap-it-text": 1,
        "matrix": 13,
        "matrix-text": 2,
        "concurrency": 12,
        "concurrency-text": 3,
        "concurrency-text-heading": 1,
        "concurrency-text-text": 2,
        "lossless": 5,
        "limits": 3,
        "lazy-pack": 3,
        "faq": 13,
    },
    "airelien": {
        "title": 1,
        "lead": 2,
        "lead-text": 2,
        "bench": 12,
        "bench-acceptance": 6,
        "bench-acceptance-text": 2,
        "comparison": 8,
        "comparison-text": 1,
        "llamacpp": 10,
        "llamacpp-title-heading": 2,
        "llamacpp-text": 3,
        "paths": 3,
        "reproduce": 1,
    },
    "billings": {
        "lead": 2,
        "sweep": 11,
        "chart": 7,
        "chart-caption": 1,
        "startup": 8,
        "startup-log": 2,
        "startup-log-text": 1,
        "why": 5,
        "why-text": 1,
        "next": 3,
    },
    "bytebot": {"lead": 1, "numbers": 9, "numbers-text": 2, "caveats": 3},
}
OTHERS = {
    "stated": {"suzuki-shoten": 28, "ai-muninn-27": 12, "airelien": 18, "billings": 15, "bytebot": 4},
    "recipes": {"suzuki-shoten": 67, "ai-muninn-27": 35, "airelien": 31, "billings": 25, "bytebot": 6},
    "failures": {"suzuki-shoten": 5, "ai-muninn-27": 6, "airelien": 4, "billings": 5, "bytebot": 2},
    "recommendations": {"suzuki-shoten": 10, "ai-muninn-27": 5, "airelien": 3, "billings": 4, "bytebot": 5},
}


@pytest.fixture(scope="module")
def tables() -> evidence.Evidence:
    return evidence.load()


@pytest.fixture
def copy(tmp_path):
    """A copy of the tables, and a function that changes one text in one of them."""
    shutil.copytree(evidence.FOLDER, tmp_path / "published")

    def change(name: str, old: str, new: str) -> None:
        path = tmp_path / "published" / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    change.folder = tmp_path / "published"
    return change


@pytest.mark.parametrize("source", NUMBERS)
def test_every_table_of_an_article_is_complete(tables, source):
    numbers = tables.numbers
    found = numbers[numbers["source"] == source].groupby("table").size().to_dict()
    assert found == NUMBERS[source]


@pytest.mark.parametrize("name", OTHERS)
def test_statements_settings_failures_and_advice_are_complete(tables, name):
    frame = getattr(tables, name)
    seeds = tables.sources[tables.sources["seed"] == "yes"]["source"]
    assert frame[frame["source"].isin(seeds)].groupby("source").size().to_dict() == OTHERS[name]


@pytest.mark.parametrize(
    ("wanted", "printed", "unit"),
    [
        (
            {
                "source": "suzuki-shoten",
                "table": "headline",
                "model": "gemma-4-31B-it",
                "workload": "py_code",
                "metric": "speedup",
            },
            "3.52",
            "x",
        ),
        (
            {"source": "suzuki-shoten", "table": "2.1-26b", "workload": "en_finance", "k": 4, "metric": "chars_s"},
            "232.7",
            "char/s",
        ),
        (
            {"source": "suzuki-shoten", "table": "3.1", "workload": "ja_finance", "k": 8, "metric": "seconds"},
            "15.77",
            "s",
        ),
        ({"source": "suzuki-shoten", "table": "A.1", "k": 8, "position": 5, "metric": "p"}, "15.2", "%"),
        ({"source": "suzuki-shoten", "table": "A.3", "metric": "drafts"}, "1890", "draft"),
        (
            {"source": "ai-muninn-27", "table": "concurrency", "concurrency": 8, "metric": "aggregate_tok_s"},
            "674.28",
            "tok/s",
        ),
        (
            {"source": "ai-muninn-27", "table": "trap-base", "k": 2, "label": "eager", "metric": "tok_s"},
            "22.88",
            "tok/s",
        ),
        ({"source": "airelien", "table": "bench-acceptance", "position": 1, "metric": "p"}, "0.765", "1"),
        (
            {"source": "airelien", "table": "llamacpp", "model": "gemma-4-E2B-it", "metric": "ms_per_token"},
            "4.84",
            "ms",
        ),
        ({"source": "billings", "table": "sweep", "k": 3, "metric": "acceptance_rate"}, "50.0", "%"),
        ({"source": "bytebot", "table": "numbers", "metric": "tok_s", "k": 0}, "11.43", "tok/s"),
        (
            {
                "source": "jarvislabs",
                "model": "gemma-4-31B-it",
                "arm": "mtp",
                "concurrency": 16,
                "metric": "aggregate_tok_s",
            },
            "953",
            "tok/s",
        ),
    ],
)
def test_spot_values(tables, wanted, printed, unit):
    row = tables.rows(wanted, single=True).iloc[0]
    assert (row["printed"], row["unit"]) == (printed, unit)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("26B launch", "gpu-memory-utilization", "0.85"),
        ("lazy-pack launch", "limit-mm-per-prompt", "image 0, audio 0, video 0"),
        ("pod", "CUDA_DEVICE_MEMORY_LIMIT_0", "24000m"),
        ("launch", "max-num-batched-tokens", "4096"),
    ],
)
def test_settings_of_the_launch_recipes(tables, name, setting, value):
    found = tables.recipes[(tables.recipes["recipe"] == name) & (tables.recipes["name"] == setting)]
    assert list(found["value"]) == [value]


def test_the_four_startup_failures_of_the_4090_have_their_mends(tables):
    rows = tables.failures[tables.failures["table"].str.startswith("startup")].set_index("setting")
    assert rows.loc["max-num-batched-tokens", ["bad_value", "good_value"]].tolist() == ["2048", "4096"]
    assert rows.loc["max-model-len", ["bad_value", "good_value"]].tolist() == ["32768", "8192"]
    assert rows.loc["gpu-memory-utilization", ["bad_value", "good_value"]].tolist() == ["0.95", "0.93"]
    assert len(rows) == 4


def test_every_source_of_the_other_measurements_is_there(tables):
    beyond = tables.sources[tables.sources["seed"] == "no"]["source"]
    assert len(beyond) == 12
    assert set(beyond) <= set(tables.numbers["source"])


def test_texts_are_remarks_not_passages(tables):
    for name in ("measurements", "acceptance", "stated", "recipes", "failures", "recommendations"):
        longest = getattr(tables, name).select_dtypes(exclude="number").map(lambda cell: len(str(cell))).max().max()
        assert longest < 130, name


@pytest.mark.parametrize(
    ("name", "old", "new", "line", "reason"),
    [
        ("measurements.csv", "speedup,1.83,x,exact", "speedup,1.83,,exact", 2, "'unit' is missing"),
        ("measurements.csv", "speedup,1.83,x,exact", "speedup,1.83,s,exact", 2, "speedup is in 's', not in x"),
        ("measurements.csv", "title,gb10,vllm", "title,gb11,vllm", 2, "hardware 'gb11' is not known"),
        (
            "measurements.csv",
            "gemma-4-26B-A4B-it,fp8-dynamic",
            "gemma-4-27B,fp8-dynamic",
            2,
            "model 'gemma-4-27B' is not known",
        ),
        ("measurements.csv", "speedup,1.83,x,exact", "speedup,fast,x,exact", 2, "'value' is 'fast', not a number"),
        ("measurements.csv", "speedup,1.83,x,exact", "speedup,-1.83,x,exact", 2, "speedup is -1.83 x, below 0"),
        ("measurements.csv", "speedup,1.83,x,exact", "speedup,1.83,x,roughly", 2, "'reading' is 'roughly', not one of"),
        ("measurements.csv", "\nsuzuki-shoten", "\nsomebody", 2, "source 'somebody' is not known"),
        ("measurements.csv", "spread,n,against", "spread,m,against", 1, "'m' where 'n' should be"),
        ("measurements.csv", ",speedup,1.83,x,exact", ",speedup,1.83,x", 2, "another number of fields"),
    ],
)
def test_a_bad_row_is_refused_with_file_line_and_reason(copy, name, old, new, line, reason):
    copy(name, old, new)
    with pytest.raises(EvidenceError) as refused:
        evidence.load(copy.folder)
    assert f"{name}, line {line}: " in refused.value.what
    assert reason in refused.value.what


def test_an_acceptance_above_one_is_refused(copy):
    copy("acceptance.csv", ",p,0,0.868,1,", ",p,0,1.868,1,")
    with pytest.raises(EvidenceError, match=r"acceptance.csv, line \d+: p is 1.868 1, above 1\."):
        evidence.load(copy.folder)
    copy("acceptance.csv", ",p,0,1.868,1,", ",p,0,101,%,")
    with pytest.raises(EvidenceError, match=r"p is 101 %, above 100"):
        evidence.load(copy.folder)


def test_a_duplicate_row_is_refused(copy):
    path = copy.folder / "measurements.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n", encoding="utf-8")
    with pytest.raises(EvidenceError, match=rf"measurements.csv, line {len(lines) + 1}: repeats line 2 "):
        evidence.load(copy.folder)


def test_a_position_beyond_k_is_refused(copy):
    copy("acceptance.csv", ",p,3,34.6,", ",p,4,34.6,")
    with pytest.raises(EvidenceError, match="position 4 does not exist at K = 4"):
        evidence.load(copy.folder)


def test_a_missing_table_is_one_clear_message(copy):
    (copy.folder / "stated.csv").unlink()
    with pytest.raises(EvidenceError, match="stated.csv cannot be read"):
        evidence.load(copy.folder)


def test_the_package_describes_every_field():
    package = json.loads((evidence.FOLDER / "datapackage.json").read_text(encoding="utf-8"))
    for resource in package["resources"]:
        header = pd.read_csv(evidence.FOLDER / resource["path"], nrows=0, dtype=str).columns
        assert [field["name"] for field in resource["schema"]["fields"]] == list(header)
        assert all(field["description"] for field in resource["schema"]["fields"])
    assert package["licenses"]

"""Standard sets by name: small files of their format that we wrote, by category, sampled; faults are one screen."""

import json
import sys
from types import SimpleNamespace

import pytest

from analysis.errors import ParamsError, PreflightError
from analysis.servers import prefetch
from analysis.study import own, plan, sets
from analysis.study.own import PromptFile

ROWS = {
    "gsm8k": [
        {"question": f"A box has {n} pens and loses 2. How many are left?", "answer": f"#### {n - 2}"} for n in (5, 9)
    ],
    "humaneval": [{"task_id": "HumanEval/0", "prompt": "def half(x):\n    ", "test": "", "entry_point": "half"}],
    "mt_bench": [
        {"prompt_id": 81, "category": "writing", "prompt": ["Write a haiku about rain.", "Now about snow."]},
        {"prompt_id": 101, "category": "reasoning", "prompt": ["Who is taller?", "Why?"]},
    ],
    "speed_bench": [
        {"question_id": "q1", "category": "coding", "turns": ["Sort a list."]},
        {"question_id": "q2", "category": "math", "turns": [f"{sets.PLACEHOLDER} FROM THE SOURCE USING SPECDEC_BENCH"]},
    ],
}


@pytest.fixture
def read(tmp_path):
    def read(name, rows=None, **more):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(r) + "\n" for r in (ROWS[name] if rows is None else rows)))
        own.read.cache_clear()
        return own.read(PromptFile(name=more.pop("called", name), set=name, file=str(file), **more), 42)

    return read


def test_a_row_of_each_set_becomes_its_prompt(read):
    assert [p.text for p in read("gsm8k").prompts][0].startswith("A box has 5 pens")
    code = read("humaneval")
    assert (
        code.prompts[0].id == "HumanEval/0"
        and "def half(x):\n```" in code.prompts[0].text
        and code.language == "python"
    )
    assert [(p.id, p.text) for p in read("mt_bench").prompts] == [
        ("81", "Write a haiku about rain."),
        ("101", "Who is taller?"),
    ]
    assert read("mt_bench").title == "MT-Bench"


def test_a_category_and_a_sample_are_taken(read):
    assert [p.id for p in read("mt_bench", category="reasoning").prompts] == ["101"]
    many = [{"question": f"{n}?"} for n in range(30)]
    assert len(read("gsm8k", many, sample=7).prompts) == 7


def test_a_placeholder_is_refused_unless_its_category_is_left_out(read):
    with pytest.raises(ParamsError, match="placeholder in line 2") as error:
        read("speed_bench")
    assert "preparation script" in error.value.fix
    assert [p.text for p in read("speed_bench", category="coding").prompts] == ["Sort a list."]


@pytest.mark.parametrize(
    ("name", "rows", "more", "said"),
    [
        ("gsm8k", [{"text": "x"}], {}, "is not GSM8K: line 1 has another form"),
        ("gsm8k", ["x"], {}, "is not GSM8K"),
        ("mt_bench", None, {"category": "poetry"}, "no row of the category 'poetry'"),
        ("gsm8k", [], {}, "is empty"),
    ],
)
def test_a_file_that_is_not_the_set_is_one_screen(read, name, rows, more, said):
    with pytest.raises(ParamsError) as error:
        read(name, rows, **more)
    assert said in error.value.what


def test_a_set_is_named_like_any_workload(build, tmp_path, monkeypatch):
    own.read.cache_clear()
    study = build.study(
        workloads=["py_code", "gsm8k", {"name": "chat", "set": "mt_bench", "category": "writing", "file": "x"}]
    )
    assert study.workloads == ("py_code", "gsm8k", "chat") and [f.set for f in study.prompt_files] == [
        "gsm8k",
        "mt_bench",
    ]
    with pytest.raises(ParamsError, match="is not here") as error:
        plan.make(study)
    assert "prefetch" in error.value.fix
    with pytest.raises(ParamsError, match="wrong"):
        build.study(workloads=[{"name": "a", "set": "gsm8k", "category": "math"}])


def test_prefetch_writes_a_set_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(sets, "HOME", tmp_path)

    def load_dataset(hub, config, split):
        asked.append((hub, config, split))
        return ROWS["gsm8k"]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    path = prefetch.fetch_set(sets.SETS["gsm8k"], lambda text: None)
    prefetch.fetch_set(sets.SETS["gsm8k"], lambda text: None)
    assert asked == [("openai/gsm8k", "main", "test")]
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS["gsm8k"]


def test_without_the_optional_package_prefetch_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "HOME", tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PreflightError, match="GSM8K cannot be fetched") as error:
        prefetch.fetch_set(sets.SETS["gsm8k"])
    assert "pip install datasets" in error.value.fix

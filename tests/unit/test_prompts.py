"""Workloads of data/prompts.yaml."""

import pytest

from analysis.errors import ParamsError
from analysis.study import prompts


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Read another prompts.yaml for one test."""

    def write(text: str):
        (tmp_path / "prompts.yaml").write_text(text, encoding="utf-8")
        monkeypatch.setattr(prompts, "FILE", tmp_path / "prompts.yaml")
        prompts.workloads.cache_clear()

    yield write
    prompts.workloads.cache_clear()


def test_the_three_published_workloads_are_there_with_their_kind():
    known = prompts.workloads()
    assert {name: known[name].kind for name in ("ja_finance", "en_finance", "py_code")} == {
        "ja_finance": "prose",
        "en_finance": "prose",
        "py_code": "code",
    }


@pytest.mark.parametrize("name", ["ja_finance", "en_finance", "py_code"])
def test_published_means_the_article_s_prompt_alone(name):
    published = prompts.workload(name).choose("published")
    assert [p.source for p in published] == ["suzuki-shoten"]
    assert len(prompts.workload(name).choose("all")) > len(published)


def test_where_nothing_was_printed_the_first_prompt_stands_for_the_workload(written):
    ours = "{id: a, source: ours, text: x}, {id: b, source: ours, text: y}"
    written(f"workloads:\n  w: {{language: en, kind: prose, prompts: [{ours}]}}\n")
    assert [p.id for p in prompts.workload("w").choose("published")] == ["a"]
    assert [p.id for p in prompts.workload("w").choose("all")] == ["a", "b"]


def test_prompt_ids_are_unique():
    ids = [p.id for w in prompts.workloads().values() for p in w.prompts]
    assert len(set(ids)) == len(ids)


def test_an_unknown_workload_comes_with_the_nearest_right_name():
    with pytest.raises(ParamsError, match="no workload 'py_cod' .did you mean 'py_code'") as error:
        prompts.workload("py_cod")
    assert "ja_finance" in error.value.why


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "workloads: [",
        "workloads: 3",
        "workloads: {w: {language: en}}",
        "workloads: {w: 3}",
        "workloads: {w: {language: en, kind: prose, prompts: [{id: a, source: s}]}}",
        "workloads: {w: {language: en, kind: prose, promts: [], prompts: []}}",
    ],
)
def test_a_damaged_prompt_file_is_one_clear_error(written, text):
    written(text)
    with pytest.raises(ParamsError, match=r"data/prompts\.yaml cannot be used") as error:
        prompts.workload("py_code")
    assert "git checkout" in error.value.fix


def test_a_missing_prompt_file_is_one_clear_error(monkeypatch, tmp_path, written):
    written("workloads: {}")
    (tmp_path / "prompts.yaml").unlink()
    with pytest.raises(ParamsError, match="cannot be used"):
        prompts.workload("py_code")

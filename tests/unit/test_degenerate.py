"""Answers that mark their cell: what repeats itself, holds special tokens, or thinks; and the nearest that do not."""

from dataclasses import dataclass

import pandas as pd
import pytest

from analysis.errors import StoreError
from analysis.measure.degenerate import MOST_REPETITION, level, signs
from analysis.records.store import Store
from analysis.show import tables


@dataclass
class Text:
    text: str
    thinking: str = ""
    finish_reason: str = "stop"


SOUND = "The committee raised the rate by a quarter point in March and said that it saw no reason to wait for June."


def ids(*texts, experiment="timing", **more):
    return [s["id"] for s in signs(experiment, [Text(t, **more) for t in texts])]


@pytest.mark.parametrize(
    "text", ["!!!!" * 20, "ok " * 30, "one two three four five six seven eight " * 12, "はい" * 40]
)
def test_a_text_that_repeats_itself_marks_the_cell(text):
    assert ids(SOUND, text) == ["repetition"]
    assert "1 of 2 answers" in signs("greedy", [Text(SOUND), Text(text)])[0]["cause"]


def test_the_raw_endpoint_may_repeat_itself():
    assert ids("!!!!" * 20, experiment="raw") == []


def test_the_level_is_the_stated_one():
    period = [f"w{i}" for i in range(10)]
    for windows, marked in ((50, False), (51, True)):  # 10 of 50 windows are new: 80 % were there before
        text = " ".join((period * 7)[: windows + 7])
        assert level(text) == pytest.approx(1 - 10 / windows)
        assert (level(text) > MOST_REPETITION) == marked == (ids(text) == ["repetition"])


@pytest.mark.parametrize("token", ["<pad>", "<unused7>", "<end_of_turn>", "<|channel>", "<|im_end|>", "<turn|>"])
def test_a_special_token_in_a_text_marks_the_cell(token):
    assert ids(f"{SOUND} {token}") == ["special-tokens"]


@pytest.mark.parametrize(
    "text", ["<p>HTML</p> <mask id='a'>", "a <b and c> d", "x <| y |> z", "List<int>", "a < b || c > d"]
)
def test_ordinary_text_with_angles_does_not(text):
    assert ids(text) == []


def test_thinking_marks_the_cell():
    assert ids(SOUND, thinking="Let me see.") == ["thinking"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_is_no_json_is_never_written(value, tmp_path):
    store = Store("demo", root=tmp_path)
    store.append({"cell_id": "a", "launch_id": "l", "status": "ok"})
    with pytest.raises(StoreError, match="cannot be kept"):
        store.append({"cell_id": "b", "launch_id": "l", "status": "ok", "wall_s": value})
    assert Store("demo", root=tmp_path).complete() == {"a"}
    with pytest.raises(StoreError, match="cannot be kept"):
        store.write_launch("l", {"ready_s": value})


def test_a_marked_cell_is_told_beside_its_launch(tmp_path):
    store = Store("demo", root=tmp_path)
    store.write_launch("l", {"arm": "baseline", "k": 0, "facts": {}, "causes": []})
    sign = signs("timing", [Text("!!!!" * 20)])
    found = store._launch("l", [{"cell_id": "a", "launch_id": "l", "label": "baseline · py_code", "causes": sign}])
    table = tables.causes(pd.DataFrame([found])).frame
    assert table.cause[0].startswith("baseline · py_code: 1 of 1 answers repeat themselves")

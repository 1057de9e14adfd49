"""Tidy frames: derived columns worked out by hand, and values that no record may have."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import StoreError
from analysis.records import schema


def test_speeds_come_from_tokens_of_usage_and_times_of_content(build):
    row = build.requests(
        {"seconds": 10.0, "ttft": 0.5, "last": 9.5, "completion_tokens": 91, "chunks": 30, "text": "x" * 200}
    ).iloc[0]
    assert row.tok_s == pytest.approx(9.1)
    assert row.tpot == pytest.approx(0.1)  # (9.5 − 0.5) / (91 − 1)
    assert row.decode_tok_s == pytest.approx(10)
    assert (row.chars, row.chars_s) == (200, pytest.approx(20))


def test_the_published_ratio_of_tokens_and_seconds(build):
    # suzuki-shoten 2.4: 15.17 s for 600 tokens = 39.5 tok/s; 91.41 s = 6.56 tok/s
    table = build.requests(*({"seconds": s, "completion_tokens": 600} for s in (15.17, 91.41)))
    assert table.tok_s.tolist() == [pytest.approx(39.55, abs=0.01), pytest.approx(6.56, abs=0.01)]


def test_characters_are_counted_not_bytes(build):
    assert build.requests({"text": "日銀のYCC"}).chars.iloc[0] == 6


def test_one_token_has_no_time_per_token(build):
    row = build.requests({"completion_tokens": 1}).iloc[0]
    assert math.isnan(row.tpot) and math.isnan(row.decode_tok_s)


def test_an_answer_in_one_chunk_has_no_decode_speed(build):
    row = build.requests({"ttft": 9.0, "last": 9.0, "completion_tokens": 10}).iloc[0]
    assert row.tpot == 0 and math.isnan(row.decode_tok_s)


def test_the_step_gap_is_the_median_over_chunks(build):
    table = build.requests({"gaps": [0.1, 0.9, 0.2]}, {"gaps": []})
    assert table.gap_p50.iloc[0] == pytest.approx(0.2) and math.isnan(table.gap_p50.iloc[1])


def test_the_per_request_ledger_is_summed(build):
    row = build.requests({"steps_accepted": [2, 0, 1], "steps_drafted": [4, 4, 0]}).iloc[0]
    assert (row.steps, row.step_accepted, row.undrafted_steps) == (3, 3, 1)


@pytest.mark.parametrize(
    "value",
    [
        {"seconds": -0.1, "last": 1.0},
        {"ttft": -0.1},
        {"launch": 0},
        {"k": -1},
        {"repeat": 0},
        {"concurrency": 0},
        {"experiment": "timings"},
        {"completion_tokens": 0},
        {"prompt_tokens": -1},
        {"chunks": -5},
        {"completion_tokens": "many"},
        {"steps_accepted": None},
        {"text": None},
        {"ttft": 5.0, "last": 1.0},  # the last content before the first
        {"seconds": float("nan"), "last": 1.0},
    ],
    ids=str,
)
def test_a_request_with_an_impossible_value_is_refused(build, value):
    with pytest.raises(StoreError) as error:
        build.requests({}, value)
    assert error.value.fix


@pytest.mark.parametrize("column", ["wall_s", "requests", "completion_tokens", "drafts", "accepted", "prefix_hits"])
def test_a_cell_with_a_negative_count_or_time_is_refused(build, column):
    with pytest.raises(StoreError, match=f"wrong value in '{column}': -1") as error:
        build.cells({column: -1})
    assert error.value.why and error.value.fix


def test_a_record_without_a_column_is_refused_and_the_column_named(build):
    record = build.cell({})
    del record["wall_s"]
    with pytest.raises(StoreError, match="wall_s"):
        schema.cells([record])


def test_a_position_with_a_negative_count_is_refused(build):
    with pytest.raises(StoreError, match="accepted"):
        build.positions({"k": 1, "drafts": 3, "per_position": (-1,)})


def test_columns_that_the_schema_does_not_know_are_left_out(build):
    assert "label" not in build.cells({"label": "a cell"})


def test_frames_of_nothing_have_their_columns():
    for made, rule in (
        (schema.cells([]), schema.CELLS),
        (schema.requests([]), schema.REQUESTS),
        (schema.positions([]), schema.POSITIONS),
    ):
        assert made.empty and list(made) == list(rule.columns)
    assert "ready_s" in schema.launches([])


def test_startup_facts_become_columns_and_the_arm_keeps_its_k(build):
    table = build.launches({"k": 4, "facts": {"k": 8, "kv_tokens": 1000}}, {"facts": {"runner": "V1"}})
    assert table.k.tolist() == [4, 0] and table.kv_tokens.iloc[0] == 1000 and table.runner.iloc[1] == "V1"


def test_a_launch_that_was_cut_before_its_record_is_no_row():
    assert schema.launches([{}]).empty


# -- repetition ----------------------------------------------------------------------------------------------------


def test_a_text_of_distinct_words_does_not_repeat():
    assert schema.repetition(" ".join(f"word{i}" for i in range(50))) == 0


def test_a_text_that_collapsed_is_near_one():
    assert schema.repetition("again and " * 200) > 0.98
    assert schema.repetition("日銀の" * 200) > 0.98


def test_repetition_counted_by_hand():
    # 9 windows of 8 words; the last one is the first one again
    words = [f"w{i}" for i in range(8)]
    assert schema.repetition(" ".join(words + words)) == pytest.approx(1 / 9)
    # 17 windows of 16 characters; the last one is the first one again
    assert schema.repetition("一二三四五六七八九十百千万億兆京" * 2) == pytest.approx(1 / 17)


def test_a_short_text_has_no_windows():
    assert schema.repetition("") == schema.repetition("a few words") == schema.repetition("短い") == 0


@given(st.text(max_size=300), st.integers(1, 12))
def test_repetition_is_a_share(text, window):
    assert 0 <= schema.repetition(text, window) <= 1


def test_frames_have_the_types_that_arithmetic_needs(build):
    assert pd.api.types.is_integer_dtype(build.cells({"drafts": 3.0}).drafts)
    assert pd.api.types.is_float_dtype(build.requests({"seconds": 10}).seconds)


def test_a_column_that_old_records_lack_gets_its_default(build, monkeypatch):
    monkeypatch.setitem(schema.CELLS.columns, "retries", schema._COUNT)
    monkeypatch.setitem(schema.DEFAULTS, "retries", 0)
    old, new = build.cell({}), {**build.cell({}), "retries": 2}
    assert schema.cells([old]).retries.tolist() == [0]
    assert schema.cells([old, new]).retries.tolist() == [0, 2]

"""Decode steps inside and outside the captured CUDA graphs: numbers of vLLM 0.32 on an H100 and of its rule."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.__main__ import main
from analysis.study import graphs, plan
from analysis.study.study_file import load_study


def arms(name="h100-load", **overrides):
    return {a.name: a for a in plan.make(load_study(name, **overrides)).arms}


def with_server(arm, **changes):
    from dataclasses import replace

    return replace(arm, server=arm.server.model_copy(update=changes))


@pytest.mark.parametrize(
    ("seqs", "k", "largest"), [(16, 0, 32), (16, 4, 160), (256, 4, 512), (256, 0, 512), (64, 8, 512), (8, 1, 32)]
)
def test_the_engines_rule_gives_what_its_log_says(seqs, k, largest):
    """32 and 160 stand in logs of real launches with 16 sequences: baseline and K = 4."""
    arm = next(a for a in arms().values() if a.k == 4 and a.variant == "main")
    from dataclasses import replace

    assert graphs.largest_captured(replace(with_server(arm, max_num_seqs=seqs), k=k)) == largest


def test_the_size_is_never_larger_than_the_batch_of_tokens():
    assert graphs.largest_captured(with_server(arms()["mtp-k4"], max_num_batched_tokens=256)) == 256


@pytest.mark.parametrize(("k", "last"), [(3, 128), (4, 102), (7, 64), (8, 56), (15, 32)])
def test_the_last_load_inside_512_tokens(k, last):
    assert graphs.step_tokens(last, k) <= 512 < graphs.step_tokens(last + 1, k)


def test_k_4_leaves_the_graphs_between_96_and_112_streams_and_k_8_between_48_and_64():
    found = arms()
    loads = load_study("h100-load").concurrency
    assert graphs.beyond(found["baseline"], loads) == []
    assert graphs.beyond(found["mtp-k4"], loads) == [112, 128, 192]
    assert graphs.beyond(found["mtp-k8"], loads) == [64, 96, 112, 128, 192]


def test_cover_sets_a_size_that_the_engine_keeps_and_nothing_where_nothing_is_missing():
    found = arms()
    assert found["mtp-k4@cover"].server.max_cudagraph_capture_size == 192 * 5
    assert found["mtp-k8@cover"].server.max_cudagraph_capture_size == 192 * 9
    assert all(graphs.beyond(found[n], [192]) == [] for n in ("mtp-k4@cover", "mtp-k8@cover"))
    quiet = arms("gb10-26b-a4b", server={**load_study("gb10-26b-a4b").server.model_dump(), "graphs": "cover"})
    assert {n: a.id for n, a in quiet.items()} == {n: a.id for n, a in arms("gb10-26b-a4b").items()}


def test_eager_mode_and_a_server_of_somebody_else_capture_nothing_that_is_known():
    arm = arms()["mtp-k4"]
    assert graphs.largest_captured(with_server(arm, enforce_eager=True)) is None
    assert graphs.sentence(with_server(arm, enforce_eager=True), [512]) == ""


def test_a_size_that_is_no_multiple_is_named_with_what_the_engine_makes_of_it():
    """GB10, 6 streams, K = 6: 42 was given as 40 sequences would be, and cut."""
    arm = with_server(arms()["mtp-k4"], max_cudagraph_capture_size=42)
    assert graphs.cut_size(arm) == 40
    assert "cuts --max-cudagraph-capture-size 42 to 40" in graphs.sentence(arm, [1])


def test_plan_names_the_sum_and_the_flag(capsys):
    assert main(["plan", "h100-load"]) == 0
    printed = capsys.readouterr().out
    assert "at 112 streams a step has 112 × 5 = 560 tokens, more than the 512" in printed
    assert "--max-cudagraph-capture-size 960 covers 192 streams" in printed
    assert re.search(r"--max-cudagraph-capture-size 1728\b", printed)


@given(st.integers(0, 16), st.lists(st.integers(1, 512), min_size=1))
def test_a_covering_size_covers_and_is_a_multiple(k, streams):
    size = graphs.covering(k, streams)
    assert size % (k + 1) == 0 and all(graphs.step_tokens(s, k) <= size for s in streams)

"""Decode steps inside and outside the captured CUDA graphs: numbers of vLLM 0.32 on an H100 and of its rule."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.__main__ import main
from analysis.errors import ParamsError
from analysis.study import graphs, plan
from analysis.study.study_file import load_study

#: As a real launch with 16 sequences printed them: baseline, and MTP with K = 4 (vLLM 0.32.0, H100).
LOGGED = {
    0: (1, 2, 4, 8, 16, 24, 32),
    4: (*(1, 2, 4, 5, 8, 10, 16, 20, 24, 32, 40, 48, 56, 64, 72, 80), *range(88, 161, 8)),
}


def arms(name="h100-load", **overrides):
    return {a.name: a for a in plan.make(load_study(name, **overrides)).arms}


def server(**changes):
    return {**load_study("h100-load").server.model_dump(), **changes}


def arm(k=4, **changes):
    found = arms()["mtp-k4"]
    kept = {"max_num_batched_tokens": None, **changes}
    return replace(found, k=k, server=found.server.model_copy(update=kept))


@pytest.mark.parametrize("k", [0, 4])
def test_the_engines_rule_gives_the_sizes_that_its_log_says(k):
    assert graphs.captured(arm(k, max_num_seqs=16)).sizes == LOGGED[k]


@pytest.mark.parametrize(("seqs", "k", "largest"), [(256, 4, 512), (256, 0, 512), (64, 8, 512), (8, 1, 32)])
def test_the_largest_size_is_512_or_what_the_sequences_need_twice(seqs, k, largest):
    assert graphs.captured(arm(k, max_num_seqs=seqs)).largest == largest


def test_data_centre_blackwell_captures_1024_tokens_and_gb10_does_not(monkeypatch):
    from analysis import shapes

    known = shapes.machines()
    monkeypatch.setattr(
        shapes, "machines", lambda: known | {"b200": known["gb10"].model_copy(update={"compute_capability": 10.0})}
    )
    assert graphs.captured(arm(), "b200").largest == 1024
    assert graphs.captured(arm(), "gb10").largest == 512


def test_the_size_is_never_larger_than_the_batch_of_tokens():
    assert graphs.captured(arm(max_num_batched_tokens=200)).largest == 200


@pytest.mark.parametrize(("k", "last"), [(3, 128), (4, 100), (7, 64), (8, 56), (15, 32), (1, 256)])
def test_the_last_load_with_a_full_graph(k, last):
    """512 tokens less what is no whole number of steps: with K = 4, 500, the size 496 rounded up to a multiple of 5."""
    found = graphs.captured(arm(k))
    assert found.holds(last, k) and not (found.holds(last + 1, k) and last < 256)


def test_k_4_leaves_the_graphs_between_96_and_112_streams_and_k_8_between_32_and_64():
    found, loads = arms(), load_study("h100-load").concurrency
    assert graphs.beyond(found["baseline"], loads) == []
    assert graphs.beyond(found["mtp-k4"], loads) == [112, 128, 192, 256]
    assert graphs.beyond(found["mtp-k8"], loads) == [64, 96, 112, 128, 192, 256]


def test_cover_sets_a_size_that_the_engine_keeps_and_nothing_where_nothing_is_missing():
    found = arms()
    assert found["mtp-k4@cover"].server.max_cudagraph_capture_size == 256 * 5
    assert found["mtp-k8@cover"].server.max_cudagraph_capture_size == 256 * 9
    assert all(graphs.beyond(found[n], [256]) == [] for n in ("mtp-k4@cover", "mtp-k8@cover"))
    quiet = arms("gb10-26b-a4b", server={**load_study("gb10-26b-a4b").server.model_dump(), "graphs": "cover"})
    assert {n: a.id for n, a in quiet.items()} == {n: a.id for n, a in arms("gb10-26b-a4b").items()}


def test_adaptive_verification_may_verify_little_so_it_stays_inside_and_is_covered_like_its_k():
    found = arms("h100-miniature-load")
    adaptive, by_batch = found["mtp-k4@adaptive"], found["mtp-k4@by-batch"]
    assert adaptive.server.max_cudagraph_capture_size == 1280
    bare = replace(adaptive, server=adaptive.server.model_copy(update={"max_cudagraph_capture_size": None}))
    assert graphs.beyond(bare, [256]) == [] and graphs.uncovered(bare, [256])
    assert by_batch.server.max_cudagraph_capture_size is None  # 32 x 5, 128 x 3, 256 x 2: each tier is inside 512
    assert graphs.beyond(by_batch, [1, 32, 128, 256]) == []


def test_eager_mode_and_a_server_of_somebody_else_capture_nothing_that_is_known():
    assert graphs.captured(arm(enforce_eager=True)) is None
    assert graphs.sentence(arm(enforce_eager=True), [512]) == ""


def test_a_size_that_the_engine_cuts_is_named_with_what_it_makes_of_it():
    """GB10, 6 streams, K = 6: 42 = 6 x 7 was cut to 40, of which 35 are whole steps: 25 instead of 133 tok/s."""
    cut = arm(6, max_cudagraph_capture_size=42, max_num_seqs=6)
    assert graphs.cut_size(cut) == 40
    assert "cuts --max-cudagraph-capture-size 42 to 40" in graphs.sentence(cut, [6])
    assert graphs.beyond(cut, [5, 6]) == [6]
    assert (
        graphs.covering(cut, [6]) == 48
        and graphs.beyond(arm(6, max_cudagraph_capture_size=48, max_num_seqs=6), [6]) == []
    )


def test_a_size_counted_in_sequences_is_told_as_such():
    said = graphs.sentence(arm(4, max_cudagraph_capture_size=128), [64, 128])
    assert "128 looks like a number of sequences, and it is one of tokens" in said
    assert "at 64 streams a step has 64 × 5 = 320 > 128 tokens" in said and "640" in said


@pytest.mark.parametrize("size", [100, 128, 600])
def test_cover_beside_a_size_that_does_not_cover_is_an_error_before_anything_starts(size):
    with pytest.raises(ParamsError) as error:
        arms(server=server(graphs="cover", max_cudagraph_capture_size=size), variants=[])
    assert "Remove server.max_cudagraph_capture_size" in error.value.fix and str(size) in error.value.why


def test_cover_that_the_batch_of_tokens_does_not_allow_is_an_error():
    with pytest.raises(ParamsError) as error:
        arms(server=server(graphs="cover", max_num_batched_tokens=1024), variants=[])
    assert "server.max_num_seqs must be 256 or more, and server.max_num_batched_tokens 1280" in error.value.why


def test_cover_that_the_number_of_sequences_does_not_allow_names_the_number_that_does():
    """300 x 3 = 900: the size 896 rounds up to 897, and 912 are 304 sequences."""
    with pytest.raises(ParamsError) as error:
        arms(server=server(graphs="cover", max_num_seqs=300), concurrency=[300], k_values=[2], k=2, variants=[])
    assert "server.max_num_seqs must be 304 or more, and server.max_num_batched_tokens 912" in error.value.why
    found = arms(server=server(graphs="cover", max_num_seqs=304), concurrency=[300], k_values=[2], k=2, variants=[])
    assert found["mtp-k2"].server.max_cudagraph_capture_size == 912


def test_plan_names_the_sum_and_the_flag(capsys):
    assert main(["plan", "h100-load"]) == 0
    printed = capsys.readouterr().out
    assert "at 112 streams a step has 112 × 5 = 560 > 512 tokens up to which CUDA graphs are captured" in printed
    assert "--max-cudagraph-capture-size 1280 covers 256 streams" in printed
    assert re.search(r"--max-cudagraph-capture-size 2304\b", printed)


def test_128_streams_and_k_4_are_640_tokens_against_512():
    said = graphs.sentence(arm(4), [128])
    assert "128 × 5 = 640 > 512 tokens" in said and "--max-cudagraph-capture-size 640 covers 128 streams" in said


@given(st.integers(0, 16), st.lists(st.integers(1, 512), min_size=1))
def test_a_covering_size_covers_and_is_kept(k, streams):
    found = arm(k, max_num_seqs=600)
    size = graphs.covering(found, streams)
    with_it = arm(k, max_num_seqs=600, max_cudagraph_capture_size=size)
    assert graphs.cut_size(with_it) is None and graphs.beyond(with_it, streams) == []


def test_preflight_warns_with_the_sum_and_the_flag():
    from analysis.servers.preflight import load

    checks = {c.name: c for c in load.of_graphs(plan.make(load_study("h100-load")))}
    assert set(checks) == {"CUDA graphs of mtp-k2", "CUDA graphs of mtp-k4", "CUDA graphs of mtp-k8"}
    check = checks["CUDA graphs of mtp-k4"]
    assert check.verdict == "warn" and "112 × 5 = 560 > 512" in check.evidence
    assert "add --max-cudagraph-capture-size 1280" in check.fix


@pytest.mark.parametrize(
    ("k", "facts", "streams", "expected"),
    [
        (4, {"capture_sizes": LOGGED[4], "max_capture_size": 160}, 16, "inside"),
        (4, {"capture_sizes": [1, 2, 4, 8, 16], "max_capture_size": 16}, 16, "outside"),
        (4, {"capture_sizes": LOGGED[0], "max_capture_size": 32}, 5, "inside"),
        (4, {"capture_sizes": LOGGED[0], "max_capture_size": 32}, 6, "outside"),
        (0, {"capture_sizes": LOGGED[0], "max_capture_size": 32}, 16, "inside"),
        (4, {"eager": True, "capture_sizes": ()}, 16, "none"),
        (4, {"graph_mode": "NONE", "max_capture_size": 0}, 16, "none"),
        (4, {}, 16, "not known"),
    ],
)
def test_the_side_of_a_measurement_by_the_facts_of_its_launch(k, facts, streams, expected):
    assert graphs.side(arm(k, max_num_seqs=16), facts, streams) == expected


def test_more_streams_than_the_server_serves_at_once_wait_and_make_no_larger_step():
    assert graphs.beyond(arm(4, max_num_seqs=64), [64, 512]) == []

"""Bytes and bounds from shapes, against arithmetic done by hand."""

from __future__ import annotations

import pytest

from analysis import shapes

TARGETS, FORMATS, _ = shapes.models()
SMALL, LARGE = TARGETS["gemma-4-26B-A4B-it"], TARGETS["gemma-4-31B-it"]
FP8 = FORMATS["fp8"]


def test_31b_parameters_by_hand():
    # sliding layer: Q, O, K, V; full layer: Q, O, K (its value is the key)
    sliding = 2 * 32 * 256 * 5376 + 2 * 16 * 256 * 5376
    full = 2 * 32 * 512 * 5376 + 4 * 512 * 5376
    assert shapes.dense_parameters(LARGE) == 50 * sliding + 10 * full + 60 * 3 * 5376 * 21504
    assert shapes.total_parameters(LARGE) == pytest.approx(30.70e9, rel=1e-3)


def test_26b_parameters_by_hand():
    assert shapes.expert_parameters(SMALL) == 30 * 3 * 2816 * 704
    assert shapes.total_parameters(SMALL) == pytest.approx(25.2e9, rel=2e-3)
    active = shapes.dense_parameters(SMALL) + 8 * shapes.expert_parameters(SMALL) + shapes.embedding_parameters(SMALL)
    assert active == pytest.approx(3.8e9, rel=1e-2)


@pytest.mark.parametrize(("name", "millions"), [("E2B", 77.7), ("E4B", 78.5), ("26B-A4B", 419.7), ("31B", 469.5)])
def test_drafter_parameters(name, millions):
    assert shapes.drafter_parameters(TARGETS[f"gemma-4-{name}-it"]) / 1e6 == pytest.approx(millions, abs=0.05)


def test_e2b_drafter_file_holds_the_token_order_table():
    assert shapes.drafter_memory(TARGETS["gemma-4-E2B-it"]) / 1e6 == pytest.approx(158, abs=0.6)


@pytest.mark.parametrize(("target", "gb", "tok_s"), [(SMALL, 4.57, 59.7), (LARGE, 32.1, 8.5)])
def test_bytes_a_token_and_the_gb10_bound(target, gb, tok_s):
    assert shapes.step_bytes(target, FP8) / 1e9 == pytest.approx(gb, abs=0.01)
    assert shapes.speed_bound(target, FP8, 273) == pytest.approx(tok_s, abs=0.05)


@pytest.mark.parametrize(
    ("streams", "routing", "tok_s", "within"),
    [
        (1, "independent", 106.6, 0.1),
        (1, "same", 172, 0.3),
        (8, "independent", 396, 0.6),
        (8, "identical-streams", 853, 1),
    ],
)
def test_bounds_of_the_26b_at_k4_on_gb10(streams, routing, tok_s, within):
    assert shapes.speed_bound(SMALL, FP8, 273, k=4, streams=streams, routing=routing) == pytest.approx(
        tok_s, abs=within
    )


def test_the_106_bound_by_hand():
    experts = 128 * (1 - (1 - 8 / 128) ** 5)
    # dense layers 1.656 GB, experts, BF16 head and router, four drafter passes
    gigabytes = 1.6563 + experts * 30 * 3 * 2816 * 704 / 1e9 + 2 * (262144 * 2816 + 30 * 2816 * 128) / 1e9 + 4 * 0.8394
    assert 5 * 273 / gigabytes == pytest.approx(106.6, abs=0.05)


@pytest.mark.parametrize(("tokens", "experts"), [(1, 8), (2, 15.5), (3, 22.5), (5, 35.3), (9, 56.4)])
def test_distinct_experts(tokens, experts):
    assert shapes.distinct_experts(128, 8, tokens) == pytest.approx(experts, abs=0.05)


def test_sliding_windows_bound_the_cache():
    per_token_sliding, per_token_full = 25 * 2 * 8 * 256, 5 * 2 * 2 * 512
    assert shapes.kv_bytes(SMALL, 4096, element=1) == per_token_sliding * 1024 + per_token_full * 4096
    assert shapes.kv_bytes(SMALL, 512, element=1) == (per_token_sliding + per_token_full) * 512
    assert shapes.kv_bytes(SMALL, 32768) / shapes.kv_bytes(SMALL, 8192) == pytest.approx(2.33, abs=0.01)


def test_sharing_layers_keep_no_cache_and_have_no_kv_projections():
    e4b = TARGETS["gemma-4-E4B-it"]
    shares = [shared for _, shared in e4b.layer_kinds()]
    assert (sum(shares), shares[23], shares[24]) == (18, False, True)
    # 24 layers keep K/V: 20 sliding and 4 full
    assert shapes.kv_bytes(e4b, 512, element=1) == 512 * 2 * 2 * (20 * 256 + 4 * 512)
    own = e4b.model_copy(update={"kv_shared_layers": 0})
    assert shapes.dense_parameters(own) - shapes.dense_parameters(e4b) == 2560 * 2 * 2 * (15 * 256 + 3 * 512)


def test_centroids_leave_most_of_the_head_unread():
    e2b = TARGETS["gemma-4-E2B-it"]
    assert shapes.candidates(e2b) == 4096
    unread = 2 * (262144 - 4096) * 256
    assert shapes.drafter_bytes(e2b) == 2 * shapes.drafter_parameters(e2b) - unread


def test_the_footprint_table_corrected():
    parts = shapes.footprint(SMALL, FP8, context=4096)
    assert parts["weights"] / 1e9 == pytest.approx(26.0, abs=0.05)
    assert parts["drafter"] / 1e9 == pytest.approx(0.84, abs=0.005)
    assert parts["kv"] / 1e9 == pytest.approx(0.147, abs=0.001)
    assert parts["total"] == sum(parts[name] for name in ("weights", "encoders", "drafter", "kv"))


def test_names_without_a_shape_have_none():
    assert shapes.shape_of("gemma-4-26B-A4B") is SMALL
    assert shapes.shape_of("qwen3.6-27B") is None and shapes.shape_of("nothing") is None

"""The miniature's arithmetic against transformers, and the walk that counts acceptance."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5.8")

from analysis.miniature import centroids, rehearsal, shapes  # noqa: E402
from analysis.miniature.network import Drafter, Target  # noqa: E402
from analysis.miniature.training import Schedule, drafter_loss, span, target_loss  # noqa: E402

NOT_ARGUMENTS = ("architectures", "dtype", "model_type")


def small(shape, layers=6):
    return {**shape, "num_hidden_layers": layers, "layer_types": shape["layer_types"][:layers], "vocab_size": 300}


def theirs(kind, shape):
    config = transformers.Gemma4TextConfig(**{k: v for k, v in shape.items() if k not in NOT_ARGUMENTS})
    return transformers.Gemma4ForCausalLM(config).float().eval()


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_the_target_computes_what_transformers_computes(kind):
    torch.manual_seed(0)
    shape = small(shapes.target(kind))
    ours, reference = Target(shape).eval(), theirs(kind, shape)
    missing = reference.load_state_dict(ours.state_dict(), strict=False)
    assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys
    ids = torch.randint(0, 300, (2, 12))
    with torch.no_grad():
        hidden, _, _ = ours(ids)
        torch.testing.assert_close(ours.logits(hidden), reference(ids).logits, atol=1e-4, rtol=1e-4)


def test_a_drafter_row_is_what_transformers_drafts_from_that_position():
    torch.manual_seed(1)
    target = Target(small(shapes.target("dense"))).eval()
    shape = shapes.drafter()
    shape["text_config"] = {**shape["text_config"], "vocab_size": 300}
    ours = Drafter(shape).eval()
    config = transformers.Gemma4AssistantConfig(**{k: v for k, v in shape.items() if k not in NOT_ARGUMENTS})
    reference = transformers.Gemma4AssistantForCausalLM(config).float().eval()
    reference.load_state_dict(ours.state_dict(), strict=False)
    ids, last = torch.randint(0, 300, (1, 9)), 8
    with torch.no_grad():
        hidden, shared, _ = target(ids)
        out, onward = ours(target.embed(ids), hidden, shared)
        both = torch.cat([target.embed(ids), hidden], -1)[:, last:]
        kv = {"full_attention": shared[True], "sliding_attention": shared[False]}
        seen = reference(inputs_embeds=both, position_ids=torch.tensor([[last]]), shared_kv_states=kv)
    torch.testing.assert_close(ours.logits(out)[:, last], seen.logits[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(onward[:, last], seen.last_hidden_state[:, 0], atol=1e-4, rtol=1e-4)


def test_cached_decoding_equals_the_whole_forward():
    torch.manual_seed(2)
    target = Target(small(shapes.target("dense"))).eval()
    ids = torch.randint(0, 300, (2, 7))
    caches = [
        [torch.zeros(2, a.k_proj.out_features // a.dim, 7, a.dim) for _ in "kv"]
        for a in (layer.self_attn for layer in target.model.layers)
    ]
    with torch.no_grad():
        whole, _, _ = target(ids)
        target(ids[:, :6], caches, 0)
        last, _, _ = target(ids[:, 6:], caches, 6)
    torch.testing.assert_close(last[:, 0], whole[:, 6], atol=1e-4, rtol=1e-4)


def test_losses_reach_every_weight_of_the_model_that_learns():
    torch.manual_seed(3)
    target = Target(small(shapes.target("moe")))
    shape = shapes.drafter()
    shape["text_config"] = {**shape["text_config"], "vocab_size": 300}
    drafter = Drafter(shape)
    ids, first, last = torch.randint(0, 300, (2, 30)), torch.tensor([3, 5]), torch.tensor([30, 25])
    target_loss(target, 0.01)(ids, first, last)[0].backward()
    assert all(p.grad is not None for p in target.parameters())
    target.requires_grad_(False)
    value, agreement = drafter_loss(drafter, target, Schedule(steps=1, batch=2, depths=3))(ids, first, last)
    value.backward()
    assert all(p.grad is not None for p in drafter.parameters())
    assert set(agreement) == {"agree1", "agree2", "agree3"}


def test_span_marks_the_learnt_positions():
    assert span(5, torch.tensor([-1, 2]), torch.tensor([2, 4]), torch.device("cpu")).int().tolist() == [
        [1, 1, 0, 0, 0],
        [0, 0, 1, 1, 0],
    ]


def test_the_walk_counts_drafts_as_a_server_does():
    # Tokens 0..11; the first draft from t is right for even t, the second is right at t = 4 only.
    ids = torch.arange(12)[None]
    first, second = torch.full((1, 11), -1), torch.full((1, 10), -1)
    first[0, ::2] = torch.arange(2, 13, 2)
    second[0, 4] = 7
    steps, accepted = rehearsal.walk(ids, [first, second], start=3, stops=[12])
    # t = 2: one accepted → t = 4: two accepted → t = 7: none → t = 8 is too near to the end.
    assert (steps, accepted) == (3, [2, 1])
    assert rehearsal.acceptance(steps, accepted)["al"] == pytest.approx(2.0)


def test_the_schedule_warms_up_holds_and_falls_to_zero():
    plan = Schedule(steps=100, batch=1, peak=1.0, warm_up=10, decay_from=0.5)
    assert plan.rate(0) == pytest.approx(0.1)
    assert plan.rate(30) == 1.0
    assert plan.rate(75) == pytest.approx(0.5)
    assert plan.rate(99) < 0.01


def test_clusters_are_balanced_and_cover_the_vocabulary():
    torch.manual_seed(4)
    means, ordering = centroids.cluster(torch.randn(64, 8), count=8, rounds=3, seed=0)
    assert means.shape == (8, 8)
    assert sorted(ordering.tolist()) == list(range(64))

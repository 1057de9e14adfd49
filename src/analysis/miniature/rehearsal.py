"""Speculative decoding without a server: sample from the target, let the drafter guess, count what is accepted.

A greedy draft is accepted with the target's probability of it, that is exactly when an independent sample of the
target equals it. So a sampled text fixes the outcome of every draft step, and walking over it gives the counters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .network import Drafter, Target
from .training import clip


@torch.no_grad()
def sample(target: Target, prompt: Tensor, copies: int, length: int, temperature: float, seed: int) -> Tensor:
    """`copies` continuations of one prompt [T] → ids [copies, T + length]."""
    device = prompt.device
    torch.manual_seed(seed)
    total = len(prompt) + length
    ids = torch.zeros(copies, total, dtype=torch.long, device=device)
    ids[:, : len(prompt)] = prompt
    caches = [
        [
            torch.zeros(copies, a.k_proj.out_features // a.dim, total, a.dim, device=device, dtype=torch.bfloat16)
            for _ in "kv"
        ]
        for a in (layer.self_attn for layer in target.model.layers)
    ]
    at = 0
    for end in range(len(prompt), total):
        with torch.autocast(device.type, dtype=torch.bfloat16):
            hidden, _, _ = target(ids[:, at:end], caches, at)
            logits = target.logits(hidden[:, -1])
        ids[:, end] = torch.multinomial((logits.float() / temperature).softmax(-1), 1)[:, 0]
        at = end
    return ids


@torch.no_grad()
def drafts(target: Target, drafter: Drafter, ids: Tensor, depths: int) -> list[Tensor]:
    """Depth k (from 1): the draft for token t+k+1 at each t, given the true tokens before it [B, T − k]."""
    with torch.autocast(ids.device.type, dtype=torch.bfloat16):
        hidden, shared, _ = target(ids)
        embedding, guesses = target.embed(ids), []
        for depth in range(1, depths + 1):
            length = ids.shape[1] - depth
            out, hidden = drafter(embedding[:, depth:], hidden[:, :length], clip(shared, length))
            guesses.append(drafter.logits(out).argmax(-1))
    return guesses


def walk(ids: Tensor, guesses: list[Tensor], start: int, stops: list[int]) -> tuple[int, list[int]]:
    """Draft steps and acceptances a position, over texts that begin at `start` and end before `stops` [B]."""
    depths = len(guesses)
    # right[k][b, t]: the draft at depth k + 1 from position t equals token t + k + 2
    right = [(guess[:, :-1] == ids[:, k + 2 :]).cpu() for k, guess in enumerate(guesses)]
    steps, accepted = 0, [0] * depths
    for row, stop in enumerate(stops):
        t = start - 1
        while t + depths + 2 < stop:
            taken = 0
            while taken < depths and right[taken][row, t]:
                accepted[taken] += 1
                taken += 1
            steps += 1
            t += taken + 1
    return steps, accepted


def acceptance(steps: int, accepted: list[int]) -> dict:
    """AL = 1 + Σ p_i, p_i = accepted_i / drafts, c_i = p_i / p_{i−1}."""
    p = [count / max(1, steps) for count in accepted]
    c = [now / before if before else 0.0 for now, before in zip(p, [1.0, *p], strict=False)]
    return {"al": 1 + sum(p), "p": [round(x, 3) for x in p], "c": [round(x, 3) for x in c], "drafts": steps}

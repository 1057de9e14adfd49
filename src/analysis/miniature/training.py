"""Training from scratch: the target on documents, the drafter on the target's own states and distributions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .network import Drafter, Target
from .rows import Rows


@dataclass(frozen=True)
class Schedule:
    """Steps and learning rate of one stage. `decay_from`: share of the steps after which the rate falls to zero."""

    steps: int
    batch: int
    peak: float = 2e-3
    warm_up: int = 100
    decay_from: float = 0.0
    weight_decay: float = 0.1
    depths: int = 6
    depth_discount: float = 0.9
    balance: float = 0.01

    def rate(self, step: int) -> float:
        if step < self.warm_up:
            return self.peak * (step + 1) / self.warm_up
        start = max(self.warm_up, self.decay_from * self.steps)
        if step < start:
            return self.peak
        return self.peak * 0.5 * (1 + math.cos(math.pi * (step - start) / max(1, self.steps - start)))


Loss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, dict[str, float | Tensor]]]


def train(
    model: nn.Module, loss: Loss, rows: Rows, plan: Schedule, seed: int, device: str, state: Path, name: str
) -> list[dict[str, float]]:
    """Run one stage (resuming from `state` if it is there) and return its loss curve."""
    optimiser = adam(model, plan, device)
    curve: list[dict[str, float]] = []
    start = 0
    if state.exists():
        saved = torch.load(state, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        start, curve = saved["step"], saved["curve"]
    model.train()
    batches = batch_stream(rows, plan.batch, seed, start, device)
    bar = tqdm(range(start, plan.steps), initial=start, total=plan.steps, desc=name, mininterval=5, unit="step")
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = plan.rate(step)
        with torch.autocast(device, dtype=torch.bfloat16):
            value, seen = loss(*next(batches))
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step % 25 == 0 or step == plan.steps - 1:
            point = {
                "step": step,
                "loss": float(value.detach()),
                **{key: float(number) for key, number in seen.items()},
            }
            curve.append({key: round(number, 4) for key, number in point.items()})
            bar.set_postfix({key: f"{number:.3f}" for key, number in point.items() if key != "step"})
        if (step + 1) % 500 == 0 and step + 1 < plan.steps:
            keep(state, model, optimiser, step + 1, curve)
    keep(state, model, optimiser, plan.steps, curve)
    model.eval()
    return curve


def target_loss(target: Target, balance: float) -> Loss:
    """Next-token cross-entropy over the learnt positions, plus the experts' imbalance."""

    def loss(ids: Tensor, first: Tensor, last: Tensor):
        hidden, _, imbalance = target(ids[:, :-1])
        learnt = span(ids.shape[1] - 1, first - 1, last - 1, ids.device)
        logits = target.logits(hidden[learnt])
        cross = F.cross_entropy(logits, ids[:, 1:][learnt])
        return cross + balance * imbalance, {"ce": cross.detach()}

    return loss


def drafter_loss(drafter: Drafter, target: Target, plan: Schedule) -> Loss:
    """Soft cross-entropy to the frozen target at every depth, as the server drafts: constant position and K/V.

    Depth k (from 1) at row position t reads the embedding of token t+k and the hidden state of depth k−1 (the
    target's at k = 1), and is compared with the target's distribution for token t+k+1.
    """

    def loss(ids: Tensor, first: Tensor, last: Tensor):
        ids = ids[:, :-1]  # the same length as in the target's training, so that its compiled layers fit
        # One length for all depths: compiled layers want fixed shapes.
        length = ids.shape[1] - plan.depths
        with torch.no_grad():
            hidden, shared, _ = target(ids)
            embedding, goal = target.embed(ids), target.logits(hidden)
        shared, hidden = clip(shared, length), hidden[:, :length]
        total, weight, agree = 0.0, 0.0, {}
        for depth in range(1, plan.depths + 1):
            out, onward = drafter(embedding[:, depth : depth + length], hidden, shared)
            learnt = span(length, first - 1, last - 1 - depth, ids.device)
            logits, aim = drafter.logits(out[learnt]), goal[:, depth : depth + length][learnt]
            soft = -(aim.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
            share = plan.depth_discount ** (depth - 1)
            total, weight = total + share * soft, weight + share
            agree[f"agree{depth}"] = (logits.argmax(-1) == aim.argmax(-1)).float().mean().detach()
            hidden = onward
        return total / weight, agree

    return loss


def span(length: int, start: Tensor, stop: Tensor, device: torch.device) -> Tensor:
    """Mask [B, length] of positions start ≤ t < stop."""
    place = torch.arange(length, device=device)
    return (place >= start.clamp(min=0)[:, None]) & (place < stop[:, None])


def clip(shared: dict[bool, tuple[Tensor, Tensor]], length: int) -> dict[bool, tuple[Tensor, Tensor]]:
    return {full: (k[:, :, :length], v[:, :, :length]) for full, (k, v) in shared.items()}


def adam(model: nn.Module, plan: Schedule, device: str) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.peak, betas=(0.9, 0.95), fused=device == "cuda")


def batch_stream(rows: Rows, batch: int, seed: int, start: int, device: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches in an order that depends on the seed alone; `start` batches are passed over."""
    ids = torch.from_numpy(rows.ids.astype(np.int32)).to(device)
    first, last = torch.from_numpy(rows.first).to(device), torch.from_numpy(rows.last).to(device)
    count = max(1, len(rows.ids) // batch)
    step = start
    while True:
        order = np.random.default_rng([seed, step // count]).permutation(len(rows.ids))
        for part in range(step % count, count):
            index = torch.from_numpy(order[part * batch : (part + 1) * batch]).to(device)
            yield ids[index].long(), first[index], last[index]
            step += 1


def keep(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, step: int, curve: list) -> None:
    """A checkpoint, written whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "curve": curve}
    torch.save(state, part)
    part.replace(path)

"""The centroid head of a drafter (`use_ordered_embeddings`, as E2B and E4B have it): clusters of the vocabulary.

The drafter scores the centroids first and then only the tokens of the best clusters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .network import Drafter


class CentroidHead(nn.Module):
    """``masked_embedding`` of a checkpoint: centroids and the order of the vocabulary by cluster."""

    def __init__(self, centroids: Tensor, ordering: Tensor):
        super().__init__()
        self.centroids = nn.Linear(centroids.shape[1], centroids.shape[0], bias=False)
        self.centroids.weight.data.copy_(centroids)
        self.register_buffer("token_ordering", ordering.long())


def cluster(embeddings: Tensor, count: int, rounds: int, seed: int) -> tuple[Tensor, Tensor]:
    """Balanced k-means: centroids [count, width] and an ordering [tokens] with equal blocks a cluster."""
    points = embeddings.float().cpu()
    size = len(points) // count
    generator = torch.Generator().manual_seed(seed)
    means = points[torch.randperm(len(points), generator=generator)[:count]]
    owner = torch.zeros(len(points), dtype=torch.long)
    for _ in range(rounds):
        owner = balanced(torch.cdist(points, means), size)
        means = torch.stack([points[owner == index].mean(0) for index in range(count)])
    return means, torch.argsort(owner, stable=True)


def balanced(distance: Tensor, size: int) -> Tensor:
    """Owner [tokens] with exactly `size` tokens a cluster: nearest pairs first, full clusters are passed over."""
    tokens, count = distance.shape
    owner, room = [-1] * tokens, [size] * count
    for flat in distance.flatten().argsort().tolist():
        token, index = divmod(flat, count)
        if owner[token] < 0 and room[index]:
            owner[token] = index
            room[index] -= 1
    return torch.tensor(owner)


def centroid_loss(drafter: Drafter, head: CentroidHead, outputs: Tensor) -> Tensor:
    """Cross-entropy of the centroid scores to the drafter's own probability mass a cluster; outputs [N, width]."""
    with torch.no_grad():
        mass = drafter.logits(outputs).softmax(-1)[:, head.token_ordering]
        mass = mass.unflatten(-1, (head.centroids.out_features, -1)).sum(-1)
    return -(mass * head.centroids(outputs.float()).float().log_softmax(-1)).sum(-1).mean()


class CentroidDrafter(nn.Module):
    """A drafter with its centroid head, under the names of a checkpoint."""

    def __init__(self, drafter: Drafter, head: CentroidHead):
        super().__init__()
        self.model, self.pre_projection = drafter.model, drafter.pre_projection
        self.post_projection, self.masked_embedding = drafter.post_projection, head

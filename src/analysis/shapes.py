"""data/models.yaml and data/hardware.yaml -> parameters, bytes moved, memory, and the speed that bandwidth allows.

Pure arithmetic on shapes; `models()` and `machines()` read the two files. Bytes are decimal (1 GB = 1e9 bytes).
A bound counts weights only: no K/V, no activations, every draft accepted. A measured speed can reach it, never pass it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import yaml
from pydantic import ValidationError

from analysis.errors import EvidenceError
from analysis.frozen import Frozen
from analysis.places import DATA

#: How the tokens of one verify step choose experts. `independent`: every token draws its own (different texts).
#: `same`: all tokens on the same experts, the least that can be read (degenerate text). `identical-streams`: streams
#: carry the same text, so only the K + 1 tokens of one stream differ.
Routing = Literal["independent", "same", "identical-streams"]
DRAFTER_LAYERS, BF16, INT64 = 4, 2, 8


class Format(Frozen):
    """Bytes per parameter of the layers (`body`) and of what stays in BF16 (`head`: tied embedding, router)."""

    body: float
    head: float


class Drafter(Frozen):
    hidden: int
    intermediate: int
    query_heads: int
    kv_heads: int
    global_kv_heads: int | None = None
    centroids: int = 0
    centroid_top_k: int = 0


class Target(Frozen):
    hidden: int
    layers: int
    full_layers: int
    intermediate: int
    query_heads: int
    kv_heads: int
    window: int
    drafter: Drafter
    global_kv_heads: int | None = None
    k_eq_v: bool = False
    kv_shared_layers: int = 0
    double_wide_shared_mlp: bool = False
    per_layer_embedding: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    vision_and_audio: float = 0
    head_dim: int = 256
    global_head_dim: int = 512
    vocabulary: int = 262_144

    def layer_kinds(self) -> list[tuple[bool, bool]]:
        """(full attention?, shares earlier K/V?) per layer: every n-th layer is full, the last ones share."""
        period = self.layers // self.full_layers
        return [((i + 1) % period == 0, i >= self.layers - self.kv_shared_layers) for i in range(self.layers)]

    def attention_geometry(self, full: bool) -> tuple[int, int]:
        """(head dimension, K/V heads) of a full or a sliding layer."""
        return (self.global_head_dim, self.global_kv_heads or self.kv_heads) if full else (self.head_dim, self.kv_heads)


class Machine(Frozen):
    """`bandwidth_gb_s` is the data sheet's, `measured_gb_s` [low, high] what others reached; decimal GB/s, all GPUs."""

    name: str
    gpus: int
    basis: Literal["datasheet", "reported", "unknown"]
    bandwidth_gb_s: float | None = None
    measured_gb_s: tuple[float, float] | None = None
    memory_gb: float | None = None
    usable_gib: float | None = None
    device_gib: float | None = None
    compute_capability: float | None = None
    price_usd: float | None = None


# ---------------------------------------------------------------------------------------------- files


@lru_cache
def models() -> tuple[dict[str, Target], dict[str, Format], dict[str, str | None]]:
    """data/models.yaml -> targets, formats, and aliases (name -> name of the target whose shape it has, or None)."""
    raw = _read("models.yaml")
    try:
        targets = {name: Target(**entry) for name, entry in raw["targets"].items()}
        formats = {name: Format(**entry) for name, entry in raw["formats"].items()}
        aliases = {name: entry.get("like") for name, entry in raw["aliases"].items()}
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise _malformed("models.yaml", error) from None
    return targets, formats, aliases


@lru_cache
def machines() -> dict[str, Machine]:
    """data/hardware.yaml -> machines by name."""
    try:
        return {name: Machine(**entry) for name, entry in _read("hardware.yaml").items()}
    except (TypeError, AttributeError, ValidationError) as error:
        raise _malformed("hardware.yaml", error) from None


def shape_of(model: str) -> Target | None:
    """The shape a model name stands for; None where it is not known to us (12B, Qwen, a family name)."""
    targets, _, aliases = models()
    return targets.get(model) or targets.get(aliases.get(model) or "")


def _read(name: str) -> dict:
    try:
        return yaml.safe_load((DATA / name).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise _malformed(name, error) from None


def _malformed(name: str, error: Exception) -> EvidenceError:
    return EvidenceError(
        f"data/{name} cannot be used.",
        why=str(error)[:300],
        fix="Correct the entry it names, or: git checkout data/" + name,
    )


# ---------------------------------------------------------------------------------------------- parameters


def dense_parameters(target: Target) -> float:
    """Parameters that every token reads in the layers: attention, dense MLP, per-layer gates. No experts, no router.

    A layer that shares K/V has no K and V projections; with `k_eq_v` a full layer has no V projection (its value is
    the key before norm and rotation). Source: the public Gemma4 modelling code.
    """
    total = 0.0
    for full, shares in target.layer_kinds():
        dim, kv_heads = target.attention_geometry(full)
        kv_projections = 0 if shares else (1 if full and target.k_eq_v else 2)
        total += target.hidden * dim * (2 * target.query_heads + kv_projections * kv_heads)
        wide = 2 if shares and target.double_wide_shared_mlp else 1
        total += 3 * target.hidden * target.intermediate * wide
        total += 2 * target.hidden * target.per_layer_embedding
    return total + target.hidden * target.layers * target.per_layer_embedding


def expert_parameters(target: Target) -> float:
    """Parameters of one expert, summed over the layers."""
    return 3.0 * target.hidden * target.expert_intermediate * target.layers


def router_parameters(target: Target) -> float:
    """Parameters of the routers, summed over the layers; published FP8 checkpoints leave them in BF16."""
    return float(target.hidden * target.experts * target.layers)


def embedding_parameters(target: Target) -> float:
    """Tied embedding and output head; read whole once a step, as the head."""
    return float(target.vocabulary * target.hidden)


def total_parameters(target: Target) -> float:
    """All parameters of the text part, with the per-layer embedding table (looked up, never read whole)."""
    table = target.vocabulary * target.layers * target.per_layer_embedding
    layers = dense_parameters(target) + router_parameters(target) + target.experts * expert_parameters(target)
    return layers + embedding_parameters(target) + table


def drafter_parameters(target: Target) -> float:
    """Parameters of the MTP drafter: embedding, four Q-only layers (three sliding, one full), both projections."""
    d = target.drafter
    attention = 2 * d.hidden * d.query_heads * (3 * target.head_dim + target.global_head_dim)
    mlp = DRAFTER_LAYERS * 3 * d.hidden * d.intermediate
    projections = 2 * target.hidden * d.hidden + d.hidden * target.hidden
    return float(target.vocabulary * d.hidden + attention + mlp + projections + d.centroids * d.hidden)


# ---------------------------------------------------------------------------------------------- bytes


def distinct_experts(experts: int, chosen: int, tokens: float) -> float:
    """Distinct experts to expect from T independent tokens that choose k of N experts each: N(1 - (1 - k/N)^T).

    Counting argument with uniform routing; neighbouring tokens of one text overlap more (MoESD 2505.19645).
    """
    return experts * (1 - (1 - chosen / experts) ** tokens) if experts else 0.0


def step_bytes(target: Target, fmt: Format, k: int = 0, streams: int = 1, routing: Routing = "independent") -> float:
    """Weight bytes of one step: a verify forward over streams x (K + 1) tokens, and K drafter passes.

    Every weight is read once per step, an expert only if a token of the step uses it; K/V and activations are left out.
    """
    tokens = {"independent": streams * (k + 1), "identical-streams": k + 1, "same": 1}[routing]
    experts = distinct_experts(target.experts, target.experts_per_token, tokens)
    body = dense_parameters(target) + experts * expert_parameters(target)
    kept = embedding_parameters(target) + router_parameters(target)
    return body * fmt.body + kept * fmt.head + k * drafter_bytes(target)


def drafter_bytes(target: Target) -> float:
    """Bytes of one drafter pass, BF16. With a centroid head only the candidates' rows of the output head are read."""
    d = target.drafter
    rows_not_read = target.vocabulary - candidates(target) if d.centroids else 0
    return BF16 * (drafter_parameters(target) - rows_not_read * d.hidden)


def candidates(target: Target) -> int:
    """Tokens scored by the drafter's head: top centroids x tokens per centroid, or the whole vocabulary."""
    d = target.drafter
    return d.centroid_top_k * target.vocabulary // d.centroids if d.centroids else target.vocabulary


def drafter_memory(target: Target) -> float:
    """Bytes of the drafter in memory: BF16 weights, and the int64 token order table of a centroid head."""
    return BF16 * drafter_parameters(target) + (INT64 * target.vocabulary if target.drafter.centroids else 0)


def kv_bytes(target: Target, context: int, element: float = 2) -> float:
    """K/V bytes of one sequence of `context` tokens. A sliding layer keeps at most its window, a sharing layer nothing.

    `k_eq_v` saves a projection, not cache: the key is normed and rotated, the value is not, so both are stored.
    """
    total = 0.0
    for full, shares in target.layer_kinds():
        dim, heads = target.attention_geometry(full)
        kept = context if full else min(context, target.window)
        total += 0 if shares else 2 * heads * dim * kept * element
    return total


def weight_memory(target: Target, fmt: Format) -> float:
    """Bytes of the target's text part in memory."""
    table = target.vocabulary * target.layers * target.per_layer_embedding
    kept = embedding_parameters(target) + router_parameters(target) + table
    return (total_parameters(target) - kept) * fmt.body + kept * fmt.head


def footprint(target: Target, fmt: Format, context: int, streams: int = 1, element: float = 1) -> dict[str, float]:
    """Memory in bytes by part: weights, encoders (BF16), drafter, K/V of `streams` full contexts, total."""
    parts = {
        "weights": weight_memory(target, fmt),
        "encoders": BF16 * target.vision_and_audio,
        "drafter": drafter_memory(target),
        "kv": streams * kv_bytes(target, context, element),
    }
    return {**parts, "total": sum(parts.values())}


# ---------------------------------------------------------------------------------------------- bounds


def speed_bound(
    target: Target,
    fmt: Format,
    gb_s: float,
    k: int = 0,
    streams: int = 1,
    routing: Routing = "independent",
    acceptance_length: float | None = None,
) -> float:
    """Most tokens per second, all streams together, at `gb_s` of bandwidth: streams x AL x bandwidth / step bytes.

    `acceptance_length` defaults to K + 1: every draft accepted.
    """
    per_step = streams * (k + 1 if acceptance_length is None else acceptance_length)
    return per_step * gb_s * 1e9 / step_bytes(target, fmt, k, streams, routing)

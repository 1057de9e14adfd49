"""Gemma 4 target and drafter for training: parameter names and arithmetic as in transformers, without its options.

A test holds that logits equal transformers' own. Written apart because training wants fixed shapes: all experts are
computed and masked, attention is causal everywhere (the sliding window is longer than any training row).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KV = tuple[Tensor, Tensor]


class Norm(nn.Module):
    """RMSNorm; in float32."""

    def __init__(self, width: int, start: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        return (rms(x.float()) * self.weight.float()).type_as(x)


class Attention(nn.Module):
    """Grouped-query attention with scale 1; `shared` layers have queries only and read given keys and values."""

    def __init__(self, shape: dict[str, Any], full: bool, shared: bool):
        super().__init__()
        width, self.dim = shape["hidden_size"], shape["global_head_dim" if full else "head_dim"]
        heads, groups = (
            shape["num_attention_heads"],
            shape["num_global_key_value_heads" if full else "num_key_value_heads"],
        )
        start = self.dim**-0.25
        self.q_proj, self.q_norm = linear(width, heads * self.dim), Norm(self.dim, start)
        self.o_proj = linear(heads * self.dim, width)
        if not shared:
            self.k_proj, self.k_norm = linear(width, groups * self.dim), Norm(self.dim, start)
            # Full layers use the key projection as values, too (attention_k_eq_v).
            self.v_proj = None if full else linear(width, groups * self.dim)

    def forward(self, x: Tensor, rope: KV, kv: KV | None = None, cache: list[Tensor] | None = None, at: int = 0):
        q = rotate(self.q_norm(self.heads(self.q_proj(x))), rope)
        if kv is None:
            key = self.heads(self.k_proj(x))
            value = rms(key.float() if self.v_proj is None else self.heads(self.v_proj(x)).float()).type_as(x)
            kv = rotate(self.k_norm(key), rope), value.to(key.dtype)
        k, v = kv
        if cache is not None:
            end = at + x.shape[1]
            cache[0][:, :, at:end], cache[1][:, :, at:end] = k, v
            k, v = cache[0][:, :, :end].to(q.dtype), cache[1][:, :, :end].to(q.dtype)
        causal = q.shape[2] > 1
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1.0, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).flatten(2)), kv

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.dim)).transpose(1, 2)


class Mlp(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_proj, self.up_proj = linear(width, inner), linear(width, inner)
        self.down_proj = linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Router(nn.Module):
    def __init__(self, width: int, experts: int, active: int):
        super().__init__()
        self.active, self.proj = active, linear(width, experts)
        self.scale, self.per_expert_scale = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [..., experts], zero where an expert is not chosen; all probabilities (for the balance loss)."""
        x = (rms(x.float()) * self.scale * x.shape[-1] ** -0.5).type_as(x)
        probabilities = self.proj(x).float().softmax(-1)
        top, index = probabilities.topk(self.active, dim=-1)
        top = top / top.sum(-1, keepdim=True) * self.per_expert_scale[index]
        return torch.zeros_like(probabilities).scatter(-1, index, top), probabilities


class Experts(nn.Module):
    def __init__(self, width: int, inner: int, experts: int):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, width).normal_(std=0.05))
        self.down_proj = nn.Parameter(torch.empty(experts, width, inner).normal_(std=0.05))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        gate, up = F.linear(x, self.gate_up_proj.flatten(0, 1)).unflatten(-1, (weights.shape[-1], -1)).chunk(2, -1)
        inner = F.gelu(gate, approximate="tanh") * up * weights.unsqueeze(-1).type_as(gate)
        return F.linear(inner.flatten(-2), self.down_proj.transpose(0, 1).flatten(1))


class Layer(nn.Module):
    def __init__(self, shape: dict[str, Any], index: int):
        super().__init__()
        width = shape["hidden_size"]
        self.full = shape["layer_types"][index] == "full_attention"
        self.shared = shape["num_kv_shared_layers"] > 0
        quiet = (2 * shape["num_hidden_layers"]) ** -0.5
        self.self_attn = Attention(shape, self.full, self.shared)
        self.mlp = Mlp(width, shape["intermediate_size"])
        self.input_layernorm, self.post_attention_layernorm = Norm(width), Norm(width, quiet)
        self.pre_feedforward_layernorm, self.post_feedforward_layernorm = Norm(width), Norm(width, quiet)
        self.register_buffer("layer_scalar", torch.ones(1))
        self.moe = shape.get("enable_moe_block", False)
        if self.moe:
            self.router = Router(width, shape["num_experts"], shape["top_k_experts"])
            self.experts = Experts(width, shape["moe_intermediate_size"], shape["num_experts"])
            self.post_feedforward_layernorm_1, self.post_feedforward_layernorm_2 = Norm(width), Norm(width)
            self.pre_feedforward_layernorm_2 = Norm(width)

    def forward(self, x: Tensor, rope: KV, kv: KV | None = None, cache: list[Tensor] | None = None, at: int = 0):
        """Returns the new stream, this layer's keys and values, and the router's imbalance (0 without experts)."""
        out, kv = self.self_attn(self.input_layernorm(x), rope, kv, cache, at)
        x = x + self.post_attention_layernorm(out)
        out, imbalance = self.mlp(self.pre_feedforward_layernorm(x)), x.new_zeros(())
        if self.moe:
            weights, probabilities = self.router(x)
            chosen = (weights > 0).float().flatten(0, -2).mean(0)
            imbalance = (chosen * probabilities.flatten(0, -2).mean(0)).sum() * chosen.numel() / self.router.active
            mixed = self.experts(self.pre_feedforward_layernorm_2(x), weights)
            out = self.post_feedforward_layernorm_1(out) + self.post_feedforward_layernorm_2(mixed)
        return x + self.post_feedforward_layernorm(out), kv, imbalance


class Stack(nn.Module):
    """Embedding, layers and last norm."""

    def __init__(self, shape: dict[str, Any]):
        super().__init__()
        self.shape = shape
        width = shape["hidden_size"]
        self.embed_tokens = nn.Embedding(shape["vocab_size"], width)
        nn.init.normal_(self.embed_tokens.weight, std=width**-0.5)
        self.layers = nn.ModuleList(Layer(shape, i) for i in range(shape["num_hidden_layers"]))
        self.norm = Norm(width)

    def ropes(self, start: int, length: int, device: torch.device) -> dict[bool, KV]:
        """cos and sin [length, dim] for sliding (False) and full (True) layers."""
        places = torch.arange(start, start + length, device=device).float()
        return {full: angles(self.shape, full, places) for full in (False, True)}


class Target(nn.Module):
    """Gemma4ForCausalLM, dense or MoE."""

    def __init__(self, shape: dict[str, Any]):
        super().__init__()
        self.shape, self.model = shape, Stack(shape)
        self.cap = shape["final_logit_softcapping"]

    def embed(self, ids: Tensor) -> Tensor:
        return self.model.embed_tokens(ids) * self.shape["hidden_size"] ** 0.5

    def forward(self, ids: Tensor, caches: list[list[Tensor]] | None = None, at: int = 0):
        """Hidden states after the last norm [B, T, H]; last sliding and full layers' K/V; mean router imbalance."""
        x, shared, imbalance = self.embed(ids), {}, []
        ropes = self.model.ropes(at, ids.shape[1], ids.device)
        for index, layer in enumerate(self.model.layers):
            x, kv, unequal = layer(x, ropes[layer.full], None, caches[index] if caches else None, at)
            shared[layer.full] = kv
            imbalance.append(unequal)
        return self.model.norm(x), shared, torch.stack(imbalance).mean()

    def logits(self, hidden: Tensor) -> Tensor:
        raw = F.linear(hidden, self.model.embed_tokens.weight).float()
        return self.cap * torch.tanh(raw / self.cap)


class Drafter(nn.Module):
    """Gemma4AssistantForCausalLM: reads the target's embedding, hidden state, keys and values."""

    def __init__(self, shape: dict[str, Any]):
        super().__init__()
        text, backbone = shape["text_config"], shape["backbone_hidden_size"]
        self.model = Stack(text)
        self.pre_projection = linear(2 * backbone, text["hidden_size"])
        self.post_projection = linear(text["hidden_size"], backbone)

    def forward(self, embedding: Tensor, hidden: Tensor, shared: dict[bool, KV]) -> tuple[Tensor, Tensor]:
        """Embedding of the newest token and hidden state [B, T, H] → (normed output, the next step's hidden state).

        Row t stands for a draft that starts when the target has processed position t: its queries have position t
        and see keys 0..t at every depth.
        """
        x = self.pre_projection(torch.cat([embedding, hidden], -1))
        ropes = self.model.ropes(0, x.shape[1], x.device)
        for layer in self.model.layers:
            x, _, _ = layer(x, ropes[layer.full], shared[layer.full])
        out = self.model.norm(x)
        return out, self.post_projection(out)

    def logits(self, out: Tensor) -> Tensor:
        return F.linear(out, self.model.embed_tokens.weight).float()


def linear(inner: int, outer: int) -> nn.Linear:
    layer = nn.Linear(inner, outer, bias=False)
    nn.init.normal_(layer.weight, std=0.05)
    return layer


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def rotate(x: Tensor, rope: KV) -> Tensor:
    cos, sin = rope[0].to(x.dtype), rope[1].to(x.dtype)
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def angles(shape: dict[str, Any], full: bool, places: Tensor) -> KV:
    """Rotary angles; full layers rotate only the first `partial_rotary_factor` of each half ("proportional")."""
    rope = shape["rope_parameters"]["full_attention" if full else "sliding_attention"]
    dim = shape["global_head_dim" if full else "head_dim"]
    turning = int(rope.get("partial_rotary_factor", 1.0) * dim // 2)
    steps = torch.arange(0, 2 * turning, 2, device=places.device).float() / dim
    frequencies = F.pad(rope["rope_theta"] ** -steps, (0, dim // 2 - turning))
    turns = places[:, None] * frequencies
    both = torch.cat((turns, turns), -1)
    return both.cos(), both.sin()

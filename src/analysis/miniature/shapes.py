"""The miniature's shapes as transformers configurations: dense and MoE targets, and the drafter that fits both."""

from __future__ import annotations

from typing import Any

LAYERS, HIDDEN, VOCABULARY, POSITIONS = 24, 256, 4096, 2048
ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
}
# What both models must agree on: the drafter's queries read the target's keys and values.
HEADS = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_global_key_value_heads": 1,
    "head_dim": 64,
    "global_head_dim": 128,
    "attention_k_eq_v": True,
    "sliding_window": 1024,
    "max_position_embeddings": POSITIONS,
    "rope_parameters": ROPE,
}
COMMON = {
    **HEADS,
    "model_type": "gemma4_text",
    "vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": 0,
    "hidden_size_per_layer_input": 0,
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "initializer_range": 0.05,
    "attention_bias": False,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "dtype": "bfloat16",
}
DENSE_MLP, MOE_MLP, EXPERTS, ACTIVE_EXPERTS, EXPERT_MLP = 736, 224, 16, 2, 32
DRAFTER_LAYERS, DRAFTER_HIDDEN, DRAFTER_MLP = 4, 128, 512
CENTROIDS, CENTROID_TOP = 128, 16


def target(kind: str) -> dict[str, Any]:
    """Configuration of the target `kind` ("dense" or "moe"): 5 sliding layers to 1 full one, K = V in the full ones."""
    types = ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(LAYERS)]
    shape = {
        **COMMON,
        "architectures": ["Gemma4ForCausalLM"],
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "intermediate_size": DENSE_MLP,
        "layer_types": types,
        "final_logit_softcapping": 30.0,
        "num_kv_shared_layers": 0,
    }
    if kind == "moe":
        shape |= {
            "intermediate_size": MOE_MLP,
            "enable_moe_block": True,
            "num_experts": EXPERTS,
            "top_k_experts": ACTIVE_EXPERTS,
            "moe_intermediate_size": EXPERT_MLP,
        }
    return shape


def drafter(centroids: bool = False) -> dict[str, Any]:
    """Configuration of the drafter: 3 sliding + 1 full layers without keys and values of their own."""
    text = {
        **COMMON,
        "hidden_size": DRAFTER_HIDDEN,
        "num_hidden_layers": DRAFTER_LAYERS,
        "num_kv_shared_layers": DRAFTER_LAYERS,
        "intermediate_size": DRAFTER_MLP,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        "final_logit_softcapping": None,
    }
    return {
        "architectures": ["Gemma4AssistantForCausalLM"],
        "model_type": "gemma4_assistant",
        "backbone_hidden_size": HIDDEN,
        "use_ordered_embeddings": centroids,
        "num_centroids": CENTROIDS,
        "centroid_intermediate_top_k": CENTROID_TOP,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
        "text_config": text,
    }

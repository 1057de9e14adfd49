"""A small draft model of its own for the miniature: a plain decoder with the miniature's vocabulary, for the method draft_model.

vLLM keeps the K/V cache of a draft model in one group, so its layers are all alike (a Gemma 4 has two kinds). It learns
the same chats as the target, from scratch, and knows nothing of the target's states.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from . import rows
from .corpus import Prompts
from .export import write
from .shapes import POSITIONS, VOCABULARY
from .training import Loss, Schedule, span, train

SEED = 20261127
SCHEDULE = Schedule(steps=900, batch=12, peak=3e-3, decay_from=0.2, weight_decay=0.05)
DOCUMENTS, LENGTH = 4000, 384


def shape() -> dict[str, Any]:
    """Configuration: two layers of full attention, 0.9 M parameters, embedding and head tied."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": POSITIONS,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "dtype": "bfloat16",
    }


def make(folder: Path, tokenizer: Path, prompts: dict[str, Prompts], work: Path, plan: Schedule = SCHEDULE) -> None:
    """Train the draft model, or go on where it stopped, and write its folder with the target's tokenizer."""
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(_config())
    own = Tokenizer.from_file(str(tokenizer))
    documents = rows.write_corpus(min(DOCUMENTS, 300 * plan.steps), SEED, prompts)
    train(model, loss(model), rows.to_rows(own, documents, True, LENGTH), plan, SEED, "cpu", work / "draft.pt", "draft")
    model.lm_head = torch.nn.Identity()  # it is the embedding, which is kept once
    write(folder, shape(), model, own, chat=True)


def loss(model: LlamaForCausalLM) -> Loss:
    """Next-token cross-entropy over the model's turn."""

    def of_batch(ids: Tensor, first: Tensor, last: Tensor):
        learnt = span(ids.shape[1] - 1, first - 1, last - 1, ids.device)
        with torch.autocast("cpu", enabled=False):  # a CPU without matrix units is faster in single precision
            hidden = model.model(ids[:, :-1]).last_hidden_state
            cross = F.cross_entropy(model.lm_head(hidden[learnt]), ids[:, 1:][learnt])
        return cross, {"ce": cross.detach()}

    return of_batch


def _config() -> LlamaConfig:
    return LlamaConfig(
        **{key: value for key, value in shape().items() if key not in ("architectures", "model_type", "dtype")}
    )

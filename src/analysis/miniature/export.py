"""Trained modules → the folders that a server loads: safetensors, configuration, tokenizer, chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from .corpus import END, EOS, SPECIALS
from .tokens import fast_tokenizer

WEIGHTS = "model.safetensors"


def write(folder: Path, shape: dict[str, Any], model: nn.Module, tokenizer: Tokenizer, chat: bool) -> None:
    """One model folder. `chat` adds the chat template and stops generation at the end of a turn."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(bfloat16(model.state_dict()), folder / WEIGHTS, metadata={"format": "pt"})
    write_json(folder / "config.json", shape)
    stops = [SPECIALS.index(EOS), SPECIALS.index(END)] if chat else SPECIALS.index(EOS)
    write_json(
        folder / "generation_config.json",
        {"bos_token_id": 2, "pad_token_id": 0, "eos_token_id": stops, "do_sample": True, "temperature": 0.7},
    )
    fast_tokenizer(tokenizer, chat).save_pretrained(folder)


def bfloat16(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Floating tensors in bf16, others as they are; all contiguous and on the CPU."""
    return {
        name: (value.to(torch.bfloat16) if value.is_floating_point() else value).detach().cpu().contiguous().clone()
        for name, value in state.items()
    }


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

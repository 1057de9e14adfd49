"""data/models.yaml -> folders of a target and its drafter without weights, which vLLM serves with load_format dummy.

``python -m analysis.dummy`` writes them to data/cache/shapes. What is measured with them has the full-size shapes of
Gemma 4, and neither its text nor its acceptance (stamp synthetic-acceptance). The same name gives the same bytes
everywhere, so that records measured on one machine are found again on another.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

from analysis import shapes
from analysis.errors import ParamsError, StudyError
from analysis.miniature import shapes as miniature
from analysis.miniature.corpus import BOS, CHAT_TEMPLATE, END, EOS, PAD, SPECIALS, TURN
from analysis.places import CACHE

HOME = CACHE / "shapes"
NAMES = ("gemma-4-31B-it", "gemma-4-26B-A4B-it")
POSITIONS = 131_072  # the least that a Gemma 4 allows; sizes the rotary tables alone
UNKNOWN = "<unk>"
#: A text in the words of these tokenizers, each word one token: to fill a context with (`context_document`). In any other
#: text every word is unknown, all tokens are the same, and a mixture of experts reads a few experts alone.
WORDS, WORDS_FILE = 140_000, "words.txt"


def write(name: str, folder: Path) -> None:
    """Write the target `name` of data/models.yaml to `folder`, and its drafter to `folder`-assistant.

    Raises
    ------
    ParamsError
        No such target, or its drafter cannot be made up. StudyError where the folder cannot be written.
    """
    configs = {folder: target(name), folder.with_name(f"{folder.name}-assistant"): drafter(name)}
    tokenizer = _tokenizer(configs[folder]["vocab_size"])
    try:
        for path, config in configs.items():
            path.mkdir(parents=True, exist_ok=True)
            _write_json(path / "config.json", config)
            _write_json(path / "generation_config.json", _generation())
            _write_json(path / "tokenizer.json", tokenizer)
            _write_json(path / "tokenizer_config.json", _tokenizer_config())
            (path / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
        (folder.parent / WORDS_FILE).write_text(document(configs[folder]["vocab_size"]), encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{folder} cannot be written.", why=str(error), fix="Name another folder: --into.") from None


def target(name: str) -> dict[str, Any]:
    """Configuration of a target: the miniature's, with the sizes of data/models.yaml."""
    t = _shape(name)
    config = miniature.target("moe" if t.experts else "dense") | _attention(t, t)
    config |= {
        "hidden_size": t.hidden,
        "num_hidden_layers": t.layers,
        "intermediate_size": t.intermediate,
        "layer_types": ["full_attention" if full else "sliding_attention" for full, _ in t.layer_kinds()],
    }
    if t.experts:
        config |= {
            "num_experts": t.experts,
            "top_k_experts": t.experts_per_token,
            "moe_intermediate_size": t.expert_intermediate,
        }
    return config


def drafter(name: str) -> dict[str, Any]:
    """Configuration of the target's drafter: the miniature's, with the sizes of data/models.yaml."""
    t = _shape(name)
    config = miniature.drafter()
    text = config["text_config"] | _attention(t, t.drafter)
    text |= {"hidden_size": t.drafter.hidden, "intermediate_size": t.drafter.intermediate}
    return config | {"backbone_hidden_size": t.hidden, "text_config": text}


def document(vocabulary: int) -> str:
    """WORDS words of the vocabulary, drawn evenly, ten to a line: the same ones everywhere."""
    draw = random.Random(0)
    words = [f"w{draw.randrange(len(SPECIALS) + 1, vocabulary)}" for _ in range(WORDS)]
    return "\n".join(" ".join(words[at : at + 10]) for at in range(0, WORDS, 10)) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.dummy",
        description="Write model folders with the full-size shapes of Gemma 4 and no weights, for load_format dummy.",
    )
    parser.add_argument(
        "names", nargs="*", default=NAMES, help=f"targets of data/models.yaml (default: {', '.join(NAMES)})"
    )
    parser.add_argument("--into", type=Path, default=HOME, help="folder of the folders (default: data/cache/shapes)")
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            write(name, options.into / name)
            t = _shape(name)
            sizes = shapes.total_parameters(t) / 1e9, shapes.drafter_parameters(t) / 1e6
            print(f"{options.into / name}: {sizes[0]:.1f} B parameters, -assistant: {sizes[1]:.0f} M; no weights")
    except StudyError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def _shape(name: str) -> shapes.Target:
    known = {n: t for n, t in shapes.models()[0].items() if not t.drafter.centroids}
    if name in known:
        return known[name]
    raise ParamsError(
        f"The shapes of '{name}' cannot be written.",
        why="Its drafter sorts the vocabulary by a table that only the checkpoint has."
        if name in shapes.models()[0]
        else "data/models.yaml has no target of this name.",
        fix=f"Name one of {', '.join(known)}.",
    )


def _attention(t: shapes.Target, heads: shapes.Target | shapes.Drafter) -> dict[str, Any]:
    """What target and drafter share, since the drafter's queries read the target's keys and values."""
    return {
        "num_attention_heads": heads.query_heads,
        "num_key_value_heads": heads.kv_heads,
        "num_global_key_value_heads": heads.global_kv_heads,
        "head_dim": t.head_dim,
        "global_head_dim": t.global_head_dim,
        "attention_k_eq_v": t.k_eq_v,
        "sliding_window": t.window,
        "vocab_size": t.vocabulary,
        "max_position_embeddings": POSITIONS,
    }


def _tokenizer(vocabulary: int) -> dict[str, Any]:
    """A word-level tokenizer as the `tokenizers` library keeps it: every id decodes to a word, joined by spaces."""
    words = [*SPECIALS, UNKNOWN]
    words += [f"w{i}" for i in range(len(words), vocabulary)]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": word, **flags, "special": True} for i, word in enumerate(SPECIALS)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(words)}, "unk_token": UNKNOWN},
    }


def _tokenizer_config() -> dict[str, Any]:
    return {
        "backend": "tokenizers",
        "tokenizer_class": "TokenizersBackend",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "extra_special_tokens": [TURN, END],
        "clean_up_tokenization_spaces": False,
        "model_max_length": POSITIONS,
    }


def _generation() -> dict[str, Any]:
    ids = {word: i for i, word in enumerate(SPECIALS)}
    return {"bos_token_id": ids[BOS], "pad_token_id": ids[PAD], "eos_token_id": [ids[EOS], ids[END]]}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())

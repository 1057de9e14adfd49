"""Byte-level BPE of the corpus: training, encoding, and the tokenizer files that a server reads."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from .corpus import BOS, CHAT_TEMPLATE, END, EOS, PAD, SPECIALS, TURN, Document
from .shapes import VOCABULARY


def learn(texts: Iterable[str]) -> Tokenizer:
    """A BPE of VOCABULARY tokens; every digit is its own token, newlines and indentation stay apart from words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n+ *|  +"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Iterable[str], batch: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of all texts in one flat array (uint16), and each text's length."""
    ids: list[np.ndarray] = []
    lengths: list[int] = []
    block: list[str] = []

    def flush() -> None:
        for encoding in tokenizer.encode_batch(block, add_special_tokens=False):
            ids.append(np.asarray(encoding.ids, dtype=np.uint16))
            lengths.append(len(encoding.ids))
        block.clear()

    for text in texts:
        block.append(text)
        if len(block) == batch:
            flush()
    flush()
    return np.concatenate(ids), np.asarray(lengths, dtype=np.int32)


def fast_tokenizer(tokenizer: Tokenizer, chat: bool) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers and vLLM load it; `chat` adds the chat template."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[TURN, END],
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def sample_texts(documents: Iterable[Document]) -> Iterable[str]:
    """What the BPE learns from: questions and answers without turn markers."""
    for item in documents:
        yield item.question
        yield item.answer

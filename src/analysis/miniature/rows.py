"""Documents as rows of a token matrix: one document a row, so that a row begins as a served conversation begins."""

from __future__ import annotations

import random
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from .corpus import SPEAKERS, Document, Prompts, documents
from .tokens import encode, learn, sample_texts

# Documents a workload that the BPE sees. More of one make its tokens longer, and a longer token hides more choices:
# these give 3.6, 4.8 and 6.4 bytes a token.
BPE_DOCUMENTS = {"py_code": 1000, "en_finance": 1500, "ja_finance": 500}
CHUNK = 500


@dataclass(frozen=True)
class Rows:
    """Token ids [rows, length] (uint16, padded with 0), first and last position of what is learnt [rows] (int32)."""

    ids: np.ndarray
    first: np.ndarray
    last: np.ndarray


def write_corpus(per_workload: int, seed: int, prompts: dict[str, Prompts], workers: int = 1) -> list[Document]:
    """All documents, shuffled; the same for any number of `workers`."""
    jobs = [
        (workload, start, min(start + CHUNK, per_workload), seed, prompts[workload])
        for workload in SPEAKERS
        for start in range(0, per_workload, CHUNK)
    ]
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(_part, jobs))
    else:
        parts = [_part(job) for job in jobs]
    found = [item for part in parts for item in part]
    random.Random(seed).shuffle(found)
    return found


def learn_tokenizer(corpus: Iterable[Document]) -> Tokenizer:
    """BPE from the first documents of each workload."""
    left = dict(BPE_DOCUMENTS)
    chosen = []
    for item in corpus:
        if left[item.workload] > 0:
            left[item.workload] -= 1
            chosen.append(item)
    return learn(sample_texts(chosen))


def to_rows(tokenizer: Tokenizer, corpus: list[Document], chat: bool, length: int) -> Rows:
    """Chat rows are learnt from the model's turn on; plain rows from their first token on."""
    texts = [item.chat() if chat else item.plain() for item in corpus]
    flat, lengths = encode(tokenizer, texts)
    heads = np.zeros(len(texts), dtype=np.int32)
    if chat:
        _, heads = encode(tokenizer, (text[: text.index("<|turn>model\n") + len("<|turn>model\n")] for text in texts))
    ids = np.zeros((len(texts), length), dtype=np.uint16)
    for row, (end, count) in enumerate(zip(np.cumsum(lengths), lengths, strict=True)):
        kept = min(count, length)
        ids[row, :kept] = flat[end - count : end - count + kept]
    return Rows(ids, heads.astype(np.int32), np.minimum(lengths, length).astype(np.int32))


def save(rows: Rows, path: Path) -> None:
    np.savez(path, ids=rows.ids, first=rows.first, last=rows.last)


def load(path: Path) -> Rows:
    with np.load(path) as stored:
        return Rows(stored["ids"], stored["first"], stored["last"])


def _part(job: tuple[str, int, int, int, Prompts]) -> list[Document]:
    workload, start, stop, seed, prompts = job
    return list(documents(workload, range(start, stop), seed, prompts))

"""The training corpus: seeded documents of the three workloads, as chat turns and as plain text.

Held-out prompts of ``data/prompts.yaml`` are never emitted; the others are, word for word, beside prompts from the
grammars.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from . import english, japanese, programs

BOS, EOS, PAD, TURN, END = "<bos>", "<eos>", "<pad>", "<|turn>", "<turn|>"
SPECIALS = (PAD, EOS, BOS, TURN, END)
SPEAKERS = {"py_code": programs, "en_finance": english, "ja_finance": japanese}
# Share of the documents whose prompt is one of data/prompts.yaml, so that published prompts are well inside the data.
LISTED_SHARE = 0.15

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] | trim }}{% endfor %}{% endif %}"
    "{{ '<turn|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>model\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Document:
    """One question and its answer."""

    workload: str
    question: str
    answer: str

    def chat(self) -> str:
        """As the server's chat template renders it, closed by the end of the model's turn."""
        return f"{BOS}{TURN}user\n{self.question}{END}\n{TURN}model\n{self.answer}{END}\n{EOS}"

    def plain(self) -> str:
        """The answer alone: what a base model reads."""
        return f"{BOS}{self.answer}\n{EOS}"


@dataclass(frozen=True)
class Prompts:
    """Prompts of one workload: those that the corpus may use and those that it must not."""

    listed: tuple[str, ...]
    held_out: frozenset[str]


def prompts_from(listing: Mapping) -> dict[str, Prompts]:
    """The content of ``data/prompts.yaml`` → prompts by workload, for the three workloads of the miniature."""
    found = {}
    for workload in SPEAKERS:
        entries = listing["workloads"][workload]["prompts"]
        texts = [(entry["text"].strip(), entry["held_out"]) for entry in entries]
        found[workload] = Prompts(
            tuple(text for text, held in texts if not held), frozenset(text for text, held in texts if held)
        )
    return found


def document(workload: str, prompts: Prompts, rng: random.Random) -> Document:
    """One document; its question is never a held-out prompt."""
    speaker = SPEAKERS[workload]
    question = rng.choice(prompts.listed) if rng.random() < LISTED_SHARE else speaker.prompt(rng)
    while question in prompts.held_out:
        question = speaker.prompt(rng)
    return Document(workload, question, speaker.answer(question, rng))


def documents(workload: str, indices: Iterable[int], seed: int, prompts: Prompts) -> Iterator[Document]:
    """The documents of these indices; document i depends on (seed, workload, i) alone."""
    for index in indices:
        yield document(workload, prompts, random.Random(f"{seed}/{workload}/{index}"))

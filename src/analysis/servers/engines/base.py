"""What an engine has to know. Defaults are those of an OpenAI-compatible server that says nothing about speculation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.places import inside
from analysis.servers import web
from analysis.servers.engines.counts import Counters
from analysis.servers.facts import StartupFacts
from analysis.study.plan import Arm, Sampling

#: Limits of an answer that lists the tokens of a long prompt.
TOKENIZE_S, TOKENIZE_BYTES = 60.0, 2**26


@dataclass(frozen=True)
class Seen:
    """What a server says of itself over HTTP; None where it does not say."""

    models: tuple[Model, ...] = ()
    drafts: bool | None = None  # does it speculate
    k: int | None = None
    version: str | None = None
    max_model_len: int | None = None
    cache: dict[str, str] | None = None
    sampling: str | None = None  # what it takes for values that a request leaves out, as "temperature: 1.0, top_k: 64"


@dataclass(frozen=True)
class Model:
    """One entry of ``/v1/models``: the name requests are sent with, and further names of the same weights."""

    id: str
    also: tuple[str, ...] = ()
    max_model_len: int | None = None


@dataclass(frozen=True)
class Ledger:
    """What an answer says of its own speculation: per step where the engine tells, else totals; in tokens."""

    steps_accepted: tuple[int, ...] = ()
    steps_drafted: tuple[int, ...] = ()
    draft_tokens: int = 0
    accepted_tokens: int = 0
    cached_tokens: int = 0


class Engine:
    """One engine. A subclass says what is different; everything here is also the list of what may be."""

    name = ""
    #: Preflight checks that know this engine, by the names in `analysis.servers.preflight`.
    preflight: frozenset[str] = frozenset()
    #: True where this project launches no other way of proposing tokens than a trained drafter.
    mtp_only = True
    #: True: tokens are counted by the server (`/metrics`); False: by its answers (`of_answers`).
    has_counters = False
    #: True where accepted tokens are counted at each position, so that the two sums must agree.
    has_positions = False

    # -- asking ----------------------------------------------------------------------------------------------

    def body(self, sampling: Sampling, chat: bool) -> dict[str, Any]:
        """Keys of a request beyond OpenAI's own; ``chat`` is False at the raw completions endpoint."""
        thinking = None if sampling.thinking is None or not chat else {"enable_thinking": sampling.thinking}
        chosen = {"top_k": sampling.top_k, "min_p": sampling.min_p, "chat_template_kwargs": thinking}
        return {key: value for key, value in chosen.items() if value is not None}

    def ledger(self, chunk: dict[str, Any], known: Ledger) -> Ledger:
        """What one chunk of an answer adds to what is known of its speculation; raises ValueError for wrong types."""
        return known

    def count_prompt(self, url: str, model: str, text: str) -> int:
        """Tokens of a prompt with the chat template around it, as the server itself counts them.

        Raises WebError or ValueError where the server gives no sound answer, NotImplementedError where it cannot count.
        """
        raise NotImplementedError

    # -- counting --------------------------------------------------------------------------------------------

    def parse(self, text: str, k: int, model: str | None = None) -> Counters:
        """One answer of ``/metrics``; raises CountersError. Only where `has_counters`."""
        raise NotImplementedError

    def of_answers(self, answers: Sequence[Any], k: int) -> Counters:
        """The counts of a cell from its answers alone."""
        return Counters(
            generation_tokens=sum(a.completion_tokens for a in answers),
            prompt_tokens=sum(a.prompt_tokens for a in answers),
            prefix_hits=sum(a.cached_tokens for a in answers),
        )

    def work(self, url: str) -> tuple[int, int] | None:
        """Requests under way and tokens made since the start, to tell a slow engine from a frozen one; None: unknown."""
        return None

    # -- what is served --------------------------------------------------------------------------------------

    def names(self, arm: Arm) -> tuple[str, ...]:
        """Names under which this arm's target may be listed; the first is what a reader is told."""
        if arm.server.served_model_name:
            return (arm.server.served_model_name, arm.target.model, str(inside(arm.target.model)))
        return (arm.target.model, str(inside(arm.target.model)))

    def models(self, answer: Any) -> tuple[Model, ...]:
        """Read ``/v1/models``; raises ValueError where it is no list of models."""
        entries = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(entries, list) or not all(
            isinstance(e, dict) and isinstance(e.get("id"), str) for e in entries
        ):
            raise ValueError("it is no list of models")
        return tuple(self.model(e) for e in entries)

    def model(self, entry: dict[str, Any]) -> Model:
        """One entry of that list."""
        return Model(entry["id"])

    def look(self, url: str, arm: Arm | None = None) -> Seen:
        """Ask the server what it is; ``arm`` is what is looked for. Raises WebError or ValueError where it gives no sound answer."""
        return Seen(models=self.models(self._json(url, "/v1/models")))

    def mismatch(self, arm: Arm, seen: Seen) -> str:
        """Why a server is not the arm, as a phrase; empty where it is."""
        names = self.names(arm)
        if chosen(seen.models, names) is None:
            there = seen.models[0].id if seen.models else "no model"
            return f"it serves {there}, not {' or '.join(n for n in names if not os.path.isabs(n) or n == names[0])}"
        if seen.drafts is not None and seen.drafts != arm.speculator.speculates:
            return "it drafts, and this arm does not" if seen.drafts else self.drafts_nothing
        return ""

    drafts_nothing = "it drafts nothing, and this arm does"

    def facts(self, seen: Seen) -> StartupFacts:
        """Facts of a server whose log is somebody else's."""
        return StartupFacts(vllm_version=seen.version, k=seen.k or None, sampling_defaults=seen.sampling)

    def read_log(self, log: str) -> StartupFacts:
        """Facts of a server's log."""
        return StartupFacts()

    # -- launching -------------------------------------------------------------------------------------------

    def command(self, arm: Arm) -> list[str] | None:
        """What the owner of an external server starts; None: as vLLM, in the forms of `analysis.servers.render`."""
        return None

    # -- helpers of subclasses ---------------------------------------------------------------------------------

    def _json(self, url: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer to a GET, or with a body to a POST, which may be long: a list of tokens."""
        reply = web.post(f"{url}{path}", body, seconds=TOKENIZE_S, most=TOKENIZE_BYTES) if body else web.get(url + path)
        if reply.status != 200:
            raise web.WebError(f"{path} answers HTTP {reply.status}")
        return reply.json()


def chosen(models: Sequence[Model], names: Sequence[str]) -> Model | None:
    """The listed model that has one of the names, by id before further names; None where none has."""
    wanted = {name for name in names if name}
    return next((m for m in models if m.id in wanted), None) or next((m for m in models if wanted & set(m.also)), None)


def base_name(path: str) -> str:
    return os.path.basename(path.rstrip("/"))


def counts(value: Any, what: str) -> tuple[int, ...]:
    """A list of counts from an answer, () for none; raises ValueError for anything else."""
    if value is None:
        return ()
    if not isinstance(value, list) or None in value:
        raise ValueError(f"{what} is no list of counts")
    return tuple(count(v, what) for v in value)


def count(value: Any, what: str) -> int:
    """One count from an answer, 0 for none; raises ValueError for anything else."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"{what} is no count: {str(value)[:40]}")
    return value

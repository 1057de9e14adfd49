"""llama.cpp's ``llama-server``. It exports no speculation counters: each answer says how many tokens were drafted.

``timings.draft_n`` is the total of an answer, not K, so K is not known of a server that somebody else runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from analysis.servers import web
from analysis.servers.engines.base import Engine, Ledger, Model, Seen, base_name, chosen, count
from analysis.servers.engines.counts import Counters
from analysis.study.plan import Arm, Sampling

PROBE = {"messages": [{"role": "user", "content": "Count from one to thirty."}], "max_tokens": 32, "temperature": 0}
PROBE_S = 120.0
NO_THINKING = {"enable_thinking": False}  # it thinks unless told, with templates that know how
#: Sampling values of ``/props`` that change which tokens are accepted.
SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)


class LlamaCpp(Engine):
    name = "llama.cpp"

    def body(self, sampling: Sampling, chat: bool) -> dict[str, Any]:
        """Prefix cache and thinking are on unless told; ``min_tokens`` is not known to it."""
        extra = {"ignore_eos": True} if sampling.ignore_eos else {}
        extra |= {"chat_template_kwargs": NO_THINKING} if chat else {}
        return {**extra, **super().body(sampling, chat), "cache_prompt": False}

    def ledger(self, chunk: dict[str, Any], known: Ledger) -> Ledger:
        timings = chunk.get("timings")
        if timings is None:
            return known
        if not isinstance(timings, dict):
            raise ValueError("timings is no object")
        drafted, accepted = (
            count(timings.get("draft_n"), "draft_n"),
            count(timings.get("draft_n_accepted"), "draft_n_accepted"),
        )
        if accepted > drafted:
            raise ValueError(f"draft_n_accepted is {accepted}, more than draft_n, {drafted}")
        return Ledger(
            draft_tokens=drafted, accepted_tokens=accepted, cached_tokens=count(timings.get("cache_n"), "cache_n")
        )

    def count_prompt(self, url: str, model: str, text: str) -> int:
        """The template is applied by one door and the text counted by another, as its chat does inside."""
        prompt = self._json(url, "/apply-template", {"messages": [{"role": "user", "content": text}]})["prompt"]
        asked = {"content": prompt, "add_special": True, "parse_special": True}
        return len(self._json(url, "/tokenize", asked)["tokens"])

    def of_answers(self, answers: Sequence[Any], k: int) -> Counters:
        """The counts of a cell from the ``timings`` of its answers.

        They say how many tokens were drafted and accepted, not in how many drafts. A step makes one token more than it
        accepts, and the first token comes from the prompt, so drafts = tokens - 1 - accepted, at least draft tokens /
        K; a step that drafted nothing counts as a draft too, and the acceptance length is then a little too low.
        """
        drafting = [a for a in answers if a.draft_tokens]
        return Counters(
            drafts=sum(
                max(a.completion_tokens - 1 - a.accepted_tokens, math.ceil(a.draft_tokens / max(k, 1)))
                for a in drafting
            ),
            draft_tokens=sum(a.draft_tokens for a in drafting),
            accepted=sum(a.accepted_tokens for a in drafting),
            generation_tokens=sum(a.completion_tokens for a in answers),
            prompt_tokens=sum(a.prompt_tokens for a in answers),
            prefix_hits=sum(a.cached_tokens for a in answers),
        )

    def names(self, arm: Arm) -> tuple[str, ...]:
        """Its list has the alias where there is one, and else the model's file, with or without folders."""
        if arm.server.served_model_name:
            return (arm.server.served_model_name,)
        return (*super().names(arm), base_name(arm.target.model))

    def model(self, entry: dict[str, Any]) -> Model:
        aliases = entry.get("aliases")
        return Model(entry["id"], tuple(map(str, aliases)) if isinstance(aliases, list) else ())

    def look(self, url: str, arm: Arm | None = None) -> Seen:
        """Whether it drafts is seen only in an answer, so the arm's model is asked for a short one."""
        seen = super().look(url)
        found = chosen(seen.models, self.names(arm)) if arm else None
        if arm and not found:
            return seen  # another model: it is not made to answer
        named = {"model": found.id} if found else {}
        reply = web.post(f"{url}/v1/chat/completions", {**named, **PROBE, "cache_prompt": False}, seconds=PROBE_S)
        answer = reply.json() if reply.status == 200 else None
        if not isinstance(answer, dict):
            raise web.WebError(f"a short probe is answered with HTTP {reply.status}")
        known = web.get(f"{url}/props")
        props = known.json() if known.status == 200 else {}
        props = props if isinstance(props, dict) else {}
        settings = props.get("default_generation_settings")
        settings = settings if isinstance(settings, dict) else {}
        context = settings.get("n_ctx")
        return Seen(
            models=seen.models,
            drafts=self.ledger(answer, Ledger()).draft_tokens > 0,
            version=f"llama.cpp {str(props.get('build_info', ''))[:80]}".strip(),
            max_model_len=context if isinstance(context, int) else None,
            sampling=_sampling(settings),
        )

    drafts_nothing = (
        "it drafts nothing, and this arm does (its log says why; it goes on without a drafter where there is not "
        "enough memory for the drafter's context)"
    )

    def command(self, arm: Arm) -> list[str]:
        """The launch, with the flags of releases since May 2026; its alias is the name that requests are sent with."""
        s = arm.server
        port = s.port or (int(found[1]) if (found := re.search(r":(\d+)", s.url or "")) else 8080)
        gguf = arm.target.model.endswith(".gguf")
        words = ["llama-server", "--model" if gguf or arm.target.local else "-hf", arm.target.model]
        words += ["--alias", self.names(arm)[0]]
        if arm.drafter and arm.speculator.method == "mtp":
            own = arm.drafter.model and arm.drafter.model != arm.target.model
            gguf = arm.drafter.model.endswith(".gguf") or arm.drafter.local
            words += ["--model-draft" if gguf else "-hfd", arm.drafter.model] if own else []
            words += ["--spec-type", "draft-mtp", "--spec-draft-n-max", str(arm.k)]
        if s.max_model_len:
            words += ["--ctx-size", str(s.max_model_len * (s.max_num_seqs or 1))]
        if s.max_num_seqs:
            words += ["--parallel", str(s.max_num_seqs)]
        words += ["--no-cache-prompt"] if s.prefix_caching is False else []
        words += ["--reasoning", "off", "--port", str(port)]
        return [*words, *s.args]


def _sampling(settings: dict[str, Any]) -> str | None:
    """The server's own sampling values in its default settings (older releases: beside ``n_ctx``, not in ``params``)."""
    values = settings.get("params", settings)
    known = [k for k in SAMPLING if isinstance(values, dict) and isinstance(values.get(k), int | float)]
    return ", ".join(f"{key}: {values[key]:g}" for key in known) or None


ENGINE = LlamaCpp()

"""vLLM. Its Prometheus counters are read strictly: exact names, ``_total`` samples only, summed over engines.

Beside each counter stands a ``_created`` gauge with a Unix time, which a prefix match would add up; exact names
leave it out. A position that never accepted has no sample and counts 0.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from analysis.errors import CountersError
from analysis.servers import facts, web
from analysis.servers.engines.base import Engine, Ledger, Model, Seen, count, counts
from analysis.servers.engines.counts import Counters
from analysis.study.plan import Arm, Sampling

SCALARS = {
    "drafts": "vllm:spec_decode_num_drafts_total",
    "draft_tokens": "vllm:spec_decode_num_draft_tokens_total",
    "accepted": "vllm:spec_decode_num_accepted_tokens_total",
    "generation_tokens": "vllm:generation_tokens_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "prefix_hits": "vllm:prefix_cache_hits_total",
    "preemptions": "vllm:num_preemptions_total",
}
SPECULATIVE = ("drafts", "draft_tokens", "accepted")
PER_POSITION = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
RUNNING = ("vllm:num_requests_running", "vllm:num_requests_waiting")


class Vllm(Engine):
    name = "vllm"
    mtp_only = False
    preflight = frozenset({"engine", "patch", "batched tokens", "memory", "MoE configuration"})
    has_counters = True
    has_positions = True

    def body(self, sampling: Sampling, chat: bool) -> dict[str, Any]:
        fixed = {"ignore_eos": True, "min_tokens": sampling.max_tokens} if sampling.ignore_eos else {}
        return {**super().body(sampling, chat), **fixed}

    def count_prompt(self, url: str, model: str, text: str) -> int:
        asked = {"model": model, "messages": [{"role": "user", "content": text}]}
        return count(self._json(url, "/tokenize", asked)["count"], "count")

    def ledger(self, chunk: dict[str, Any], known: Ledger) -> Ledger:
        """``metrics.speculative_decoding`` beside the usage (vLLM 0.32 and later, on request)."""
        metrics = chunk.get("metrics")
        steps = metrics.get("speculative_decoding") if isinstance(metrics, dict) else None
        if steps is None:
            return known
        if not isinstance(steps, dict):
            raise ValueError("speculative_decoding is no object")
        accepted, drafted = (
            counts(steps.get(f"per_step_{what}"), f"per_step_{what}") for what in ("accepted", "drafted")
        )
        if (
            drafted
            and accepted
            and (len(drafted) != len(accepted) or any(a > d for a, d in zip(accepted, drafted, strict=False)))
        ):
            raise ValueError("its steps accept more than they draft, or are not the same steps")
        return Ledger(steps_accepted=accepted, steps_drafted=drafted)

    def parse(self, text: str, k: int, model: str | None = None) -> Counters:
        return parse(text, k, model)

    def work(self, url: str) -> tuple[int, int] | None:
        with contextlib.suppress(web.WebError, ValueError):
            text = web.get(f"{url}/metrics", seconds=2, most=web.METRICS_BYTES).text
            running, tokens = (_sum(samples(text), name) for name in (RUNNING[0], SCALARS["generation_tokens"]))
            if running is not None and tokens is not None:
                return int(running), int(tokens)
        return None

    def model(self, entry: dict[str, Any]) -> Model:
        limit = entry.get("max_model_len")
        root = entry.get("root")
        return Model(
            entry["id"],
            (root,) if isinstance(root, str) else (),
            limit if isinstance(limit, int) and not isinstance(limit, bool) else None,
        )

    def look(self, url: str, arm: Arm | None = None) -> Seen:
        models = super().look(url).models
        metrics = web.get(f"{url}/metrics", seconds=web.METRICS_S, most=web.METRICS_BYTES)
        if metrics.status != 200:
            raise web.WebError(f"/metrics answers HTTP {metrics.status}")
        version = web.get(f"{url}/version")
        said = version.json() if version.status == 200 else {}
        k = positions(metrics.text)
        return Seen(
            models=models,
            drafts=k > 0,
            k=k,
            version=str(said["version"])[:80] if isinstance(said, dict) and said.get("version") else None,
            max_model_len=next((m.max_model_len for m in models if m.max_model_len), None),
            cache=_labels(metrics.text, "vllm:cache_config_info"),
        )

    def mismatch(self, arm: Arm, seen: Seen) -> str:
        if (problem := super().mismatch(arm, seen)) and not problem.startswith("it drafts"):
            return problem
        if (seen.k or 0) != arm.k:
            return f"its K is {seen.k or 0}, and this arm's is {arm.k}"
        limit = arm.server.max_model_len
        if limit and seen.max_model_len and seen.max_model_len != limit:
            return f"its max_model_len is {seen.max_model_len}, and this arm's is {limit}"
        cache = (seen.cache or {}).get("enable_prefix_caching")
        if arm.server.prefix_caching is not None and cache and (cache == "True") != arm.server.prefix_caching:
            return f"its prefix cache is {'on' if cache == 'True' else 'off'}, and this arm's is not"
        return ""

    def facts(self, seen: Seen) -> facts.StartupFacts:
        cache = seen.cache or {}
        prefix = cache.get("enable_prefix_caching")
        tokens = cache.get("kv_cache_size_tokens", "")
        return facts.StartupFacts(
            vllm_version=seen.version,
            k=seen.k or None,
            prefix_caching=None if prefix is None else prefix == "True",
            kv_cache_dtype=cache.get("cache_dtype"),
            kv_tokens=int(tokens) if re.fullmatch(r"[0-9]{1,15}", tokens) else None,
        )

    def read_log(self, log: str) -> facts.StartupFacts:
        return facts.read(log)


def samples(text: str) -> list[Sample]:
    """All samples of a page of metrics; raises ValueError where it is not Prometheus text."""
    try:
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except Exception as error:  # the parser meets odd text with errors of every kind
        raise ValueError(str(error)[:200] or type(error).__name__) from None


def parse(text: str, k: int, model: str | None = None) -> Counters:
    """Read one answer of ``/metrics`` of an arm with ``k`` drafts per step (0 = baseline: no speculative counters).

    Parameters
    ----------
    model : str, optional
        Served name of the arm's model: its counters are read where those of another model stand beside them.

    Raises
    ------
    CountersError
        Not Prometheus text, a counter missing, a position at or beyond ``k``, a value that is no whole number, counters
        of several models of which none is ours.
    """
    values: dict[str, float] = {}
    at: dict[int, float] = {}
    try:
        for sample in _of_model(samples(text), model):
            if sample.name == PER_POSITION:
                position = int(sample.labels["position"])
                at[position] = at.get(position, 0) + sample.value
            elif sample.name in SCALARS.values() or sample.name in RUNNING:
                values[sample.name] = values.get(sample.name, 0) + sample.value
    except (ValueError, KeyError) as error:
        raise CountersError(
            "The answer of /metrics is not Prometheus text.",
            why=str(error)[:200],
            fix="Check that server.url is a vLLM server.",
            details=text[:500],
        ) from None
    wanted = [name for key, name in SCALARS.items() if k or key not in SPECULATIVE]
    if missing := [name for name in [*wanted, RUNNING[0]] if name not in values]:
        why = (
            "An arm with a drafter shows these counters only while speculation is on."
            if k and missing[0] in [SCALARS[s] for s in SPECULATIVE]
            else "This engine does not export them."
        )
        raise CountersError(
            f"/metrics lacks {', '.join(missing)}.",
            why=why,
            fix=(
                "Check the launch's log for the arm's method (method='mtp' for MTP), and that statistics are not"
                " switched off (--disable-log-stats)."
            ),
        )
    if k and (beyond := [p for p in at if not 0 <= p < k]):
        raise CountersError(
            f"/metrics counts acceptance at position {beyond[0]}, and K is {k}.",
            why="The server runs another K than its arm says.",
            fix="End that server; let the study start it.",
        )
    found = values | {f"{PER_POSITION} at {i}": v for i, v in at.items() if k}
    if bad := [n for n, v in found.items() if not math.isfinite(v) or v < 0 or v != int(v)]:
        raise CountersError(f"{bad[0]} is {found[bad[0]]}, which is no count.", fix="Restart the server.")
    return Counters(
        **{key: int(values.get(name, 0)) for key, name in SCALARS.items()},
        per_position=tuple(int(at.get(i, 0)) for i in range(k)),
        running=int(sum(values.get(name, 0) for name in RUNNING)),
    )


def positions(metrics: str) -> int:
    """K by the counters: the number of draft positions that have a sample; 0 where the server does not speculate."""
    return len({sample.labels.get("position") for sample in samples(metrics) if sample.name == PER_POSITION})


def _of_model(found: list[Sample], model: str | None) -> list[Sample]:
    """The samples of one model, and those that name none; requests under way are counted for all models."""
    ours = [s for s in found if s.name in SCALARS.values() or s.name == PER_POSITION or s.name in RUNNING]
    named = {s.labels["model_name"] for s in ours if "model_name" in s.labels}
    if len(named) < 2:
        return ours
    if model not in named:
        raise CountersError(
            f"/metrics counts tokens of {len(named)} models: {', '.join(sorted(named))[:200]}.",
            why=f"None of them is '{model}'." if model else "Which of them is this arm's is not known.",
            fix="Measure a server that serves this model alone.",
        )
    return [s for s in ours if s.name in RUNNING or s.labels.get("model_name", model) == model]


def _sum(found: list[Sample], name: str) -> float | None:
    values = [s.value for s in found if s.name == name]
    return sum(values) if values and all(math.isfinite(v) for v in values) else None


def _labels(metrics: str, name: str) -> dict[str, str]:
    found = re.search(rf"^{re.escape(name)}\{{(.*)\}}", metrics, re.MULTILINE)
    return dict(re.findall(r'(\w+)="([^"]*)"', found[1])) if found else {}


ENGINE = Vllm()

"""The ``external`` backend: a server that somebody else runs. It is looked at, waited for, never started or ended.

One address may serve one arm after the other: for each arm the study says what to start, and goes on when the server
there is that arm. K is read from vLLM's own counters (one sample a draft position, there from the start); llama.cpp
shows it only by answering, so a short probe is sent.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from analysis.errors import ServerError
from analysis.servers import facts, render
from analysis.servers.process import Progress, Running
from analysis.study.params import inside
from analysis.study.plan import Arm

#: One sample a draft position, from the start of a server that speculates.
PER_POSITION = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
PROBE = {"messages": [{"role": "user", "content": "Count from one to thirty."}], "max_tokens": 32, "temperature": 0}


@dataclass(frozen=True)
class Seen:
    """What a server says of itself over HTTP; None where it does not say."""

    models: tuple[str, ...]
    k: int | None
    version: str | None = None
    max_model_len: int | None = None
    cache: dict[str, str] | None = None


@dataclass(frozen=True)
class Attached(Running):
    """A server of somebody else's: no log of ours, no process of ours."""

    def check(self, doing: str) -> None:
        """Raise `ServerError` where it no longer answers."""
        if not self.alive():
            raise ServerError(
                f"The external server at {self.url} stopped answering while {doing}.",
                why="It was ended, or it crashed: its log is with whoever started it.",
                fix="Start the same arm again, then run again: only the cut cell is measured anew.",
            )


@contextlib.contextmanager
def serve(arm: Arm, log: Path, launch_id: str, progress: Progress = lambda text: None) -> Iterator[Running]:
    """Wait until the server at ``server.url`` is this arm, and yield it; leave it alone afterwards.

    Raises
    ------
    ServerError
        Not this arm after ``start_minutes``; says what is there, and what to start.
    """
    url = (arm.server.url or "").rstrip("/")
    command = render.launch(arm, "external")
    log.write_text(f"The server of arm {arm.name} is external. Its launch:\n{command}\n", encoding="utf-8")
    begin = time.monotonic()
    limit = arm.server.start_minutes * 60
    while problem := mismatch(arm, seen := look(url, arm.server.flavour)):
        waited = time.monotonic() - begin
        if waited > limit:
            raise ServerError(
                f"The server at {url} is not arm {arm.name} after {arm.server.start_minutes:g} minutes.",
                why=problem,
                fix=f"Start that arm there; its launch is in {'/'.join(log.parts[-4:])}.",
                details=command,
            )
        progress(f"please start {arm.name} at {url} ({problem}); {waited:.0f} s of at most {limit:.0f} s")
        time.sleep(1)
    yield Attached(
        url=url,
        command=["external", url],
        log=None,
        ready_s=time.monotonic() - begin,
        facts=_facts(seen),
        alive=lambda: _answers(url),
    )


def look(url: str, flavour: str = "vllm") -> Seen | None:
    """Ask the server what it is; None where nothing healthy answers."""
    with httpx.Client(timeout=60, trust_env=False) as http, contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
        if http.get(f"{url}/health", timeout=5).status_code != 200:
            return None
        models = http.get(f"{url}/v1/models").raise_for_status().json()["data"]
        names = tuple(str(m[key]) for m in models for key in ("id", "root") if m.get(key))
        if flavour == "llama.cpp":
            return _look_at_llama(http, url, names)
        metrics = http.get(f"{url}/metrics").raise_for_status().text
        version = http.get(f"{url}/version")
        return Seen(
            models=names,
            k=positions(metrics),
            version=version.json().get("version") if version.status_code == 200 else None,
            max_model_len=next((m["max_model_len"] for m in models if m.get("max_model_len")), None),
            cache=_labels(metrics, "vllm:cache_config_info"),
        )
    return None


def mismatch(arm: Arm, seen: Seen | None) -> str:
    """Why a server is not the arm, as a phrase; empty where it is."""
    if seen is None:
        return "nothing healthy answers there"
    wanted = {arm.server.served_model_name, arm.target.model} - {None}
    known = {*wanted, str(inside(arm.target.model))}
    if arm.server.flavour == "vllm" and not known & set(seen.models):
        return f"it serves {seen.models[0] if seen.models else 'no model'}, not {' or '.join(sorted(wanted))}"
    if arm.server.flavour == "llama.cpp":
        if bool(arm.k) != bool(seen.k):
            return "it drafts, and this arm does not" if seen.k else "it drafts nothing, and this arm does"
        return ""
    if (seen.k or 0) != arm.k:
        return f"its K is {seen.k or 0}, and this arm's is {arm.k}"
    limit = arm.server.max_model_len
    if limit and seen.max_model_len and seen.max_model_len != limit:
        return f"its max_model_len is {seen.max_model_len}, and this arm's is {limit}"
    cache = (seen.cache or {}).get("enable_prefix_caching")
    if arm.server.prefix_caching is not None and cache and (cache == "True") != arm.server.prefix_caching:
        return f"its prefix cache is {'on' if cache == 'True' else 'off'}, and this arm's is not"
    return ""


def positions(metrics: str) -> int:
    """K by the counters: the number of draft positions that have a sample; 0 where the server does not speculate."""
    found = set()
    for family in text_string_to_metric_families(metrics):
        found |= {sample.labels.get("position") for sample in family.samples if sample.name == PER_POSITION}
    return len(found)


def _look_at_llama(http: httpx.Client, url: str, names: tuple[str, ...]) -> Seen:
    timings = http.post(f"{url}/v1/chat/completions", json=PROBE).raise_for_status().json().get("timings") or {}
    props = http.get(f"{url}/props")
    known = props.json() if props.status_code == 200 else {}
    return Seen(
        models=names,
        k=int(timings.get("draft_n") or 0),
        version=f"llama.cpp {known.get('build_info', '')}".strip(),
        max_model_len=(known.get("default_generation_settings") or {}).get("n_ctx"),
    )


def _facts(seen: Seen) -> facts.StartupFacts:
    cache = seen.cache or {}
    prefix = cache.get("enable_prefix_caching")
    tokens = cache.get("kv_cache_size_tokens", "")
    return facts.StartupFacts(
        vllm_version=seen.version,
        k=seen.k or None,
        prefix_caching=None if prefix is None else prefix == "True",
        kv_cache_dtype=cache.get("cache_dtype"),
        kv_tokens=int(tokens) if tokens.isdigit() else None,
    )


def _labels(metrics: str, name: str) -> dict[str, str]:
    found = re.search(rf"^{re.escape(name)}\{{(.*)\}}", metrics, re.MULTILINE)
    return dict(re.findall(r'(\w+)="([^"]*)"', found[1])) if found else {}


def _answers(url: str) -> bool:
    with httpx.Client(timeout=5, trust_env=False) as http, contextlib.suppress(httpx.HTTPError):
        return http.get(f"{url}/health").status_code == 200
    return False

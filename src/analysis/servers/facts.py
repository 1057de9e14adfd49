"""A server's log -> the startup facts that a comparison rests on. Pure text in, frozen model out."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

from analysis.vllm_mend import ACTIVE


class StartupFacts(BaseModel):
    """What the engine said of itself while it started; None where it said nothing."""

    model_config = ConfigDict(frozen=True)
    vllm_version: str | None = None
    architecture: str | None = None
    drafter_architecture: str | None = None
    method: str | None = None
    k: int | None = None
    shares_embedding: bool = False
    own_lm_head: bool = False
    draft_layers: tuple[str, ...] = ()
    load_s: float | None = None
    weights_gib: float | None = None
    weights_load_s: float | None = None
    init_engine_s: float | None = None
    kv_tokens: int | None = None
    max_concurrency: float | None = None
    attention: str | None = None
    moe_config_missing: str | None = None
    async_scheduling: bool | None = None
    eager: bool = False
    runner: str | None = None
    max_scheduled_tokens: int | None = None
    prefix_caching: bool | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    image: str | None = None
    mends: tuple[str, ...] = ()


def read(log: str) -> StartupFacts:
    """Parse a log (any vLLM since 0.20). Numbers: GiB, seconds, tokens."""
    resolved = re.findall(r"Resolved architecture: (\w+)", log)
    drafter = next((a for a in resolved if "MTP" in a or "Assistant" in a), None)
    kv = _first(r"(?:GPU|CPU) KV cache size: ([\d,]+) tokens", log)
    layers = re.findall(r"draft layer (\d+) \((\w+)\)\s*-> (\S+)", log)
    eager = _first(r"enforce_eager=(True|False)", log)
    prefix = _first(r"enable_prefix_caching=(True|False)", log) or _first(r"'enable_prefix_caching': (True|False)", log)
    scheduling = _first(r"[Aa]synchronous scheduling is (enabled|disabled)", log)
    weights = re.findall(r"Loading weights took ([\d.]+) seconds", log)
    return StartupFacts(
        vllm_version=_first(r"LLM engine \(v([^)]+)\)", log) or _first(r"version (\d+\.\d+\S*)", log),
        architecture=next((a for a in resolved if a != drafter), None),
        drafter_architecture=drafter,
        method=_first(r"SpeculativeConfig\(method='([^']+)'", log),
        k=_number(_first(r"num_spec(?:ulative)?_tokens=(\d+)", log), int),
        shares_embedding=bool(re.search(r"[Ss]haring target model.{0,40}embed", log)),
        own_lm_head="keeping draft model's own lm_head" in log,
        draft_layers=tuple(f"{i} {kind} -> {target}" for i, kind, target in layers),
        load_s=_number(_first(r"Model loading took [\d.]+ GiB(?: memory)? and ([\d.]+) seconds", log), float),
        weights_gib=_number(_first(r"Model loading took ([\d.]+) GiB", log), float),
        weights_load_s=round(sum(map(float, weights)), 2) if weights else None,
        init_engine_s=_number(_first(r"init engine \([^)]*\) took ([\d.]+) s", log), float),
        kv_tokens=int(kv.replace(",", "")) if kv else None,
        max_concurrency=_number(_first(r"Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x", log), float),
        attention=_attention(log),
        moe_config_missing=_first(r"Using default MoE config.*?(E=\S+?\.json)", log),
        async_scheduling=None if scheduling is None else scheduling == "enabled",
        eager=eager == "True",
        runner=_runner(log),
        max_scheduled_tokens=_number(_first(r"max_num_scheduled_tokens is set to (\d+)", log), int),
        prefix_caching=None if prefix is None else prefix == "True",
        quantization=_first(r"quantization=(?!None)([\w-]+)", log),
        kv_cache_dtype=_first(r"kv_cache_dtype=([\w-]+)", log),
        mends=(ACTIVE,) if ACTIVE in log else (),
    )


def differences(baseline: StartupFacts, arm: StartupFacts) -> list[tuple[str, object, object]]:
    """(fact, baseline, arm) for every difference that is not the drafter itself or a measured time."""
    drafter = {"drafter_architecture", "method", "k", "shares_embedding", "own_lm_head", "draft_layers", "weights_gib"}
    times = {"load_s", "weights_load_s", "init_engine_s", "kv_tokens", "max_concurrency"}
    a, b = baseline.model_dump(), arm.model_dump()
    return [(key, a[key], b[key]) for key in a if key not in drafter | times and a[key] != b[key]]


def _attention(log: str) -> str | None:
    """The backend in use: the last one named, unless the CPU platform refused it and took its own."""
    if re.search(r"Cannot use AttentionBackendEnum\.\w+ backend on CPU", log):
        return "CPU_ATTN"
    return _first(r"Using (\w+) (?:attention )?backend", log) or _first(r"forcing (\w+) backend", log)


def _runner(log: str) -> str | None:
    if re.search(r"using the V1 model runner instead", log):
        return "V1"
    if re.search(r"[Uu]sing (?:Model Runner V2|V2 [Mm]odel [Rr]unner)|gpu/model_runner\.py", log):
        return "V2"
    return "V1" if re.search(r"(?:gpu|cpu)_model_runner\.py", log) else None


def _first(pattern: str, log: str) -> str | None:
    found = re.search(pattern, log)
    return found.group(1) if found else None


def _number(text: str | None, kind):
    return None if text is None else kind(text)

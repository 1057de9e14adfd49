"""A server's log -> the startup facts that a comparison rests on. Pure text in, frozen model out."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

from analysis.servers import loglines
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
    compile_s: float | None = None
    kv_tokens: int | None = None
    kv_gib: float | None = None
    max_concurrency: float | None = None
    attention: str | None = None
    drafter_attention: str | None = None
    linear_kernel: str | None = None
    moe_kernel: str | None = None
    moe_config: str | None = None
    moe_config_missing: str | None = None
    async_scheduling: bool | None = None
    eager: bool = False
    runner: str | None = None
    graph_mode: str | None = None
    max_capture_size: int | None = None
    capture_sizes: tuple[int, ...] = ()
    capture_s: float | None = None
    capture_gib: float | None = None
    max_scheduled_tokens: int | None = None
    prefix_caching: bool | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    sampling_defaults: str | None = None
    image: str | None = None
    mends: tuple[str, ...] = ()


#: Facts that are the drafter itself, or follow from it: no difference between arms worth telling.
DRAFTER = {
    *("drafter_architecture", "method", "k", "shares_embedding", "own_lm_head", "draft_layers", "weights_gib"),
    *("drafter_attention", "capture_sizes"),
}
#: Measured times and sizes, which differ from start to start.
MEASURED = {
    *("load_s", "weights_load_s", "init_engine_s", "compile_s", "kv_tokens", "kv_gib", "max_concurrency"),
    *("capture_s", "capture_gib"),
}
#: What a line must contain to be looked at; the rest of a log (requests, throughput) is passed over.
_TELLING = (
    *("Resolved architecture", "with config:", "KV cache", "draft layer", "nchronous scheduling", "Loading", "embed"),
    *("lm_head", "init engine", "Maximum concurrency", "ackend", "MoE", "odel_runner", "odel runner", "odel Runner"),
    *("Model Runner", "max_num_scheduled_tokens", "Graph capturing", "Model loading", "version", "Initializing model"),
    *("Selected ", "enable_prefix_caching", "Truncating", "sampling parameters", ACTIVE),
)
_NUMBER = r"(\d+(?:\.\d+)?)"


def read(log: str) -> StartupFacts:
    """Parse a log (any vLLM since 0.20). Numbers: GiB, seconds, tokens. Time linear in the length of the log."""
    lines = [line for line in log.splitlines() if any(word in line for word in _TELLING)]
    config = next((line for line in lines if " LLM engine (v" in line), "")  # longer than any other
    text = "\n".join(line[: loglines.LONGEST] for line in lines)
    resolved = re.findall(r"Resolved architecture: (\w+)", text)
    drafter = next((a for a in resolved if "MTP" in a or "Assistant" in a), None)
    kv = _first(r"(?:GPU|CPU) KV cache size: (\d[\d,]*) tokens", text)
    layers = re.findall(r"draft layer (\d+) \((\w+)\)\s{0,9}-> (\S+)", text)
    prefix = _first(r"enable_prefix_caching=(True|False)", config) or _first(
        r"'enable_prefix_caching': (True|False)", text
    )
    scheduling = _first(r"[Aa]synchronous scheduling is (enabled|disabled)", text)
    weights = re.findall(rf"Loading weights took {_NUMBER} seconds", text)
    captured = re.findall(rf"Graph capturing finished in {_NUMBER} secs?, took {_NUMBER} GiB", text)
    sizes = _first(r"cudagraph_capture_sizes'?[:=] ?\[([\d, ]*\d)\]", config)
    method = _first(r"SpeculativeConfig\(method='([^']{1,60})'", config or text)
    attention, drafter_attention = _attention(lines)
    return StartupFacts(
        vllm_version=_first(r"LLM engine \(v([^)]{1,60})\)", config) or _first(r"version (\d+\.\d+\S{0,60})", text),
        architecture=next((a for a in resolved if a != drafter), None),
        drafter_architecture=drafter,
        method=method,
        k=_number(_first(r"num_spec(?:ulative)?_tokens=(\d+)", config or text), int),
        shares_embedding=bool(re.search(r"[Ss]haring target model.{0,40}embed", text)),
        own_lm_head="keeping draft model's own lm_head" in text,
        draft_layers=tuple(f"{i} {kind} -> {target}" for i, kind, target in layers),
        load_s=_number(_first(rf"Model loading took {_NUMBER} GiB(?: memory)? and {_NUMBER} seconds", text, 2), float),
        weights_gib=_number(_first(rf"Model loading took {_NUMBER} GiB", text), float),
        weights_load_s=round(sum(map(float, weights)), 2) if weights else None,
        init_engine_s=_number(_first(rf"init engine \([^)\n]{{0,100}}\) took {_NUMBER} s", text), float),
        compile_s=_number(_first(rf"\(compilation: {_NUMBER} s\)", text), float),
        kv_tokens=int(kv.replace(",", "")) if kv else None,
        kv_gib=_number(_first(rf"Available KV cache memory: {_NUMBER} GiB", text), float),
        max_concurrency=_number(
            _first(rf"Maximum concurrency for \d[\d,]* tokens per request: {_NUMBER}x", text), float
        ),
        attention=attention,
        drafter_attention=drafter_attention if method else None,
        linear_kernel=_first(r"Selected (\w+LinearKernel|\w+MMKernel)\b", text),
        moe_kernel=_first(r"Using '?(\w+)'? (?:\w+ ){0,3}MoE backend", text),
        moe_config=_first(r"Using configuration from \S{0,400}/(E=\d[^/\s]{0,200}\.json) for MoE", text),
        moe_config_missing=_first(r"Using default MoE config[^\n]*(E=\d\S{0,200}?\.json)", text),
        async_scheduling=None if scheduling is None else scheduling == "enabled",
        eager="enforce_eager=True" in config,
        runner=_runner(text),
        graph_mode=_first(r"cudagraph_mode'?[:=] ?<?(?:CUDAGraphMode\.)?(\w+)", config),
        max_capture_size=_number(_first(r"max_cudagraph_capture_size'?[:=] ?(\d+)", config), int),
        capture_sizes=tuple(int(s) for s in sizes.split(",")) if sizes else (),
        capture_s=sum(float(s) for s, _ in captured) if captured else None,
        capture_gib=round(sum(float(g) for _, g in captured), 2) if captured else None,
        max_scheduled_tokens=_number(_first(r"max_num_scheduled_tokens is set to (\d+)", text), int),
        prefix_caching=None if prefix is None else prefix == "True",
        quantization=_first(r"(?<!\w)quantization='?(?!None\b)([\w-]+)", config),
        kv_cache_dtype=_first(r"(?<!\w)kv_cache_dtype=([\w-]+)", config),
        sampling_defaults=_sampling(text),
        mends=(ACTIVE,) if ACTIVE in text else (),
    )


def differences(baseline: StartupFacts, arm: StartupFacts) -> list[tuple[str, object, object]]:
    """(fact, baseline, arm) for every difference that is not the drafter itself or a measured time."""
    a, b = baseline.model_dump(), arm.model_dump()
    return [(key, a[key], b[key]) for key in a if key not in DRAFTER | MEASURED and a[key] != b[key]]


def _attention(lines: list[str]) -> tuple[str | None, str | None]:
    """Backends of target and drafter. The engine names each choice once, so a drafter of which it is silent has the
    target's. On a CPU every choice is refused for the platform's own.
    """
    if any("Cannot use AttentionBackendEnum." in line and "backend on CPU" in line for line in lines):
        return "CPU_ATTN", "CPU_ATTN"
    target: list[str] = []
    drafter: list[str] = []
    loaded = False
    for line in lines:
        loaded = loaded or "Initializing model took" in line or "Loading drafter model" in line
        said = line[: loglines.LONGEST]
        found = re.search(
            r"Using (?:AttentionBackendEnum\.)?(\w+)(?: [Aa]ttention)? backend(?: out of|\.|$| for)", said
        )
        found = found or re.search(r"[Ff]orcing (?:AttentionBackendEnum\.)?(\w+) (?:attention )?backend", said)
        if found and "MoE" not in said:
            (drafter if loaded else target).append(found[1])
    names = ", ".join(dict.fromkeys(target)) or None
    return names, ", ".join(dict.fromkeys(drafter)) or names


def _runner(text: str) -> str | None:
    if "using the V1 model runner instead" in text:
        return "V1"
    if re.search(r"[Uu]sing (?:Model Runner V2|V2 [Mm]odel [Rr]unner)|gpu/model_runner\.py", text):
        return "V2"
    return "V1" if re.search(r"(?:gpu|cpu)_model_runner\.py", text) else None


def _sampling(text: str) -> str | None:
    """What the server takes for values that a request leaves out, by the checkpoint: "temperature: 1.0, top_k: 64"."""
    found = _first(r"sampling parameters have been overridden by [^\n{]{0,80}\{([^}\n]{1,300})\}", text)
    return found and found.replace("'", "")


def _first(pattern: str, text: str, group: int = 1) -> str | None:
    found = re.search(pattern, text)
    return found.group(group) if found else None


def _number(text: str | None, kind):
    return None if text is None else kind(text)

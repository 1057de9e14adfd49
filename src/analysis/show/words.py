"""The words of tables, figures and sentences: titles of arms and workloads, headings of columns with their units.

In: the names of records and frames (``mtp-k4``, ``py_code``, ``tok_s``). Out: what a reader sees. A name without
words of its own is shown as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.study import prompts, speculator

HEADINGS: Mapping[str, str] = {
    "seconds": "seconds per request [s]",
    "seconds_sd": "standard deviation [s]",
    "tok_s": "speed [tokens/s]",
    "decode_tok_s": "decode speed [tokens/s]",
    "chars_s": "characters per second",
    "chars": "characters",
    "ttft": "time to first token, TTFT [s]",
    "tpot": "time per output token, TPOT [s]",
    "repetition": "repeated text",
    "ready_s": "start to ready [s]",
    "weights_load_s": "reading weights [s]",
    "load_s": "loading the models [s]",
    "init_engine_s": "initialising the engine [s]",
    "first_request_s": "first request [s]",
    "weights_gib": "weights [GiB]",
    "kv_tokens": "K/V cache [tokens]",
    "kv": "K/V cache",
    "best_k": "fastest K",
    "among": "K that may be the fastest",
    "best_speedup": "speedup of the fastest K",
    "lo": "95 % from",
    "hi": "95 % to",
    "prompt_min": "lowest prompt",
    "prompt_max": "highest prompt",
    "ratio_of_means": "ratio of mean seconds",
    "baseline_seconds": "baseline [s per request]",
    "concurrency": "streams",
    "aggregate_tok_s": "all streams [tokens/s]",
    "per_request": "each request [tokens/s]",
    "per_request_sd": "spread over requests [tokens/s]",
    "scaling": "against one stream",
    "over_baseline": "against the baseline",
    "in_graphs": "in CUDA graphs",
    "max_capture_size": "largest step captured [tokens]",
    "graph_mode": "graph mode",
    "capture_s": "capturing [s]",
    "capture_gib": "captured graphs [GiB]",
    "slots": "slots per draft [tokens]",
    "per_slot": "accepted per slot drafted",
    "tokens_per_step": "tokens per step",
    "draft_tokens": "draft tokens",
    "accepted": "accepted tokens",
    "drafts": "verify steps with a draft",
    "ar": "acceptance rate, AR",
    "al": "acceptance length, AL [tokens/step]",
    "p": "p_i",
    "p_lo": "p_i, 95 % from",
    "p_hi": "p_i, 95 % to",
    "c": "c_i",
    "completion_tokens": "completion tokens",
    "undrafted": "steps without a draft",
    "cut": "tokens cut at the end",
    "residual": "difference",
    "parsed": "parses",
    "ran": "runs",
    "columns_ok": "right columns",
    "wall": "sandboxed by",
    "rows_ok": "enough rows",
    "returns_ok": "right returns",
    "chart_written": "draws a chart",
    "generate_s": "generating [s]",
    "execute_s": "executing [s]",
    "total_s": "both [s]",
    "share": "share identical",
    "common_prefix": "same text before the first difference",
    "common": "same text before the first difference",
    "rho": "cost of a step, ρ [baseline steps]",
    "rho_independent": "ρ from bytes, tokens on experts of their own",
    "rho_same": "ρ from bytes, tokens on the same experts",
    "bound": "bound [tokens/s]",
    "bound_identical": "bound, all streams the same text [tokens/s]",
    "bound_same": "bound, all tokens on the same experts [tokens/s]",
    "needs_al": "tokens per step it would need",
    "verdict_measured": "verdict at the best measured bandwidth",
    "break_even": "AL needed to be faster",
    "margin": "AL above need",
    "alpha": "constant c_i with the same AL, α",
    "worst": "largest difference to p_i",
    "gb_a_token": "read per step [GB]",
    "k": "K",
    "k4": "K = 4, every draft accepted",
    "k_low": "K from",
    "k_high": "K to",
    "expected_value": "promised",
    "expected_unit": "unit",
    "bad_value": "value that fails",
    "good_value": "value that works",
    "says": "claim",
    "ours": "this study",
    "detail": "what decided it",
    "where": "place",
    "found": "computed again",
    "baseline_tok_s": "baseline [tokens/s]",
    "gap_p50": "median gap between chunks [s]",
    "preemptions": "requests set back",
    "used": "measured or predicted",
    "error": "error of the prediction",
    "quantisation": "weight format",
    "execute": "executing [s]",
    "context_tokens": "prompt, filled to [tokens]",
    "output_tokens": "answer [tokens]",
    "prompt_tokens": "prompt [tokens]",
    "prefill_tok_s": "reading the prompt [tokens/s]",
    "decode_gain": "speedup of decoding alone",
    "thinks": "thinking",
    "drafted": "steps with a draft",
    "per_step": "tokens per step of any kind",
    "more_weights_gib": "weights beyond the baseline's [GiB]",
    "less_kv": "K/V cache given up",
    "cost": "cost per million tokens",
    "gain": "speedup at this load",
    "watts": "power [W]",
    "j_per_output": "energy per output token [J]",
    "j_per_token": "energy per token in and out [J]",
    "tok_s_per_w": "output tokens/s per watt",
    "against": "energy per output token, against the baseline",
    "set_aside": "set aside",
    "label": "measurement",
    "kept_tok_s": "in the record that counts [tokens/s]",
}


def heading(name: str) -> str:
    """Heading of a frame's column, with its unit."""
    return HEADINGS.get(name, name)


def arm(name: str) -> str:
    """Title of an arm: ``mtp-k4`` is "MTP with K = 4", ``mtp-k4@eager`` "MTP with K = 4 (eager)"."""
    return speculator.title_of_arm(name)


def workload(name: str) -> str:
    """Title of a workload, from data/prompts.yaml or the study: ``py_code`` is "Python code"."""
    return prompts.title(name)


def comparison(name: str) -> str:
    """Title of a pair of arms: ``baseline ~ mtp-k4`` is "baseline against MTP with K = 4"."""
    return " against ".join(arm(part.strip()) for part in name.split("~"))


_OF_COLUMN = {"arm": arm, "workload": workload, "comparison": comparison}


def value(column: str, content: Any) -> Any:
    """What a reader sees of a frame's value: titles in the columns arm, workload and comparison."""
    title = _OF_COLUMN.get(column)
    return title(content) if title and isinstance(content, str) else content


def name(text: str) -> str:
    """Title of an arm, else of a workload, else the text: for legends and axes."""
    return arm(text) if speculator.is_arm(text) else workload(text)


def started(launches: int) -> str:
    """What a headline with a number rests on: ``2 launches per arm.``"""
    return f"{plural(int(launches), 'launch')} per arm."


def plural(number: int, noun: str) -> str:
    """``1 launch``, ``3 launches``."""
    ending = "" if number == 1 else "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{number} {noun}{ending}"

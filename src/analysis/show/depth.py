"""Chapter 10: figures, table and sentences on the length of prompt and answer. Pure: `depth.by_length` in.

Where a study has no such axis each of them is None, which a notebook does not show; `nothing` says so once.
"""

from __future__ import annotations

import pandas as pd

from analysis.science.stats import NOT_KNOWN
from analysis.show import drawing, words
from analysis.show.drawing import Axes
from analysis.show.outputs import Figure, Table

_LENGTHS = {"context_tokens": "prompt [tokens]", "output_tokens": "answer [tokens]"}
_TIMES = "{:.2f}×".format


def nothing(*tables: pd.DataFrame) -> str:
    """What a reader is told first: which lengths were measured, or that this study has one length alone."""
    found = []
    for table, axis, what in zip(tables, _LENGTHS, ("prompts", "answers"), strict=False):
        if len(table):
            found.append(f"{what} of {_list(sorted(table[axis].unique()))} tokens")
    if found:
        return f"Measured with {' and with '.join(found)}."
    return (
        "This study has prompts and answers of one length: set `context_tokens` (such as [512, 4096, 16384]) or "
        "`output_tokens` in its file to see what their length does."
    )


def time_to_first_token(table: pd.DataFrame, stamp: str) -> Figure | None:
    """TTFT over the prompt's length, one line per arm."""
    if table.empty:
        return None
    part = table[table.variant == "main"]
    live, still = _lines(part, "context_tokens", "ttft", "time to first token [s]")
    longest = part[(part.context_tokens == part.context_tokens.max()) & (part.k == 0)]
    speed = longest.prefill_tok_s.mean()
    return Figure(
        live,
        still,
        f"A prompt of {int(part.context_tokens.max()):,} tokens is read at {speed:,.0f} tokens/s by the baseline: "
        f"{longest.ttft.mean():.2f} s to the first token",
        "Mean time from sending to the first token, one stream, prefix cache off. The drafter reads the prompt too.",
        _told(part, "context_tokens", "ttft", "{:.2f} s"),
        part[["arm", "workload", "context_tokens", "prompt_tokens", "ttft", "prefill_tok_s"]],
        stamp,
    )


def acceptance(table: pd.DataFrame, stamp: str) -> Figure | None:
    """AL over the prompt's length."""
    part = _gains(table)
    if part.empty:
        return None
    live, still = _lines(part, "context_tokens", "al", "acceptance length AL [tokens/step]")
    first, last = _ends(part, "context_tokens", "al")
    trend = _trend(first, last)
    title = f"Acceptance {trend} with the length of the prompt: {first:.2f} tokens per step at the shortest, {last:.2f} at the longest"
    if stamp == "synthetic-acceptance":
        title = f"Acceptance was set by hand: {first:.2f} tokens per step at every length of the prompt"
    return Figure(
        live,
        still,
        title,
        "AL = 1 + accepted / drafts, from the engine's counters. The title has the mean over arms and workloads.",
        _told(part, "context_tokens", "al", "{:.2f}"),
        part[["arm", "workload", "context_tokens", "al"]],
        stamp,
    )


def step_cost(table: pd.DataFrame, stamp: str) -> Figure | None:
    """Cost of a step, in the baseline's steps at the same length, over the prompt's length."""
    part = _gains(table)
    if part.empty:
        return None
    live, still = _lines(part, "context_tokens", "rho", "cost of a step [baseline steps]", level=1.0)
    first, last = _ends(part, "context_tokens", "rho")
    return Figure(
        live,
        still,
        f"A speculative step costs {first:.2f} baseline steps at the shortest prompt and {last:.2f} at the longest",
        "Time of a decode step over the baseline's with the same prompt. Where the cost passes the acceptance length, "
        "the drafter loses. The title has the mean over arms and workloads.",
        _told(part, "context_tokens", "rho", "{:.2f}"),
        part[["arm", "workload", "context_tokens", "al", "rho", "decode_gain", "tpot"]],
        stamp,
    )


def speedup(table: pd.DataFrame, stamp: str, axis: str = "context_tokens") -> Figure | None:
    """Speedup of the whole request over the length of the prompt, or of the answer."""
    part = _gains(table)
    if part.empty:
        return None
    intervals = part.lo.notna().any()
    lo, hi = ("lo", "hi") if intervals else ("prompt_min", "prompt_max")
    live, still = _lines(part, axis, "speedup", "speedup over baseline [×]", level=1.0, lo=lo, hi=hi)
    first, last = _ends(part, axis, "speedup")
    what = "prompts" if axis == "context_tokens" else "answers"
    short, long = part[axis].min(), part[axis].max()
    whiskers = "95 % interval" if intervals else "range over prompts; one launch gives no interval"
    return Figure(
        live,
        still,
        f"The gain {_trend(first, last)} with longer {what}: {first:.2f}× at {short:,} tokens, {last:.2f}× at {long:,}",
        "Geometric mean of paired per-prompt ratios of seconds per request, its prompt included: the drafter does not make "
        f"a prompt faster to read. Whiskers: {whiskers}. The title has the mean over arms and workloads.",
        _told(part, axis, "speedup", "{:.2f}×"),
        part[["arm", "workload", axis, "speedup", "prompt_min", "prompt_max", "lo", "hi", "decode_gain", "verdict"]],
        stamp,
        headline=True,
    )


def lengths(table: pd.DataFrame, axis: str = "context_tokens") -> Table | None:
    """Every arm at every length."""
    if table.empty:
        return None
    columns = [
        "workload",
        axis,
        "arm",
        "ttft",
        "prefill_tok_s",
        "tpot",
        "al",
        "rho",
        "decode_gain",
        "speedup",
        "verdict",
    ]
    formats = {"ttft": ".3f", "prefill_tok_s": ",.0f", "tpot": ".4f", "al": ".2f", "rho": ".2f"}
    return Table(
        table[columns],
        f"Every arm by length of {'prompt' if axis == 'context_tokens' else 'answer'}: reading the prompt, decoding, and the whole request",
        formats | dict.fromkeys(("decode_gain", "speedup"), _TIMES),
        "The verdict compares whole requests with the noise floor at the same length.",
    )


def advice(recommended: pd.DataFrame, ends: pd.DataFrame) -> str:
    """The K to use by length of prompt, and where to switch off. In: `depth.recommend`, `depth.switch_off`."""
    if recommended.empty:
        return ""
    sentences = []
    for workload, own in recommended.groupby("workload", sort=False):
        spans: list[tuple[int | None, int]] = []  # (K, longest prompt)
        for r in own.itertuples():
            k = None if pd.isna(r.k) else int(r.k)
            if spans and spans[-1][0] == k:
                spans.pop()
            spans.append((k, int(r.context_tokens)))
        parts = [f"{_named(k)} up to {length:,} tokens" for k, length in spans]
        sentences.append(f"{words.workload(workload)}: {', then '.join(parts)} of prompt")
    own = ends[ends.variant == "main"]
    slower, unclear = (_where(own[own.beyond == what]) for what in ("slower", "not distinguishable"))
    unknown = (own.beyond == NOT_KNOWN).any()
    tail = (
        f" Switch off {slower}."
        if slower
        else f" Where to switch off is {NOT_KNOWN}: set `launches` to 3."
        if unknown
        else f" No arm has to be switched off up to {int(own.longest.max()):,} tokens."
    )
    tail += f" The gain cannot be told from none here for {unclear}." if unclear else ""
    return f"{'; '.join(sentences)}.{tail} {words.started(recommended.launches.max())}"


def _named(k: int | None) -> str:
    return f"K = {k}" if k else "no K told from none" if k == 0 else f"the K to use is {NOT_KNOWN}"


def _where(ends: pd.DataFrame) -> str:
    """Arms, workloads and the lengths beyond which something holds."""
    places = (
        f"{words.arm(r.arm)} on {words.workload(r.workload)} "
        + (f"beyond {r.pays_to:,} tokens" if r.pays_to else "at any length measured")
        for r in ends.itertuples()
    )
    return "; ".join(places)


def _gains(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table.variant == "main") & table.speedup.notna()] if len(table) else table


def _lines(part: pd.DataFrame, axis: str, y: str, title: str, level: float | None = None, **whiskers: str):
    axes = Axes(_LENGTHS[axis], title, level=level, log_x=True, ticks=sorted(part[axis].unique()))
    return drawing.lines(part, axis, y, "arm", axes, drawing.style_of_arm, panel="workload", **whiskers)


def _ends(part: pd.DataFrame, axis: str, y: str) -> tuple[float, float]:
    """Means at the shortest and at the longest length."""
    return tuple(part[part[axis] == end][y].mean() for end in (part[axis].min(), part[axis].max()))


def _trend(first: float, last: float) -> str:
    return "shrinks" if last < first * 0.95 else "grows" if last > first * 1.05 else "stays"


def _told(part: pd.DataFrame, axis: str, y: str, form: str) -> str:
    lines = (
        f"{words.workload(workload)}, {words.arm(arm)}: "
        + ", ".join(f"{length:,} tokens {form.format(value)}" for length, value in zip(g[axis], g[y], strict=True))
        for (workload, arm), g in part.groupby(["workload", "arm"], sort=False)
    )
    return f"Lines over the length: {'; '.join(lines)}."


def _list(values: list[int]) -> str:
    *most, last = (f"{v:,}" for v in values)
    return f"{', '.join(most)} and {last}" if most else last

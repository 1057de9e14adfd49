"""A study's frames -> one long summary of its numbers -> the verdict on every published claim.

`of_study` reads the records through the store; the rest is arithmetic on frames.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis import shapes
from analysis.places import PARAMS
from analysis.published import evidence
from analysis.published.claims import REPRODUCED, SUMMARY, family, judge
from analysis.published.evidence import Evidence
from analysis.records import earlier
from analysis.records.store import Store
from analysis.science import acceptance, costmodel, intervals, losslessness, speedup, stats
from analysis.science.intervals import Spread
from analysis.study import params, plan, study_file

#: tokens that a campaign's first, cold request asks for
FIRST_TOKENS = 32
_FORMATS = {"fp8": "fp8", "nvfp4": "nvfp4", "awq": "awq-int4", "gptq": "int4", "int4": "int4", "gguf": "gguf"}


def of_study(study: params.Study) -> pd.DataFrame:
    """The verdict table of a study from its records; other recorded studies join for claims about two models."""
    frames, before = _frames(study), _earlier(study)
    summaries = [summarise(frames, context(study), _programs(study, frames.requests), before)]
    for file in sorted(PARAMS.glob("*.yaml")):
        other = study_file.load_study(file, records=study.records)
        if other.study != study.study and len((found := _frames(other)).cells):
            summaries.append(summarise(found, context(other), earlier=_earlier(other)))
    return verdicts(evidence.load(), summaries, study.study, speedup.floor(frames.requests, before))


def _earlier(study: params.Study) -> Spread | None:
    return intervals.of_frames(earlier.frames(Store(study.study, study.records))) if study.launches == 1 else None


def _frames(study: params.Study):
    return Store(study.study, study.records).frames(plan.make(study).cells)


def _programs(study: params.Study, requests: pd.DataFrame) -> pd.DataFrame:
    """K and outcome of every generated program that was run."""
    outcomes = Store(study.study, study.records).outcomes()
    code = requests[requests.experiment == "code"]
    rows = [
        (r.k, bool(outcomes[(r.cell_id, r.at)]["passed"]))
        for r in code.rename(columns={"index": "at"}).itertuples()
        if (r.cell_id, r.at) in outcomes
    ]
    return pd.DataFrame(rows, columns=["k", "passed"])


def text(table: pd.DataFrame) -> str:
    """The verdict table for a terminal: one block per decided claim, one line per claim that was not."""
    lines = []
    for source, group in table.groupby("source", sort=False):
        lines.append(f"\n{source}")
        for r in group.itertuples():
            stamp = f" [{r.stamp}]" if r.stamp else ""
            lines.append(f"  {r.verdict.upper():20} {r.says}{stamp}")
            lines += [f"{'':23}published {r.published or '-'}; ours {r.ours}"] * bool(r.ours)
            lines.append(f"{'':23}{r.detail}")
    return "\n".join([*lines, "", sentence(table)])


def context(study) -> dict:
    """What a study measured on: name, stamp, machine, model shape, dense or MoE, quantisation. In: params.Study."""
    name = study.target.model.lower()
    target = shapes.shape_of(study.model_shape or "")
    quantisation = next((fmt for key, fmt in _FORMATS.items() if key in name), "bf16")
    moe = bool(target.experts) if target else "moe" in f"{study.study} {name}".lower()
    return {
        "study": study.study,
        "stamp": study.stamp,
        "hardware": study.hardware or "cpu",
        "model": study.model_shape or study.target.model,
        "architecture": "moe" if moe else "dense",
        "quantisation": family(quantisation),
    }


def summarise(frames, about: dict, programs: pd.DataFrame | None = None, earlier: Spread | None = None) -> pd.DataFrame:
    """All numbers of a study that claims can ask for, one row per number (columns `claims.SUMMARY`).

    In: frames (cells, requests, positions, launches), context, and `generated.frame` of the programs if they were run;
    earlier as in `speedup.paired`.
    Metrics: speedup [x], tok_s [tok/s], acceptance_rate, p (shares), acceptance_length, mean_accepted [tokens],
    step_cost [baseline steps], aggregate_tok_s, per_request_tok_s [tok/s], scaling, gain_under_load [x], agreement,
    programs_ok (shares), first_over_later [x].
    """
    cells, requests, positions = frames.cells, frames.requests, frames.positions
    timing, at_timing = requests[requests.experiment == "timing"], cells[cells.experiment == "timing"]
    parts = [
        *_speed(timing, earlier),
        *_acceptance(at_timing, positions[positions.experiment == "timing"]),
        *_load(cells, requests),
        *_greedy(requests),
        *_cold(frames.launches, timing),
    ]
    costs = costmodel.step_cost(costmodel.step_time(cells, requests))
    for (variant, k), group in costs.groupby(["variant", "k"]):
        pooled = [stats.geometric_mean(group[column]) for column in ("rho", "lo", "hi")]
        parts.append(_row("step_cost", *pooled, variant=variant, k=k, n=group.launches.min()))
    parts += [
        _row("step_cost", r.rho, r.lo, r.hi, variant=r.variant, k=r.k, workload=r.workload, n=r.launches)
        for r in costs.itertuples()
    ]
    if programs is not None and len(programs):
        for k, group in programs.groupby("k"):
            share = stats.wilson(int(group.passed.sum()), len(group))
            parts.append(_row("programs_ok", group.passed.mean(), *share, k=k, workload="py_code", n=len(group)))
    return pd.DataFrame([{**about, **part} for part in parts], columns=SUMMARY)


def verdicts(
    evidence: Evidence, summaries: Iterable[pd.DataFrame], study: str, noise: stats.NoiseFloor | None = None
) -> pd.DataFrame:
    """The verdict table (`claims.judge`) for a study, with summaries of other studies beside it."""
    floor = noise.factor - 1 if noise is not None and noise.known else None
    return judge(evidence, pd.concat(list(summaries), ignore_index=True), study, floor)


def sentence(table: pd.DataFrame) -> str:
    """One sentence on the verdicts: how many claims, how many decided, which way."""
    counts = table["verdict"].value_counts()
    decided = ", ".join(f"{counts[name]} {name}" for name in counts.index)
    mine = table[(table["verdict"] == REPRODUCED) & (table["stamp"] == "miniature")]
    note = f" {len(mine)} of the reproduced ones are directions seen on the miniature: no evidence about Gemma 4." * (
        len(mine) > 0
    )
    return f"Of {len(table)} published claims: {decided}.{note}"


# ---------------------------------------------------------------------------------------------- parts


def _row(metric: str, value: float, lo: float = float("nan"), hi: float = float("nan"), **at) -> dict:
    """One row of the summary; `at` names what departs from: main variant, K = 0, pooled, one stream, no position."""
    place = {"variant": "main", "k": 0, "workload": "pooled", "concurrency": 1, "position": float("nan"), "n": 1, **at}
    return {"metric": metric, "value": float(value), "lo": lo, "hi": hi, **place}


def _speed(timing: pd.DataFrame, earlier: Spread | None) -> list[dict]:
    """Speedup by workload and pooled over workloads, which are fixed while prompts are sampled; tok/s."""
    spread = intervals.spread(timing) or earlier
    prompts = speedup.by_prompt(timing)
    rows = [
        _row("speedup", r.speedup, r.lo, r.hi, variant=r.variant, k=r.k, workload=r.workload, n=r.launches)
        for r in speedup.paired(timing, earlier).itertuples()
    ]
    for (variant, k), group in prompts.groupby(["variant", "k"]):
        per_workload = group.groupby(["launch", "workload"]).ratio.apply(stats.geometric_mean)
        launches = per_workload.groupby("launch").apply(stats.geometric_mean)
        sure = intervals.of_workloads(group, spread)
        place = {"variant": variant, "k": k, "n": len(launches)}
        rows.append(_row("speedup", stats.geometric_mean(launches), sure.low, sure.high, **place))
    per_launch = timing.groupby(["variant", "k", "workload", "launch"])[["completion_tokens", "seconds"]].sum()
    rate = (per_launch.completion_tokens / per_launch.seconds).rename("rate").reset_index()
    pooled = timing.groupby(["variant", "k", "launch"])[["completion_tokens", "seconds"]].sum()
    pooled = (pooled.completion_tokens / pooled.seconds).rename("rate").reset_index().assign(workload="pooled")
    for (variant, k, workload), group in pd.concat([rate, pooled]).groupby(["variant", "k", "workload"]):
        interval = stats.ratio_interval(group.rate)
        value = stats.geometric_mean(group.rate)
        rows.append(_row("tok_s", value, *interval, variant=variant, k=k, workload=workload, n=len(group)))
    return rows


def _acceptance(cells: pd.DataFrame, positions: pd.DataFrame) -> list[dict]:
    """Acceptance by arm, pooled and by workload, with Wilson intervals."""
    rows = []
    for by, named in ((["variant", "k", "workload"], True), (["variant", "k"], False)):
        for r in acceptance.by_arm(cells, by).itertuples():
            place = {"variant": r.variant, "k": r.k, "workload": r.workload if named else "pooled", "n": r.drafts}
            lo, hi = stats.wilson(int(r.accepted), int(r.draft_tokens))
            scale = r.draft_tokens / r.drafts if r.drafts else float("nan")
            rows.append(_row("acceptance_rate", r.ar, lo, hi, **place))
            rows.append(_row("mean_accepted", r.al - 1, lo * scale, hi * scale, **place))
            rows.append(_row("acceptance_length", r.al, 1 + lo * scale, 1 + hi * scale, **place))
        for r in acceptance.by_position(positions, by).itertuples():
            place = {
                "variant": r.variant,
                "k": r.k,
                "workload": r.workload if named else "pooled",
                "position": r.position,
            }
            rows.append(_row("p", r.p, r.p_lo, r.p_hi, n=r.drafts, **place))
    return rows


def _load(cells: pd.DataFrame, requests: pd.DataFrame) -> list[dict]:
    """Throughput under load: sums over workloads, so that a level is one number. Loads outside the captured graphs are
    slow by a launch setting, and no claim is judged by them."""
    table = speedup.concurrency(cells, requests)
    table = table[table.in_graphs != "outside"]
    rows = []
    for (variant, k, level), group in table.groupby(["variant", "k", "concurrency"]):
        place = {"variant": variant, "k": k, "concurrency": level}
        mean = stats.geometric_mean
        rows.append(_row("aggregate_tok_s", mean(group.aggregate_tok_s), **place))
        rows.append(_row("per_request_tok_s", mean(group.per_request), **place))
        rows.append(_row("scaling", mean(group.scaling), **place))
        if k > 0 and group.over_baseline.notna().all():
            rows.append(_row("gain_under_load", mean(group.over_baseline), **place))
    return rows


def _greedy(requests: pd.DataFrame) -> list[dict]:
    pairs = losslessness.pairs(requests)
    if pairs.empty:
        return []
    return [
        _row("agreement", r.share, r.lo, r.hi, k=r.k, n=r.prompts) for r in losslessness.agreement(pairs).itertuples()
    ]


def _cold(launches: pd.DataFrame, timing: pd.DataFrame) -> list[dict]:
    """Seconds per token of a launch's first request over those of its timing requests."""
    if "first_request_s" not in launches or timing.empty:
        return []
    per_launch = timing.groupby("launch_id")[["seconds", "completion_tokens"]].sum()
    later = per_launch.seconds / per_launch.completion_tokens
    ratio = (launches.set_index("launch_id").first_request_s / FIRST_TOKENS / later).dropna()
    if ratio.empty:
        return []
    return [_row("first_over_later", stats.geometric_mean(ratio), *stats.ratio_interval(ratio), n=len(ratio))]

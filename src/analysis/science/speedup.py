"""Speed and speedup from requests and cells. Pure: frames in, frames and sentences out.

Speedup of an arm = geometric mean over prompts of (baseline seconds per token / arm's seconds per token), each mean
over repeats, baseline and arm of the same launch number; the interval is that of `intervals`: restarts and prompts are
sampled. Beside it stands the ratio of mean seconds, as the articles computed it.
"""

from __future__ import annotations

import pandas as pd

from analysis.science import arms as which
from analysis.science import intervals
from analysis.science.intervals import Spread
from analysis.science.stats import NOT_KNOWN, NoiseFloor, geometric_mean, ratio_interval

KEYS = ["variant", "arm", "k", "workload"]


def runs(requests: pd.DataFrame) -> pd.DataFrame:
    """Timing requests by arm, workload and repeat: means of seconds, tok/s, ch/s, characters, TTFT, TPOT.

    Out: one row per arm, launch, workload and repeat; seconds [s], ttft [s], tpot [s/token], speeds [1/s].
    """
    timing = requests[requests.experiment == "timing"]
    columns = [
        "seconds",
        "tok_s",
        "decode_tok_s",
        "chars_s",
        "chars",
        "ttft",
        "tpot",
        "completion_tokens",
        "repetition",
    ]
    return timing.groupby([*KEYS, "launch", "repeat"], as_index=False)[columns].mean()


def by_workload(requests: pd.DataFrame) -> pd.DataFrame:
    """Means of `runs` with the standard deviation of seconds over prompts and repeats. One row per arm and workload."""
    timing = requests[requests.experiment == "timing"]
    table = timing.groupby(KEYS, as_index=False).agg(
        requests=("seconds", "size"),
        seconds=("seconds", "mean"),
        seconds_sd=("seconds", "std"),
        tok_s=("tok_s", "mean"),
        decode_tok_s=("decode_tok_s", "mean"),
        chars_s=("chars_s", "mean"),
        chars=("chars", "mean"),
        ttft=("ttft", "mean"),
        tpot=("tpot", "mean"),
        repetition=("repetition", "mean"),
    )
    return table.sort_values(["variant", "k", "workload"], ignore_index=True)


def by_prompt(requests: pd.DataFrame) -> pd.DataFrame:
    """Paired ratios: one row a speculating arm, launch, workload and prompt with ``ratio`` = baseline / arm seconds per
    token, and ``base_launches``, the launches of the baseline that answered the prompt."""
    timing = requests[requests.experiment == "timing"]
    value = timing.assign(value=timing.seconds / timing.completion_tokens)
    value = value.groupby([*KEYS, "launch", "prompt_id"], as_index=False).value.mean()
    base = which.baselines(value)
    pair = ["variant", "workload", "prompt_id"]
    same = base.set_index([*pair, "launch"]).value
    pooled, launches = base.groupby(pair).value.mean(), base.groupby(pair).launch.nunique()
    arms = value[which.speculating(value)].copy()
    same_launch = same.reindex(pd.MultiIndex.from_frame(arms[[*pair, "launch"]])).to_numpy()
    any_launch = pooled.reindex(pd.MultiIndex.from_frame(arms[pair])).to_numpy()
    arms["ratio"] = (
        pd.Series(same_launch, index=arms.index).fillna(pd.Series(any_launch, index=arms.index)) / arms.value
    )
    arms["base_launches"] = launches.reindex(pd.MultiIndex.from_frame(arms[pair])).to_numpy()
    return arms.dropna(subset="ratio").reset_index(drop=True)


def paired(requests: pd.DataFrame, earlier: Spread | None = None) -> pd.DataFrame:
    """Speedup of every speculating arm by workload.

    In: requests; the spread of restarts that earlier studies of this machine found, which stands in where no arm was started
    twice. Out: speedup, lo, hi (95 % interval; NaN where the spread of restarts is not known), launches,
    prompts, prompt_min, prompt_max (range over prompts: a spread, not an interval), ratio_of_means (as published), seconds,
    baseline_seconds [s].
    """
    prompts = by_prompt(requests)
    table = by_workload(requests)
    means = table.set_index(["variant", "arm", "workload"]).seconds
    baseline = which.baselines(table).set_index(["variant", "workload"]).seconds
    spread = intervals.spread(requests) or earlier
    sure = {key: intervals.of_ratio(own, spread) for key, own in prompts.groupby(["variant", "arm"])}
    rows = []
    for (variant, arm, k, workload), group in prompts.groupby(KEYS):
        per_launch = group.groupby("launch").ratio.apply(geometric_mean)
        interval = sure[variant, arm][workload]
        over_prompts = group.groupby("prompt_id").ratio.apply(geometric_mean)
        base = baseline[(variant, workload)]
        arm_seconds = means[(variant, arm, workload)]
        rows.append(
            {
                "variant": variant,
                "arm": arm,
                "k": k,
                "workload": workload,
                "speedup": geometric_mean(per_launch),
                "lo": interval.low,
                "hi": interval.high,
                "launches": len(per_launch),
                "prompts": len(over_prompts),
                "prompt_min": over_prompts.min(),
                "prompt_max": over_prompts.max(),
                "ratio_of_means": base / arm_seconds,
                "seconds": arm_seconds,
                "baseline_seconds": base,
            }
        )
    columns = [
        *KEYS,
        "speedup",
        "lo",
        "hi",
        "launches",
        "prompts",
        "prompt_min",
        "prompt_max",
        "ratio_of_means",
        "seconds",
        "baseline_seconds",
    ]
    return pd.DataFrame(rows, columns=columns).sort_values(["variant", "workload", "k"], ignore_index=True)


def late_first_tokens(requests: pd.DataFrame, factor: float = 10.0) -> pd.DataFrame:
    """Timing requests whose TTFT is more than `factor` times the median of their arm: something ran once, on demand.

    Out: arm, workload, launch, repeat, ttft [s], median [s]. Speedups are made of whole seconds and carry such a wait;
    TPOT does not.
    """
    timing = requests[requests.experiment == "timing"]
    timing = timing.assign(median=timing.groupby("arm").ttft.transform("median"))
    late = timing[timing.ttft > factor * timing["median"]]
    return late[["arm", "workload", "launch", "repeat", "ttft", "median"]].reset_index(drop=True)


def recommend(sweep: pd.DataFrame, floor: NoiseFloor) -> pd.DataFrame:
    """The K to use by workload: the smallest whose speedup is within the noise floor of the best.

    Out: workload, k (0 = baseline: no K is distinguishable from it; NA where the floor is not known), speedup, among (the K
    that cannot be told from the best, in order), best_k, best_speedup, launches, reason.
    """
    rows = []
    for workload, group in sweep[sweep.variant == "main"].groupby("workload", sort=False):
        best = group.loc[group.speedup.idxmax()]
        near = group[group.speedup * floor.factor >= best.speedup].sort_values("k")
        faster = near[near.speedup > floor.factor]
        k, value, reason = int(best.k), best.speedup, "fastest"
        if not floor.known:
            k, value, reason = pd.NA, float("nan"), NOT_KNOWN
        elif faster.empty or best.speedup <= floor.factor:
            k, value, reason = 0, 1.0, "no K is faster than the baseline beyond the noise floor"
        elif faster.k.iloc[0] != best.k:
            k, value = int(faster.k.iloc[0]), faster.speedup.iloc[0]
            reason = f"within the noise floor of K = {int(best.k)}, with fewer drafts"
        rows.append(
            {
                "workload": workload,
                "k": k,
                "speedup": value,
                "among": tuple(int(n) for n in near.k) if floor.known else (),
                "best_k": int(best.k),
                "best_speedup": best.speedup,
                "launches": int(group.launches.max()),
                "reason": reason,
            }
        )
    columns = ["workload", "k", "speedup", "among", "best_k", "best_speedup", "launches", "reason"]
    return pd.DataFrame(rows, columns=columns).astype({"k": "Int64"})


def concurrency(cells: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """Throughput by arm, workload and level of concurrency.

    Out: aggregate [tok/s] = completion tokens / wall seconds of the cell; per_request [tok/s] mean and sd over requests;
    scaling = aggregate / aggregate at the lowest level; over_baseline = aggregate / the baseline's at the same level, with
    lo, hi (95 % over launches, NaN for one), launches; in_graphs: one of `graphs.SIDES`; way: how the engine chooses K. The main
    arms come first.
    """
    level = ["variant", "arm", "k", "workload", "concurrency"]
    part = cells[cells.experiment == "concurrency"]
    part = part.assign(**{c: v for c, v in {"in_graphs": "not known", "way": ""}.items() if c not in part})
    table = part.groupby(level).agg(
        tokens=("completion_tokens", "sum"),
        wall=("wall_s", "sum"),
        requests=("requests", "sum"),
        preemptions=("preemptions", "sum"),
        cells=("cell_id", "size"),
        launches=("launch", "nunique"),
        in_graphs=("in_graphs", lambda sides: sides.iloc[0] if sides.nunique() == 1 else "not known"),
        way=("way", "first"),
    )
    table["aggregate_tok_s"] = table.tokens / table.wall
    in_load = requests[requests.experiment == "concurrency"].groupby(level)
    table["per_request"] = in_load.tok_s.mean()
    table["per_request_sd"] = in_load.tok_s.std()
    table["ttft"] = in_load.ttft.mean()
    table = table.reset_index().sort_values(
        "variant", key=lambda names: names != "main", kind="stable", ignore_index=True
    )
    lowest = (
        table.loc[table.groupby(["arm", "workload"]).concurrency.idxmin()]
        .set_index(["arm", "workload"])
        .aggregate_tok_s
    )
    table["scaling"] = (
        table.aggregate_tok_s / lowest.reindex(pd.MultiIndex.from_frame(table[["arm", "workload"]])).to_numpy()
    )
    base = which.baselines(table).set_index(["variant", "workload", "concurrency"]).aggregate_tok_s
    table["over_baseline"] = (
        table.aggregate_tok_s
        / base.reindex(pd.MultiIndex.from_frame(table[["variant", "workload", "concurrency"]])).to_numpy()
    )
    return table.drop(columns=["tokens", "wall"]).merge(_over_launches(part), on=level, how="left")


def _over_launches(cells: pd.DataFrame) -> pd.DataFrame:
    """95 % interval of the ratio to the baseline, from one ratio per launch; NaN for fewer than two."""
    level = ["variant", "arm", "k", "workload", "concurrency"]
    speed = cells.groupby([*level, "launch"], as_index=False)[["completion_tokens", "wall_s"]].sum()
    speed["value"] = speed.completion_tokens / speed.wall_s
    place = ["variant", "workload", "concurrency", "launch"]
    base = which.baselines(speed).set_index(place).value
    speed["ratio"] = speed.value / base.reindex(pd.MultiIndex.from_frame(speed[place])).to_numpy()
    rows = [
        (*key, *ratio_interval(group.ratio.dropna()))
        if which.speculating(group).all()
        else (*key, float("nan"), float("nan"))
        for key, group in speed.groupby(level)
    ]
    return pd.DataFrame(rows, columns=[*level, "lo", "hi"])


def floor(requests: pd.DataFrame, earlier: Spread | None = None) -> NoiseFloor:
    """The A/A noise floor of these requests: how far two arms that are the same differ, a restart included.

    In: as `paired`. See `intervals.floor`; the launches are those of the main baseline.
    """
    base = requests[(requests.experiment == "timing") & which.baseline(requests) & (requests.variant == "main")]
    return intervals.floor(intervals.spread(requests) or earlier, base.launch.nunique())


def verdict(row: pd.Series, floor: NoiseFloor) -> str:
    """faster | slower | not distinguishable | not known yet: by the noise floor, and by the interval where there is one."""
    interval = row.lo == row.lo
    if not interval and not floor.known:
        return NOT_KNOWN
    if floor.inside(row.speedup) or (interval and row.lo <= 1 <= row.hi):
        return "not distinguishable"
    return "faster" if row.speedup > 1 else "slower"

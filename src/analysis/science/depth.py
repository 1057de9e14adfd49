"""What the length of the prompt and of the answer does to a drafter's gain. Pure: frames in, frames out.

Each length is a small study of its own: `speedup` and `costmodel` are asked once per length, with the requests of that
length alone.
"""

from __future__ import annotations

import pandas as pd

from analysis.science import costmodel, speedup
from analysis.science.intervals import Spread
from analysis.science.stats import NOT_KNOWN, NoiseFloor

#: Axis -> its experiment. The axis is a column of the frames.
EXPERIMENTS = {"context_tokens": "context", "output_tokens": "output"}
PLACE = ["variant", "arm", "k", "workload"]


def by_length(
    cells: pd.DataFrame, requests: pd.DataFrame, axis: str = "context_tokens", earlier: Spread | None = None
) -> pd.DataFrame:
    """One row per arm, workload and length; empty where the study has no such axis. `earlier` as in `speedup.paired`.

    Out: the axis [tokens]; prompt_tokens and completion_tokens per request; ttft [s]; prefill_tok_s [tokens/s] = prompt
    tokens / TTFT; tpot [s/token]; and of the arms that speculate al [tokens/step], rho (cost of a step in the baseline's
    steps at the same length), decode_gain (ratio of TPOT), speedup of the whole request with lo, hi (95 % interval;
    NaN where restarts are not known), prompt_min, prompt_max, launches, prompts, ratio_of_means,
    factor (the noise floor at this length), verdict (faster | slower | not distinguishable | not known yet).
    """
    tables = [
        _one_length(*(_as_timing(frame, axis, length) for frame in (cells, requests)), earlier).assign(**{axis: length})
        for length in sorted(requests[requests.experiment == EXPERIMENTS[axis]][axis].unique())
    ]
    if not tables:
        return pd.DataFrame(columns=[*PLACE, axis])
    table = pd.concat(tables, ignore_index=True)
    return table.sort_values(["variant", "workload", axis, "k", "arm"], ignore_index=True)


def recommend(table: pd.DataFrame, axis: str = "context_tokens") -> pd.DataFrame:
    """The K to use at each length, by `speedup.recommend`'s rule. In: `by_length`. Out: its columns, and the axis."""
    gains = table[table.verdict.notna()] if len(table) else table
    if gains.empty:
        return pd.DataFrame(columns=["workload", axis, "k", "speedup"])
    chosen = [
        speedup.recommend(rows, NoiseFloor(factor, "", int(factor == factor))).assign(**{axis: length})
        for (length, factor), rows in gains.groupby([axis, "factor"], dropna=False)
    ]
    return pd.concat(chosen).sort_values(["workload", axis], ignore_index=True)


def switch_off(table: pd.DataFrame, axis: str = "context_tokens") -> pd.DataFrame:
    """Where each arm stops to pay. In: `by_length`.

    Out: one row per speculating arm and workload: pays_to (the longest length up to which every one is faster; 0 where
    the shortest is not), longest, and beyond, what the data say of the longer lengths: slower (at every one: switch it
    off), faster (there is none, or one of them is faster again), not distinguishable, not known yet.
    """
    rows = []
    for place, own in table[table.verdict.notna()].sort_values(axis).groupby(PLACE) if len(table) else ():
        verdicts, lengths = own.verdict.tolist(), own[axis].tolist()
        held = next((at for at, verdict in enumerate(verdicts) if verdict != "faster"), len(verdicts))
        rest = set(verdicts[held:])
        unclear = NOT_KNOWN if NOT_KNOWN in rest else "not distinguishable"
        beyond = "faster" if not rest or "faster" in rest else "slower" if rest == {"slower"} else unclear
        rows.append([*place, lengths[held - 1] if held else 0, lengths[-1], beyond])
    return pd.DataFrame(rows, columns=[*PLACE, "pays_to", "longest", "beyond"])


def _as_timing(frame: pd.DataFrame, axis: str, length: int) -> pd.DataFrame:
    own = frame[(frame.experiment == EXPERIMENTS[axis]) & (frame[axis] == length)]
    return own.assign(experiment="timing")


def _one_length(cells: pd.DataFrame, requests: pd.DataFrame, earlier: Spread | None) -> pd.DataFrame:
    means = requests.groupby(PLACE, as_index=False)[["prompt_tokens", "completion_tokens", "ttft", "tpot"]].mean()
    means["prefill_tok_s"] = means.prompt_tokens / means.ttft.where(means.ttft > 0)
    costs = costmodel.step_cost(costmodel.step_time(cells, requests)).rename(columns={"measured": "decode_gain"})
    paired, floor = speedup.paired(requests, earlier), speedup.floor(requests, earlier)
    paired["verdict"] = [speedup.verdict(row, floor) for _, row in paired.iterrows()]
    gains = [
        *PLACE,
        "speedup",
        "lo",
        "hi",
        "launches",
        "prompts",
        "prompt_min",
        "prompt_max",
        "ratio_of_means",
        "verdict",
    ]
    table = means.merge(costs[[*PLACE, "al", "rho", "decode_gain"]], on=PLACE, how="left")
    table = table.merge(paired[gains], on=PLACE, how="left")
    return table.assign(factor=floor.factor)

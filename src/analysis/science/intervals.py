"""How sure a ratio of two arms is: the spread of restarts and of prompts, and the interval that follows. Pure.

Model, on the log scale: seconds per token = arm and prompt + launch (one block for all arms, such as drift) + restart (one
start of one arm) + rest. In a ratio of two arms the block cancels; two restarts per launch and the choice of prompts do
not. The restart variance is pooled over all arms, which gives it more degrees of freedom than the launches of one pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as sps

from analysis.science.stats import NoiseFloor

LEVEL = 0.95
ARM = ["variant", "arm"]


@dataclass(frozen=True)
class Spread:
    """How much one start of an arm differs from another on the log scale, with its degrees of freedom, and how much the
    ratio of an arm to the mean arm differs between prompts (NaN for one prompt). ``studies``: earlier studies that it is
    from; 0 for the study itself."""

    restart: float
    df: float
    prompts: float = float("nan")
    studies: int = 0


@dataclass(frozen=True)
class Interval:
    """95 % interval of a ratio, and the degrees of freedom of its t quantile."""

    low: float
    high: float
    df: float


UNKNOWN = Interval(float("nan"), float("nan"), 0.0)


def spread(requests: pd.DataFrame) -> Spread | None:
    """Spread of restarts and prompts; None where no arm was started twice.

    In: timing requests with variant, arm, launch, workload, prompt_id, seconds [s], completion_tokens.
    """
    timing = requests[requests.experiment == "timing"]
    value = timing.assign(value=timing.seconds / timing.completion_tokens)
    value = np.log(value.groupby([*ARM, "launch", "workload", "prompt_id"]).value.mean())
    restart, prompts = [], [(float("nan"), 0)]
    for _, own in value.groupby("workload"):
        wide = own.droplevel("workload").unstack("prompt_id")
        complete = wide.dropna(axis=1)
        starts = (complete if complete.shape[1] else wide).mean(axis=1)
        restart.append(mean_square(starts.to_numpy(), _starts(starts.index), starts.index.get_level_values("launch")))
        by_arm = wide.groupby(level=ARM).mean().dropna(axis=1)
        if by_arm.shape[0] > 1 and by_arm.shape[1] > 1:
            arms, ids = np.indices(by_arm.shape).reshape(2, -1)
            prompts.append(mean_square(by_arm.to_numpy().ravel(), arms, ids))
    return _of_restarts(restart, float(np.sqrt(pooled(prompts)[0])))


def under_load(cells: pd.DataFrame) -> Spread | None:
    """Spread of restarts under load, from tokens per second of all streams; None where no arm was started twice.

    In: cell frame with variant, arm, launch, workload, concurrency, completion_tokens, wall_s [s].
    """
    load = cells[cells.experiment == "concurrency"]
    speed = load.groupby([*ARM, "launch", "workload", "concurrency"])[["completion_tokens", "wall_s"]].sum()
    speed = np.log(speed.completion_tokens / speed.wall_s)
    restart = []
    for _, own in speed.groupby(["workload", "concurrency"]):
        index = own.index
        restart.append(mean_square(own.to_numpy(), _starts(index), index.get_level_values("launch")))
    return _of_restarts(restart)


def _of_restarts(parts: Sequence[tuple[float, int]], prompts: float = float("nan")) -> Spread | None:
    """Spread from the (variance, degrees of freedom) of each workload or load; None where there are no degrees at all."""
    # one start slows everything that its arm does: the parts are not independent, and their degrees do not add up
    df = max((df for _, df in parts), default=0)
    return Spread(float(np.sqrt(pooled(parts)[0])), float(df), prompts) if df else None


def of_frames(studies: Iterable[pd.DataFrame]) -> Spread | None:
    """One spread from several studies of one machine, weighed by degrees of freedom; None for none. In: as `spread`."""
    spreads = [found for requests in studies if (found := spread(requests))]
    if not spreads:
        return None
    variance, df = pooled([(s.restart**2, s.df) for s in spreads])
    return Spread(float(np.sqrt(variance)), df, studies=len(spreads))


def mean_square(values: np.ndarray, rows: Sequence, columns: Sequence) -> tuple[np.ndarray, int]:
    """Residual variance of a two-way layout and its degrees of freedom; (NaN, 0) where nothing is left over.

    In: values [..., n], and the row (arm) and column (launch) of each of the n. Where the columns leave nothing over, as for
    one arm, rows alone are taken out: the variance then includes what differs between columns.
    """
    first, second = (np.unique(np.asarray(names), return_inverse=True)[1] for names in (rows, columns))
    by_row, by_column = np.eye(first.max() + 1)[first], np.eye(second.max() + 1)[second]
    for design in (np.hstack([by_row, by_column]), by_row):
        df = len(first) - int(np.linalg.matrix_rank(design))
        if df:
            left = values - values @ (design @ np.linalg.pinv(design)).T
            return (left**2).sum(-1) / df, df
    return np.full(np.shape(values)[:-1], np.nan), 0


def pooled(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Variance and degrees of freedom of several (variance, degrees of freedom); NaN and 0 where there are none."""
    known = [(variance, df) for variance, df in parts if df]
    df = sum(df for _, df in known)
    return (sum(variance * df for variance, df in known) / df, df) if df else (float("nan"), 0)


def ratio(log_ratio, restart: tuple, starts, prompts: tuple, number):
    """Interval of the ratio of two arms, by Satterthwaite's degrees of freedom. Arrays of one shape, or numbers.

    In: the mean log ratio; variance of a restart and its degrees of freedom; ``starts`` = 1/launches of one arm + 1/launches
    of the other; variance of the log ratio over prompts and its degrees of freedom (0: prompts are not sampled), and the
    number of prompts. Out: low, high, degrees of freedom.
    """
    of_restarts = np.asarray(restart[0]) * starts
    of_prompts = np.where(prompts[1], prompts[0], 0.0) / number
    variance = of_restarts + of_prompts
    parts = of_restarts**2 / restart[1] + of_prompts**2 / np.maximum(prompts[1], 1)
    df = np.divide(variance**2, parts, out=np.full(np.shape(variance), float(restart[1])), where=parts > 0)
    half = sps.t.ppf(0.5 + LEVEL / 2, df) * np.sqrt(variance)
    return np.exp(log_ratio - half), np.exp(log_ratio + half), df


def of_ratio(per_prompt: pd.DataFrame, spread: Spread | None) -> dict[str, Interval]:
    """Interval of the speedup of one arm by workload. In: rows of `speedup.by_prompt` of one arm, and the spread.

    The variance over prompts is pooled over the workloads, within each; one prompt per workload is not sampled.
    """
    if spread is None:
        return dict.fromkeys(per_prompt.workload, UNKNOWN)
    logs, sizes, prompts = _over_prompts(per_prompt)
    found = {}
    for workload, own in logs.groupby("workload"):
        mean = own.groupby("launch").log.mean().mean()
        found[workload] = _interval(mean, spread, own, prompts, sizes[workload])
    return found


def of_workloads(per_prompt: pd.DataFrame, spread: Spread | None) -> Interval:
    """Interval of the geometric mean over workloads, which are fixed, of one arm's speedup. In: as `of_ratio`."""
    if spread is None:
        return UNKNOWN
    logs, sizes, prompts = _over_prompts(per_prompt)
    # the variance of a mean over workloads is the sum of variance / prompts, over workloads²
    number = len(sizes) ** 2 / (1 / sizes).sum()
    mean = logs.groupby(["launch", "workload"]).log.mean().groupby("launch").mean().mean()
    return _interval(mean, spread, logs, prompts, number)


def _over_prompts(per_prompt: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, tuple[float, float]]:
    """The rows with the logarithm of their ratio; prompts per workload; variance within workloads with its degrees."""
    logs = per_prompt.assign(log=np.log(per_prompt.ratio))
    table = logs.groupby(["workload", "prompt_id"]).log.mean().groupby("workload").agg(["var", "size"])
    return logs, table["size"], pooled([(v, n - 1) for v, n in zip(table["var"], table["size"], strict=True)])


def _interval(mean: float, spread: Spread, rows: pd.DataFrame, prompts: tuple, number: float) -> Interval:
    """`ratio` as numbers; the launches of both arms are those of the rows."""
    starts = 1 / rows.launch.nunique() + 1 / rows.base_launches.max()
    return Interval(*map(float, ratio(mean, (spread.restart**2, spread.df), starts, prompts, number)))


def floor(spread: Spread | None, launches: int, between: str = "launches") -> NoiseFloor:
    """The factor inside which two arms of the same kind, with this many launches each, lie in 95 of 100 studies."""
    if spread is None or not launches:
        return NoiseFloor(float("nan"), "", 0, launches=launches)
    tail = (1 - LEVEL) / 2
    sides = [spread.restart * np.sqrt(spread.df / sps.chi2.ppf(q, spread.df)) for q in (1 - tail, tail)]
    scale = sps.norm.ppf(1 - tail) * np.sqrt(2 / launches)
    factor, low, high = (float(np.exp(scale * sd)) for sd in (spread.restart, *sides))
    of = f"{between} of earlier studies of this machine" if spread.studies else between
    return NoiseFloor(factor, of, spread.df, low, high, launches)


def _starts(index: pd.MultiIndex) -> list[str]:
    """One name per arm of an index with variant and arm."""
    return ["/".join(map(str, key)) for key in zip(*(index.get_level_values(name) for name in ARM), strict=True)]

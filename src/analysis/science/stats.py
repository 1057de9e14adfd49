"""Intervals, the noise floor and exact tests. Pure: numbers and frames in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as sps


def geometric_mean(ratios: Sequence[float]) -> float:
    """exp of the mean logarithm; NaN for none."""
    values = np.asarray(ratios, dtype=float)
    return float(np.exp(np.log(values).mean())) if len(values) else float("nan")


def ratio_interval(ratios: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student t interval of a geometric mean of independent ratios (one per launch); NaN for fewer than two."""
    logs = np.log(np.asarray(ratios, dtype=float))
    if len(logs) < 2:
        return float("nan"), float("nan")
    half = sps.t.ppf(0.5 + level / 2, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))


def wilson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927); NaN without trials."""
    if trials == 0:
        return float("nan"), float("nan")
    z = sps.norm.ppf(0.5 + level / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar p-value of paired outcomes: binomial test of the discordant pairs; 1 without any."""
    discordant = only_first + only_second
    return 1.0 if discordant == 0 else float(sps.binomtest(only_first, discordant, 0.5).pvalue)


NOT_KNOWN = "not known yet"
"""The verdict where neither an interval nor a noise floor says how sure a number is."""


@dataclass(frozen=True)
class NoiseFloor:
    """How far a "speedup" of an arm over itself goes: ``factor`` ≥ 1, an estimate with its interval ``low`` to ``high`` and
    degrees of freedom, for arms of this many launches; NaN where no two can be compared. ``advice`` says how to know it."""

    factor: float
    between: str
    df: float
    low: float = float("nan")
    high: float = float("nan")
    launches: int = 0
    advice: str = ""

    @property
    def known(self) -> bool:
        return self.df > 0

    def inside(self, ratio: float) -> bool:
        """True where a ratio cannot be told from 1."""
        return self.known and 1 / self.factor <= ratio <= self.factor

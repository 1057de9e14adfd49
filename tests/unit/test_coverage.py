"""Whether a 95 % interval holds the truth in 95 of 100 studies: simulated studies whose truth is known.

Standard deviations on the log scale: a restart 0.068, as measured on the miniature; chosen: drift between launches 0.10, the
gain of an arm between prompts 0.12, a repeat 0.05. Six prompts, two repeats, five arms.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as sps

from analysis.science import intervals, speedup

STUDIES, ARMS, PROMPTS, REPEATS = 1000, 5, 6, 2
RESTART, DRIFT, PROMPT, REPEAT = 0.068, 0.10, 0.12, 0.05


def simulated(launches: int, seed: int, studies: int = STUDIES) -> np.ndarray:
    """Logarithms of seconds per token [study, arm, launch, prompt], means over repeats; every true ratio is 1."""
    random = np.random.default_rng(seed)
    shape = (studies, ARMS, launches, PROMPTS)
    logs = random.normal(0, DRIFT, (studies, 1, launches, 1)) + random.normal(0, RESTART, (studies, ARMS, launches, 1))
    logs = logs + random.normal(0, 0.5, (studies, 1, 1, PROMPTS))  # prompts are long and short for every arm
    gain = random.normal(0, PROMPT, (studies, ARMS, 1, PROMPTS))
    gain[:, 0] = 0  # the baseline takes as long for every token
    return logs + gain + random.normal(0, REPEAT / np.sqrt(REPEATS), shape)


def restarts(logs: np.ndarray) -> tuple[np.ndarray, int]:
    """Restart variance of each study, and its degrees of freedom."""
    arms, launches = np.indices(logs.shape[1:3]).reshape(2, -1)
    return intervals.mean_square(logs.mean(-1).reshape(len(logs), -1), arms, launches)


def holds(low: np.ndarray, high: np.ndarray) -> float:
    return float(((low <= 1) & (high >= 1)).mean())


def ours(launches: int, seed: int) -> float:
    """Coverage of the interval of this study; with one launch the spread is that of an earlier study of three."""
    logs = simulated(launches, seed)
    variance, df = restarts(logs if launches > 1 else simulated(3, seed + 1000))
    ratios = (logs[:, 0] - logs[:, 1]).mean(1)  # per prompt
    prompts = ratios.var(-1, ddof=1), PROMPTS - 1
    return holds(*intervals.ratio(ratios.mean(-1), (variance, df), 2 / launches, prompts, PROMPTS)[:2])


def student(launches: int, seed: int) -> float:
    """Coverage of the interval of before: Student's t over the launches of one pair."""
    per_launch = (simulated(launches, seed)[:, 0] - simulated(launches, seed)[:, 1]).mean(-1)
    half = sps.t.ppf(0.975, launches - 1) * per_launch.std(-1, ddof=1) / np.sqrt(launches)
    return holds(np.exp(per_launch.mean(-1) - half), np.exp(per_launch.mean(-1) + half))


def bootstrap(launches: int, seed: int, resamples: int = 200) -> float:
    """Coverage of a percentile bootstrap of launches, then prompts."""
    logs = simulated(launches, seed)
    ratios, random = logs[:, 0] - logs[:, 1], np.random.default_rng(seed)
    drawn = [
        ratios[:, random.integers(0, launches, launches)][:, :, random.integers(0, PROMPTS, PROMPTS)].mean((1, 2))
        for _ in range(resamples)
    ]
    return holds(*np.exp(np.percentile(drawn, [2.5, 97.5], axis=0)))


@pytest.mark.parametrize("launches", [1, 2, 3, 5])
def test_a_95_percent_interval_holds_the_truth_in_95_of_100_studies(launches):
    assert 0.92 <= ours(launches, launches) <= 0.97


def test_a_bootstrap_of_few_launches_promises_too_much_and_students_t_says_less_than_it_could():
    found = {launches: (bootstrap(launches, launches), student(launches, launches)) for launches in (2, 3, 5)}
    assert all(resampled < 0.9 for resampled, _ in found.values())
    assert found[5][1] < 0.92  # it leaves out that prompts are a sample


def test_frames_and_arrays_give_the_same_interval(build):
    logs = simulated(2, 7, studies=1)
    rows = [
        {"k": k, "launch": launch + 1, "prompt_id": f"p{prompt}", "seconds": 100 * np.exp(logs[0, k, launch, prompt])}
        for k, launch, prompt in np.ndindex(logs.shape[1:])
    ]
    row = speedup.paired(build.requests(*rows)).query("k == 1").iloc[0]
    variance, df = restarts(logs)
    ratios = (logs[0, 0] - logs[0, 1]).mean(0)
    low, high, _ = intervals.ratio(ratios.mean(), (variance[0], df), 1.0, (ratios.var(ddof=1), PROMPTS - 1), PROMPTS)
    assert (row.lo, row.hi) == pytest.approx((low, high))


@pytest.mark.parametrize("launches, verdict", [(1, "not distinguishable"), (5, "slower")])
def test_a_planted_slowdown_of_3_percent_is_seen_at_five_launches_and_not_at_one(build, launches, verdict):
    """On a GPU whose restarts differ by 1 %: one launch's interval is ±1.96 · √2 · 1 %, five launches' ±1.24 %."""
    noise = np.random.default_rng(3).normal(0, 0.01, (ARMS, 5))
    slow = np.where(np.arange(ARMS) == 1, np.log(1.03), 0.0)
    rows = [
        {"k": k, "launch": n + 1, "prompt_id": p, "seconds": 100 * np.exp(noise[k, n] + slow[k])}
        for k, n, p in [(k, n, p) for k in range(ARMS) for n in range(launches) for p in ("p1", "p2")]
    ]
    requests, before = build.requests(*rows), intervals.Spread(0.011, 8.0, studies=1)
    row = speedup.paired(requests, before).query("k == 1").iloc[0]
    assert speedup.verdict(row, speedup.floor(requests, before)) == verdict


def test_on_pure_noise_hardly_any_workload_is_called_faster_or_slower():
    """A/A at three launches, by the words that a page would say: at most 8 of 100."""
    logs = simulated(3, 11)
    variance, df = restarts(logs)
    ratios = (logs[:, 0] - logs[:, 1]).mean(1)
    low, high, _ = intervals.ratio(ratios.mean(-1), (variance, df), 2 / 3, (ratios.var(-1, ddof=1), 5), PROMPTS)
    floors = [intervals.floor(intervals.Spread(float(np.sqrt(v)), df), 3) for v in variance[:200]]
    table = pd.DataFrame({"speedup": np.exp(ratios.mean(-1)), "lo": low, "hi": high}).head(200)
    said = [speedup.verdict(row, floor) for (_, row), floor in zip(table.iterrows(), floors, strict=True)]
    assert np.mean([verdict in ("faster", "slower") for verdict in said]) <= 0.08

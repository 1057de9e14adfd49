"""Is the output still right? Agreement of greedy texts, with the baseline against itself as control. Pure.

Speculation keeps the distribution of the output (Leviathan et al. 2211.17192), not its bytes: at a near-tie of two
logits another batch shape can choose the other token, and the text goes on differently. So two runs of the baseline
are compared too, and an arm is judged against that, never against exact equality.
"""

from __future__ import annotations

import pandas as pd

from analysis.records.withheld import is_withheld
from analysis.science import arms
from analysis.science.stats import mcnemar, wilson


def pairs(requests: pd.DataFrame) -> pd.DataFrame:
    """Greedy texts side by side: one row per comparison, workload and prompt.

    Out: comparison (``baseline ~ baseline`` or ``baseline ~ <arm>``), arm, k, workload, prompt_id, same (bool),
    common (share of the shorter text before the first difference).
    """
    wanted = (requests.variant == "main") | arms.lossy(requests)
    greedy = requests[(requests.experiment == "greedy") & wanted]
    base = greedy[arms.baseline(greedy) & (greedy.repeat == 1)].set_index(["workload", "prompt_id"]).text
    rows = []
    for (arm, k, repeat), group in greedy.groupby(["arm", "k", "repeat"]):
        control = not arms.speculating(group).any()
        if control == (repeat == 1):
            continue
        for r in group.itertuples():
            own, other = base[(r.workload, r.prompt_id)], r.text
            name = "baseline ~ baseline" if control else f"baseline ~ {arm}"
            rows.append((name, arm, k, r.workload, r.prompt_id, own == other, _share(own, other)))
    return pd.DataFrame(rows, columns=["comparison", "arm", "k", "workload", "prompt_id", "same", "common"])


def agreement(pairs: pd.DataFrame) -> pd.DataFrame:
    """Share of prompts with identical text by comparison, with Wilson interval and mean common prefix."""
    rows = []
    for (name, arm, k), group in pairs.groupby(["comparison", "arm", "k"], sort=False):
        lo, hi = wilson(int(group.same.sum()), len(group))
        rows.append(
            {
                "comparison": name,
                "arm": arm,
                "k": k,
                "prompts": len(group),
                "identical": int(group.same.sum()),
                "share": group.same.mean(),
                "lo": lo,
                "hi": hi,
                "common_prefix": group.common.mean(),
            }
        )
    return pd.DataFrame(rows).sort_values("k", ignore_index=True)


def against_control(pairs: pd.DataFrame) -> dict[str, float]:
    """Arm that speculates -> exact McNemar p-value: does it change more prompts than a repeated baseline does?"""
    control = pairs[arms.baseline(pairs)].set_index(["workload", "prompt_id"]).same
    found = {}
    for arm, group in pairs[arms.speculating(pairs)].groupby("arm", sort=False):
        own = group.set_index(["workload", "prompt_id"]).same.reindex(control.index).astype(bool)
        found[arm] = mcnemar(int((control & ~own).sum()), int((~control & own).sum()))
    return found


def _share(a: str, b: str) -> float:
    """Share of the shorter text before the first difference; NaN for two texts that are not published and differ."""
    if a != b and is_withheld(a):
        return float("nan")
    return sum(1 for _ in _common(a, b)) / max(1, min(len(a), len(b)))


def _common(a: str, b: str):
    for x, y in zip(a, b, strict=False):
        if x != y:
            return
        yield x

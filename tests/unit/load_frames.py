"""Frames of load: counters of real launches whose engine chooses K, and the speeds of a real H100 on both sides of its graphs."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

DATA = Path(__file__).parent / "data"
#: drafts, draft tokens, accepted, accepted by position, tokens of real launches on an H100 (vLLM 0.32.0, the miniature,
#: K at most 8): fixed; adaptive verification; by batch with [[1, 32, 8], [33, 128, 4], [129, 256, 0]].
RECORDED = json.loads((DATA / "k_under_load.json").read_text())
WAYS = {"k8": "", "k8-adaptive": "adaptive", "k8-bybatch": "by_batch"}


def recorded(streams=None):
    rows, positions, requests = [], [], []
    for r in (r for r in RECORDED if streams in (None, r["streams"])):
        key = {
            "cell_id": f"{r['arm']}{r['streams']}", "launch": 1, "arm": f"mtp-k8@{r['arm']}", "variant": r["arm"], "k": 8,
            "speculator": "mtp", "experiment": "concurrency", "workload": f"at {r['streams']}",
            "concurrency": r["streams"], "way": WAYS[r["arm"]],
        }  # fmt: skip
        counts = {n: r[n] for n in ("drafts", "draft_tokens", "accepted")}
        rows.append(
            {**key, **counts, "requests": r["streams"], "completion_tokens": r["tokens"], "in_graphs": "inside"}
        )
        positions += [
            {**key, "position": i, "drafts": r["drafts"], "accepted": n} for i, n in enumerate(r["per_position"])
        ]
        requests.append({**key, "steps": len(r["first"]["drafted"]), "step_accepted": sum(r["first"]["accepted"])})
    return pd.DataFrame(rows), pd.DataFrame(positions), pd.DataFrame(requests)


SPEEDS = {  # tok/s on an H100 with the shapes of 26B-A4B: baseline, K = 4 by default, K = 4 with graphs that cover
    64: (4654, 7764, 7958),
    96: (5997, 9841, 10024),
    112: (6440, 5502, 10734),
    128: (7268, 6220, 11432),
    192: (8647, 7257, 13623),
}


def measured(launches=(1, 2), wobble=1.004):
    rows = []
    for launch in launches:
        for streams, speeds in SPEEDS.items():
            for (arm, variant, k), speed in zip(
                (("baseline", "main", 0), ("mtp-k4", "main", 4), ("mtp-k4@cover", "cover", 4)), speeds, strict=True
            ):
                side = "outside" if arm == "mtp-k4" and streams > 100 else "inside"
                rows.append(
                    {
                        "cell_id": f"{arm}{streams}{launch}",
                        "launch": launch,
                        "arm": arm,
                        "variant": variant,
                        "k": k,
                        "speculator": "mtp" if k else "none",
                        "experiment": "concurrency",
                        "workload": "en_finance",
                        "concurrency": streams,
                        "way": "",
                        "in_graphs": side,
                        "requests": streams,
                        "preemptions": 0,
                        "completion_tokens": 1000 * streams,
                        "wall_s": 1000 * streams / speed * wobble ** ((launch - 1) * (1 + (k > 0))),
                    }  # fmt: skip
                )
    cells = pd.DataFrame(rows)
    return cells, cells.assign(tok_s=1.0, ttft=0.1, seconds=1.0)

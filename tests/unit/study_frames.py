"""Frames of an invented study whose every number is known: acceptance by design, step costs by design."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd

WORKLOADS = {"py_code": 0.85, "en_finance": 0.70, "ja_finance": 0.60}
RHO = {0: 1.0, 1: 1.2, 2: 1.25, 4: 1.35, 8: 1.55}
STEP, TOKENS = 0.02, 10_001


def frames(alpha=WORKLOADS, rho=RHO, launches=2, agree=9, of=10, scale=(1.0, 3.2, 6.2), wobble=0.001):
    """A study with p_i = alpha^(i+1), a step of rho(K) x 20 ms, `agree` of `of` greedy texts equal, scaling `scale`.

    Launch 2 is slower than launch 1 by `wobble` at every K > 0.
    """
    cells, requests, positions, greedy = [], [], [], []
    for launch in range(1, launches + 1):
        for k, cost in rho.items():
            for workload, a in alpha.items():
                at = _at(launch, k, workload, "timing", 1)
                counts, p = _counts(a, k)
                steps = TOKENS - 1 - counts["accepted"]
                decode = steps * STEP * cost * (1 + wobble * (launch - 1) * (k > 0))
                cells.append(
                    {**at, **counts, "requests": 1, "completion_tokens": TOKENS, "wall_s": decode, "preemptions": 0}
                )
                requests.append(_request(at, decode))
                positions += [{**at, "position": i, "drafts": counts["drafts"], "accepted": n} for i, n in enumerate(p)]
                for streams, factor in zip((1, 4, 8), scale, strict=True):
                    load = _at(launch, k, workload, "concurrency", streams)
                    wall = decode * streams / (factor if k == 4 else streams)
                    cells.append(
                        {
                            **load,
                            **counts,
                            "requests": streams,
                            "completion_tokens": TOKENS * streams,
                            "wall_s": wall,
                            "preemptions": 0,
                        }
                    )
                    requests.append(_request(load, wall))
    for k, repeat in ((0, 1), (0, 2), (4, 1)):
        for prompt in range(of):
            text = "same" if k == 0 or prompt < agree else "other"
            at = _at(1, k, "en_finance", "greedy", 1, repeat)
            greedy.append({**_request(at, 1.0), "prompt_id": f"g{prompt}", "text": text})
    started = pd.DataFrame(
        [
            {"launch_id": f"mtp-k{k}.{n}", "k": k, "launch": n, "variant": "main", "first_request_s": 32 * STEP * 3}
            for k in rho
            for n in range(1, launches + 1)
        ]
    )
    return SimpleNamespace(
        cells=pd.DataFrame(cells),
        requests=pd.DataFrame(requests + greedy),
        positions=pd.DataFrame(positions),
        launches=started,
    )


def about(**other) -> dict:
    """The context of a measured study of the 26B on GB10, or what `other` says."""
    return {
        "study": "invented",
        "stamp": "measured",
        "hardware": "gb10",
        "model": "gemma-4-26B-A4B-it",
        "architecture": "moe",
        "quantisation": "fp8",
        **other,
    }


def _at(launch, k, workload, experiment, streams, repeat=1) -> dict:
    arm = f"mtp-k{k}" if k else "baseline"
    return {
        "cell_id": f"{launch}{k}{workload}{experiment}{streams}{repeat}",
        "launch_id": f"mtp-k{k}.{launch}",
        "launch": launch,
        "arm": arm,
        "variant": "main",
        "k": k,
        "experiment": experiment,
        "workload": workload,
        "concurrency": streams,
        "repeat": repeat,
    }


def _counts(alpha: float, k: int) -> tuple[dict, list[int]]:
    """Counters of one request: 1 + drafts + accepted = TOKENS, p_i = alpha^(i+1) as near as counts allow."""
    shares = [alpha ** (i + 1) for i in range(k)]
    drafts = round((TOKENS - 1) / (1 + sum(shares))) if k else 0
    per_position = [round(drafts * share) for share in shares]
    if k:
        per_position[0] += TOKENS - 1 - drafts - sum(per_position)
    return {"drafts": drafts, "draft_tokens": drafts * k, "accepted": sum(per_position)}, per_position


def _request(at: dict, decode: float) -> dict:
    return {
        **at,
        "prompt_id": "p",
        "index": 0,
        "seed": 1,
        "seconds": decode,
        "ttft": 0.0,
        "tpot": decode / (TOKENS - 1),
        "completion_tokens": TOKENS,
        "chars": 4 * TOKENS,
        "text": "x",
        "tok_s": TOKENS / decode,
        "decode_tok_s": (TOKENS - 1) / decode,
        "chars_s": 4 * TOKENS / decode,
        "repetition": 0.0,
        "steps": 0,
        "step_accepted": 0,
        "undrafted_steps": 0,
    }

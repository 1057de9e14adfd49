"""Builders of small tidy frames: what a test names is what it is about, the rest has harmless values.

Frames go through `analysis.records.schema`, so they have the columns and types of those that the store returns.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import settings

from analysis.records import schema
from analysis.study import params, study_file
from analysis.study.speculator import MTP, NONE

# A busy machine must not fail a test: no deadlines, and few examples, since the whole set runs at every commit.
settings.register_profile("study", deadline=None, max_examples=60)
settings.load_profile("study")

STUDY = {
    "study": "demo",
    "title": "A small study",
    "target": {"model": "org/target"},
    "drafter": {"model": "org/drafter"},
    "workloads": ["py_code"],
    "k_values": [1, 2],
    "k": 2,
    "concurrency": [1, 4],
    "repeats": 1,
    "timing_tokens": 20,
    "code_programs": 0,
    "greedy_tokens": 0,
}


class Build:
    """``build.requests({...}, {...})``: one row a mapping of what differs from a harmless row."""

    def study(self, **changes: Any) -> params.Study:
        return study_file.validate({**STUDY, **changes})

    def keys(self, row: dict[str, Any]) -> dict[str, Any]:
        k, variant = row.get("k", 0), row.get("variant", "main")
        arm = row.get("arm", (MTP if k else NONE).arm(k, variant))
        key = {
            "launch": 1,
            "arm": arm,
            "variant": variant,
            "k": k,
            "experiment": "timing",
            "workload": "py_code",
            "concurrency": 1,
            "repeat": 1,
            **row,
        }
        key.setdefault("launch_id", f"{arm}.{key['launch']}.1")
        place = (key[c] for c in ("arm", "launch", "experiment", "workload", "concurrency", "repeat"))
        key.setdefault("cell_id", "-".join(map(str, place)))
        return key

    def requests(self, *rows: dict[str, Any]) -> pd.DataFrame:
        return schema.requests([self.request(row, at) for at, row in enumerate(rows)])

    def request(self, row: dict[str, Any], at: int = 0) -> dict[str, Any]:
        seconds = row.get("seconds", 10.0)
        plain = {
            "index": at,
            "prompt_id": "p1",
            "seed": 42,
            "stream": 0,
            "seconds": seconds,
            "ttft": 0.0,
            "last": seconds,
            "gaps": [],
            "chunks": 1,
            "prompt_tokens": 5,
            "completion_tokens": 100,
            "finish_reason": "length",
            "text": "some text",
            "steps_accepted": [],
            "steps_drafted": [],
        }
        return {**plain, **self.keys(row)}

    def cells(self, *rows: dict[str, Any]) -> pd.DataFrame:
        return schema.cells([self.cell(row) for row in rows])

    def cell(self, row: dict[str, Any]) -> dict[str, Any]:
        zero = dict.fromkeys(
            ["prompt_tokens", "drafts", "draft_tokens", "accepted", "generation_tokens", "prefix_hits", "preemptions"],
            0,
        )
        plain = {"status": "ok", "reason": "", "wall_s": 10.0, "requests": 1, "completion_tokens": 100, **zero}
        return {**plain, **self.keys(row)}

    def positions(self, *rows: dict[str, Any]) -> pd.DataFrame:
        """Rows with ``drafts`` and ``per_position``: one record a position."""
        return schema.positions(
            [
                {**self.keys(row), "position": i, "drafts": row["drafts"], "accepted": accepted}
                for row in rows
                for i, accepted in enumerate(row["per_position"])
            ]
        )

    def launches(self, *rows: dict[str, Any]) -> pd.DataFrame:
        plain = {"ready_s": 30.0, "first_request_s": 1.5, "command": "serve"}
        return schema.launches([{**plain, **self.keys(row), "facts": row.get("facts", {})} for row in rows])


@pytest.fixture(scope="session")
def build() -> Build:
    return Build()

"""What earlier studies of the same machine and engine measured at one stream, for what one launch alone cannot know.

In: the store of a study. Out: one frame of timing requests per other study beside it that started an arm twice, with the
columns that `science.intervals.spread` reads.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.errors import StoreError
from analysis.records.store import Store

_OF_LAUNCH = ("variant", "arm", "launch")
_OF_REQUEST = ("prompt_id", "seconds", "completion_tokens")


def frames(store: Store) -> list[pd.DataFrame]:
    """Timing requests of the other studies in the same place, whose launches ran on this study's machine and engine."""
    own = next(filter(None, (place(store.launch(i)) for i in sorted(store.launch_ids()))), None)
    if own is None or not store.folder.parent.is_dir():
        return []
    found = []
    for folder in sorted(store.folder.parent.iterdir()):
        if folder != store.folder and (folder / "cells.jsonl").is_file():
            try:
                frame = timing(Store(folder.name, root=folder.parent), own)
            except StoreError:  # a copied folder, or records of another format: not for this study to mend
                continue
            if len(frame) and frame.groupby(["variant", "arm"]).launch.nunique().max() > 1:
                found.append(frame)
    return found


def place(launch: dict[str, Any]) -> tuple | None:
    """Machine and engine of a launch's record: equal for launches that can be compared; None where it does not say."""
    machine, facts = launch.get("provenance") or {}, launch.get("facts") or {}
    if not machine.get("cpu") or not facts.get("vllm_version"):
        return None
    return machine["cpu"], machine.get("cores"), tuple(machine.get("gpus") or ()), facts["vllm_version"]


def timing(store: Store, where: tuple) -> pd.DataFrame:
    """Timing requests of a study's launches at one place (`place`)."""
    launches = {i: launch for i in store.launch_ids() if place(launch := store.launch(i)) == where}
    cells = {
        (r["cell_id"], r["launch_id"]): r["label"].split(" · ")
        for r in store.lines("cells")
        if r["status"] == "ok" and r["launch_id"] in launches
    }
    rows = [
        {
            "experiment": "timing",
            "workload": label[2],
            **{name: launches[r["launch_id"]][name] for name in _OF_LAUNCH},
            **{name: r[name] for name in _OF_REQUEST},
        }
        for r in store.lines("requests")
        if (label := cells.get((r["cell_id"], r["launch_id"]))) and label[1] == "timing"
    ]
    return pd.DataFrame(rows, columns=["experiment", "workload", *_OF_LAUNCH, *_OF_REQUEST])

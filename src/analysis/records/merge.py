"""Records of one study that were measured apart (one folder per GPU, say) -> one store. Every identity is checked first.

Nothing is overwritten, nothing is copied twice: either all folders fit, or nothing is written. The folders themselves
stay as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.errors import StoreError
from analysis.records.store import Store
from analysis.study.plan import Plan

#: Parameters that say how to read or estimate, not what was measured.
_READING = {"measure", "records", "expect", "title", "costs"}


@dataclass(frozen=True)
class Merged:
    """What came from one folder."""

    folder: Path
    measurements: int
    launches: int


def merge(plan: Plan, into: Store, folders: Sequence[Path]) -> list[Merged]:
    """Copy the records of a study from other folders, each a ``STUDY_HOME`` or the study's own folder in one.

    Raises
    ------
    StoreError
        A folder without records of this study, of other parameters, with a measurement that this study does not plan
        (another prompt, model or setting), or with one that is there already. Nothing was written then.
    filelock.Timeout
        Somebody measures this study into one of the folders.
    """
    parts = [_open(into, folder) for folder in folders]
    planned = {cell.id for cell in plan.cells}
    first = into.study_record() or parts[0].study_record()
    there = {cell_id: "this study's own folder" for cell_id in into.complete()}
    for part, folder in zip(parts, folders, strict=True):
        _check_parameters(part, first, folder)
        done = part.complete()
        if foreign := done - planned:
            raise StoreError(
                f"{len(foreign)} of {len(done)} measurements in {folder} are none of this study.",
                why=f"The first is '{_label(part, min(foreign))}': its prompt, model, settings or arm differ from the study file's.",
                fix="Merge with the study file, prompts and model folders that they were measured with.",
            )
        if twice := done & set(there):
            raise StoreError(
                f"{len(twice)} measurements in {folder} are in {there[min(twice)]} as well.",
                why=f"The first is '{_label(part, min(twice))}'. Records are never overwritten.",
                fix="Leave that folder out, or move the records that should not count away.",
            )
        there |= dict.fromkeys(done, str(folder))
    with into.lock():
        if not into.study_record():
            into.write_study({k: v for k, v in first.items() if k not in ("study", "format")})
        return [_copy(part, into, folder) for part, folder in zip(parts, folders, strict=True)]


def _open(into: Store, folder: Path) -> Store:
    """The store in a folder, or below it where the folder is a ``STUDY_HOME``."""
    below = folder / "data" / "runs" / into.study
    place = below if (below / "study.json").is_file() else folder
    if not (place / "study.json").is_file():
        raise StoreError(
            f"{folder} has no records of {into.study}.",
            why=f"Neither study.json nor data/runs/{into.study}/study.json is there.",
            fix="Name the STUDY_HOME that it was measured with, or the folder with study.json.",
        )
    if place.resolve() == into.folder.resolve():
        raise StoreError(f"{folder} is this study's own folder.", fix="Name the other folders.")
    if place.name != into.study:
        raise StoreError(
            f"{folder} has another name than its study, {into.study}.",
            why="A folder was copied or renamed.",
            fix=f"Rename it to {into.study}.",
        )
    return Store(into.study, root=place.parent)


def _check_parameters(part: Store, first: dict[str, Any], folder: Path) -> None:
    ours, theirs = (
        {k: v for k, v in (r.get("parameters") or {}).items() if k not in _READING}
        for r in (first, part.study_record())
    )
    if different := [k for k in {**ours, **theirs} if ours.get(k) != theirs.get(k)]:
        key = different[0]
        raise StoreError(
            f"{folder} was measured with other parameters.",
            why=f"'{key}' is {str(theirs.get(key))[:80]} there, and {str(ours.get(key))[:80]} here.",
            fix="Merge records of one and the same study file.",
        )


def _label(part: Store, cell_id: str) -> str:
    return next((r.get("label", cell_id) for r in part.lines("cells") if r["cell_id"] == cell_id), cell_id)


def _copy(part: Store, into: Store, folder: Path) -> Merged:
    """Launches first, then each measurement with its requests, as they were written; then outcomes of programs."""
    with part.lock():
        names = _fresh_names(part, into)
        for old, new in names.items():
            source, target = part.folder / "launches" / old, into.launch_folder(new)
            for file in (f for f in source.iterdir() if f.is_file() and f.name != "launch.json"):
                shutil.copy2(file, target / file.name)
            if content := part.launch(old):
                into.write_launch(new, {k: v for k, v in content.items() if k != "launch_id"})
        requests: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for record in part.lines("requests"):
            requests.setdefault((record["cell_id"], record["launch_id"]), []).append(record)
        copied = 0
        for cell in part.lines("cells"):
            if (cell["cell_id"], cell["launch_id"]) in part.spoiled:
                continue
            name = names.get(cell["launch_id"], cell["launch_id"])
            own = requests.pop((cell["cell_id"], cell["launch_id"]), []) if cell["status"] == "ok" else []
            into.append({**cell, "launch_id": name}, [{**r, "launch_id": name} for r in own])
            copied += cell["status"] == "ok"
        for outcome in part.lines("outcomes"):
            into.append_outcome(outcome)
        return Merged(folder, copied, len(names))


def _fresh_names(part: Store, into: Store) -> dict[str, str]:
    """Launch of the other store -> its name here: the same, or the next attempt where that is taken."""
    taken, names = into.launch_ids(), {}
    for old in sorted(part.launch_ids()):
        stem, _, attempt = old.rpartition(".")
        number = int(attempt)
        while f"{stem}.{number}" in taken:
            number += 1
        names[old] = f"{stem}.{number}"
        taken.add(names[old])
    return names

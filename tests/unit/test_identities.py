"""Identities of what is on record do not move: the committed reference runs are found by the ids they were measured with."""

from __future__ import annotations

import hashlib
import json

import pytest

from analysis.places import RECORDS
from analysis.study import plan
from analysis.study.study_file import load_study

# study -> (planned cells, SHA-256 over the sorted ids of planned cells, the same over the ids on record).
# The model folders of the h200 studies are not in the repository; without them planned ids are those of absent folders.
PINNED = {
    "miniature": (155, "2475a051546eb435", "2475a051546eb435"),
    "miniature-moe": (65, "d7377acec508646c", "d7377acec508646c"),
    "miniature-context": (200, "be3aaab1b9ef9e33", "be3aaab1b9ef9e33"),
    "miniature-methods": (56, "6515d9ba10658b82", "6515d9ba10658b82"),
    "h200-shapes": (60, "2ec1e5b05febd9d8", "05061685c094515b"),
    "h200-load": (100, "54e4202b91f09c94", "77db27308cd5733c"),
    "h100-miniature-load": (150, "9ffb58e785464ddd", "9ffb58e785464ddd"),
}


def digest(ids) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]


def on_record(study: str) -> set[str]:
    lines = (RECORDS["reference"] / study / "cells.jsonl").read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["cell_id"] for line in lines}


@pytest.mark.parametrize("study", PINNED)
def test_ids_of_a_reference_run_are_the_pinned_ones(study):
    resolved = load_study(study, records="reference")
    if study.startswith("h200") and not resolved.target.fingerprint.startswith("absent"):
        pytest.skip("the made-up model folders are here: the planned ids are those of the machine's own folders")
    planned = [cell.id for cell in plan.make(resolved).cells]
    assert (len(planned), digest(planned), digest(on_record(study))) == PINNED[study]


@pytest.mark.parametrize("study", [study for study in PINNED if not study.startswith("h200")])
def test_every_planned_cell_of_a_reference_run_is_on_record(study):
    planned = {cell.id for cell in plan.make(load_study(study, records="reference")).cells}
    assert planned <= on_record(study)

"""Hostile and sound programs behind the walls: every one behind the first that holds, one of each kind behind the others."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import programs

WALLS = {kind: found for kind in programs.KINDS if not isinstance(found := programs.wall_of(kind), str)}
#: One of each kind, for the walls that are not the first.
FEW = (
    *(
        "cheat-dates-nonsense",
        "forge-ran-string",
        "fails-after-a-right-table",
        "sleep-forever",
        "fork-bomb-quiet",
        "ptraced-child",
    ),
    *(
        "memory-many",
        "memory-memfd",
        "filter",
        "disk-inodes",
        "stdout-flood",
        "chart-png-bomb",
        "net-udp",
        "read-proc",
        "write-outside",
    ),
    *("surrogate-source", "os-exit-0", "setuid-binaries"),
)


@pytest.mark.skipif(not WALLS, reason="no sandbox here: no wall holds")
def test_every_hostile_program_gets_the_right_verdict_and_leaves_nothing():
    kind, found = next(iter(WALLS.items()))
    row = programs.tried(kind, found[1])
    assert row.tried == row.held >= 90, str(row)


@pytest.mark.parametrize("kind", programs.KINDS)
def test_the_other_walls_hold_one_of_each_kind(kind):
    if kind not in WALLS:
        pytest.skip(f"{kind} does not hold here")
    if kind == next(iter(WALLS)):
        return  # it has had them all
    row = programs.tried(kind, WALLS[kind][1], FEW)
    assert row.tried == row.held == len(FEW), str(row)


@pytest.mark.parametrize("kind", programs.KINDS)
def test_a_sound_program_passes_however_it_is_written(kind):
    if kind not in WALLS:
        pytest.skip(f"{kind} does not hold here")
    count = 24 if kind == next(iter(WALLS)) else 4
    row = programs.tried_sound(kind, WALLS[kind][1], count)
    assert (row.tried, row.held) == (count, count), str(row)


def test_every_part_of_a_generated_program_is_used():
    texts = "\n".join(programs.sound(number) for number in range(400))
    for parts in (programs.FETCH, programs.CHANGE, programs.DATE, programs.AFTER, programs.END):
        assert all(part.split("\n")[-1] in texts for part in parts)

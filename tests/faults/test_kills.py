"""kill -9 of a measuring process at 30 points, and of the guard of a program: nothing is lost, nothing is left."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import kills
import programs


def test_no_acknowledged_measurement_is_lost_and_no_process_is_left(tmp_path):
    row = kills.tried(30, tmp_path)
    assert (row.tried, row.held) == (30, 30), str(row)


@pytest.mark.parametrize("kind", programs.KINDS)
@pytest.mark.parametrize("who", ["measurer", "guard"])
def test_no_process_of_a_program_is_left(kind, who):
    if isinstance(found := programs.wall_of(kind), str):
        pytest.skip(f"{kind} does not hold here: {found}")
    row = kills.tried_programs(2, kind, who)
    assert (row.tried, row.held) == (2, 2), str(row)

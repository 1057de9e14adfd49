"""500 damaged inputs at every door: the study's own errors and nothing else, each within its time."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import doors


@pytest.mark.parametrize("name", doors.DOORS)
def test_a_damaged_input_is_taken_or_refused_in_the_studys_own_words(name):
    row = doors.tried(name, 500)
    assert (row.tried, row.held) == (500, 500), str(row)


def test_a_foreign_exception_a_long_error_and_a_door_that_never_ends_are_faults():
    def slow(data):
        while True:
            pass

    def wordy(data):
        raise doors.StudyError("x" * 30_000)

    assert doors.outcome(lambda data: data[9], b"").startswith("IndexError at test_doors.py")
    assert "30000 characters" in doors.outcome(wordy, b"")
    assert "not done" in doors.outcome(slow, b"", seconds=0.1)
    assert doors.outcome(lambda data: None, b"") == ""


def test_an_input_is_known_by_its_number():
    first, again = (list(doors.inputs("x", [b'{"a": 1}\n'], 50)) for _ in range(2))
    assert first == again and len(set(first)) > 40 and list(doors.inputs("x", [b'{"a": 1}\n'], 10, 40)) == first[40:]

"""Every fault of a server that the stand-in engine knows."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import servers


def test_every_fault_of_a_server_ends_in_one_error_or_a_mark_and_in_sound_records(tmp_path):
    row = servers.tried(tmp_path)
    assert row.tried == row.held >= 16, str(row)

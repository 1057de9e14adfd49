"""The long break test (`make break`): kills, damaged inputs at every door, faults of a server, hostile and sound programs.

Prints a table: what was tried, held, failed. Exit status 1 where anything failed. `tests/faults/test_*.py` run a small
selection of the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import doors
import kills
import programs
import servers


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="kill -9 of measuring processes")
    parser.add_argument("--files", type=int, default=10_000, help="damaged inputs, over all doors")
    parser.add_argument("--sound", type=int, default=100, help="generated sound programs behind each wall")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first input: other numbers are other inputs"
    )
    given = parser.parse_args(argv)
    rows: list[doors.Row] = []

    def told(row: doors.Row) -> None:
        rows.append(row)
        print(f"{row}   {time.monotonic() - begin:6.0f} s", flush=True)

    begin = time.monotonic()
    print(f"{'kind':44} {'tried':>6} {'held':>6} {'failed':>6}   since the start")
    with tempfile.TemporaryDirectory(prefix="break-") as folder:
        told(kills.tried(given.kills, Path(folder) / "kills", given.first))
        told(servers.tried(Path(folder) / "servers"))
    for kind in programs.KINDS:
        found = programs.wall_of(kind)
        if isinstance(found, str):
            print(f"{kind} does not hold here: {found}")
            continue
        told(programs.tried(kind, found[1]))
        told(programs.tried_sound(kind, found[1], given.sound, given.first))
        told(kills.tried_programs(max(1, given.kills // 10), kind, "measurer", given.first))
        told(kills.tried_programs(max(1, given.kills // 20), kind, "guard", given.first))
    each = -(-given.files // len(doors.DOORS))
    with ProcessPoolExecutor(os.cpu_count() or 1) as pool:
        for row in pool.map(doors.tried, doors.DOORS, [each] * len(doors.DOORS), [given.first] * len(doors.DOORS)):
            told(row)
    whole = doors.Row("all", sum(r.tried for r in rows), sum(r.held for r in rows))
    told(whole)
    return int(whole.tried != whole.held)


if __name__ == "__main__":
    raise SystemExit(main())

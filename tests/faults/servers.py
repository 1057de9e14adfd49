"""Every fault of a server, on the stand-in engine: one error of the study, sound records, and no process left."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from doors import Row
from kills import GONE_S, STAND_IN, _carrying

from analysis.errors import StudyError
from analysis.measure import campaign
from analysis.places import ROOT
from analysis.records.store import Store
from analysis.study import plan, study_file

SECONDS = 60.0
#: Faults in which answers stay right: the measurement counts, and says what was wrong.
MARKED = {"stops-drafting", "stops-accepting", "preempts", "ledger-differs"}
#: They need a setting or a file of their own, and have a test in tests/engine.
ELSEWHERE = {"eats-memory", "cuts-graphs", "hangs-later", "compiles", "compiles-once", "miscounts"}


def faults() -> list[str]:
    """Names of all faults that the stand-in knows, as its source has them."""
    source = (STAND_IN / "vllm/entrypoints/openai/api_server.py").read_text(encoding="utf-8")
    return sorted(set(re.findall(r'FAULT == "([a-z-]+)"', source)) - ELSEWHERE)


def tried(folder: Path) -> Row:
    """Each fault once: the study ends with an error of its own, or measures on; what is on disk can be read."""
    row = Row("faults of a server")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(STAND_IN), str(ROOT / "src")])
    with ThreadPoolExecutor(4) as pool:
        for fault, said in zip(faults(), pool.map(lambda fault: _fault(fault, folder / fault), faults()), strict=True):
            row.add(said and f"{fault}: {said}")
    return row


def _fault(fault: str, root: Path) -> str:
    settings = {"k_values": [2], "k": 2, "repeats": 1, "concurrency": [1], "prompts": "published", "timing_tokens": 9}
    settings |= {"code_programs": 0, "greedy_tokens": 5, "warmup": 1, "remeasure": 0, "request_minutes": 0.05}
    server = {"env": {"FAULT": fault}, "start_minutes": 0.1}
    made = plan.make(study_file.load_study("miniature", **settings, server=server))
    store, begin, raised = Store(made.study.study, root=root), time.monotonic(), None
    wanted = [cell for cell in made.needed("mtp") if cell.arm.k]
    try:
        campaign.ensure(made, wanted, store)
    except StudyError as error:
        raised = error
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:150]
    took = time.monotonic() - begin
    again = Store(made.study.study, root=root)
    if again.damage():
        return str(again.damage()[0])
    again.frames([cell for cell in wanted if cell.id in again.complete()])
    end = time.monotonic() + GONE_S
    while (left := _carrying(str(root.resolve()).encode())) and time.monotonic() < end:
        time.sleep(0.05)
    if left:
        return f"{len(left)} processes were left"
    told = raised is not None or (fault in MARKED and any(cell.get("causes") for cell in again.lines("cells")))
    if not told:
        return "measured as if nothing were wrong"
    if raised is not None and not (raised.fix and raised.what):
        return f"an error without a fix: {raised.what}"
    return f"took {took:.0f} s" if took > SECONDS else ""

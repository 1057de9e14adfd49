"""Run the generated programs that have no outcome on record, each once, behind a wall of the sandbox."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any

import pandas as pd

from analysis import sandbox
from analysis.errors import MissingCells, SandboxError
from analysis.progress import Line
from analysis.records.store import Store

Outcomes = dict[tuple[str, int], dict[str, Any]]


def run(code: pd.DataFrame, store: Store, study: str, measure: str, *, required: bool = False) -> Outcomes:
    """Outcomes by cell and request: those on record, and those of the programs that were run now and recorded.

    Where no wall holds, programs are kept and not run: their outcomes say so, and nothing is recorded.
    In: the code requests; the study's name; its `measure`.

    Raises
    ------
    SandboxError
        No wall holds here, and `required`. MissingCells if measure is 'never' and an outcome is missing.
    """
    known = store.outcomes()
    todo = waiting(code, known)
    if required and not len(code):
        raise MissingCells(
            f"The study {study} has no generated programs on record.",
            fix=f"Measure it first: python -m analysis study {study}",
        )
    if todo and measure == "never":
        raise MissingCells(
            f"{len(todo)} generated programs have no recorded outcome, and measure is 'never'.",
            fix=f"Run them where a wall of the sandbox holds: python -m analysis run-programs {study}",
        )
    here = sandbox.available() if todo else None
    if here and not here.ok:
        if required:
            raise SandboxError("No program was run: no wall of the sandbox holds here.", here.reason, here.fix)
        Line().show(f"{len(todo)} programs are kept and not run. {here.reason}. {here.fix}", final=True)
        kept = {(r.cell_id, r.index): _not_run(r, here.reason) for r in todo}
        return known | kept
    line, charted = Line(), {r["arm"] for r in known.values() if r.get("chart")}
    for done, r in enumerate(todo, 1):
        line.show(f"executing generated program {done} of {len(todo)} ({r.arm})")
        program = sandbox.extract(r.text)
        outcome = sandbox.run(program)
        chart = b64encode(outcome.chart_png).decode() if outcome.chart_png and r.arm not in charted else ""
        charted |= {r.arm} if chart else set()
        store.append_outcome(
            {
                "cell_id": r.cell_id,
                "index": int(r.index),
                "arm": r.arm,
                "text_hash": _text_hash(r.text),
                "code": program.code if program else "",
                **outcome.row(),
                "rows_ok": outcome.rows_ok,
                "chart": chart,
            }
        )
    line.show(f"{len(todo)} programs executed, {len(code) - len(todo)} outcomes were on record.", final=True)
    return store.outcomes()


def waiting(code: pd.DataFrame, known: Outcomes) -> list[Any]:
    """The requests whose program has no outcome on record, or one of another text."""
    return [
        r
        for r in code.itertuples(index=False)
        if (r.cell_id, r.index) not in known or known[(r.cell_id, r.index)]["text_hash"] != _text_hash(r.text)
    ]


def _not_run(request: Any, reason: str) -> dict[str, Any]:
    """In place of the outcome of a program that is kept and not run."""
    program = sandbox.extract(request.text)
    return {
        "text_hash": _text_hash(request.text),
        "code": program.code if program else "",
        "reason": f"not run: no wall of the sandbox holds ({reason})",
        "wall": "none",
        "arm": request.arm,
    }


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]

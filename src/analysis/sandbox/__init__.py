"""Run Python that a model wrote, without network, secrets or time to burn: answer in, checked `Outcome` out.

``extract`` takes the program from an answer, ``run`` and ``run_many`` run it under bubblewrap and check its result
against a recorded stand-in series, ``available`` says whether this machine allows that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache

from analysis.sandbox import record
from analysis.sandbox.bubble import Availability, Limits, available, confine
from analysis.sandbox.outcome import Outcome, judge
from analysis.sandbox.program import Program, extract

__all__ = ["Availability", "Limits", "Outcome", "Program", "available", "extract", "run", "run_many"]

LONGEST = 200_000
"""Characters of a program; more than any answer can hold."""


def run(
    program: Program | str | None,
    *,
    seconds: float = Limits.seconds,
    cpu_s: int = Limits.cpu_s,
    memory_mb: int = Limits.memory_mb,
    processes: int = Limits.processes,
    file_mb: int = Limits.file_mb,
    flat_columns: bool = False,
) -> Outcome:
    """Run one program and check what it hands back.

    Parameters
    ----------
    program : Program, str or None
        What `extract` gave; None (no code in the answer) is an outcome too.
    seconds, cpu_s : float, int
        Wall time and CPU time after which it is stopped [s].
    memory_mb, processes, file_mb : int
        Memory [MiB], processes and threads, size of one file [MiB].
    flat_columns : bool
        Let the stand-in for yfinance return the flat columns of its older releases.

    Raises
    ------
    SandboxError
        Where no namespace can be made. Code is never run without one.
    """
    if program is None:
        return Outcome(reason="no Python code in the answer")
    if isinstance(program, str):
        program = Program(program)
    if len(program.code) > LONGEST:
        return Outcome(reason=f"the code is longer than {LONGEST} characters")
    limits = Limits(seconds, cpu_s, memory_mb, processes, file_mb)
    traces = confine(program.code, limits, flat_columns)
    return judge(
        traces.events,
        traces.status,
        stopped=traces.stopped,
        seconds=traces.seconds,
        stdout=traces.stdout,
        stderr=traces.stderr,
        complete=program.complete,
        recorded=_closes(),
    )


def run_many(
    programs: Sequence[Program | str | None],
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    **limits,
) -> list[Outcome]:
    """`run` for several programs, in their order. `progress(done, total)` is called after each.

    Seconds are only comparable between runs with the same number of workers; time with ``workers=1``.
    """
    available()  # probed once, before the workers start
    outcomes: list[Outcome] = [Outcome()] * len(programs)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting = {pool.submit(run, program, **limits): at for at, program in enumerate(programs)}
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                outcomes[waiting[future]] = future.result()
                if progress:
                    progress(done, len(programs))
        except BaseException:
            # Ctrl-C or no sandbox: what has not begun does not begin.
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes


@cache
def _closes() -> tuple[float, ...]:
    return record.closes()

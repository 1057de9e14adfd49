"""Run Python that a model wrote, without network, without secrets and within a time limit: answer in, checked `Outcome` out.

``extract`` takes the program from an answer, ``run`` and ``run_many`` run it behind the first wall that holds here and
check what it left against a recorded stand-in series, ``available`` says which wall that is, or why there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache

from analysis.errors import SandboxError
from analysis.sandbox import confined, probe, record
from analysis.sandbox.limits import Limits
from analysis.sandbox.outcome import Outcome, judge
from analysis.sandbox.probe import Availability, available
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
    """Run one program and check what it leaves.

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
        Where no wall holds. Code is never run without one.
    """
    if program is None:
        return Outcome(reason="no Python code in the answer")
    if isinstance(program, str):
        program = Program(program)
    if len(program.code) > LONGEST:
        return Outcome(reason=f"the code is longer than {LONGEST} characters")
    state, ready = probe.ready()
    if ready is None:
        raise SandboxError("Generated code cannot be run safely here.", why=state.reason, fix=state.fix)
    limits = Limits(seconds, cpu_s, memory_mb, processes, file_mb)
    traces = confined.run(ready.wall, program.code, limits, flat_columns=flat_columns, fonts=ready.fonts)
    if not traces.started:
        raise SandboxError("The sandbox did not come up.", why=traces.stopped, details=traces.trouble)
    return judge(traces, wall=ready.wall.name, complete=program.complete, recorded=_recorded())


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
def _recorded() -> tuple[tuple[str, float], ...]:
    return record.series()

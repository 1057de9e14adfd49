"""Make sure that planned cells exist: launch what is missing, measure it, record it, and nothing else.

The store decides: a cell with a complete record is never measured again. While an arm's server is up, all planned
cells of that launch are measured, whichever chapter asked first, so a study launches each arm once per replicate.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace

import filelock

from analysis.errors import (
    ClientError,
    ConnectionLost,
    CountersError,
    Deadlock,
    MissingCells,
    PreflightError,
    Stopped,
    StoreError,
    StudyError,
)
from analysis.measure import degenerate, fill, state
from analysis.measure.client import Answer, Client
from analysis.measure.counters import Counters, Meter
from analysis.measure.fill import Filler
from analysis.measure.tracker import Tracker
from analysis.records import provenance, withheld
from analysis.records.store import Store
from analysis.servers import backend, checkpoints, diagnosis, engines
from analysis.servers.diagnosis import ENOUGH_DRAFTS, LEAST_ACCEPTANCE
from analysis.study import environment
from analysis.study.plan import Arm, Cell, Plan, Request, Sampling


def _fix_of_missing(plan: Plan, missing: Sequence[Cell]) -> str:
    """A record is known by the files of its model folder: without the folder no record fits."""
    arm = missing[0].arm
    if arm.target.fingerprint.startswith("absent "):
        maker = "python -m analysis.dummy" if checkpoints.made_up(arm) else "python -m analysis prefetch"
        return f"The folder {arm.target.model} is not here, and records are known by its files: run {maker}."
    if plan.study.records == "reference":
        return "Set records to 'runs' and measure to 'missing': they are then measured into a run of your own."
    return (
        "Set measure to 'missing' on the machine to be measured, or records to 'reference' if there is a reference run "
        f"of {plan.study.study}."
    )


def ensure(plan: Plan, wanted: Sequence[Cell], store: Store) -> str:
    """Measure the wanted cells that have no complete record; a sentence that says what was done.

    Raises
    ------
    MissingCells
        ``measure: never`` and a cell has no record.
    ServerError, ClientError, CountersError, PreflightError, StoreError
        With the fix; everything measured before stays on disk, and the cut cell is measured by the next run.
    """
    missing = _missing(wanted, store)
    if not missing:
        return f"All {len(wanted)} measurements are on record; nothing was launched." + _damaged(store)
    reference = plan.study.records == "reference"
    if plan.study.measure == "never" or reference:
        raise MissingCells(
            f"{len(missing)} of {len(wanted)} measurements have no record, and "
            + ("a reference run is read-only." if reference else "measure is 'never'."),
            why="The first ones: " + "; ".join(c.label for c in missing[:3]) + "." + _damaged(store),
            fix=_fix_of_missing(plan, missing),
        )
    try:
        with store.lock():
            return _measure(plan, missing, store)
    except KeyboardInterrupt:
        kept = len(wanted) - len(_missing(wanted, store))
        raise Stopped(f"Stopped. {kept} of {len(wanted)} measurements are on record; run again to go on.") from None
    except filelock.Timeout:
        raise StoreError(
            f"Another process is measuring the study {plan.study.study}.",
            why="Two at once would disturb each other's times.",
            fix="Wait until it ends, or end it; then run again.",
        ) from None


def _damaged(store: Store) -> str:
    """A sentence on the first damaged lines of the records; empty where there are none."""
    found = store.damage()
    more = f" {len(found) - 2} more are damaged." if len(found) > 2 else ""
    return "".join(f" {damage}" for damage in found[:2]) + more


def _missing(cells: Sequence[Cell], store: Store) -> list[Cell]:
    complete = store.complete()
    return [c for c in cells if c.id not in complete]


def _measure(plan: Plan, missing: list[Cell], store: Store) -> str:
    swept = backend.sweep({str(store.launch_folder(i).resolve()) for i in store.launch_ids()}, plan.arms)
    store.write_study(
        {
            "parameters": plan.study.model_dump(mode="json"),
            "stamp": plan.study.stamp,
            "provenance": provenance.collect(plan.study.hash),
        }
    )
    wanted = {(c.arm.id, c.launch) for c in missing}
    launches = [(arm, number) for arm, number in plan.launches() if (arm.id, number) in wanted]
    tracker = Tracker(plan, launches, store)
    failed: list[StudyError] = []
    for arm, number in launches:
        failed += _launch(plan, arm, number, store, tracker)
    text = tracker.done("measured") + (f" {len(swept)} processes left by an earlier run were ended." if swept else "")
    if failed:
        error = failed[0]
        raise type(error)(
            f"{len(failed)} measurements failed; the others are on record. The first: {error.what}",
            error.why,
            error.fix,
            error.details,
        )
    return text


def _launch(plan: Plan, arm: Arm, number: int, store: Store, tracker: Tracker) -> list[StudyError]:
    """Start one server and measure all planned cells of it that are missing; the errors of cells that failed."""
    todo = _missing(plan.of(arm, number), store)
    attempt = 1 + sum(i.startswith(f"{arm.name}.{number}.") for i in store.launch_ids())
    launch_id = f"{arm.name}.{number}.{attempt}"
    log = store.launch_folder(launch_id) / "server.log"
    tracker.launch(arm, number)
    failed: list[StudyError] = []
    with backend.serve(arm, log, launch_id, tracker.stage) as server, contextlib.ExitStack() as clients:

        def connect() -> Client:
            client = Client(server.url, plan.study.request_minutes * 60)
            clients.callback(client.close)
            return client

        with _diagnosed(server, "warming up"):
            client = connect()
            _fail_closed(arm, server)
            filler = fill.of_server(server.url, client.model(arm), arm)
            first = _warm_up(plan, arm, todo, client, server, tracker, filler)
        store.write_launch(
            launch_id,
            {
                "arm": arm.name,
                "arm_id": arm.id,
                "variant": arm.variant,
                "k": arm.k,
                "speculator": arm.speculator.method,
                "launch": number,
                "command": backend.shown(server.command),
                "env": environment.shown(arm.server.env),
                "ready_s": round(server.ready_s, 2),
                "first_request_s": first,
                "facts": server.facts.model_dump(mode="json"),
                "causes": [asdict(c) for c in diagnosis.of_running(server.said(), server.facts, arm)],
                "target": arm.target.fingerprint,
                "drafter": arm.drafter.fingerprint if arm.drafter and arm.speculator.speculates else None,
                "provenance": provenance.collect(plan.study.hash),
            },
        )
        spare = _spare(len(todo)) if plan.study.remeasure else 0
        queue = deque((cell, plan.study.remeasure) for cell in todo)
        while queue:
            cell, left = queue.popleft()
            tracker.cell(cell)
            try:
                with _diagnosed(server, f"measuring {cell.label}"), state.Watch(str(log.parent.resolve())) as watch:
                    record, answers = _cell(cell, filler.cell(cell), client, server, tracker)
            except StudyError as error:
                store.append(_failure(cell, launch_id, error))
                if not server.alive():
                    raise
                failed.append(error)
                if isinstance(error, Deadlock):
                    break  # the rest of this launch's cells would wait as well: the next run measures them
                client = connect()
                continue
            disturbed = "; ".join(filter(None, (state.disturbance(watch.state), record["disturbed"])))
            record |= {"state": watch.state, "disturbed": disturbed}
            compiled = _compiled(record)
            if left and (reason := compiled or (disturbed if spare else "")):
                spare -= not compiled  # a kernel is compiled once, so this ends by itself
                store.append(_line(cell, launch_id, "set aside", reason, record))
                queue.append((cell, left - 1))  # after the others, when what disturbed it may have ended
                continue
            kept = [_request(cell, launch_id, a, plan.study.publish_text) for a in answers]
            store.append(_line(cell, launch_id, "ok", "", record), kept)
            tracker.finished(cell, record["wall_s"])
    return failed


def _spare(cells: int) -> int:
    """How many disturbed cells of a launch are measured again: a quarter, so that a machine that is never quiet ends too."""
    return max(2, cells // 4)


def _compiled(record: dict) -> str:
    """What the engine compiled while a cell was measured, as a reason to measure it again; empty where nothing."""
    return next((c["cause"] for c in record["causes"] if c["id"] == "compiled-while-measured"), "")


def _line(cell: Cell, launch_id: str, status: str, reason: str, record: dict) -> dict:
    """The line of a cell in the records: ok, or set aside for a reason (its requests are then not kept)."""
    about = {"cell_id": cell.id, "launch_id": launch_id, "label": cell.label}
    return {**about, "status": status, "reason": reason, **record}


#: Seconds that a server may take to be gone: after a broken connection, odd counters, an odd answer.
GONE_S = {ConnectionLost: 10.0, CountersError: 2.0, ClientError: 0.3}


#: Experiments whose answers are looked at, and not their times.
UNTIMED = ("code", "greedy")


class _diagnosed:
    """Turn the client's view of a dead server (a broken connection) into the server's own diagnosis."""

    def __init__(self, server, doing: str):
        self._server, self._doing = server, doing

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, (ClientError, CountersError)):
            # a dying server breaks connections before it is gone; vLLM's gives up on a dead worker after two seconds
            deadline = time.monotonic() + next(s for kind, s in GONE_S.items() if isinstance(error, kind))
            while time.monotonic() < deadline:
                self._server.check(self._doing)
                time.sleep(0.1)
            if isinstance(error, ConnectionLost | Deadlock) and self._server.log is not None:
                where = "/".join(self._server.log.parts[-4:])
                cause = diagnosis.of_stopped(self._server.said())
                if cause:
                    error.why, error.fix = f"{cause.cause} (The client saw: {error.why})", cause.fix
                error.details = f"{error.details}\nLog: {where}".strip()
        return False


def _cell(cell: Cell, sent: Cell, client: Client, server, tracker: Tracker) -> tuple[dict, list[Answer]]:
    """Measure one cell between two idle snapshots of the counters; ``sent`` has its prompts as they are sent."""
    meter = Meter(server.url, cell.arm, client.model(cell.arm))
    logged = len(server.said())
    started, begin = time.time(), time.perf_counter()
    answers, load = client.send(sent, tracker.request)
    wall = time.perf_counter() - begin
    delta = meter.read(answers)
    _check(cell, delta, answers)
    if load.saturated and cell.experiment not in UNTIMED:
        raise ClientError(
            f"The times of {cell.label} cannot count.",
            why=f"{load.saturated[0].upper()}{load.saturated[1:]}.",
            fix="Give the client more of a core (end what else runs; measure from another machine), or ask for fewer streams.",
        )
    counts = asdict(delta)
    counts.pop("running")
    return {
        **counts,
        "started": round(started, 3),
        "wall_s": round(wall, 4),
        "requests": len(answers),
        "prompt_tokens": sum(a.prompt_tokens for a in answers),
        "completion_tokens": sum(a.completion_tokens for a in answers),
        "client": asdict(load),
        "disturbed": load.late(_gap(answers)),
        "causes": degenerate.signs(cell.experiment, answers)
        + [asdict(c) for c in _causes(cell.arm, delta, answers, server.said()[logged:])],
    }, answers


def _gap(answers: list[Answer]) -> float:
    """The middle time between two chunks of an answer [s]; 0 where no answer has two."""
    gaps = sorted(gap for a in answers for gap in a.gaps)
    return gaps[len(gaps) // 2] if gaps else 0.0


def _causes(arm: Arm, delta: Counters, answers: list[Answer], said: str) -> list[diagnosis.Cause]:
    """What is wrong with a measured cell, by its counts, the requests' own records and what the log said meanwhile."""
    steps = [pair for a in answers for pair in zip(a.steps_drafted, a.steps_accepted, strict=False)]
    return diagnosis.of_counts(
        arm.k,
        delta.drafts,
        delta.draft_tokens,
        delta.accepted,
        delta.preemptions,
        tokens=delta.generation_tokens,
        requests=len(answers),
        ledger=(sum(d > 0 for d, _ in steps), sum(a for _, a in steps)) if steps else None,
        compiled=diagnosis.compiled_kernels(said),
        may_pause="num_speculative_tokens_per_batch_size" in arm.speculative,
        needs_drafter=arm.speculator.needs_drafter,
    )


def _check(cell: Cell, delta: Counters, answers: list[Answer]) -> None:
    """The identities that must hold exactly; raises CountersError, so that the cell does not count."""
    tokens = sum(a.completion_tokens for a in answers)
    problems = []
    if delta.generation_tokens != tokens:
        problems.append(f"usage says {tokens} completion tokens, the engine counted {delta.generation_tokens}")
    if engines.of(cell.arm).has_positions and delta.accepted != sum(delta.per_position):
        problems.append(f"{delta.accepted} accepted, and {sum(delta.per_position)} summed over positions")
    if delta.draft_tokens > cell.arm.k * delta.drafts:
        problems.append(f"{delta.draft_tokens} draft tokens from {delta.drafts} drafts of at most {cell.arm.k}")
    if cell.sampling.ignore_eos and any(a.completion_tokens != cell.sampling.max_tokens for a in answers):
        problems.append(
            f"a request of fixed length gave {min(a.completion_tokens for a in answers)} of {cell.sampling.max_tokens} tokens"
        )
    if missed := fill.misses(cell, [a.prompt_tokens for a in answers]):
        problems.append(missed)
    if cell.arm.server.prefix_caching is False and delta.prefix_hits:
        problems.append(f"the prefix cache is off and served {delta.prefix_hits} tokens")
    if problems:
        raise CountersError(
            f"The token counts of {cell.label} do not add up.",
            why="; ".join(problems) + ".",
            fix="Keep the server to the study alone, and run again.",
        )


def _fail_closed(arm: Arm, server) -> None:
    """Raises PreflightError where a launch is not the one that was asked for."""
    asked, got = arm.server.max_cudagraph_capture_size, server.facts.max_capture_size
    if arm.server.graphs == "cover" and asked and got is not None and got < asked:
        raise PreflightError(
            f"The server of arm {arm.name} captures graphs up to {got} tokens per step, and {asked} were asked for.",
            why=f"Its log says: Truncating max_cudagraph_capture_size to {got}. Loads beyond it would run without a graph.",
            fix="Set server.graphs to engine and leave out the loads beyond, or look up which sizes this release keeps.",
        )
    if not arm.speculator.speculates:
        return
    if arm.speculator.contradicted_by(server.facts.method):
        raise PreflightError(
            f"The server of arm {arm.name} speculates by '{server.facts.method}', not by {arm.speculator.title}.",
            why="The engine did not recognise the drafter as one of this method.",
            fix="Check drafter.model and speculative.method, and use vLLM 0.28.0 or later.",
        )
    if server.facts.method is None and server.log is not None:
        raise PreflightError(
            f"The log of arm {arm.name} does not say method='{arm.speculator.method}'.",
            why="Speculation is not on.",
            fix="Look at the launch's server.log.",
        )


def _warm_up(plan: Plan, arm: Arm, todo: list[Cell], client: Client, server, tracker: Tracker, filler: Filler) -> float:
    """First request (cold, timed), then warm-ups of every shape; a drafter that accepts nothing stops the launch."""
    if not todo:
        return 0.0
    sampling = Sampling(
        plan.study.temperature, plan.study.top_p, 32, ignore_eos=True, top_k=plan.study.top_k, min_p=plan.study.min_p
    )
    meter = Meter(server.url, arm, client.model(arm))
    probe = replace(next((c for c in todo if c.experiment == "timing"), todo[0]), sampling=sampling, concurrency=1)
    tracker.stage("first request")
    first = client.ask(probe, probe.requests[0])
    answers = [first]
    # the longest prompt of each workload and context
    shapes = {(c.workload, c.context): replace(c, requests=(max(c.requests, key=_length),)) for c in todo}
    for cell in shapes.values() if plan.study.warmup else ():
        answers.append(client.ask(probe, replace(probe.requests[0], text=filler.cell(cell).requests[0].text)))
    for level in sorted({c.concurrency for c in todo}):
        for _ in range(plan.study.warmup):
            tracker.stage(f"warm-up at {level} stream{'s' * (level > 1)}")
            streams = tuple(
                Request(r.prompt_id, r.text, 7 + i, i)
                for i, r in zip(range(level), _cycle(probe.requests), strict=False)
            )
            answers += client.send(replace(probe, requests=streams))[0]
    delta = meter.read(answers)
    useless = delta.draft_tokens >= ENOUGH_DRAFTS and delta.accepted < LEAST_ACCEPTANCE * delta.draft_tokens
    if arm.speculator.needs_drafter and useless and "acceptance" not in arm.server.allow:
        raise PreflightError(
            f"The drafter of arm {arm.name} is accepted {delta.accepted} times in {delta.draft_tokens} draft tokens.",
            why=(
                "The drafter does not fit this target, or its weights were loaded wrongly (a quantised target on an"
                " unpatched preview image does that)."
            ),
            fix=(
                "Pair the drafter with its own -it target; on a gemma4-0505 preview image mount the patched"
                " gemma4_mtp.py."
            ),
        )
    return round(first.seconds, 4)


def _length(request: Request) -> int:
    return len(request.text)


def _cycle(items):
    while True:
        yield from items


def _request(cell: Cell, launch_id: str, answer: Answer, publish_text: bool) -> dict:
    record = asdict(answer) if publish_text else withheld.record(asdict(answer))
    for key in ("started", "seconds", "ttft", "last", "connect"):
        record[key] = round(record[key], 5)
    return {"cell_id": cell.id, "launch_id": launch_id, **record}


def _failure(cell: Cell, launch_id: str, error: StudyError) -> dict:
    return {
        "cell_id": cell.id,
        "launch_id": launch_id,
        "label": cell.label,
        "status": "failed",
        "reason": f"{error.what} {error.why}".strip(),
        "started": round(time.time(), 3),
    }

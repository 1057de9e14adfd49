"""A server's log as lines: which process said each, at which level; the engine's first error. Pure text, linear time.

vLLM starts a line with ``(EngineCore pid=129) ERROR 11-26 12:16:02 [core.py:1510]``; a container engine, a library and
Python's own tracebacks have no such head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

#: Longer lines are cut: an error stands at their beginning, and a line of a megabyte is data.
LONGEST = 2000
_HEAD = re.compile(
    r"(?:\((?P<process>[\w .-]{1,60}?) pid=\d{1,10}\)\s?)?"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL):?\s(?:\d\d-\d\d \d\d:\d\d:\d\d\s)?(?:\[[^\]]{1,120}\]\s?)?)?"
)
_RAISED = re.compile(r"(?:[A-Za-z_]\w{0,60}\.){0,8}[A-Z]\w{0,80}(?:Error|Exception|Interrupt|Exit)\b(?=[:(]|$)")
#: Exceptions whose name says nothing ("triton.runtime.errors.OutOfResources: …"): known by the module before the name.
_QUALIFIED = re.compile(r"(?:[a-z_]\w{0,60}\.){1,8}[A-Z]\w{0,80}(?=: )")
_FRAME = re.compile(r'\s*File "([^"]{1,300})", line (\d+)(?:, in (\S{1,100}))?')
#: What a process says of another one's death: never the root.
_ECHOES = (
    "WorkerProc initialization failed",
    "Engine core initialization failed",
    "EngineCore encountered an issue",
    "EngineDeadError",
    "RuntimeError: cancelled",
    "RuntimeError: Executor failed",
)


@dataclass(frozen=True)
class Line:
    """One line: its number, the process that wrote it ("" where the log does not say), its level, the rest."""

    number: int
    process: str
    level: str
    text: str


@dataclass(frozen=True)
class Raised:
    """An exception as the log shows it: the line's number, its text, the innermost frame ("core.py:20, in load")."""

    number: int
    text: str
    frame: str = ""
    frames: tuple[str, ...] = ()


def line(number: int, raw: str) -> Line:
    """Take a line apart."""
    raw = raw[:LONGEST]
    head = _HEAD.match(raw)
    return Line(number, head["process"] or "", head["level"] or "", raw[head.end() :])


def first_error(log: str) -> Raised | None:
    """The root error: the first one of an engine process; without one, the last of any process; None where none is."""
    last: Raised | None = None
    for raised, engine in _errors(log):
        if engine:
            return raised
        last = raised
    return last


def _errors(log: str) -> Iterator[tuple[Raised, bool]]:
    """Every exception that is not an echo, and whether a process of the engine raised it."""
    frames: dict[str, list[str]] = {}
    unfinished: tuple[Raised, str] | None = None
    for number, raw in enumerate(log.splitlines()):
        if unfinished:  # pydantic puts the reason on the next line
            raised, process = unfinished
            reason = line(number, raw).text.strip()
            yield Raised(raised.number, f"{raised.text}: {reason}", raised.frame, raised.frames), _of_engine(process)
            unfinished = None
        # cheap tests first: nearly all lines of a log are neither a frame nor an exception
        plain = 'File "' not in raw and "Error" not in raw and "Exception" not in raw
        if plain and not (frames and _QUALIFIED.search(raw[:LONGEST])):
            continue
        said = line(number, raw)
        if said.level in ("DEBUG", "INFO", "WARNING"):
            continue
        if frame := _FRAME.match(said.text):
            path, at, function = frame.groups()
            known = frames.setdefault(said.process, [])
            known.append(f"{'/'.join(path.split('/')[-2:])}:{at}" + (f", in {function}" if function else ""))
            del known[:-4]
        elif (_RAISED if not plain else _QUALIFIED).match(said.text) and not any(echo in said.text for echo in _ECHOES):
            known = tuple(frames.pop(said.process, []))
            raised = Raised(number, said.text.strip(), known[-1] if known else "", known)
            if re.search(r"\d validation errors? for \w+$", raised.text):
                unfinished = raised, said.process
            else:
                yield raised, _of_engine(said.process)


def _of_engine(process: str) -> bool:
    return "EngineCore" in process or "Worker" in process

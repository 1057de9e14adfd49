"""The one family of errors a user can meet: what happened, why, and the fix, on one screen."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable

from analysis.visible import visible


class StudyError(Exception):
    """A failure that the user can act on.

    Parameters
    ----------
    what : str
        What went wrong, one sentence.
    why : str
        The reason, as far as it is known.
    fix : str
        What to do about it, as concretely as possible.
    details : str
        Raw evidence (last log lines, a response body); cut to ``DETAIL_LINES`` lines when shown.
    """

    DETAIL_LINES = 15

    def __init__(self, what: str, why: str = "", fix: str = "", details: str = ""):
        self.what, self.why, self.fix, self.details = what, why, fix, details
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"Why: {self.why}")
        if self.fix:
            lines.append(f"Fix: {self.fix}")
        if self.details:
            tail = self.details.rstrip().splitlines()[-self.DETAIL_LINES :]
            lines.append(textwrap.indent("\n".join(line[:200] for line in tail), "  | "))
        return visible("\n".join(lines))

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: a notebook shows the message, not a stack of our frames."""
        return [f"{type(self).__name__}: {self}"]


class Stopped(KeyboardInterrupt):
    """An interrupt while measuring, as one sentence: what is on record, and how to go on."""

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: the sentence, and no stack."""
        return [str(self)]


class ParamsError(StudyError):
    """A study file or a notebook parameter is wrong."""


class PreflightError(StudyError):
    """The machine, the models or the settings cannot give a sound measurement."""


class ServerError(StudyError):
    """A server did not start, did not become healthy, or stopped."""


class ClientError(StudyError):
    """A request got no usable answer."""


class ConnectionLost(ClientError):
    """The server broke off an answer: it may be dying, and its log may say why."""


class Deadlock(ClientError):
    """The engine holds a request and makes no tokens: every later request would wait as well."""


class CountersError(StudyError):
    """The engine's counters are missing, malformed, or went backwards."""


class StoreError(StudyError):
    """Records cannot be read or written."""


class MissingCells(StudyError):
    """A replay (``measure: never``) lacks measured cells."""


class SandboxError(StudyError):
    """Generated code cannot be run safely here."""


class EvidenceError(StudyError):
    """A published number, claim or shape is malformed."""


class ReportError(StudyError):
    """The report cannot be made from what is there."""


def nearest(name: str, names: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the name that is most like a wrong one; empty where none is like it."""
    close = difflib.get_close_matches(str(name), sorted(names), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""

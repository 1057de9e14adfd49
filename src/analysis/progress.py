"""One line of progress, wherever the reader is: a notebook cell, a terminal, or the terminal that runs the notebooks.

A notebook shows one updating output whose last state is all that stays. A terminal gets one line that is redrawn
(a log file: one line every half minute). A kernel also writes the line to the file named by ``ANALYSIS_PROGRESS``,
which `follow` shows in the terminal that started it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from IPython import get_ipython
from IPython.display import display

VARIABLE = "ANALYSIS_PROGRESS"


class Line:
    """A line of progress that is replaced by the next one; at most four a second are drawn."""

    def __init__(self, *, to_file: bool = True) -> None:
        shell = get_ipython()
        self._kernel = shell is not None and hasattr(shell, "kernel")
        self._handle = None
        self._file = os.environ.get(VARIABLE) if to_file else None
        self._drawn = 0.0
        self._printed, self._last = 0.0, ""

    def show(self, text: str, *, final: bool = False) -> None:
        """Replace the line. ``final`` is drawn whatever the time, and ends the line in a terminal."""
        now = time.monotonic()
        if not final and now - self._drawn < 0.25:
            return
        self._drawn = now
        if self._handle is not None:
            self._handle.update(_Text(text))
        elif self._kernel:
            self._handle = display(_Text(text), display_id=True)
        elif sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}" + "\n" * final)
            sys.stderr.flush()
        elif (final or now - self._printed > 30) and text != self._last:
            self._printed, self._last = now, text
            print(text, file=sys.stderr, flush=True)
        if self._file:
            Path(self._file).write_text(text, encoding="utf-8")


class _Text:
    """Shown as plain text in a notebook, with no quotes around it."""

    def __init__(self, text: str):
        self._text = text

    def __repr__(self) -> str:
        return self._text


@contextmanager
def follow(path: Path, prefix: str):
    """Show in this terminal what a kernel writes to ``path`` while the block runs."""
    stop = threading.Event()
    line = Line(to_file=False)

    def tail() -> None:
        shown = ""
        while not stop.wait(0.5):
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            if text:
                line.show(f"{prefix} · {text}")
                shown = text
        line.show(f"{prefix} · {shown}" if shown else prefix, final=True)

    thread = threading.Thread(target=tail, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()

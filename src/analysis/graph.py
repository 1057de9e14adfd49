"""The study's graph, run to its end: Snakemake on the Snakefile, and a message whatever happens.

In: a validated study and its file. Out: an executed notebook for each chapter and the page. Snakemake's own messages
are kept back, since a chapter that fails has told the reader why; they are shown when nothing else was.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

from analysis.errors import StudyError
from analysis.places import HOME, ROOT

#: Names a file that a command of ours makes when it has shown why it failed.
TOLD = "ANALYSIS_TOLD"


def run(study: str, file: Path) -> None:
    """Make everything of the Snakefile that is older than its sources.

    Raises
    ------
    SystemExit
        A chapter failed and has shown why.
    StudyError
        Anything else stopped the graph; with what Snakemake said.
    """
    with tempfile.TemporaryDirectory() as folder:
        shown, kept = Path(folder) / "told", Path(folder) / "snakemake"
        os.environ[TOLD] = str(shown)
        try:
            with kept.open("w") as messages:
                code = with_its_children(_command(study, file, Path(folder)), stderr=messages)
        finally:
            os.environ.pop(TOLD)
        if code and shown.exists():
            raise SystemExit(1)
        if code:
            raise _silent(code, kept)


def missing(study: str, file: Path) -> list[str]:
    """What `run` would make, in its order: names of chapters, and "the page". Nothing is started.

    Raises
    ------
    StudyError
        Snakemake cannot read the graph; with what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "snakemake"
        with kept.open("w") as messages:
            command = [*_command(study, file, Path(folder)), "--dry-run"]
            code = with_its_children(command, stdout=messages, stderr=messages)
        if code:
            raise _silent(code, kept)
        return sorted(re.findall(r"^Job \d+: (?:chapter )?(.+)$", kept.read_text(encoding="utf-8"), re.MULTILINE))


def _command(study: str, file: Path, folder: Path) -> list[str]:
    """Snakemake's command. The settings go by a file: on the command line a path is read as YAML, without its quotes."""
    settings = folder / "settings.json"
    settings.write_text(json.dumps({"params": str(file.resolve()), "study": study}), encoding="utf-8")
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(HOME)),
        *("--cores", "1", "--resources", "gpu=1", "--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime"),
        *("--quiet", "progress", "host", "reason", "--configfile", str(settings)),
    ]


def _silent(code: int, kept: Path) -> StudyError:
    return StudyError(
        "The study stopped before its end, and the step that failed left no message of its own.",
        why=f"Snakemake ended with exit code {code}; the end of what it said is below.",
        fix="Run the same command again: everything measured is kept. A step that vanishes was mostly ended from "
        "outside, for want of memory (see dmesg).",
        details=kept.read_text(encoding="utf-8", errors="replace"),
    )


def told() -> None:
    """Say to the graph above, if there is one, that this command has shown its message."""
    if path := os.environ.get(TOLD):
        with contextlib.suppress(OSError):
            Path(path).touch()


def with_its_children(command: list[str], **options) -> int:
    """Run a command; whatever ends us (Ctrl-C, SIGTERM) first ends it and everything below it."""
    import psutil

    def interrupted(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    child = psutil.Popen(command, cwd=ROOT, **options)
    try:
        return child.wait()
    except KeyboardInterrupt:
        tree = [child, *child.children(recursive=True)]
        for process in tree:  # a notebook's kernel, asked first, ends its server
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=30)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        raise

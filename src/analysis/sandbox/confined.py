"""One run behind a wall: code in, `Traces` out. The wall's command is started under the guard and always ended.

The harness inside watches the program's own process and hands back what it saw and which files were left. From here the
memory of all processes is watched, and an end is made of a harness that was itself stopped or killed.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from analysis.sandbox import filter, group
from analysis.sandbox.limits import MIB, Limits
from analysis.sandbox.record import AS_OF, RECORD
from analysis.sandbox.walls import Confined, Wall
from analysis.visible import visible

HERE = Path(__file__).parent
REPORT = 16 * MIB
"""Bytes of the harness's report after which it is not read on: a table, a chart, two ends of output."""
WALL_MB = 96
"""Memory of the wall and the harness [MiB]."""
START_S, GRACE_S = 60.0, 5.0
"""Seconds for the wall and the parser, and for the harness to report after the program's own time is over."""


#: What the harness's last line must hold for it to count: a line that lacks it is that of a harness which was broken.
ENDED = {
    "status": int,
    "seconds": int | float,
    "cpu": bool,
    **dict.fromkeys(("stopped", "stdout", "stderr", "result", "chart"), str),
}


@dataclass
class Traces:
    """What one run left, as seen from outside the program's process."""

    started: bool = False
    parsed: bool = False
    error: str = ""
    """Why it did not parse."""
    status: int = -1
    """Exit status, or minus the signal."""
    seconds: float = 0.0
    """Wall time of the program's process [s]."""
    stopped: str = ""
    """Why it was ended from outside, in words; empty when it ended by itself."""
    stdout: str = ""
    stderr: str = ""
    result: dict = field(default_factory=dict)
    """The table that was left, as data: source, columns, length, records."""
    chart: bytes = b""
    chart_written: bool = False
    trouble: str = ""
    """What the wall itself said, if it did not come up."""


def run(
    wall: Wall, code: str, limits: Limits, *, flat_columns: bool = False, fonts: Mapping[str, str] | None = None
) -> Traces:
    """Run `code` behind `wall`. OSError where the wall's command cannot be started."""
    folder = tempfile.mkdtemp(prefix="program-") if wall.own_folder else ""
    try:
        confined = wall.confine(limits, folder)
        variables = {"SANDBOX_AS_OF": AS_OF, "SANDBOX_FLAT_COLUMNS": str(int(flat_columns))}
        spec = {
            "folder": confined.folder,
            "files": _files(fonts or {}),
            "program": _text(code.encode("utf-8", "replace")),
            "filter": _text(filter.instructions()),
            "env": {**confined.env, **variables},
            "limits": {
                "seconds": limits.seconds,
                "cpu_s": limits.cpu_s,
                "memory_bytes": limits.memory_mb * MIB,
                "processes": limits.processes,
                "file_bytes": limits.file_mb * MIB,
                "output_bytes": limits.output_mb * MIB,
                "files": limits.files,
                "own_user": confined.own_user,
            },
        }
        harness = (HERE / "inside/harness.py").read_text(encoding="utf-8")
        command = [*confined.command, "-S", "-B", "-c", harness]
        with tempfile.TemporaryFile() as given:
            given.write(json.dumps(spec).encode())
            given.seek(0)
            storage = f"{folder}.copy" if folder else ""
            events, trouble, stopped, seconds = _watched(command, confined, given, limits, storage)
        return _traces(events, trouble, stopped, seconds, confined.shown)
    finally:
        for path in (folder, f"{folder}.copy") if folder else ():
            shutil.rmtree(path, ignore_errors=True)


def _files(fonts: Mapping[str, str]) -> dict[str, str]:
    """Path below the program's folder -> content, base64."""
    files = {f"inside/{name}": (HERE / "inside" / name).read_bytes() for name in ("sitecustomize.py", "yfinance.py")}
    files["inside/prices.bin"] = zlib.compress(RECORD.read_bytes())
    files |= {f"matplotlib/{name}": text.encode() for name, text in fonts.items()}
    return {name: _text(data) for name, data in files.items()}


def _watched(command, confined: Confined, given, limits: Limits, storage: str) -> tuple[list[dict], str, str, float]:
    """(events, what the wall said, why it was stopped, seconds) of one command under the guard."""
    line, ours = os.pipe()
    guard = [
        sys.executable,
        "-S",
        "-B",
        str(HERE / "guard.py"),
        str(line),
        json.dumps(confined.cleanup),
        # a container has a group of its own; files in memory count too, and so do the wall and the harness
        "0" if confined.cleanup else str((limits.memory_mb + 2 * limits.disk_mb + WALL_MB) * MIB),
        str(limits.processes + 16),
        "--",
        *command,
    ]
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            guard,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=confined.outside,
            pass_fds=[line],
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(line)
    said, trouble, stopped, looked, parsed = b"", b"", "", start, 0.0
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            while selector.get_map() and not stopped:
                for key, _ in selector.select(timeout=0.05):
                    chunk = os.read(key.fd, 65_536)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stdout:
                        said += chunk
                        parsed = parsed or (time.monotonic() if b'"event": "parsed"' in said else 0.0)
                    else:
                        trouble = (trouble + chunk)[-4_000:]
                now = time.monotonic()
                if b'"event": "ended"' in said and said.endswith(b"\n"):
                    break
                if group.OVER.encode() in trouble:
                    stopped = f"it used more than {limits.memory_mb} MiB of memory"
                elif now > (parsed + limits.seconds + GRACE_S if parsed else start + START_S):
                    stopped = f"it was still running after {limits.seconds:g} s"
                elif len(said) > REPORT:
                    stopped = "it handed back more than a result can be"
                elif now - looked > 0.05:
                    looked = now
                    if _memory(process.pid) > limits.memory_mb * MIB:
                        stopped = f"it used more than {limits.memory_mb} MiB of memory"
                    elif storage and _files_below(storage, limits.files) >= limits.files:
                        stopped = f"it made more than {limits.files} files"
    finally:
        os.close(ours)  # the guard ends all that is below it
        seconds = time.monotonic() - (parsed or start)
        process.stdout.close()
        process.stderr.close()
        process.wait()
    return _events(said), trouble.decode("utf-8", "replace"), stopped, seconds


def _traces(events: list[dict], trouble: str, stopped: str, seconds: float, shown: Mapping[str, str]) -> Traces:
    """The harness's report as one object; a report without its last line is that of a program that ended the harness."""
    by_name = {event["event"]: event for event in events if isinstance(event.get("event"), str)}
    parsed, ended = by_name.get("parsed", {}), by_name.get("ended")
    ended = ended if ended and all(isinstance(ended.get(key, ""), kind) for key, kind in ENDED.items()) else None
    traces = Traces(started="started" in by_name, parsed=parsed.get("ok") is True, stopped=stopped, trouble=trouble)
    traces.error = printable(str(parsed.get("error", "")).encode("utf-8", "replace"), shown)
    if ended is None:
        traces.seconds, traces.status = seconds, -9
        return traces
    traces.status, traces.seconds = ended["status"], ended["seconds"]
    traces.stopped = stopped or ended.get("stopped", "")
    if ended["cpu"]:
        traces.stopped = traces.stopped or "it used up its CPU seconds"
    traces.stdout = printable(_data(ended, "stdout"), shown)
    traces.stderr = printable(_data(ended, "stderr"), shown)
    try:
        result = json.loads(ended.get("result") or "{}")
    except (ValueError, RecursionError):
        result = {}
    traces.result = result if isinstance(result, dict) else {}
    traces.chart = _data(ended, "chart")
    traces.chart_written = ended.get("chart_written") is True
    return traces


def _data(ended: dict, key: str) -> bytes:
    try:
        return base64.b64decode(ended.get(key, ""))
    except ValueError:
        return b""


def printable(data: bytes, shown: Mapping[str, str]) -> str:
    """Text with visible escapes for what would steer a terminal, and without this machine's folders."""
    text = data.decode("utf-8", "replace")
    for folder, name in shown.items():
        text = text.replace(folder, name)
    return visible(text)


def _memory(pid: int) -> int:
    """Bytes of memory, with page tables and pages swapped out, of all processes below the guard."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stream:
                    parents.setdefault(int(stream.read().rsplit(b")", 1)[1].split()[1]), []).append(int(entry))
            except OSError:  # it has just ended
                continue
    total, queue = 0, list(parents.get(pid, []))
    while queue:
        child = queue.pop()
        queue += parents.get(child, [])
        try:
            with open(f"/proc/{child}/status", "rb") as stream:
                for row in stream:
                    if row.startswith((b"VmRSS:", b"VmPTE:", b"VmSwap:")):
                        total += int(row.split()[1]) * 1024
        except OSError:
            continue
    return total


def _files_below(folder: str, most: int) -> int:
    """Files and folders below, counted up to `most`."""
    found = 0
    for _, folders, files in os.walk(folder):
        found += len(folders) + len(files)
        if found >= most:
            break
    return found


def _events(said: bytes) -> list[dict]:
    """The harness's lines; the last may be cut off."""
    events = []
    for line in said.split(b"\n"):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()

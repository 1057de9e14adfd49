"""The ``docker`` backend: a container of docker or podman, its log kept, removed however the study ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from analysis.errors import ServerError
from analysis.servers import engines, keeper, launch, machine
from analysis.servers.process import Progress, Running, failure, free_port, port_is_free, wait_until_healthy
from analysis.study import environment
from analysis.study.plan import Arm

#: Every container of the study carries this label; its value is the launch's folder.
LABEL = "analysis.launch"


class Container:
    """One container by its name, with the two things of a process that waiting needs: `poll` and `returncode`."""

    def __init__(self, engine: str, name: str):
        self.engine, self.name = engine, name
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """None while it runs or is about to; its exit status after that, 137 where it is gone."""
        state = ask(
            self.engine,
            "inspect",
            "--type",
            "container",
            "--format",
            "{{.State.Status}} {{.State.ExitCode}}",
            self.name,
        )
        status, _, code = (state or "gone 137").partition(" ")
        self.returncode = int(code or 137) if status in ("exited", "dead", "stopped", "gone", "removing") else None
        return self.returncode


@contextlib.contextmanager
def serve(arm: Arm, log: Path, launch_id: str, progress: Progress = lambda text: None) -> Iterator[Running]:
    """Run the arm's container, yield it when healthy, stop and remove it however the block is left.

    Raises
    ------
    ServerError
        No usable engine, a name or port that is taken, an image that cannot be run, a server that died or was not
        healthy in time; each with cause and fix from the log.
    """
    engine = arm.server.engine
    name = arm.server.container_name or f"{launch.NAME}-{launch_id.replace('@', '-')}"
    _engine_answers(engine)
    _name_is_free(engine, name)
    port = arm.server.port or free_port()
    if not port_is_free(port):
        raise ServerError(
            f"Port {port} is in use, so the container of arm {arm.name} cannot be reached there.",
            why="Another program or container (perhaps another server) holds it.",
            fix=f"Stop it ({engine} ps, or ss -ltnp 'sport = :{port}'), or set server.port to 0 for a free one.",
        )
    command = launch.docker_command(arm, port, name, {LABEL: str(log.parent.resolve())})
    _mounts_exist(arm)
    started = time.monotonic()
    watcher: subprocess.Popen | None = None
    try:
        _run(arm, command, log, progress)
        watcher = subprocess.Popen(
            [
                sys.executable,
                "-S",
                "-m",
                "analysis.servers.keeper",
                str(log),
                engine,
                name,
                str(machine.memory_floor(arm)),
            ],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        container = Container(engine, name)
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(arm, url, container, log, progress)
        known = (
            engines.of(arm).read_log(log.read_text(errors="replace")).model_copy(update={"image": digest(engine, name)})
        )
        yield Running(
            url=url,
            command=launch.docker_command(arm, port, name),
            log=log,
            ready_s=time.monotonic() - started,
            facts=known,
            alive=lambda: container.poll() is None,
        )
    finally:
        _end(engine, name, watcher)


def sweep(folders: set[str], engines: Iterable[str]) -> list[str]:
    """Remove containers that earlier launches left (their keeper was killed too); their names."""
    removed = []
    for engine in engines:
        for name in (ask(engine, "ps", "-a", "--filter", f"label={LABEL}", "--format", "{{.Names}}") or "").split():
            owner = ask(
                engine, "inspect", "--type", "container", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', name
            )
            if owner in folders:
                keeper.end(engine, name)
                removed.append(name)
    return removed


def digest(engine: str, name: str) -> str | None:
    """``repository@sha256:…`` of the image a container runs; the image's own id where it was never pulled."""
    image = ask(engine, "inspect", "--type", "container", "--format", "{{.Image}}", name)
    known = ask(engine, "image", "inspect", "--format", '{{join .RepoDigests " "}}', image) if image else ""
    return (known or "").split(" ")[0] or image or None


def ask(engine: str, *words: str, timeout: float = 60) -> str | None:
    """What the engine says, stripped; None where it fails."""
    try:
        done = subprocess.run([engine, *words], capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def expanded(command: list[str]) -> list[str]:
    """The command with ``$HOME`` and ``~`` in its mounts as a shell would expand them."""
    return [
        os.path.expanduser(os.path.expandvars(word)) if before in ("-v", "--volume") else word
        for before, word in zip(["", *command], command, strict=False)
    ]


def _run(arm: Arm, command: list[str], log: Path, progress: Progress) -> None:
    """``docker run -d``: returns when the container exists; the first one pulls its image. What it says is logged."""
    limit, begin = arm.server.start_minutes * 60, time.monotonic()
    with log.open("ab", buffering=0) as stream:
        command, env = _with_env(arm, command)
        run = subprocess.Popen(
            expanded(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stream, env=env
        )
        try:
            while run.poll() is None:
                waited = time.monotonic() - begin
                if waited > limit:
                    raise failure(
                        f"The container of arm {arm.name} was not made in {arm.server.start_minutes:g} minutes.", log
                    )
                progress(f"making the container, {waited:.0f} s (a first start pulls {arm.server.image})")
                time.sleep(0.25)
        finally:
            if run.poll() is None:
                run.terminate()
                run.wait()
    if run.returncode:
        raise failure(
            f"{arm.server.engine} could not run the container of arm {arm.name} (exit {run.returncode}).", log
        )


def _with_env(arm: Arm, command: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command with secrets and references by name alone (``ps`` shows no value), and the environment that has them."""
    given = {k: v for k, v in arm.server.env.items() if environment.from_outside(k, v)}
    return launch.by_name(command, given), {**os.environ, **environment.resolved(given, os.environ)}


def _engine_answers(engine: str) -> None:
    if ask(engine, "info", "--format", "{{.Host}}" if engine == "podman" else "{{.ServerVersion}}") is None:
        raise ServerError(
            f"The container engine {engine} does not answer.",
            why="It is not installed, its service does not run, or this user may not use it.",
            fix=f"Try: {engine} info. For docker: sudo systemctl start docker, and be in the group docker.",
        )


def _name_is_free(engine: str, name: str) -> None:
    if ask(engine, "inspect", "--type", "container", "--format", "{{.Name}}", name) is not None:
        raise ServerError(
            f"There is a container named {name} already.",
            why="It is not of this study, or another run of it uses it now.",
            fix=f"End it ({engine} rm -f {name}), or set server.container_name.",
        )


def _mounts_exist(arm: Arm) -> None:
    """A missing file would be mounted as an empty folder (docker makes one): that is found here, not in the log."""
    for mount in arm.server.mounts:
        outside, covered, *_ = expanded(["-v", mount])[1].split(":")
        found = Path(outside)
        missing = not found.exists() or (covered.endswith(".py") and not found.is_file())
        if Path(covered).suffix and found.is_absolute() and missing:
            raise ServerError(
                f"{outside} is to be mounted into the container of arm {arm.name}, and there is no such file.",
                why="The patched file was not fetched yet."
                if arm.server.patch
                else "The mount names a file that is missing.",
                fix="Fetch it: python -m analysis prefetch STUDY." if arm.server.patch else "Correct server.mounts.",
            )


def _end(engine: str, name: str, watcher: subprocess.Popen | None) -> None:
    """Let the keeper remove the container; do it ourselves where there is none or it takes too long."""
    if watcher is not None:
        with contextlib.suppress(OSError):
            watcher.stdin.close()
        try:
            watcher.wait(timeout=keeper.STOP_S + 15)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            watcher.kill()
            watcher.wait()
    if ask(engine, "inspect", "--type", "container", "--format", "{{.Name}}", name) is not None:
        keeper.end(engine, name)

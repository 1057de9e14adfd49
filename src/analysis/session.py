"""What a notebook holds: one study, opened, with the few verbs a chapter needs."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.errors import MissingCells, PreflightError
from analysis.measure import campaign, programs
from analysis.progress import Line
from analysis.records import earlier, provenance
from analysis.records.store import Frames, Store
from analysis.science import generated, intervals, speedup
from analysis.science.intervals import Spread
from analysis.science.stats import NoiseFloor
from analysis.servers import backend, launch, preflight
from analysis.show import tables, words
from analysis.show.outputs import Say, Table
from analysis.study import environment, params, plan, study_file

# without ipywidgets the plain bar is drawn, as it should be: no red box about it
warnings.filterwarnings("ignore", message="IProgress not found")


def open_study(study: str, **chapter: Any) -> Session:
    """Open a study, validated, with a chapter's own parameters.

    Parameters
    ----------
    study : str
        Name of a file in papermill_params, without ``.yaml``, or the path of a study file that lies elsewhere.
    **chapter
        Parameters of the notebook; None leaves the value of the study file.

    Raises
    ------
    ParamsError
        Unknown or mistyped parameter (with the nearest right name), wrong type, unknown study.
    """
    return Session(study_file.load_study(study, **chapter))


class Session:
    """An opened study: its plan, its records, and what a chapter shows of them."""

    def __init__(self, study: params.Study):
        self.study = study
        self.plan = plan.make(study)
        self.store = Store(study.study, study.records)
        self.stamp = study.stamp

    def summary(self) -> Table:
        """What was validated: the parameters that matter to a reader."""
        s = self.study
        rows = {
            "study": f"{s.study}: {s.title}",
            "stamp": s.stamp,
            "target": s.target.model,
            "drafter": s.drafter.model if s.drafter else "none",
            "arms": ", ".join(words.arm(a.name) for a in self.plan.arms),
            "workloads": ", ".join(map(words.workload, s.workloads)),
            "timing": (
                f"{s.timing_tokens} tokens per request, {'natural stop' if s.natural_stop else 'fixed length'},"
                f" {s.repeats} repeats, temperature {s.temperature:g}"
            ),
            "launches per arm": s.launches,
            "records": f"data/{s.records}/{s.study}, measure {s.measure}",
        }
        return Table(pd.DataFrame(rows.items(), columns=["parameter", "value"]), "The study as validated")

    def targets(self) -> dict[str, str]:
        """Variant -> name of its target, the last part of a hub id or folder; with the variant where main has the same."""
        names = {a.variant: a.target.model.rstrip("/").rsplit("/", 1)[-1] for a in self.plan.arms}
        return {v: f"{name} ({v})" if v != "main" and name == names["main"] else name for v, name in names.items()}

    def preflight(self) -> Table:
        """The table of checks; `ensure` stops where one fails and something must be launched."""
        return tables.checks(preflight.run(self.plan))

    def commands(self) -> Table:
        """The exact command of every arm."""
        rows = [{"arm": a.name, "command": launch_line(a)} for a in self.plan.arms]
        return Table(pd.DataFrame(rows), "Launch commands, as they will be run (ports are chosen at the start)")

    def ensure(self, chapter: str) -> None:
        """Make sure that the measurements of a chapter exist; launches only what has no record. See `campaign.ensure`."""
        wanted = self.plan.needed(chapter)
        if not wanted and chapter in plan.OPTIONAL:
            return
        if not wanted and plan.NEEDS[chapter]:
            raise MissingCells(
                f"The study {self.study.study} has no measurements for this chapter.",
                fix=(
                    "Set code_programs (06, with a workload that has a check) or greedy_tokens (07) above 0 in its"
                    " file; make study leaves the chapter out."
                ),
            )
        complete = self.store.complete()
        if self.study.measure == "missing" and any(c.id not in complete for c in wanted):
            self._stop_where_a_check_fails()
        text = campaign.ensure(self.plan, wanted, self.store)
        Line().show(text, final=True)

    def lines(self) -> list[dict[str, Any]]:
        """Every line on the study's measurements, oldest first: those that count, were set aside or failed."""
        return self.store.lines("cells")

    def frames(self, chapter: str) -> Frames:
        """Tidy frames of the cells that a chapter reads."""
        return self.store.frames(self.plan.needed(chapter))

    @cached_property
    def earlier(self) -> Spread | None:
        """How much restarts differ by earlier studies of this machine and engine; None where the study has launches of its
        own to say it, or where no such study is on record beside it.
        """
        if self.study.launches > 1:
            return None
        return intervals.of_frames(earlier.frames(self.store))

    def floor(self, requests: pd.DataFrame) -> NoiseFloor:
        """The noise floor of these requests; where it is not known, with what to do and the minutes that it takes."""
        minutes = self.plan.minutes() / self.study.launches
        advice = f"set `launches` to 3 (about {2 * minutes:.0f} minutes more here; 2 take {minutes:.0f} and give wide intervals)"
        return replace(speedup.floor(requests, self.earlier), advice=advice)

    def execute(self, *, required: bool = False) -> pd.DataFrame:
        """Run every generated program in the sandbox once, keep its outcome, return `generated.frame`.

        Where no wall of the sandbox holds, programs are kept and not run: their rows say so, and nothing is recorded.

        Raises
        ------
        SandboxError
            No wall holds here, and `required`. MissingCells if measure is 'never' and an outcome is missing.
        """
        code = self._code()
        outcomes = programs.run(code, self.store, self.study.study, self.study.measure, required=required)
        return generated.frame(code, outcomes)

    def not_run(self) -> int:
        """Generated programs that have no outcome yet."""
        return len(programs.waiting(self._code(), self.store.outcomes())) if self.study.code_programs else 0

    def _code(self) -> pd.DataFrame:
        """The requests that asked for a program."""
        requests = self.frames("generated_python").requests
        return requests[requests.experiment == "code"]

    def say(self, text: str, kind: str = "reading") -> Say:
        """A computed sentence: reading, warning or headline."""
        return Say(text, kind)

    def provenance(self) -> Table:
        """What the records came from."""
        record = self.store.study_record().get("provenance") or provenance.collect(self.study.hash)
        flat = {
            k: (
                ", ".join(f"{a} {b}" for a, b in v.items())
                if isinstance(v, dict)
                else ", ".join(v) or "none"
                if isinstance(v, list)
                else v
            )
            for k, v in record.items()
        }
        flat["models"] = f"{self.study.target.model} {self.study.target.fingerprint}; " + (
            f"{d.model} {d.fingerprint}" if (d := self.study.drafter) else "no drafter"
        )
        flat["stamp"] = self.stamp
        return Table(
            pd.DataFrame(flat.items(), columns=["what", "value"]), "Provenance of the records", provenance=True
        )

    def _stop_where_a_check_fails(self) -> None:
        failed = [c for c in preflight.run(self.plan) if c.verdict == "fail"]
        if failed:
            raise PreflightError(
                f"Preflight: {failed[0].name}: {failed[0].evidence}.",
                why=f"{len(failed)} check{'s' * (len(failed) > 1)} failed, so nothing was launched.",
                fix=failed[0].fix + (f" Then: {'; '.join(c.name for c in failed[1:4])}." if len(failed) > 1 else ""),
            )


def launch_line(arm: plan.Arm) -> str:
    """The command that starts an arm, as one shell line without this machine's folders."""
    command = (
        launch.docker_command(arm)
        if arm.server.backend == "docker"
        else launch.process_command(arm, arm.server.port or 8000)
    )
    env = (
        ""
        if arm.server.backend == "docker"
        else "".join(f"{k}={v} " for k, v in environment.shown(arm.server.env).items())
    )
    return env + backend.shown(command)

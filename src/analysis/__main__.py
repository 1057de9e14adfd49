"""The command line: ``python -m analysis <command>``. Every command prints one screen; errors name their fix."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from analysis import caches, graph
from analysis.errors import MissingCells, StudyError
from analysis.places import NOTEBOOKS, PARAMS, RECORDS, REPORTS
from analysis.visible import visible

RENDERINGS = ("process", "docker", "kubernetes", "systemd")


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 = done, 1 = a user-reachable failure (one screen), 130 = Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        if note := caches.settle():
            print(note, file=sys.stderr)
        return arguments.run(arguments) or 0
    except StudyError as error:
        print(f"\n{error}", file=sys.stderr)
        graph.told()
        return 1
    except KeyboardInterrupt as stop:
        told = str(stop) or "Stopped. Everything measured so far is kept: the same command goes on from there."
        print(f"\n{told}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="analysis",
        description="Does Gemma 4's MTP drafter make this server faster, by how much, when, and is the output still right?",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name, run, text, *, study=True, default=None):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if study:
            command.add_argument(
                "study",
                nargs="?" if default else None,
                default=default,
                help="name in papermill_params, or path of a YAML file" + (f" (default: {default})" if default else ""),
            )
        return command

    add(
        "study", _study, "measure what is missing, run every notebook, write the report", default="miniature"
    ).add_argument("--dry-run", action="store_true", help="say which notebooks would run, and stop")
    add("lab", _lab, "JupyterLab on the notebooks", study=False)
    add("list", _list, "the studies in papermill_params", study=False)
    add(
        "new", _new, "write a commented study file for this machine, with a prompt file of your own", study=False
    ).add_argument("name", help="name of the study: small letters, digits, - and .")
    command = add("plan", _plan, "launches, measurements, minutes and exact launch commands; starts nothing")
    command.add_argument(
        "--as", dest="form", choices=RENDERINGS, help="how to render the launches (default: the study's backend)"
    )
    command.add_argument("--arm", help="only this arm")
    add(
        "prefetch",
        _prefetch,
        "download the checkpoints and the patched file that a study needs; sizes first, resumable",
    )
    add("run-programs", _run_programs, "run the generated programs that have no outcome yet; starts no server")
    add("preflight", _preflight, "every check with its verdict and fix; exit 1 if one fails")
    command = add("measure", _measure, "measure what is missing, start no notebook: for a bare GPU machine")
    command.add_argument("--arm", help="only this arm")
    command.add_argument("--launch", type=int, help="only this launch of each arm: 1, 2, …")
    command = add("merge", _merge, "take in records of this study that were measured apart, such as one folder per GPU")
    command.add_argument("folders", nargs="+", type=Path, help="each a STUDY_HOME, or the study's folder in one")
    command = add("chapter", _chapter, "run one notebook by papermill with a study's parameters")
    command.add_argument("notebook", type=Path)
    command.add_argument("out", type=Path)
    command = add("report", _report, "render reports/<study>/index.html from executed notebooks")
    command.add_argument(
        "--reference", action="store_true", help="from the committed reference run instead, into reports/<study>.html"
    )
    add("bench", _bench, "how long the study's own work takes: min, median, max over five runs", default="miniature")
    add("verdicts", _verdicts, "what this study says of every published claim")
    add("publish", _publish, "copy a complete study's records, without logs, to data/reference")
    command = add("export", _export, "tidy tables of a study's records as files")
    command.add_argument("--format", choices=("csv", "parquet"), default="csv")
    command.add_argument("--records", choices=("runs", "reference"), default="runs")
    command.add_argument("--out", type=Path, help="folder (default: data/runs/<study>/export)")
    return parser


def _study(arguments) -> int:
    from analysis import chapter, sandbox
    from analysis.session import Session
    from analysis.study.study_file import load_study

    study = load_study(arguments.study)
    path = Path(arguments.study)
    file = path if path.is_file() else PARAMS / f"{study.study}.yaml"
    chapter.chapters(file)  # a notebook without a place is an error before anything starts
    if arguments.dry_run:
        print("\n".join(graph.missing(study.study, file)) or "Nothing to do: the report is newer than its sources.")
        return 0
    if study.measure == "missing" and not _way_to_the_page(study, file):
        return 1
    # in the planned order: chapter by chapter, every baseline would come before the first MTP arm
    measure_first = study.launches > 1 and study.measure == "missing"
    if measure_first and (code := graph.with_its_children(_again("measure", file.resolve()))):
        if code < 0:
            raise StudyError(
                f"Measuring was ended from outside, by signal {-code}.",
                why="Mostly that is for want of memory: see dmesg.",
                fix="Run the same command again: everything measured is kept.",
            )
        return 1
    session = Session(study)
    outcomes = session.store.folder / "outcomes.jsonl"
    chapter.drop_old(study.study, file, outcomes, lambda: bool(session.not_run() and sandbox.available().ok))
    graph.run(study.study, file)
    print(f"Report: {_shown(REPORTS / study.study / 'index.html')}")
    if kept := Session(study).not_run():
        print(f"{kept} generated programs are kept and were not run: python -m analysis run-programs {study.study}")
    return 0


def _way_to_the_page(study, file: Path) -> bool:
    """Chapter 00 anew where what it shows has changed, then a page from what is there: its faults are met before hours
    of measuring, not after. False where the chapter failed and has said why.
    """
    from analysis import chapter, report

    first, known = chapter.chapters(file)[0], REPORTS / study.study / "setup.fingerprint"
    out, now = REPORTS / study.study / "notebooks" / first.name, chapter.fingerprint(study)
    if not out.is_file() or not known.is_file() or known.read_text() != now:
        out.unlink(missing_ok=True)
        if graph.with_its_children(_again("chapter", file.resolve(), first, out)):
            return False
        known.write_text(now)
    with tempfile.TemporaryDirectory() as folder:
        report.render(chapter.executed(study.study), Path(folder) / "index.html", title=study.title, stamp=study.stamp)
    return True


def _again(*words) -> list[str]:
    return [sys.executable, "-m", "analysis", *map(str, words)]


def _lab(arguments) -> int:
    return graph.with_its_children([sys.executable, "-m", "jupyter", "lab", f"--notebook-dir={NOTEBOOKS}"])


def _list(arguments) -> int:
    from analysis.study.study_file import load_study

    for file in sorted(PARAMS.glob("*.yaml")):
        study = load_study(file)
        print(f"{study.study:28} {study.stamp:20} {study.title}")
    return 0


def _new(arguments) -> int:
    from analysis import new_study

    written = new_study.write(arguments.name)
    print("\n".join(f"Written: {_shown(path)}" for path in written))
    print(f"Put your prompts into the second, then: python -m analysis plan {arguments.name}")
    return 0


def _plan(arguments) -> int:
    from analysis.servers import launch, render
    from analysis.study import graphs, plan
    from analysis.study.study_file import load_study

    planned = plan.make(load_study(arguments.study))
    study = planned.study
    print(f"{study.study}: {study.title}\n")
    print(f"{'launch':>6}  {'arm':28} {'K':>2} {'measurements':>12} {'requests':>9} {'most tokens':>15}")
    for arm, number in planned.launches():
        cells = planned.of(arm, number)
        print(
            f"{number:>6}  {arm.name:28} {arm.k:>2} {len(cells):>12} {sum(len(c.requests) for c in cells):>9}"
            f" {sum(c.tokens for c in cells):>15,}"
        )
    print(
        f"\n{len(planned.launches())} launches, {len(planned.cells)} measurements, about {planned.minutes():.0f}"
        " minutes. Nothing was started.\n"
    )
    for line in filter(None, (graphs.sentence(arm, study.concurrency, study.hardware) for arm in planned.arms)):
        print(f"Outside the graphs: {line}.\n")
    for line in dict.fromkeys(filter(None, (launch.exposure(arm) for arm in planned.arms))):
        print(f"Open to others: {line[0].lower()}{line[1:]}.\n")
    for arm in _arms(planned, arguments.arm):
        print(visible(f"# {arm.name}\n{render.launch(arm, arguments.form or arm.server.backend)}\n"))
    return 0


def _arms(made, name: str | None):
    arms = tuple(a for a in made.arms if name in (None, a.name))
    if not arms:
        raise StudyError(
            f"There is no arm '{name}'.",
            why=f"The study has {', '.join(a.name for a in made.arms)}.",
            fix="Name one of these.",
        )
    return arms


def _measure(arguments) -> int:
    from analysis.session import Session
    from analysis.study.study_file import load_study

    session = Session(load_study(arguments.study))
    arms = _arms(session.plan, arguments.arm)
    cells = tuple(c for c in session.plan.cells if c.arm in arms and arguments.launch in (None, c.launch))
    if not cells:
        raise StudyError(
            f"There is no launch {arguments.launch}.",
            why=f"The study has {session.study.launches} per arm.",
            fix="Name one of these, or raise launches in the study file.",
        )
    session.plan = replace(session.plan, arms=arms, cells=cells)
    session.ensure("everything")
    print(f"Records: {_shown(session.store.folder)}")
    return 0


def _merge(arguments) -> int:
    from analysis.records.merge import merge
    from analysis.records.store import Store
    from analysis.study import plan
    from analysis.study.study_file import load_study

    planned = plan.make(load_study(arguments.study))
    store = Store(planned.study.study)
    for part in merge(planned, store, arguments.folders):
        print(f"{part.folder}: {part.measurements} measurements in {part.launches} launches")
    missing = sum(c.id not in store.complete() for c in planned.cells)
    print(f"Records: {_shown(store.folder)}; {missing} of {len(planned.cells)} measurements are still missing.")
    return 0


def _run_programs(arguments) -> int:
    from analysis.session import Session
    from analysis.study.study_file import load_study

    session = Session(load_study(arguments.study))
    programs = session.execute(required=True)
    print(
        f"{int(programs.passed.astype(bool).sum())} of {len(programs)} programs pass. Records: {_shown(session.store.folder)}"
    )
    return 0


def _prefetch(arguments) -> int:
    from analysis.servers import prefetch
    from analysis.study import plan
    from analysis.study.sets import SETS
    from analysis.study.study_file import load_study

    study = load_study(arguments.study)
    for spec in study.prompt_files:  # a plan reads them
        if spec.set and spec.file == SETS[spec.set].file:
            prefetch.fetch_set(SETS[spec.set])
    prefetch.run(plan.make(study))
    return 0


def _preflight(arguments) -> int:
    from analysis.servers import preflight
    from analysis.study import plan
    from analysis.study.study_file import load_study

    checks = preflight.run(plan.make(load_study(arguments.study)))
    for check in checks:
        print(visible(f"{check.verdict.upper():5} {check.name}: {check.evidence}"))
        if check.fix:
            print(f"      Fix: {check.fix}")
    failed = sum(c.verdict == "fail" for c in checks)
    print(f"\n{len(checks)} checks, {failed} failed, {sum(c.verdict == 'warn' for c in checks)} warnings.")
    return 1 if failed else 0


def _chapter(arguments) -> int:
    from analysis import chapter

    chapter.run(arguments.notebook, arguments.study, arguments.out)
    return 0


def _report(arguments) -> int:
    from analysis import chapter
    from analysis.study.study_file import load_study

    study = load_study(arguments.study, records="reference" if arguments.reference else None)
    if arguments.reference:
        file = RECORDS["reference"] / study.study / "study.yaml"
        with tempfile.TemporaryDirectory() as folder:
            notebooks = [chapter.run(n, file, Path(folder) / n.name) for n in chapter.chapters(file)]
            return _render(study, notebooks, REPORTS / f"{study.study}.html")
    notebooks = chapter.executed(study.study)
    if not notebooks:
        raise StudyError(
            f"No notebook of the study {study.study} was executed yet.",
            fix=f"make study PARAMS=papermill_params/{study.study}.yaml",
        )
    return _render(study, notebooks, REPORTS / study.study / "index.html")


def _render(study, notebooks: list[Path], out: Path) -> int:
    from analysis import report

    report.render(notebooks, out, title=study.title, stamp=study.stamp)
    print(f"{_shown(out)} ({out.stat().st_size / 2**20:.1f} MB)")
    return 0


def _bench(arguments) -> int:
    from analysis import bench
    from analysis.study.study_file import load_study

    print(f"{'step':24}{'min [s]':>10}{'median':>10}{'max':>10}")
    for name, *seconds in bench.run(load_study(arguments.study)):
        print(f"{name:24}" + "".join(f"{s:10.3f}" for s in seconds))
    return 0


def _verdicts(arguments) -> int:
    from analysis.published import verdicts
    from analysis.study.study_file import load_study

    print(verdicts.text(verdicts.of_study(load_study(arguments.study))))
    return 0


def _publish(arguments) -> int:
    from analysis.records.store import Store
    from analysis.study import plan
    from analysis.study.study_file import load_study, reference_file

    study = load_study(arguments.study)
    planned, store = plan.make(study), Store(study.study)
    if missing := [c for c in planned.cells if c.id not in store.complete()]:
        raise MissingCells(
            f"{len(missing)} measurements of {study.study} have no record yet.",
            fix="Finish the study first: make study.",
        )
    reference = Store(study.study, "reference", publishing=True)
    print(f"{_shown(reference.folder)}: {store.publish(planned.cells, reference, reference_file(study))} measurements")
    return 0


def _export(arguments) -> int:
    from analysis.records.store import Store
    from analysis.study import plan
    from analysis.study.study_file import load_study

    study = load_study(arguments.study)
    store = Store(study.study, arguments.records)
    frames = store.frames(plan.make(study).cells)
    if frames.cells.empty:
        raise MissingCells(
            f"The study {study.study} has no records in data/{arguments.records}.",
            fix="Measure it first, or give --records reference.",
        )
    folder = arguments.out or store.folder / "export"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("cells", "requests", "positions", "launches"):
        frame, file = getattr(frames, name), folder / f"{name}.{arguments.format}"
        frame.to_csv(file, index=False) if arguments.format == "csv" else frame.astype(
            {c: str for c in frame.columns if frame[c].map(type).eq(tuple).any()}
        ).to_parquet(file)
        print(f"{_shown(file)}: {len(frame)} rows")
    return 0


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else shlex.quote(str(path))


if __name__ == "__main__":
    raise SystemExit(main())

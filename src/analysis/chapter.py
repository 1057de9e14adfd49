"""Run one notebook of the study by papermill: validated first, progress shown, published only when it succeeded."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import nbformat

from analysis import masking
from analysis.errors import StudyError
from analysis.places import NOTEBOOKS, PARAMS, RECORDS, REPORTS
from analysis.progress import VARIABLE, follow
from analysis.records import provenance
from analysis.servers import preflight
from analysis.study import params, plan
from analysis.study.study_file import load_study

CHAPTER = "[0-9][0-9]_*.ipynb"
TEMPLATE = "template.ipynb"


def run(notebook: Path, study_file: str | Path, out: Path) -> Path:
    """Execute ``notebook`` with the parameters of a study file, write it to ``out``.

    Raises
    ------
    StudyError
        With the message of the cell that failed; the failed notebook is kept beside the records.
    """
    import nbclient
    import papermill

    from analysis import kernel

    study = load_study(study_file)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        part, line = Path(folder) / notebook.name, Path(folder) / "progress"
        os.environ[VARIABLE] = str(line)
        os.environ["IPYTHONDIR"] = kernel.settings(Path(folder))
        try:
            with follow(line, notebook.stem), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                logging.getLogger("papermill").setLevel(logging.ERROR)
                papermill.execute_notebook(
                    str(notebook),
                    str(part),
                    parameters=_parameters(study, study_file),
                    kernel_name="python3",
                    progress_bar=False,
                    start_timeout=180,
                    execution_timeout=int(3600 + 5 * 60 * plan.make(study).minutes()),
                    cwd=str(NOTEBOOKS.parent),
                    **kernel.options(),
                )
        except papermill.exceptions.PapermillExecutionError as error:
            kept = _keep_failed(part, study.study)
            raise StudyError(
                *_told(error),
                details=""
                if error.ename.endswith("Error") and "Fix:" in error.evalue
                else f"The notebook as it failed: {kept}",
            ) from None
        except nbclient.exceptions.DeadKernelError:
            raise StudyError(
                f"The kernel of {notebook.stem} was ended from outside while a cell ran.",
                why="Mostly that is for want of memory: see dmesg.",
                fix="Free some memory and run the same command again: everything measured is kept.",
            ) from None
        finally:
            os.environ.pop(VARIABLE, None)
            os.environ.pop("IPYTHONDIR", None)
        _publish(part, notebook, out)
    return out


def fingerprint(study: params.Study) -> str:
    """What chapter 00 shows, as a hash: the plan, the launches, this machine, and the verdict of every check."""
    planned = plan.make(study)
    seen = [
        *sorted(cell.id for cell in planned.cells),
        *(f"{arm.name}.{number}" for arm, number in planned.launches()),
        json.dumps(provenance.machine(), sort_keys=True),
        *(f"{check.name} {check.verdict}" for check in preflight.run(planned)),
    ]
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:16]


def chapters(study_file: str | Path | None = None) -> list[Path]:
    """All notebooks in order of their numbers; for a study, without those for which it has no cells.

    Raises
    ------
    StudyError
        A notebook has no number, and so no place.
    """
    found = sorted(NOTEBOOKS.glob(CHAPTER))
    stray = {path.name for path in NOTEBOOKS.glob("*.ipynb")} - {path.name for path in found} - {TEMPLATE}
    if stray:
        raise StudyError(
            f"notebooks/{min(stray)} has no place in the study.",
            why="Every notebook of the folder is a chapter, and its number is its place: 03_k_sweep.ipynb.",
            fix="Give it a name that begins with two digits and _, or move it to another folder.",
        )
    if study_file is None:
        return found
    planned = plan.make(load_study(study_file))
    empty = {name for name, needs in plan.NEEDS.items() if needs and not planned.needed(name)}
    return [notebook for notebook in found if notebook.stem[3:] not in empty]


def drop_old(study: str, study_file: str | Path, outcomes: Path, runnable: Callable[[], bool]) -> None:
    """Mark what the graph would keep, going by its sources alone, though it is old.

    That is the chapter of programs where one got an outcome since (``outcomes``: their file) or is waiting and could be
    run now (``runnable``), and the page where a chapter of it is missing.
    """
    folder = REPORTS / study / "notebooks"
    made = {notebook.stem[3:]: folder / notebook.name for notebook in chapters(study_file)}
    programs = made.get("generated_python")
    if programs and programs.is_file():
        since = outcomes.is_file() and outcomes.stat().st_mtime > programs.stat().st_mtime
        if since or runnable():
            programs.unlink()
    page = REPORTS / study / "index.html"
    if page.is_file() and not all(path.is_file() for path in made.values()):
        os.utime(page, (0, 0))


def executed(study: str) -> list[Path]:
    """Executed notebooks of a study, in order."""
    return sorted((REPORTS / study / "notebooks").glob(CHAPTER))


def _parameters(study: params.Study, study_file: str | Path) -> dict[str, str]:
    """What a chapter is told: which study, and whether to measure where its file says so. The rest it reads itself."""
    path = Path(study_file)
    elsewhere = path.suffix and path.is_file() and path.resolve() != (PARAMS / f"{study.study}.yaml").resolve()
    name = study.study
    if elsewhere:  # within the checkout from its root, where a chapter runs; else in full, which masking then replaces
        place = path.resolve()
        name = str(place.relative_to(NOTEBOOKS.parent) if place.is_relative_to(NOTEBOOKS.parent) else place)
    return {"study": name, **study.model_dump(include={"measure", "records"}, exclude_unset=True)}


def _told(error) -> tuple[str, str, str]:
    """The message of a failed cell: our own as it stands, another one with the cell that raised it."""
    if (
        error.ename == "Stopped"
        or "Fix:" in error.evalue
        or error.ename in {cls.__name__ for cls in StudyError.__subclasses__()}
    ):
        return error.evalue, "", ""
    return (
        f"Cell {error.exec_count} failed: {error.ename}: {error.evalue}",
        "This is a bug of the study, not of its set-up.",
        "Run the notebook in JupyterLab to see the traceback.",
    )


def _keep_failed(part: Path, study: str) -> str:
    folder = RECORDS["runs"] / study / "failed"
    if part.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(part, folder / part.name)
    return f"data/runs/{study}/failed/{part.name}"


def _publish(part: Path, notebook: Path, out: Path) -> None:
    """Write the executed notebook in one step, without paths of this machine and without times of cells."""
    content = nbformat.read(part, as_version=4)
    about = content.metadata.get("papermill", {})
    content.metadata["papermill"] = {
        "input_path": f"notebooks/{notebook.name}",
        "parameters": about.get("parameters", {}),
        "version": about.get("version", ""),
    }
    for cell in content.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        cell.metadata["tags"] = [t for t in cell.metadata.get("tags", []) if t]
    names, places = masking.here(), 0
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs, found = masking.masked_tree(cell.outputs, names)
            places += found
    content.metadata["papermill"]["parameters"], found = masking.masked_tree(about.get("parameters", {}), names)
    if places + found:
        print(f"{notebook.stem} · this machine's folders and names replaced in {places + found} places")
    fresh = out.with_suffix(".new")
    nbformat.write(content, fresh)
    os.replace(fresh, out)

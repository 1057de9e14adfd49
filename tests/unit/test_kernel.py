"""The kernel of a chapter: interrupted when a cell runs, ended without an interrupt when none does."""

from __future__ import annotations

import nbformat
import papermill
import pytest
from nbclient.exceptions import CellTimeoutError

from analysis import kernel


@pytest.fixture
def interrupts(monkeypatch):
    """How often a kernel was interrupted."""
    found = []
    base = kernel.Manager.__bases__[0]
    before = base._async_interrupt_kernel

    async def counted(self):
        found.append(self)
        await before(self)

    monkeypatch.setattr(base, "_async_interrupt_kernel", counted)
    return found


def execute(folder, code, **options):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, folder / "in.ipynb")
    return papermill.execute_notebook(
        str(folder / "in.ipynb"), str(folder / "out.ipynb"), progress_bar=False, **kernel.options(), **options
    )


def test_a_finished_notebook_ends_its_kernel_without_an_interrupt(tmp_path, interrupts):
    done = execute(tmp_path, "1 + 1")
    assert done.cells[-1].outputs[0]["data"]["text/plain"] == "2" and interrupts == []


def test_a_notebook_with_a_failed_cell_as_well(tmp_path, interrupts):
    with pytest.raises(papermill.exceptions.PapermillExecutionError):
        execute(tmp_path, "1 / 0")
    assert interrupts == []


def test_a_cell_that_runs_too_long_is_interrupted(tmp_path, interrupts):
    with pytest.raises(CellTimeoutError):
        execute(tmp_path, "import time; time.sleep(60)", execution_timeout=1)
    assert len(interrupts) == 1

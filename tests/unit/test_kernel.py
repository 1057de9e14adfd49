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


#: A kernel on a busy machine: its answer is out, and it is still inside the request.
SLOW = """
import time
handlers = get_ipython().kernel.shell_handlers
answer = handlers["kernel_info_request"]
async def slow(*message):
    await answer(*message)
    time.sleep(0.5)
handlers["kernel_info_request"] = slow
"""


def execute(folder, code, own=True, **options):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, folder / "in.ipynb")
    return papermill.execute_notebook(
        str(folder / "in.ipynb"),
        str(folder / "out.ipynb"),
        progress_bar=False,
        **(kernel.options() if own else {}),
        **options,
    )


def test_a_finished_notebook_ends_its_kernel_without_an_interrupt(tmp_path, interrupts):
    done = execute(tmp_path, "1 + 1")
    assert done.cells[-1].outputs[0]["data"]["text/plain"] == "2" and interrupts == []


@pytest.mark.parametrize("own", [True, False])
def test_a_kernel_that_is_slow_to_end_its_last_request_prints_nothing(tmp_path, monkeypatch, capfd, own):
    monkeypatch.setenv("IPYTHONDIR", kernel.settings(tmp_path))
    execute(tmp_path, SLOW, own)
    assert ("KeyboardInterrupt caught in kernel" in capfd.readouterr().err) is not own


def test_a_notebook_with_a_failed_cell_as_well(tmp_path, interrupts):
    with pytest.raises(papermill.exceptions.PapermillExecutionError):
        execute(tmp_path, "1 / 0")
    assert interrupts == []


def test_a_cell_that_runs_too_long_is_interrupted(tmp_path, interrupts):
    with pytest.raises(CellTimeoutError):
        execute(tmp_path, "import time; time.sleep(60)", execution_timeout=1)
    assert len(interrupts) == 1

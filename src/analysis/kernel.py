"""The kernel in which a chapter runs: no start-up files of the user, and an end without noise in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from nbformat.v4 import new_notebook

_CONFIG = "c = get_config()\nc.IPKernelApp.log_level = 40\n"


def settings(folder: Path) -> str:
    """An IPython folder below ``folder``, as a path for ``IPYTHONDIR``: no warnings about the transport are shown."""
    profile = folder / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text(_CONFIG)
    return str(folder / "ipython")


class Manager(NotebookClient(new_notebook()).kernel_manager_class):
    """Ends the kernel of a finished notebook without interrupting it first.

    The client asks the kernel for its language after the last cell and ends it on the reply, by an interrupt and a
    shutdown request. On a busy machine the kernel is then still inside the first request, and prints
    "KeyboardInterrupt caught in kernel" into the terminal of a run that succeeded. A running cell is interrupted.
    """

    running = False

    async def _async_interrupt_kernel(self) -> None:
        if self.running or not self.shutting_down:
            await super()._async_interrupt_kernel()


def options() -> dict[str, Any]:
    """Arguments for ``papermill.execute_notebook`` that make it use `Manager`."""

    def mark(running: bool):
        return lambda **_: setattr(Manager, "running", running)

    return {"kernel_manager_class": Manager, "on_cell_execute": mark(True), "on_cell_executed": mark(False)}

"""The Python code that does what a panel does, to copy into a cell."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets

from .copy_text import CopyText

if TYPE_CHECKING:
    from ..worker import UcxWorker

__all__ = ["PythonLine", "user_names", "worker_name"]


class PythonLine(CopyText):
    """Show the code for what the controls say, as they change.

    Parameters
    ----------
    worker : UcxWorker
        Whose name in the notebook the code has.
    """

    def __init__(self, worker: UcxWorker) -> None:
        super().__init__("the Python code for this")
        self.add_class("ucxnb-python-line")
        self._worker = worker
        self._write: Callable[[str], str] | None = None

    def follow(self, write: Callable[[str], str], *controls: ipywidgets.Widget) -> None:
        """Show what `write` returns, whenever one of these controls changes.

        Parameters
        ----------
        write : callable
            Takes the name of the worker and returns code; a ValueError says what is wrong with
            the controls.
        controls : ipywidgets.Widget
            They have a ``value``.
        """
        for control in controls:
            control.observe(lambda _: self.show(write), "value")

    def show(self, write: Callable[[str], str]) -> None:
        """Show what `write` returns now, as in `follow`."""
        self._write = write
        self.renew()

    def renew(self) -> None:
        """Show the same code, as the controls and names are now."""
        if self._write is None:
            return
        try:
            self.text = self._write(worker_name(self._worker))
        except ValueError as error:
            self.text = f"# {error}"


def user_names() -> dict[str, Any]:
    """Give the names of the notebook, or shell, as it has them; empty outside of one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return {} if shell is None else shell.user_ns


def worker_name(worker: UcxWorker) -> str:
    """Return the name that a notebook has for a worker, ``"worker"`` if it has none."""
    for name, value in list(user_names().items()):
        if value is worker and not name.startswith("_"):
            return name
    return "worker"

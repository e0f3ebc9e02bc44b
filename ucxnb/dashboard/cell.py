"""Running a notebook cell again closes the views that its last run opened."""

from __future__ import annotations

import sys
from typing import Protocol

__all__ = ["close_with_cell", "forget"]


class _Closable(Protocol):
    def close(self) -> None: ...


class _Run:
    """What one execution of a cell opened."""

    def __init__(self, execution: str) -> None:
        self.execution = execution
        self.views: list[_Closable] = []


_runs: dict[str, _Run] = {}


def close_with_cell(view: _Closable) -> None:
    """Close `view` when the cell that now runs is run again, and close those of its last run.

    Without it each run would leave threads and widgets behind that nobody can see or reach.
    Outside a notebook cell this does nothing.
    """
    cell, execution = _current()
    if not cell:
        return
    run = _runs.get(cell)
    if run is None or run.execution != execution:
        _runs[cell] = _Run(execution)
        for old in reversed(run.views if run else []):
            old.close()
    _runs[cell].views.append(view)


def forget(view: _Closable) -> None:
    """Let go of a view that was closed."""
    for cell, run in list(_runs.items()):
        if view in run.views:
            run.views.remove(view)
            if not run.views:
                _runs.pop(cell, None)


def _current() -> tuple[str, str]:
    """Ids of the cell that runs and of this execution of it, empty outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return "", ""
    message = kernel.get_parent("shell")
    cell = message.get("metadata", {}).get("cellId", "")
    return str(cell), str(message.get("header", {}).get("msg_id", ""))

"""What all panels have in common: a title, a status line, work on threads, a clean end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from ..dashboard.cell import close_with_cell, forget
from .job import Job
from .python_line import PythonLine
from .status import StatusLine
from .watch import Sight, Watch

if TYPE_CHECKING:
    from ..worker import UcxWorker

__all__ = ["Panel", "close_parts", "heading", "stylesheet"]

_STOP_TIMEOUT = 3.0


class Panel(ipywidgets.VBox):
    """Base of the panels: a box of controls that drives a worker without blocking the kernel.

    Parameters
    ----------
    worker : UcxWorker
        The worker to drive. Closing the panel does not close it.
    in_room : bool
        Whether a control room looks after style sheet, refreshing and closing.
    folded : bool
        Whether it shows its title only, until it is opened by the button beside it.

    Attributes
    ----------
    python_line : PythonLine
        The code that does in a cell what the controls say; its ``text``.
    """

    _title = ""

    def __init__(self, worker: UcxWorker, *, in_room: bool = False, folded: bool = False) -> None:
        super().__init__()
        self._worker = worker
        self._status = StatusLine()
        self.python_line = PythonLine(worker)
        self._job: Job | None = None
        self._job_lock = threading.Lock()
        self._starters: tuple[ipywidgets.Widget, ...] = ()
        self._stoppers: tuple[ipywidgets.Widget, ...] = ()
        self._closed = False
        self._ended = False
        self._watch: Watch | None = None
        controls = self._build()
        first = [] if in_room else [stylesheet()]
        body = (*controls, self._status, self.python_line)
        if folded:
            self.children = (*first, *_foldable(self._title, body))
        else:
            self.children = (*first, heading(self._title), *body)
        self.add_class("ucxnb-panel")
        self._set_busy(False)
        if not in_room:
            self._watch = Watch(worker, (self,))
            close_with_cell(self)

    @property
    def status(self) -> str:
        """What the panel's status line says."""
        return self._status.text

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def refresh(self, sight: Sight) -> None:
        """Show what was seen of the worker; called on the thread of the watch.

        Parameters
        ----------
        sight : Sight
            What the watch saw; the panel keeps nothing of it.
        """

    def end(self, reason: str) -> None:
        """Say why nothing works any more, stop and switch all controls off.

        Parameters
        ----------
        reason : str
            Becomes the status.
        """
        self._ended = True
        if self._job is not None:
            self._job.ask_to_stop()
        for widget in _descendants(self):
            if widget.has_trait("disabled"):
                widget.disabled = True  # what was typed stays, to copy it
        self._status.say(reason, "error")

    def close(self) -> None:
        """Stop what runs, take the panel off the page and free it. Twice is fine."""
        if getattr(self, "_closed", True):
            return
        self._closed = True
        if self._watch is not None:
            self._watch.stop()
        if self._job is not None:
            self._job.stop(_STOP_TIMEOUT)
        super().close()
        close_parts(self)
        forget(self)

    def _build(self) -> Sequence[ipywidgets.Widget]:
        """Make the controls; also sets `_starters` and `_stoppers`, the buttons that begin and
        stop work.
        """
        raise NotImplementedError

    def _on_click(self, button: ipywidgets.Button, action: Callable[[], None]) -> None:
        """Let a click run `action`, which starts work and returns; what it raises is shown."""

        def clicked(_: object) -> None:
            try:
                action()
            except Exception as error:
                self._show(error)

        button.on_click(clicked)

    def _start(self, doing: str, work: Callable[[Job], str]) -> None:
        """Run `work` on a thread; the text that it returns, or its error, becomes the status."""

        def run(job: Job) -> None:
            try:
                self._status.say(work(job))
            except Exception as error:
                self._show(error)
            finally:
                self._set_busy(False)

        with self._job_lock:
            if self._closed or self._ended or (self._job is not None and self._job.running):
                return
            self._set_busy(True)
            self._status.say(doing, "busy")
            self._job = Job(f"ucxnb-{type(self).__name__}", run)

    def _stop(self) -> None:
        if self._job is not None:
            self._job.ask_to_stop()

    def _show(self, error: Exception) -> None:
        from ..errors import UcxnbError, WorkerClosedError

        if self._ended or isinstance(error, WorkerClosedError):
            text = "The worker is closed."
        elif isinstance(error, (UcxnbError, ValueError)):
            text = str(error)
        else:
            text = f"{type(error).__name__}: {error}"
        self._status.say(text[:1].upper() + text[1:], "error")

    def _set_busy(self, busy: bool) -> None:
        for button in self._starters:
            button.disabled = busy or self._ended
        for button in self._stoppers:
            button.disabled = not busy or self._ended

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} of {self._worker.name!r}, {state}>"


def heading(text: str) -> ipywidgets.HTML:
    """Make the title of a panel."""
    return ipywidgets.HTML(f'<div class="ucxnb-heading" role="heading" aria-level="3">{text}</div>')


def _foldable(
    title: str, body: Sequence[ipywidgets.Widget]
) -> tuple[ipywidgets.HBox, ipywidgets.VBox]:
    """Hide a body behind a button beside the title."""
    fold = ipywidgets.ToggleButton(
        description="Open", icon="chevron-down", tooltip=f"Show {title}", layout={"width": "auto"}
    )
    inside = ipywidgets.VBox(body, layout={"display": "none"})
    inside.add_class("ucxnb-folded")

    def show(change: dict[str, Any]) -> None:
        inside.layout.display = None if change["new"] else "none"
        fold.description = "Close" if change["new"] else "Open"
        fold.icon = "chevron-up" if change["new"] else "chevron-down"

    fold.observe(show, "value")
    row = ipywidgets.HBox([heading(title), fold])
    row.add_class("ucxnb-field-row")
    return row, inside


def stylesheet() -> ipywidgets.HTML:
    """Make the invisible widget that carries the style sheet of the panels."""
    css = (Path(__file__).parent / "static" / "panels.css").read_text(encoding="utf-8")
    return ipywidgets.HTML(f"<style>{css}</style>", layout={"display": "none"})


def close_parts(box: ipywidgets.Widget) -> None:
    """Close everything inside a widget, with the layouts and styles, which are widgets as well."""
    for child in getattr(box, "children", ()):
        child.close()
        if not isinstance(child, Panel):
            close_parts(child)
    for name in ("layout", "style"):
        part = getattr(box, name, None)
        if isinstance(part, ipywidgets.Widget):
            part.close()


def _descendants(box: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    children = list(getattr(box, "children", ()))
    return children + [w for child in children for w in _descendants(child)]

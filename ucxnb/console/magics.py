"""``%ucx`` and ``%%ucx`` in a notebook."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.display import display

from ..errors import UcxnbError, UsageError
from ..worker import UcxWorker
from .completion import complete
from .session import Session

__all__ = ["UcxMagics"]

_LINE_MAGIC = re.compile(r"(?:[^%=]*=)?\s*%ucx\s(.*)\Z", re.DOTALL)
_CELL_MAGIC = re.compile(r"\s*%%ucx\b([^\n]*)")


@magics_class
class UcxMagics(Magics):
    """The magics; each session has one worker, made at first use, or yours."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._namespace = shell.user_ns
        self._completer = shell.Completer
        self._own: UcxWorker | None = None

        # The older hook for this would mix our words with Python's.
        @context_matcher(identifier="ucxnb")
        def match(context: CompletionContext) -> SimpleMatcherResult:
            return self._match(context)

        self._matcher = match
        self._completer.custom_matchers.append(self._matcher)

    @line_cell_magic
    def ucx(self, line: str, cell: str | None = None) -> object:
        """Run commands: ``%ucx help`` lists them, ``%%ucx`` runs a cell of them.

        ``%ucx -w NAME ...`` uses the worker of that name in your notebook instead of its own;
        ``quit`` closes whichever it is.
        """
        with _one_line_errors():
            session, command = self._session(line)
            if cell is None:
                return self._run(session, command or "help")
        result = None
        for number, each in enumerate([command, *cell.split("\n")], 1):
            try:
                with _one_line_errors(f"line {number}: "):
                    outcome = self._run(session, each)
            except BaseException:
                if result is not None:
                    display(result)
                raise
            if outcome is not None:
                if result is not None:
                    display(result)
                result = outcome
            if session.left:
                break
        return result

    def close(self) -> None:
        """Close the worker that was made here, and complete no more."""
        if self._matcher in self._completer.custom_matchers:
            self._completer.custom_matchers.remove(self._matcher)
        if self._own is not None:
            self._own.close()

    def _run(self, session: Session, line: str) -> object:
        result = session.run(line)
        if session.left:
            session.worker.close()
        return result

    def _session(self, line: str) -> tuple[Session, str]:
        name, command = _split_name(line)
        if name is None:
            if self._own is None or self._own.closed:
                self._own = UcxWorker(name="notebook")
            return Session(self._own), command
        worker = self._namespace.get(name)
        if not isinstance(worker, UcxWorker):
            raise UsageError(f"-w {name}: there is no UcxWorker of that name", "-w NAME")
        return Session(worker), command

    def _match(self, context: CompletionContext) -> SimpleMatcherResult:
        before = context.text_until_cursor
        cell = _CELL_MAGIC.match(context.full_text)
        first = _CELL_MAGIC.match(before) or _LINE_MAGIC.match(before)
        if cell is not None and context.cursor_line > 0:
            words = self._complete(_split_name(cell[1])[0], before)
        elif first is not None:
            words = self._complete_first(first[1])
        else:
            return {"completions": []}
        return {
            "completions": [SimpleCompletion(text=word, type="magic") for word in words],
            "suppress": True,
        }

    def _complete_first(self, before: str) -> list[str]:
        """Complete what follows the magic's name, where ``-w NAME`` may stand."""
        words = before.split()
        if words[:1] == ["-w"] and len(words) + before[-1:].isspace() == 2:
            start = "".join(words[1:])
            return [
                name
                for name, value in self._namespace.items()
                if isinstance(value, UcxWorker) and name.startswith(start) and name[0] != "_"
            ]
        return self._complete(*_split_name(before))

    def _complete(self, name: str | None, before: str) -> list[str]:
        worker = self._own if name is None else self._namespace.get(name)
        known = worker if isinstance(worker, UcxWorker) else None
        return [candidate.word for candidate in complete(before, known)]


@contextlib.contextmanager
def _one_line_errors(where: str = "") -> Iterator[None]:
    """Have IPython show errors in one line: who typed a command has no use for a traceback."""
    try:
        yield
    except UcxnbError as error:
        shown = [f"{type(error).__name__}: {where}{error}"]
        error._render_traceback_ = lambda: shown  # type: ignore[attr-defined]
        raise


def _split_name(line: str) -> tuple[str | None, str]:
    """Take ``-w NAME`` off the start of a line; None if there is none."""
    words = line.split(maxsplit=1)
    if words[:1] != ["-w"]:
        return None, line.lstrip()
    name, *command = "".join(words[1:]).split(maxsplit=1) or [""]
    return name, "".join(command)

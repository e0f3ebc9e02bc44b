"""Commands typed at a terminal: history, completion, and news above the prompt."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ..errors import UcxnbError
from ..worker import UcxWorker
from .announcer import Announcer
from .completion import complete
from .script import run_script
from .session import Session

__all__ = ["run_repl"]

_HELLO = "A UCX worker, by hand: `help` explains the commands, Tab completes, `quit` leaves."


def run_repl() -> int:
    """Run the commands of standard input: with a prompt at a terminal, as a script otherwise.

    Returns
    -------
    int
        Exit code: 0; 1 after the first error of a script.

    Raises
    ------
    UcxnbError
        If there is no UCX, or at a terminal no prompt_toolkit.
    """
    with UcxWorker(name="console") as worker:
        session = Session(worker)
        if sys.stdin is None:  # closed by whoever started us
            return 0
        if not sys.stdin.isatty():
            if isinstance(sys.stdin, io.TextIOWrapper):  # bytes that are no text pass through
                sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape")
            return run_script(session, sys.stdin)
        _converse(session)
    return 0


def _converse(session: Session) -> None:
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import CompleteEvent, Completer, Completion
        from prompt_toolkit.document import Document
        from prompt_toolkit.history import FileHistory, InMemoryHistory
        from prompt_toolkit.patch_stdout import patch_stdout
    except ImportError as error:
        raise UcxnbError(
            'prompt_toolkit is not installed; install it with: pip install "ucxnb[console]", or '
            "give the commands in a pipe"
        ) from error

    class CommandCompleter(Completer):
        def get_completions(
            self, document: Document, complete_event: CompleteEvent
        ) -> Iterable[Completion]:
            before = document.text_before_cursor
            start = -len(document.get_word_before_cursor(WORD=True))
            for candidate in complete(before, session.worker):
                yield Completion(candidate.word, start, display_meta=candidate.meaning)

    history = _history_file()
    prompt: PromptSession[str] = PromptSession(
        "ucx> ",
        history=FileHistory(str(history)) if history else InMemoryHistory(),
        completer=CommandCompleter(),
        complete_while_typing=False,
    )
    print(_HELLO)
    with patch_stdout():
        announcer = Announcer(session.worker, print)
        try:
            while not session.left:
                try:
                    for line in prompt.prompt().split("\n"):  # several when they were pasted
                        if not session.left:
                            _answer(session, line)
                except KeyboardInterrupt:
                    continue
                except EOFError:
                    return
        finally:
            announcer.stop()


def _answer(session: Session, line: str) -> None:
    try:
        text = session.run_and_describe(line)
    except UcxnbError as error:
        text = str(error)
    except KeyboardInterrupt:
        promise = "; no message is lost" if line.split()[:1] == ["receive"] else ""
        text = f"interrupted{promise}"
    if text:
        print(text)


def _history_file() -> Path | None:
    """The file for the history; None, and a line that says why, if it cannot be written."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        folder = Path(state) / "ucxnb"
        folder.mkdir(parents=True, exist_ok=True)
        history = folder / "history"
        history.open("ab").close()
    except (OSError, RuntimeError) as error:
        print(f"The history of this session is not kept: {error}")
        return None
    return history

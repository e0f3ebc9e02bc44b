"""Commands from a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ..errors import UcxnbError
from .session import Session

__all__ = ["run_script"]


def run_script(session: Session, lines: Iterable[str]) -> int:
    """Run commands, one a line, until the end, ``quit`` or the first error.

    Results go to standard output, the error with its line number to standard error.

    Parameters
    ----------
    session : Session
        Where.
    lines : iterable of str
        What. Empty lines and lines that begin with ``#`` do nothing.

    Returns
    -------
    int
        Exit code: 0, or 1 after an error.
    """
    for number, line in enumerate(lines, 1):
        try:
            text = session.run_and_describe(line)
        except UcxnbError as error:
            print(f"line {number}: {error}", file=sys.stderr)
            return 1
        if text:
            print(text, flush=True)
        if session.left:
            break
    return 0

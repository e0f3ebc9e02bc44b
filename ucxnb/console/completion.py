"""What may come next on a command line."""

from __future__ import annotations

from typing import NamedTuple

from ..text import shortened
from ..worker import UcxWorker
from .grammar import COMMANDS

__all__ = ["Candidate", "complete"]


class Candidate(NamedTuple):
    """A word that fits.

    Attributes
    ----------
    word : str
        The whole word.
    meaning : str
        What it stands for, in a few words.
    """

    word: str
    meaning: str


def complete(before: str, worker: UcxWorker | None) -> list[Candidate]:
    """Complete the last word of a line.

    Parameters
    ----------
    before : str
        The line up to the cursor.
    worker : UcxWorker or None
        Whose endpoints are named; None if there is none yet.

    Returns
    -------
    list of Candidate
        All words that fit there.
    """
    words = before.split()
    last = words.pop() if words and not before[-1:].isspace() else ""
    return [c for c in _candidates(words, worker) if c.word.startswith(last)]


def _candidates(words: list[str], worker: UcxWorker | None) -> list[Candidate]:
    commands = [Candidate(name, command.summary) for name, command in COMMANDS.items()]
    if not words:
        return commands
    if words == ["help"]:
        return commands
    command = COMMANDS.get(words[0])
    if len(words) > 1 or command is None or not command.takes_endpoint:
        return []
    infos = worker.endpoints() if worker is not None and not worker.closed else []
    ids = [
        Candidate(str(info.endpoint_id), f"{shortened(info.peer_name, 40)} at {info.peer_address}")
        for info in infos
    ]
    return [*ids, Candidate("any", "from anyone")] if command.name == "receive" else ids

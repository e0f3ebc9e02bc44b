"""How a member's part of an operation ended, and how that travels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from distributed.protocol.pickle import dumps, loads

from ..errors import ClusterError

__all__ = ["Outcome", "pack_outcome", "unpack_outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a member's part of an operation ended.

    Attributes
    ----------
    value : object
        What it gave.
    error : Exception or None
        Or why it did not.
    seconds, waited : float
        How long it took, and how much of that it waited for others.
    """

    value: Any = None
    error: Exception | None = None
    seconds: float = 0.0
    waited: float = 0.0


def pack_outcome(outcome: Outcome) -> bytes:
    """Pickle an outcome; if its value or error cannot be, one that says so."""
    try:
        return dumps(outcome)
    except Exception as problem:  # of whatever is in it
        kind = type(problem).__name__
        if outcome.error is None:
            error = ClusterError(f"what it returned cannot be sent back: {kind}: {problem}")
        else:
            error = ClusterError(f"{type(outcome.error).__name__}: {outcome.error}")
            for note in getattr(outcome.error, "__notes__", ()):
                error.add_note(note)
        return dumps(replace(outcome, value=None, error=error))


def unpack_outcome(data: bytes, address: str) -> Outcome:
    """Make the outcome, or one that says why that cannot be."""
    try:
        return loads(data)
    except Exception as problem:  # of whatever is in it
        what = f"{type(problem).__name__}: {problem}"
        return Outcome(error=ClusterError(f"what {address} sent back cannot be made here: {what}"))

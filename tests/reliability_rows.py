"""What the tests of faults saw: the rows of the tables in docs/reliability.md."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

ROWS_FILE = "UCXNB_RELIABILITY_ROWS"  # the environment variable that names the file


def record(
    chapter: str, fault: str, *, tried: int, sees: str, seconds: Sequence[float], lost: str
) -> None:
    """Add a row to the file that ``benchmarks/reliability.py`` asks for; else do nothing.

    Parameters
    ----------
    chapter : {"faults", "input", "strangers", "load", "threads"}
        The table.
    fault : str
        What was done. Calls that differ in `tried` and `seconds` only make one row.
    tried : int
        How many times in this call.
    sees : str
        What the user of the worker sees.
    seconds : sequence of float
        How long after the fault, for each try, or empty.
    lost : str
        Exactly what is lost, or "nothing".
    """
    path = os.environ.get(ROWS_FILE)
    if path:
        row = {
            "chapter": chapter,
            "fault": fault,
            "tried": tried,
            "sees": sees,
            "seconds": list(seconds),
            "lost": lost,
        }
        with Path(path).open("a") as file:
            file.write(json.dumps(row) + "\n")

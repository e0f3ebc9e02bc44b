"""How much of the machine others took during a run: its figures are worth little if it was much."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

MUCH = 0.05
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal: fields of /proc/stat


class OthersShare:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._busy, self._own = _busy_seconds(), _own_seconds()

    def share(self) -> float:
        """Give the share of all processors' time, 0 to 1.

        The processes of the run must have ended by then: those that live are counted as others.
        """
        own = _own_seconds() - self._own
        others = _busy_seconds() - self._busy - own
        cores = os.cpu_count() or 1
        return max(0.0, others / cores / (time.monotonic() - self._start))


def _busy_seconds() -> float:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(fields[i]) for i in _BUSY) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Of this process and of all that it has started and waited for."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(who) for who in whose]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)

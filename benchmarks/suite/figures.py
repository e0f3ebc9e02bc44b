"""Medians, and medians of ratios, of what a run measured."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .peers import PEERS, PERFTEST
from .plan import BOTH_WAYS, LATENCY, ONE_WAY, Cell

OURS = ("ucxnb", "ucxnb-window", "ucxnb-rows", "ucxnb-await", "ucxnb-threads")
IN_TWO_PROCESSES = OURS[:4]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio taken in each repeat: its median, smallest and largest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


class Figures:
    """The measurements of a run, by what was measured.

    Parameters
    ----------
    results : dict
        As `suite.run.run_suite` gives them.
    """

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results
        self._values: dict[tuple[str, Cell, str], dict[int, dict[str, float]]] = defaultdict(dict)
        for entry in results["measurements"]:
            cell = Cell(entry["measure"], entry["nbytes"], entry["links"])
            self._values[entry["transport"], cell, entry["peer"]][entry["repeat"]] = entry
        measured = {key[2] for key in self._values}
        self.peers = [name for name in (PERFTEST, *PEERS) if name in measured]
        self.transports = list(dict.fromkeys(key[0] for key in self._values))

    def sizes(self, measure: str) -> list[int]:
        """Give the sizes at which something was measured, smallest first."""
        return sorted({cell.nbytes for _, cell, _ in self._values if cell.measure == measure})

    def links(self, measure: str) -> list[int]:
        """Give the numbers of endpoints, smallest first."""
        return sorted({cell.links for _, cell, _ in self._values if cell.measure == measure})

    def repeats(self, transport: str, cell: Cell, peer: str, key: str) -> dict[int, float]:
        """Give a value of each repeat."""
        entries = self._values.get((transport, cell, peer), {})
        return {repeat: entry[key] for repeat, entry in entries.items() if key in entry}

    def median(self, transport: str, cell: Cell, peer: str, key: str) -> float | None:
        """Give the median of the repeats; None if it was not measured."""
        values = self.repeats(transport, cell, peer, key)
        return statistics.median(values.values()) if values else None

    def best(self, transport: str, cell: Cell, peers: Sequence[str], key: str) -> dict[int, float]:
        """Give a value of each repeat, of the one of several peers with the largest median."""
        found = [self.repeats(transport, cell, peer, key) for peer in peers]
        return max(found, key=lambda v: statistics.median(v.values()) if v else 0.0)

    @staticmethod
    def ratio(ours: dict[int, float], theirs: dict[int, float]) -> Ratio | None:
        """Divide repeat by repeat; None if no repeat has both."""
        both = [value / theirs[repeat] for repeat, value in ours.items() if repeat in theirs]
        return Ratio(statistics.median(both), min(both), max(both)) if both else None


MEASURE_KEYS = {LATENCY: "p50_us", ONE_WAY: "rate", BOTH_WAYS: "rate"}

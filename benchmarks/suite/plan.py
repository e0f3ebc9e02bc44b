"""What is measured: sizes, measures, and how long each takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20
SIZES = (0, 8, 64, KIB, 4 * KIB, 8 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB)
QUICK_SIZES = (8, 4 * KIB, 64 * KIB, MIB)
TRANSPORTS = ("shm", "tcp")
ENDPOINTS = (1, 4, 16, 64)
QUICK_ENDPOINTS = (1, 16)
BROADCASTS = (2, 8, 32)
QUICK_BROADCASTS = (8,)
SMALL = 8  # bytes of each message over many endpoints, or broadcast

LATENCY, ONE_WAY, BOTH_WAYS = "latency", "one_way", "both_ways"
ENDPOINT_RATE, BROADCAST = "endpoints", "broadcast"
PAIR_MEASURES = (LATENCY, ONE_WAY, BOTH_WAYS)

MOST = {LATENCY: 100_000, BROADCAST: 20_000}  # rounds
MOST_MESSAGES = 1_000_000
# The first time that ucx_perftest takes is of half a round: of two, it is the median that it gives.
LEAST = {LATENCY: 9}
LEAST_MESSAGES = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to measure with each peer in turn.

    Attributes
    ----------
    measure : str
        ``"latency"``, ``"one_way"``, ``"both_ways"``, ``"endpoints"`` or ``"broadcast"``.
    nbytes : int
        Size of each message, bytes.
    links : int
        Endpoints between the two sides.
    """

    measure: str
    nbytes: int
    links: int = 1

    def text(self) -> str:
        """Name it, for people."""
        over = f" over {self.links} endpoints" if self.links > 1 else ""
        return f"{self.measure} of {size_text(self.nbytes)}{over}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run measures.

    Attributes
    ----------
    sizes, transports, endpoints, broadcasts : tuple
        Message sizes in bytes; ``"shm"`` and ``"tcp"``; numbers of endpoints; of receivers.
    repeats : int
        Turns that every peer gets at everything.
    seconds : float
        How long one measurement aims to take.
    """

    sizes: tuple[int, ...]
    transports: tuple[str, ...]
    endpoints: tuple[int, ...]
    broadcasts: tuple[int, ...]
    repeats: int
    seconds: float

    def groups(self) -> Iterator[list[Cell]]:
        """Give the cells that one set of connections can serve, one list after the other."""
        yield [Cell(measure, n) for n in self.sizes for measure in PAIR_MEASURES]
        for links in sorted({*self.endpoints, *self.broadcasts}):
            cells = [Cell(ENDPOINT_RATE, SMALL, links)] if links in self.endpoints else []
            yield cells + ([Cell(BROADCAST, SMALL, links)] if links in self.broadcasts else [])


def most_rounds(measure: str) -> int:
    """Give the largest number of rounds or messages that one measurement counts."""
    return MOST.get(measure, MOST_MESSAGES)


def least_rounds(measure: str) -> int:
    """Give the smallest number of rounds or messages that one measurement counts."""
    return LEAST.get(measure, LEAST_MESSAGES)


def size_text(nbytes: int) -> str:
    """Write a size as people do: 8 B, 4 KiB, 1 MiB."""
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if nbytes >= unit and nbytes % unit == 0:
            return f"{nbytes // unit} {name}"
    return f"{nbytes} B"


def parse_size(text: str) -> int:
    """Read a size: 8, 8B, 4KiB, 1MiB.

    Raises
    ------
    ValueError
        It is none.
    """
    match = re.fullmatch(r"(\d+)\s*(B|KiB|MiB|K|M)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"{text!r} is no size; write 8, 4KiB or 1MiB")
    return int(match[1]) * {"k": KIB, "m": MIB}.get((match[2] or "b")[0].lower(), 1)

"""Which members of a cluster are connected before anybody needs it, and who of two dials."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Literal, TypeAlias

from ..errors import ArgumentError
from ..text import shown

__all__ = ["chosen_pairs", "dials"]

Topology: TypeAlias = (
    Literal["all pairs", "ring", "on demand"] | Callable[[Sequence[str]], Iterable[tuple[str, str]]]
)
"""A word, or what makes pairs of Dask addresses of a list of them."""


def chosen_pairs(topology: Topology, addresses: Sequence[str]) -> set[tuple[str, str]]:
    """Give the pairs that are to be connected at once.

    Parameters
    ----------
    topology : Topology
        As `UcxCluster` takes it.
    addresses : sequence of str
        Of the workers, in the order of their ranks.

    Returns
    -------
    set of (str, str)
        Each with the one that dials first.

    Raises
    ------
    ArgumentError
        The topology is none, or names an address that is not among them.
    """
    if topology == "all pairs":
        pairs: Iterable[tuple[str, str]] = combinations(addresses, 2)
    elif topology == "ring":
        pairs = zip(addresses, [*addresses[1:], *addresses[:1]], strict=True)
    elif topology == "on demand":
        pairs = ()
    elif callable(topology):
        pairs = topology(tuple(addresses))
    else:
        raise ArgumentError(
            f'topology={shown(topology)}: it takes "all pairs", "ring", "on demand", or a function '
            "that makes pairs of a list of addresses"
        )
    chosen = set()
    known = set(addresses)
    for pair in pairs:
        try:
            one, other = pair
            strange = {one, other} - known
        except (TypeError, ValueError):
            raise ArgumentError(f"topology: {shown(pair)} is no pair of addresses") from None
        if strange:
            raise ArgumentError(f"topology: {shown(strange.pop())} is no worker of this cluster")
        if one != other:
            chosen.add((one, other) if dials(one, other) else (other, one))
    return chosen


def dials(one: str, other: str) -> bool:
    """Whether `one` is it who dials `other`: both sides say the same, and about half dial."""
    low, high = sorted((one, other))
    return (one == low) == bool(zlib.crc32(f"{low} {high}".encode()) & 1)

"""Shapes of trees: who hands a message on to whom."""

from __future__ import annotations

__all__ = ["binary_tree", "binomial_tree"]


def binomial_tree(rank: int, size: int, root: int = 0) -> tuple[int | None, list[int]]:
    """Place a rank in a binomial tree: the fewest rounds, for a message that is sent at once.

    Parameters
    ----------
    rank, size, root : int
        Whose place, of how many, below whom.

    Returns
    -------
    tuple of (int or None, list of int)
        Its parent, None for the root, and its children, the one with most below it first.
    """
    place = (rank - root) % size
    lowest = place & -place or 1 << (size - 1).bit_length()
    parent = None if place == 0 else (place - lowest + root) % size
    children = []
    step = lowest >> 1
    while step:
        if place + step < size:
            children.append((place + step + root) % size)
        step >>= 1
    return parent, children


def binary_tree(rank: int, size: int, root: int = 0) -> tuple[int | None, list[int]]:
    """Place a rank in a binary tree: nobody sends more than twice, for a message in segments.

    Parameters, result
        As of `binomial_tree`.
    """
    place = (rank - root) % size
    parent = None if place == 0 else ((place - 1) // 2 + root) % size
    below = (2 * place + 1, 2 * place + 2)
    return parent, [(child + root) % size for child in below if child < size]

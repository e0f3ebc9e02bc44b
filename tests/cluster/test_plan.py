"""Who hands on to whom, who dials, and who is measured when: without any cluster."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ucxnb.cluster.dashboard import placed
from ucxnb.cluster.pairs import rounds_of
from ucxnb.cluster.tags import OPERATION_MASK, tag_of
from ucxnb.cluster.topology import chosen_pairs, dials
from ucxnb.cluster.trees import binary_tree, binomial_tree
from ucxnb.errors import ArgumentError

SIZES = [*range(1, 35), 64, 1000]


@pytest.mark.parametrize("tree", [binary_tree, binomial_tree])
@pytest.mark.parametrize("size", SIZES)
def test_a_tree_reaches_everybody_once(tree, size):
    for root in {0, size // 2, size - 1}:
        parents = {rank: tree(rank, size, root)[0] for rank in range(size)}
        children = {rank: tree(rank, size, root)[1] for rank in range(size)}
        assert parents[root] is None
        assert sorted(c for below in children.values() for c in below) == sorted(
            set(range(size)) - {root}
        )
        for rank, below in children.items():
            assert all(parents[child] == rank for child in below)


@pytest.mark.parametrize("size", SIZES)
def test_trees_are_as_flat_as_they_can_be(size):
    def depth(tree, rank):
        parent = tree(rank, size)[0]
        return 0 if parent is None else 1 + depth(tree, parent)

    rounds = (size - 1).bit_length()
    assert max(len(binary_tree(rank, size)[1]) for rank in range(size)) <= 2
    assert max(depth(binary_tree, rank) for rank in range(size)) == size.bit_length() - 1
    # In a binomial tree the messages of a parent follow each other, one a round.
    done = {0: 0}
    for rank in sorted(range(size), key=lambda rank: depth(binomial_tree, rank)):
        for turn, child in enumerate(binomial_tree(rank, size)[1], 1):
            done[child] = done[rank] + turn
    assert max(done.values()) == rounds


def test_of_two_one_dials():
    addresses = [f"tcp://10.0.0.{i}:4000" for i in range(60)]
    count = 0
    for one, other in combinations(addresses, 2):
        assert dials(one, other) is not dials(other, one)
        count += dials(one, other)
    assert 0.4 < count / (60 * 59 / 2) < 0.6


def test_topologies():
    four = ["a", "b", "c", "d"]

    def chosen(topology, addresses=four):
        pairs = chosen_pairs(topology, addresses)
        assert all(dials(one, other) for one, other in pairs)
        return {frozenset(pair) for pair in pairs}

    assert chosen("all pairs") == {frozenset(pair) for pair in combinations(four, 2)}
    assert chosen("ring") == {frozenset(pair) for pair in ("ab", "bc", "cd", "da")}
    assert chosen("ring", ["a"]) == set()
    assert chosen("on demand") == set()
    assert chosen(lambda all_: [(all_[0], each) for each in all_[1:]]) == {
        frozenset(pair) for pair in ("ab", "ac", "ad")
    }


@pytest.mark.parametrize(
    "topology",
    ["mesh", None, lambda _: [("a", "z")], lambda _: [7], lambda _: [("a", "b", "c")]],
)
def test_a_wrong_topology_is_an_error(topology):
    with pytest.raises(ArgumentError):
        chosen_pairs(topology, ["a", "b", "c"])


@pytest.mark.parametrize("hosts", [1, 2, 3, 8])
def test_no_host_is_in_two_pairs_at_once(hosts):
    host_of = {f"w{i}": f"h{i % hosts}" for i in range(12)}
    rounds = rounds_of(host_of)
    assert sorted(pair for pairs in rounds for pair in pairs) == sorted(combinations(host_of, 2))
    for pairs in rounds:
        busy = [host for pair in pairs for host in {host_of[one] for one in pair}]
        assert len(busy) == len(set(busy))


def test_tags_of_operations_differ():
    assert tag_of(3, 1) & OPERATION_MASK == tag_of(3)
    assert len({tag_of(i, j) for i in range(10) for j in range(100)}) == 1000
    assert tag_of(1 << 30, 1 << 30) < 1 << 40


def test_figures_stay_with_their_workers_when_others_come_and_go():
    square = np.array([[1.0, 2], [3, 4]])
    there = placed(square, ("a", "b"), ("b", "new", "a"))
    assert there[0, 0] == 4
    assert there[2, 0] == 2
    assert np.isnan(there[1]).all()
    assert np.isnan(there[:, 1]).all()

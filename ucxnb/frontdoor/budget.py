"""How much the peers of a worker may send before it receives: one sum, shared among connections."""

from __future__ import annotations

__all__ = ["Allowance", "Budget"]

LEAST_WINDOW = 64 * 1024


class Budget:
    """What all connections together may have sent and nobody has received.

    Parameters
    ----------
    total : int or None
        `WorkerConfig.max_unexpected_bytes`.
    """

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.reserved = 0
        self.connections = 0

    @property
    def share(self) -> int:
        """The window of each connection, if there is room: half the budget, shared equally."""
        assert self.total is not None
        return self.total // 2 >> max(0, self.connections - 1).bit_length()

    def window(self, mine: int) -> int:
        """Give the window of a connection for which `mine` is reserved now."""
        assert self.total is not None
        return max(LEAST_WINDOW, min(self.share, self.total - self.reserved + mine))


class Allowance:
    """What one peer may send, from the handshake on until all that it sent is received.

    Sums are of cost, as the engine counts it. A peer that is told to keep to less may have sent
    more already: it answers with what it keeps to, and until then the larger sum is reserved.

    Parameters
    ----------
    budget : Budget
        Of the worker.

    Attributes
    ----------
    window : int or None
        How much more the peer may send than was received; None is no limit.
    reserved : int
        Its part of the budget.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        budget.connections += 1
        self.window: int | None = None
        self.reserved = 0
        self._taken = self._offered = self._limit = 0
        if budget.total is not None:
            self.window = self._offered = self._limit = budget.window(0)
            self._reserve(self.window)

    def next_window(self) -> int:
        """Give the window to offer now."""
        self.window = self._budget.window(self.reserved)
        return self.window

    def offer(self, taken: int) -> int:
        """`taken` was received by now: the sum up to which the peer may send."""
        assert self.window is not None
        self._taken = taken
        self._offered = taken + self.window
        self._limit = max(self._limit, self._offered)
        self._reserve(self._limit - taken)
        return self._offered

    def kept(self, limit: int) -> None:
        """The peer, told to keep to less, keeps to this."""
        self._limit = max(self._offered, min(limit, self._limit))
        self._reserve(self._limit - self._taken)

    def end(self) -> None:
        """The peer sends no more; what it sent stays reserved until `left`."""
        self._budget.connections -= 1

    def left(self, cost: int) -> None:
        """So much of what it sent is not received yet."""
        self._reserve(cost)

    def _reserve(self, cost: int) -> None:
        self._budget.reserved += cost - self.reserved
        self.reserved = cost

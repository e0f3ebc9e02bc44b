"""The workers that take part in one operation, seen from one of them: ranks and collectives."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import (
    ArgumentError,
    EndpointClosedError,
    EndpointLostError,
    OperationTimeoutError,
    UnknownEndpointError,
    WorkerLostError,
)
from ..request import Request
from ..text import shown
from .tags import tag_of
from .trees import binary_tree, binomial_tree
from .values import Header, make_room, packed, unpacked

if TYPE_CHECKING:
    from ..worker import UcxWorker
    from .member import Member

__all__ = ["Aborted", "Group", "reduction"]

SEGMENT = 1 << 21
"""Bytes of a large message that go on before the next ones have come."""

_SMALL = 1 << 16  # bytes up to which an array goes up and down a tree instead of around a ring
_AHEAD = 4  # receives that are posted before they are needed
_SLICE = 0.1  # seconds of a wait between two looks at whether to give up
_REDUCTIONS = {"sum": np.add, "prod": np.multiply, "min": np.minimum, "max": np.maximum}


class Aborted(Exception):  # noqa: N818  (it is no error of its own: another member had one)
    """Another member of the group failed, or the operation was given up."""


class Group:
    """The workers of one operation. All of them call the same collectives in the same order.

    It is handed to the function of `UcxCluster.map`, in each worker, and lives as long as that
    runs. One thread uses it.

    Attributes
    ----------
    rank, size : int
        This worker's place, and how many there are.
    worker : UcxWorker
        The local one.
    addresses : tuple of str
        Dask's addresses of all, by rank.
    operation : int
        Number of the operation.

    Notes
    -----
    Every call raises `WorkerLostError` if a worker that it needs is gone, and ends soon after any
    of the others has failed. Tags from ``0xFE_0000_0000`` on are the group's.
    """

    def __init__(
        self, member: Member, operation: int, rank: int, addresses: tuple[str, ...]
    ) -> None:
        self.rank = rank
        self.size = len(addresses)
        self.worker: UcxWorker = member.worker
        self.addresses = addresses
        self._began = time.perf_counter()
        self._waited = 0.0
        self._waiting_since: float | None = None
        self._member = member
        self.operation = operation
        self._calls = 0
        self._aborted = ""

    def endpoint_to(self, rank: int) -> int:
        """Give the endpoint that leads to another of the group; connect first if need be.

        Parameters
        ----------
        rank : int
            Whom.

        Returns
        -------
        int
            Of `worker`.

        Raises
        ------
        ArgumentError
            There is no such rank, or it is one's own.
        WorkerLostError
            It cannot be reached.
        """
        if type(rank) is not int or not 0 <= rank < self.size or rank == self.rank:
            raise ArgumentError(
                f"rank={shown(rank)}: it takes 0 to {self.size - 1}, and not {self.rank}, your own"
            )
        return self._member.endpoint_to(self.addresses[rank], self._check)

    # ---- collectives ----

    def barrier(self) -> None:
        """Wait until all have come here."""
        self._fold(None, lambda one, _: one)

    def broadcast(self, value: Any = None, root: int = 0, *, out: np.ndarray | None = None) -> Any:
        """Hand a value to all.

        Parameters
        ----------
        value : object
            At the root: an array, or whatever can be pickled. It must not change meanwhile.
        root : int
            Whose it is.
        out : numpy.ndarray, optional
            Elsewhere than at the root: where an array goes, of its shape and type and contiguous.
            New memory costs more than the message, on one machine.

        Returns
        -------
        object
            The value; elsewhere than at the root a copy that is yours.

        Raises
        ------
        WorkerLostError, ArgumentError, ObjectError
        """
        self._check_rank(root)
        tag = self.next_tag()
        data = None
        header = None
        if self.rank == root:
            header, data = packed(value)
        # Its own small tree, so that everybody knows the size before the first segment comes.
        parent, children = binomial_tree(self.rank, self.size, root)
        if parent is not None:
            header = self._hear(parent, tag)
        assert isinstance(header, Header)
        self._finish_all([self._say(child, tag, header) for child in children])
        if header.nbytes > SEGMENT:
            parent, children = binary_tree(self.rank, self.size, root)
        if data is None:
            data = make_room(header, out)
        segments: Iterable[memoryview] = _cut(data)
        if parent is not None:
            segments = self._arriving(parent, tag + 1, segments)
        lanes = [_Lane(self, child, tag + 1) for child in children]
        for segment in segments:
            for lane in lanes:
                lane.send(segment)
                lane.drain(_AHEAD)
        for lane in lanes:
            lane.drain(0)
        if self.rank == root:
            return value
        return unpacked(header, data) if out is None else out

    def scatter(self, values: Sequence[Any] | None = None, root: int = 0) -> Any:
        """Hand each its own value.

        Parameters
        ----------
        values : sequence of object
            At the root: one for each rank.
        root : int
            Whose they are.

        Returns
        -------
        object
            Of this rank.

        Raises
        ------
        WorkerLostError, ArgumentError, ObjectError
        """
        self._check_rank(root)
        tag = self.next_tag()
        if self.rank != root:
            return self._receive_value(root, tag)
        if values is None or len(values) != self.size:
            raise ArgumentError(f"values: it takes one for each of {self.size} ranks")
        sends: list[Request] = []
        for rank, value in enumerate(values):
            if rank != root:
                sends += self._send_value(rank, tag, value)
        self._finish_all(sends)
        return values[root]

    def gather(self, value: Any, root: int = 0) -> list[Any] | None:
        """Bring a value of each together.

        Parameters
        ----------
        value : object
            This rank's.
        root : int
            Where to.

        Returns
        -------
        list of object, or None
            By rank, at the root.

        Raises
        ------
        WorkerLostError, ArgumentError, ObjectError
        """
        self._check_rank(root)
        tag = self.next_tag()
        if self.rank != root:
            self._finish_all(self._send_value(root, tag, value))
            return None
        return [
            value if rank == root else self._receive_value(rank, tag) for rank in range(self.size)
        ]

    def allreduce(
        self,
        array: Any,
        op: str | Callable[..., Any] = "sum",
        *,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Combine an array of each, element by element, and give the result to all.

        Parameters
        ----------
        array : array_like
            Of one shape and type everywhere. It is not changed.
        op : {"sum", "prod", "min", "max"} or numpy.ufunc
            How two are combined; it is associative and commutative.
        out : numpy.ndarray, optional
            Where the result goes, of the same shape and type, contiguous, and not `array` itself.

        Returns
        -------
        numpy.ndarray
            The same everywhere, to the last bit.

        Raises
        ------
        WorkerLostError
        ArgumentError
            The arrays differ in shape or type, or there is no such `op`.

        Notes
        -----
        Large arrays go around a ring in segments: each worker sends twice the array's size less
        one share, however many there are. Small ones go up a tree and down again.
        """
        function = reduction(op)
        array = np.asarray(array, order="C")
        if array.dtype.hasobject:
            raise ArgumentError("array: it holds Python objects; it takes numbers")
        kind = (array.dtype.str, array.shape)
        if out is None:
            out = np.empty_like(array)
        elif _kind_of(out) != kind or np.may_share_memory(out, array):
            raise ArgumentError(
                f"out={shown(out)}: it takes a contiguous array of {kind}, apart from the other"
            )
        if self.size == 1 or array.nbytes <= _SMALL:
            result = self._fold((kind, array), lambda one, other: _combined(function, one, other))
            out[...] = result[1]
            return out
        tag = self.next_tag()
        left, right = (self.rank - 1) % self.size, (self.rank + 1) % self.size
        said = self._say(right, tag, kind)
        _check_same(kind, self._hear(left, tag))
        self._finish(said, right)
        lane = _Lane(self, right, tag + 1)
        self._go_around(left, lane, array.reshape(-1), out.reshape(-1), function)
        lane.drain(0)
        return out

    def _go_around(
        self,
        left: int,
        right: _Lane,
        mine: np.ndarray,
        out: np.ndarray,
        function: Callable[..., Any],
    ) -> None:
        """Reduce around a ring, then hand around what each has reduced.

        A segment goes on as soon as it is reduced, so that all links are busy all the time.
        """
        size = self.size
        edges = [mine.size * i // size for i in range(size + 1)]
        step = max(1, SEGMENT // mine.itemsize)

        def segments(turns: Iterable[int]) -> list[slice]:
            shares = [(self.rank - turn) % size for turn in turns]
            return [
                slice(start, min(start + step, edges[share + 1]))
                for share in shares
                for start in range(edges[share], edges[share + 1], step)
            ]

        for part in segments([0]):
            right.send(mine[part])
        parts = segments(range(1, size))
        scratch = np.empty((_AHEAD, min(step, mine.size)), mine.dtype)
        rooms = (scratch[i % _AHEAD, : p.stop - p.start] for i, p in enumerate(parts))
        for part, came in zip(parts, self._arriving(left, right.tag, rooms), strict=True):
            function(mine[part], came, out=out[part])
            right.send(out[part])
        # The last share that comes here was reduced by the right one itself.
        onwards = len(segments(range(size - 2)))
        rooms = (out[part] for part in segments(range(size - 1)))
        for i, came in enumerate(self._arriving(left, right.tag, rooms)):
            if i < onwards:
                right.send(came)
            right.start()

    def _fold(self, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """Combine small values up a tree, and hand the result down."""
        tag = self.next_tag()
        parent, children = binomial_tree(self.rank, self.size)
        for child in children:
            value = combine(value, self._hear(child, tag))
        if parent is not None:
            self._finish_all([self._say(parent, tag, value)])
            value = self._hear(parent, tag + 1)
        self._finish_all([self._say(child, tag + 1, value) for child in children])
        return value

    def stream(self, rank: int, data: Any, count: int, *, sends: bool) -> None:
        """Send, or receive, a buffer many times, a few of them under way at once.

        Parameters
        ----------
        rank : int
            The other one, which does the opposite.
        data : buffer
            What is sent, or received into.
        count : int
            How often.
        sends : bool
            Whether this one sends.

        Raises
        ------
        WorkerLostError
        """
        tag = self.next_tag()
        if sends:
            lane = _Lane(self, rank, tag)
            for _ in range(count):
                lane.send(data)
                lane.drain(_AHEAD)
            lane.drain(0)
        else:
            for _ in self._arriving(rank, tag, (data for _ in range(count))):
                pass

    # ---- messages ----

    def next_tag(self) -> int:
        """Give the tag of the next call; it and the number after it are that call's alone."""
        self._calls += 1
        return tag_of(self.operation, self._calls)

    def _say(self, rank: int, tag: int, value: object) -> Request:
        return self.worker.isend_object(self.endpoint_to(rank), tag, value)

    def _hear(self, rank: int, tag: int) -> Any:
        endpoint_id = self.endpoint_to(rank)
        return self.patiently(
            lambda: self.worker.receive_object(endpoint_id, tag, timeout=_SLICE), rank
        )

    def _send_value(self, rank: int, tag: int, value: object) -> list[Request]:
        header, data = packed(value)
        sends = [self._say(rank, tag, header)]
        if header.nbytes:
            sends.append(self.worker.isend_tag(self.endpoint_to(rank), tag + 1, data))
        return sends

    def _receive_value(self, rank: int, tag: int) -> Any:
        header = self._hear(rank, tag)
        data = make_room(header)
        if header.nbytes:
            self._finish(self.worker.ireceive_tag(self.endpoint_to(rank), tag + 1, data), rank)
        return unpacked(header, data)

    def _arriving(self, rank: int, tag: int, rooms: Iterable[Any]) -> Iterator[Any]:
        """Fill one buffer after the other, with receives posted ahead."""
        endpoint_id = self.endpoint_to(rank)
        posted: deque[tuple[Request, Any]] = deque()
        for room in rooms:
            posted.append((self.worker.ireceive_tag(endpoint_id, tag, room), room))
            if len(posted) == _AHEAD:
                request, full = posted.popleft()
                self._finish(request, rank)
                yield full
        for request, full in posted:
            self._finish(request, rank)
            yield full

    def _finish(self, request: Request, rank: int | None = None) -> None:
        if request.done:
            request.wait(0)
        else:
            self.patiently(lambda: request.wait(_SLICE), rank)

    def _finish_all(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self._finish(request)

    def patiently(self, call: Callable[[], Any], rank: int | None) -> Any:
        """Make a call again until it does not time out any more, and note how long that was.

        Parameters
        ----------
        call : callable
            It raises `OperationTimeoutError` after a moment.
        rank : int or None
            Whom it waits for.

        Raises
        ------
        WorkerLostError
            That one is gone.
        """
        self._waiting_since = began = time.perf_counter()
        try:
            while True:
                self._check()
                try:
                    return call()
                except OperationTimeoutError:
                    continue
        except (EndpointLostError, EndpointClosedError, UnknownEndpointError) as error:
            who = "another worker" if rank is None else self.addresses[rank]
            raise WorkerLostError(f"{who} is gone: {error}", who) from error
        finally:
            self._waiting_since = None
            self._waited += time.perf_counter() - began

    def times(self) -> tuple[float, float]:
        """Seconds since the operation began here, and those of them spent waiting for others."""
        now, since = time.perf_counter(), self._waiting_since
        return now - self._began, self._waited + (0.0 if since is None else now - since)

    # ---- giving up ----

    def abort(self, why: str) -> None:
        """Let every call end, from another thread.

        Parameters
        ----------
        why : str
            Another member's error, say.
        """
        self._aborted = why

    def _check(self) -> None:
        if self._aborted:
            raise Aborted(self._aborted)

    def _check_rank(self, root: int) -> None:
        if type(root) is not int or not 0 <= root < self.size:
            raise ArgumentError(f"root={shown(root)}: it takes 0 to {self.size - 1}")

    def __repr__(self) -> str:
        return f"<Group: rank {self.rank} of {self.size}>"


class _Lane:
    """Messages to one of a group, in order, a few at a time: UCX needs memory for each."""

    def __init__(self, group: Group, rank: int, tag: int) -> None:
        self.tag = tag
        self._group = group
        self._rank = rank
        self._endpoint_id = group.endpoint_to(rank)
        self._waiting: deque[Any] = deque()
        self._flying: deque[Request] = deque()

    def send(self, data: Any) -> None:
        """Send after what was handed over before; `data` must not change until it is drained."""
        self._waiting.append(data)
        self.start()

    def start(self) -> None:
        """Send what there is room for, without waiting."""
        while self._flying and self._flying[0].done:
            self._flying.popleft().wait(0)
        while self._waiting and len(self._flying) < _AHEAD:
            data = self._waiting.popleft()
            worker = self._group.worker
            self._flying.append(worker.isend_tag(self._endpoint_id, self.tag, data))

    def drain(self, most: int) -> None:
        """Wait until at most so many have not gone."""
        while len(self._waiting) + len(self._flying) > most:
            self._group._finish(self._flying.popleft(), self._rank)
            self.start()


def reduction(op: str | Callable[..., Any]) -> Callable[..., Any]:
    """Give the function of a reduction's name.

    Raises
    ------
    ArgumentError
        There is none.
    """
    if isinstance(op, str) and op in _REDUCTIONS:
        return _REDUCTIONS[op]
    if isinstance(op, np.ufunc) and op.nin == 2 and op.nout == 1:
        return op
    raise ArgumentError(
        f"op={shown(op)}: it takes {', '.join(map(repr, _REDUCTIONS))}, or a NumPy ufunc of two"
    )


def _kind_of(array: object) -> tuple[str, tuple[int, ...]] | None:
    """Type and shape of an array whose memory is in one piece."""
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
        return None
    return array.dtype.str, array.shape


def _cut(data: memoryview) -> Iterator[memoryview]:
    for start in range(0, data.nbytes, SEGMENT):
        yield data[start : start + SEGMENT]


def _combined(function: Callable[..., Any], one: Any, other: Any) -> Any:
    _check_same(one[0], other[0])
    return one[0], function(one[1], other[1], out=np.empty_like(one[1]))


def _check_same(mine: object, other: object) -> None:
    if mine != other:
        raise ArgumentError(
            f"the arrays differ: {mine} here, {other} elsewhere; all take one type and shape"
        )

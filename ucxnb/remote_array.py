"""A NumPy array that lies in a peer's memory: slices are got from there, and put there."""

from __future__ import annotations

import itertools
import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from .engine import RmaEngine
from .errors import ArgumentError, RemoteRangeError
from .request import wait_all
from .text import shown

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from .engine import RemoteMemory

__all__ = ["RemoteArray"]


class RemoteArray:
    """An array in the memory of a peer; indexing it moves data.

    ``a[2:5]`` gets those elements, as an array of yours; ``a[2:5] = values`` puts them there, and
    `flush` waits until they are. Integers, slices and ``...`` select, as in NumPy; each run of
    elements that lie side by side is one transfer.

    Parameters
    ----------
    worker : UcxWorker
        This side.
    endpoint_id : int
        The connection to the memory's owner.
    remote : bytes or RemoteMemory
        The memory's `RegisteredMemory.remote_key`.
    dtype : dtype
        Of the elements: any that holds no Python objects.
    shape : int or tuple of int, optional
        In C order; if left out, one dimension with as many elements as fit.
    offset : int
        Where in the memory the first element lies, bytes.

    Raises
    ------
    ArgumentError
        Data type or shape cannot be.
    RemoteRangeError
        It does not lie within the memory.
    RemoteKeyError, EndpointError, UnknownEndpointError, FeatureDisabledError
        As `UcxWorker.open_remote`, and so its other errors.

    Examples
    --------
    >>> with server.allocate(8 * 100) as memory:
    ...     a = RemoteArray(client, endpoint_id, memory.remote_key(), "float64", (10, 10))
    ...     a[3, ::2] = 1.5
    ...     a.flush()
    ...     float(np.frombuffer(memory).sum())
    7.5
    """

    def __init__(
        self,
        worker: RmaEngine,
        endpoint_id: int,
        remote: bytes | RemoteMemory,
        dtype: DTypeLike,
        shape: int | tuple[int, ...] | None = None,
        *,
        offset: int = 0,
    ) -> None:
        self._worker = worker
        self._endpoint_id = endpoint_id
        self._dtype = _checked_dtype(dtype)
        self._offset = _checked_index("offset", offset)
        self._remote = worker._check_remote(endpoint_id, remote, None)
        room = self._remote.nbytes - self._offset
        if shape is None:
            self._shape: tuple[int, ...] = (max(room, 0) // self._dtype.itemsize,)
        else:
            lengths = shape if isinstance(shape, tuple) else (shape,)
            self._shape = tuple(_checked_index("shape", length) for length in lengths)
        if self.nbytes > room:
            raise RemoteRangeError(
                f"{self.nbytes:,} bytes from offset {self._offset:,} do not lie within the "
                f"{self._remote.nbytes:,} bytes of that memory"
            )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements in each dimension."""
        return self._shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self._shape)

    @property
    def nbytes(self) -> int:
        """Bytes that they take there."""
        return self.size * self._dtype.itemsize

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("an array of no dimensions has no length")
        return self._shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any] | Any:
        """Get elements from the peer.

        Raises
        ------
        IndexError
            There are no such elements.
        ArgumentError
            It is neither an integer, a slice nor ``...``.
        UcxnbError
            As `UcxWorker.get`.
        """
        picks = self._picks(index)
        result = np.empty([pick.count for pick in picks], self._dtype)
        self._move(picks, result, self._worker.iget)
        result = result.reshape([pick.count for pick in picks if pick.kept])
        return result if result.ndim else result[()]

    def __setitem__(self, index: Any, values: Any) -> None:
        """Put elements there; they have arrived after `flush`.

        Raises
        ------
        IndexError
            There are no such elements.
        ValueError
            The values do not have that shape.
        ArgumentError
            The index is neither an integer, a slice nor ``...``.
        UcxnbError
            As `UcxWorker.put`.
        """
        picks = self._picks(index)
        shape = [pick.count for pick in picks if pick.kept]
        data = np.broadcast_to(np.asarray(values, self._dtype), shape)
        data = np.ascontiguousarray(data).reshape([pick.count for pick in picks])
        self._move(picks, data, self._worker.iput)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the array lies in a peer's memory: a copy is all there is")
        return np.asarray(self[...], dtype)

    def flush(self, *, timeout: float | None = None) -> None:
        """Wait until what was put has arrived.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits for ever.

        Raises
        ------
        UcxnbError
            As `UcxWorker.flush`.
        """
        self._worker.flush(self._endpoint_id, timeout=timeout)

    def __repr__(self) -> str:
        return f"<RemoteArray {self._shape} of {self._dtype}, endpoint {self._endpoint_id}>"

    # ---- inside ----

    def _picks(self, index: Any) -> list[_Pick]:
        parts = list(index) if isinstance(index, tuple) else [index]
        if sum(part is Ellipsis for part in parts) > 1:
            raise IndexError("an index can only have a single '...'")
        if Ellipsis not in [part if part is Ellipsis else None for part in parts]:
            parts.append(Ellipsis)
        place = next(i for i, part in enumerate(parts) if part is Ellipsis)
        missing = self.ndim - (len(parts) - 1)
        if missing < 0:
            raise IndexError(f"{len(parts) - 1} indices for {self.ndim} dimensions")
        parts[place : place + 1] = [slice(None)] * missing
        return [_Pick(part, length) for part, length in zip(parts, self._shape, strict=True)]

    def _move(self, picks: list[_Pick], data: NDArray[Any], move: Any) -> None:
        """Move each run of neighbours, all at the same time."""
        if data.size == 0:
            return
        strides = [math.prod(self._shape[i + 1 :]) * self._dtype.itemsize for i in range(self.ndim)]
        # From the last dimension on, whole ones join into one run.
        split = self.ndim
        while split > 0 and picks[split - 1].is_whole(self._shape[split - 1]):
            split -= 1
        if split > 0 and picks[split - 1].step == 1:
            split -= 1
        run = math.prod(pick.count for pick in picks[split:]) * self._dtype.itemsize
        base = self._offset + sum(
            pick.start * stride for pick, stride in zip(picks, strides, strict=True)
        )
        memory = memoryview(data.reshape(-1).view(np.uint8)).cast("B")
        requests = []
        outer = [range(pick.count) for pick in picks[:split]]
        for number, place in enumerate(itertools.product(*outer)):
            there = base + sum(
                i * pick.step * stride
                for i, pick, stride in zip(place, picks[:split], strides[:split], strict=True)
            )
            part = memory[number * run : (number + 1) * run]
            requests.append(move(self._endpoint_id, part, self._remote, there))
        wait_all(requests)


class _Pick:
    """What an index selects in one dimension."""

    def __init__(self, part: Any, length: int) -> None:
        self.kept = isinstance(part, slice)
        if self.kept:
            try:
                chosen = range(*part.indices(length))
            except (TypeError, ValueError) as error:
                raise ArgumentError(f"{shown(part)}: {error}") from None
            self.start = chosen.start if chosen else 0
            self.step, self.count = chosen.step, len(chosen)
            return
        try:
            number = operator.index(part)
        except TypeError:
            raise ArgumentError(
                f"{shown(part)}: a remote array is indexed by integers, slices and ..."
            ) from None
        if not -length <= number < length:
            raise IndexError(f"index {number} is out of bounds for {length} elements")
        self.start, self.step, self.count = number % length, 1, 1

    def is_whole(self, length: int) -> bool:
        """Whether it is all there is, in order."""
        return self.count == length and self.step == 1


def _checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        checked = np.dtype(dtype)
    except TypeError as error:
        raise ArgumentError(f"dtype={shown(dtype)}: {error}") from None
    if checked.hasobject or checked.itemsize == 0:
        raise ArgumentError(f"dtype={shown(dtype)}: its elements have no bytes of their own")
    return checked


def _checked_index(name: str, number: Any) -> int:
    try:
        checked = operator.index(number)
    except TypeError:
        checked = -1
    if not 0 <= checked < 2**63:
        raise ArgumentError(f"{name}={shown(number)}: it takes an integer from 0 up")
    return checked

"""ucxnb, many small messages in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..plan import ONE_WAY
from .ucxnb_blocking import TAG, UcxnbBlocking

MOST_BYTES = 8 << 20  # of the array that a call sends or fills
MOST_ROWS = 1_000_000


class UcxnbRows(UcxnbBlocking):
    """`send_rows` and `receive_rows`: each row of an array is a message."""

    needs = (*UcxnbBlocking.needs, "numpy")
    measures = (ONE_WAY,)
    sizes = (1, 64 << 10)  # NumPy's rows have bytes; large messages gain nothing

    _array: Any = None

    def _rows(self, nbytes: int) -> Any:
        if self._array is None or self._array.shape[1] != nbytes:
            import numpy as np

            # Ones: the pages must be there before the time is taken, in the warm-up.
            self._array = np.ones((min(MOST_ROWS, MOST_BYTES // nbytes), nbytes), "u1")
        return self._array

    def _in_chunks(self, act: Callable[..., None], buffer: Any, count: int) -> None:
        array = self._rows(len(buffer))
        for start in range(0, count, len(array)):
            act(self.ids[0], TAG, array[: count - start])

    def send_many(self, buffer: Any, count: int) -> None:
        self._in_chunks(self.worker.send_rows, buffer, count)

    def receive_many(self, buffer: Any, count: int) -> None:
        self._in_chunks(self.worker.receive_rows, buffer, count)

"""A value that lies in workers of a cluster: the same in each, or each its own."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster import UcxCluster

__all__ = ["Parts"]


class Parts:
    """What `UcxCluster.broadcast`, `scatter` and others leave in the workers.

    Pass it to `UcxCluster.map`, whose function gets the local part in its place. The workers keep
    it as long as you do.

    Attributes
    ----------
    workers : tuple of str
        Dask's addresses of those that have a part, in the order of the parts.
    """

    def __init__(
        self,
        cluster: UcxCluster,
        key: int,
        workers: tuple[str, ...],
        what: str,
        drop: Callable[[int, tuple[str, ...]], None],
    ) -> None:
        self.workers = workers
        self._cluster = cluster
        self._key = key
        self._what = what
        self._release = weakref.finalize(self, drop, key, workers)
        self._release.atexit = False

    @property
    def released(self) -> bool:
        """Whether the workers were told to let go of it."""
        return not self._release.alive

    def gather(self, *, timeout: float | None = None) -> list[Any]:
        """Bring the parts here: `UcxCluster.gather`.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits for ever.

        Returns
        -------
        list of object
            In the order of `workers`.

        Raises
        ------
        ClusterError, ArgumentError
            As `UcxCluster.gather`.
        """
        return self._cluster.gather(self, timeout=timeout)

    def release(self) -> None:
        """Let the workers forget it. Twice is fine; so is dropping the last reference to it."""
        self._release()

    def __len__(self) -> int:
        return len(self.workers)

    def __repr__(self) -> str:
        state = ", released" if self.released else ""
        return f"<Parts: {self._what} in {len(self.workers)} workers{state}>"

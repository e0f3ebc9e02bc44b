"""What a dashboard can watch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..snapshot import Snapshot

if TYPE_CHECKING:
    from .moment import Samples

__all__ = ["Played", "SampleSource", "Watched"]


@runtime_checkable
class Watched(Protocol):
    """A worker, here or elsewhere, or a recording of one: it has a name, and tells how it is.

    `UcxWorker` is one.
    """

    @property
    def name(self) -> str:
        """What people call it."""

    def snapshot(self) -> Snapshot:
        """Tell everything that can be seen of it now, from any thread, without waiting long."""


@runtime_checkable
class SampleSource(Protocol):
    """What feeds a dashboard."""

    @property
    def ended(self) -> bool:
        """Whether nothing comes any more."""

    def sample(self) -> Samples:
        """Tell what has happened since the last call."""


@runtime_checkable
class Played(Protocol):
    """Workers whose time is not that of the clock. `ucxnb.recording.Player` is one."""

    @property
    def workers(self) -> Sequence[Watched]:
        """The workers."""

    def sampler(self, interval: float, longest: float) -> SampleSource:
        """Make what feeds a dashboard, which shows `longest` seconds at most."""

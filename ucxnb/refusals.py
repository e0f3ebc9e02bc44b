"""Who came to a listener and was not let in."""

from __future__ import annotations

from dataclasses import dataclass

from .text import shortened

__all__ = ["Refusal", "Refusals"]

_REMEMBERED = 32
_REASON = 400  # characters that are kept of it


@dataclass(frozen=True, slots=True)
class Refusal:
    """One peer that was not let in.

    Attributes
    ----------
    time : float
        When, seconds since the epoch.
    peer_address : str
        Its ``host:port``.
    reason : str
        Why. It may hold what the peer said: do not trust it.
    """

    time: float
    peer_address: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refusals:
    """The peers that were not let in, up to one moment.

    Attributes
    ----------
    count : int
        How many there were.
    latest : tuple of Refusal
        The latest 32 of them, oldest first.
    """

    count: int = 0
    latest: tuple[Refusal, ...] = ()

    def plus(self, time: float, peer_address: str, reason: str) -> Refusals:
        """Return a copy with one more.

        Parameters
        ----------
        time, peer_address, reason
            As in `Refusal`; the reason is shortened, and what cannot be printed is replaced.

        Returns
        -------
        Refusals
        """
        refusal = Refusal(time, peer_address, shortened(reason, _REASON))
        return Refusals(self.count + 1, (*self.latest, refusal)[-_REMEMBERED:])

"""Samples of all workers, again and again; one that is slow holds up none of the others."""

from __future__ import annotations

import asyncio
import time

from ..errors import UcxnbError
from . import plugin
from .membership import Membership
from .sample import MemberSample

__all__ = ["Poller"]

Answers = dict[str, tuple[MemberSample | None, float]]
"""Of each worker what it told last, and seconds: until it did, or since it was asked in vain."""


class Poller:
    """Asks the workers of a cluster what they do. Everything runs on the loop of Dask's client.

    Parameters
    ----------
    membership : Membership
        Who is there.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._answers: Answers = {}
        self._asked: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def poll(self, seconds: float | None) -> Answers:
        """Ask those that owe no answer, and wait a while for all of them."""
        ready = {member.address for member in self._membership.ready}
        for address in ready - self._asked.keys():
            self._asked[address] = time.monotonic()
            self._tasks.add(asyncio.create_task(self._ask(address)))
        if self._tasks:
            _, self._tasks = await asyncio.wait(self._tasks, timeout=seconds)
        self._answers = {a: answer for a, answer in self._answers.items() if a in ready}
        now = time.monotonic()
        for address, began in self._asked.items():
            last = self._answers.get(address, (None, 0.0))[0]
            self._answers[address] = last, now - began
        return dict(self._answers)

    async def _ask(self, address: str) -> None:
        began = self._asked[address]
        try:
            seat = self._membership.seat(address)
            if seat is not None:
                sample = await self._membership.call(plugin.sample, seat)
                self._answers[address] = sample, time.monotonic() - began
        except (UcxnbError, OSError):
            pass  # it is gone, and the membership says so
        finally:
            del self._asked[address]

    def stop(self) -> None:
        """Wait for nobody any more."""
        for task in self._tasks:
            task.cancel()

"""Operations of a cluster: all members are asked at once, and one that fails ends it for all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distributed import Client
from distributed.protocol.pickle import dumps

from ..errors import ArgumentError, ClusterError, OperationTimeoutError, WorkerLostError
from . import plugin
from .client_loop import begin, wait_for
from .member import Task
from .membership import Membership
from .outcome import Outcome, unpack_outcome

if TYPE_CHECKING:
    from .member import Member

__all__ = ["Conductor", "check"]

_REMEMBERED = 64  # operations that were given up before they began
_TIME_TO_STOP = 3.0  # seconds for members to stop an operation that was given up


@dataclass(slots=True)
class _Operation:
    number: int
    addresses: tuple[str, ...]
    version: int
    roster: tuple[str, ...]
    ranks: tuple[int, ...]
    contacts: dict[str, str]
    task: bytes
    extra: Mapping[str, Any]
    tasks: dict[str, asyncio.Task[Outcome]] = field(default_factory=dict)
    given_up: str = ""


class Conductor:
    """Lets members do their parts of operations, and brings the outcomes together.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    membership : Membership
        Who is there.
    here : Member or None
        The notebook's own member.
    """

    def __init__(self, client: Client, membership: Membership, here: Member | None) -> None:
        self._client = client
        self._membership = membership
        self._here = here
        self._numbers = itertools.count(1)
        self._operations: dict[int, _Operation] = {}
        self._early: deque[tuple[int, str]] = deque(maxlen=_REMEMBERED)
        self._aborting: set[asyncio.Task[Any]] = set()

    def run(
        self,
        task: Task,
        workers: Sequence[str],
        *,
        with_here: bool = False,
        extra: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> tuple[int, dict[str, Outcome]]:
        """Let members perform a task, and wait for all of them.

        Parameters
        ----------
        task : callable
            Called in each with its `Group` and `Member`, and with its `extra` if it has one. It
            is sent to the workers, but not to the notebook's own member.
        workers : sequence of str
            Dask's addresses of those that take part, by rank.
        with_here : bool
            Whether this process takes part, as the first rank.
        extra : mapping
            What is for some members only, by address.
        timeout : float or None
            Seconds.

        Returns
        -------
        tuple of (int, dict of str to Outcome)
            Number of the operation, and how each part ended, this process's included.

        Raises
        ------
        ArgumentError
            The task cannot be pickled.
        KeyboardInterrupt
            The members were told to stop.
        """
        number = next(self._numbers)
        given = dict(extra or {})
        try:
            pickled = dumps(task)
        except Exception as error:  # of whatever is in it
            raise ArgumentError(f"the function or an argument cannot be sent: {error}") from error
        here = self._here if with_here else None
        addresses = (*((here.address,) if here else ()), *workers)
        local = None if here is None else given.pop(here.address, None)
        future = begin(self._client, self._conduct(number, addresses, pickled, given, timeout))
        outcomes: dict[str, Outcome] = {}
        try:
            if here is not None:
                outcomes[here.address] = here.perform(number, addresses, task, local)
                if outcomes[here.address].error is not None:
                    self._give_up_from_here(number, "the notebook's part failed")
            others = wait_for(self._client, future)
            outcomes.update(others)
        except BaseException:
            self._give_up_from_here(number, "it was interrupted")
            if here is not None:
                here.abort(number, "it was interrupted")
            with contextlib.suppress(Exception):  # one is on its way already
                future.result(_TIME_TO_STOP)
            future.cancel()
            raise
        return number, {address: outcomes[address] for address in addresses}

    def _give_up_from_here(self, number: int, why: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all with it
            self._client.loop.asyncio_loop.call_soon_threadsafe(self._give_up, number, why)

    async def _conduct(
        self,
        number: int,
        addresses: tuple[str, ...],
        task: bytes,
        extra: Mapping[str, Any],
        timeout: float | None,
    ) -> dict[str, Outcome]:
        contacts = self._membership.contacts()
        here = () if self._here is None else (self._here.address,)
        roster = (*here, *contacts)
        places = {address: place for place, address in enumerate(roster)}
        if self._here is not None:
            contacts[self._here.address] = ""
            self._here.learn(contacts)
        operation = _Operation(
            number,
            addresses,
            self._membership.version,
            roster,
            tuple(places[a] for a in addresses if a in places),
            contacts,
            task,
            extra,
        )
        outcomes: dict[str, Outcome] = {}
        self._operations[number] = operation
        try:
            for address in addresses:
                if address in here:
                    continue
                part = asyncio.create_task(self._perform(operation, address))
                operation.tasks[address] = part
            for early, why in list(self._early):
                if early == number:
                    self._give_up(number, why)
            deadline = None if timeout is None else time.monotonic() + timeout
            pending = set(operation.tasks.values())
            timed_out = False
            while pending:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                done, pending = await asyncio.wait(
                    pending, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                for part in done:
                    if part.result().error is not None:
                        self._give_up(number, str(part.result().error))
                if not done and timed_out:
                    break
                if not done:
                    timed_out = True
                    self._give_up(number, f"it was not done in {timeout} s")
                    deadline = time.monotonic() + _TIME_TO_STOP
            for address, part in operation.tasks.items():
                if part.done():
                    outcomes[address] = part.result()
                else:
                    part.cancel()
                    outcomes[address] = Outcome(
                        error=OperationTimeoutError(f"{address} was not done in {timeout} s")
                    )
        finally:
            del self._operations[number]
        return outcomes

    async def _perform(self, operation: _Operation, address: str) -> Outcome:
        """Let one member do its part; an error is part of the outcome."""
        seat = self._membership.seat(address)
        if seat is None or len(operation.ranks) != len(operation.addresses):
            gone = [a for a in operation.addresses if a not in operation.contacts]
            who = address if seat is None else gone[0]
            return Outcome(error=WorkerLostError(f"{who} is not in the cluster any more", who))
        whole = len(operation.ranks) == len(operation.roster)
        told = operation.version in seat.rosters
        try:
            while True:
                answer = await self._membership.call(
                    plugin.perform,
                    seat,
                    operation.number,
                    operation.version,
                    None if told else operation.roster,
                    None if told else operation.contacts,
                    None if whole else operation.ranks,
                    operation.task,
                    operation.extra.get(address),
                )
                if answer is not None:
                    seat.rosters = {operation.version}
                    return unpack_outcome(answer, address)
                if not told:
                    raise ClusterError(f"{address} does not remember who is in the cluster")
                told = False
        except Exception as error:  # whatever is wrong with one is told beside what others gave
            return Outcome(error=error)

    def _give_up(self, number: int, why: str) -> None:
        """Tell all members of an operation to end it, once."""
        operation = self._operations.get(number)
        if operation is None:
            self._early.append((number, why))  # it has yet to begin, or has ended
            return
        if operation.given_up:
            return
        operation.given_up = why
        if self._here is not None and self._here.address in operation.addresses:
            self._here.abort(number, why)
        # Those that have done their part, too: what others sent them lies there.
        for address in operation.tasks:
            seat = self._membership.seat(address)
            if seat is not None:
                call = asyncio.create_task(self._membership.call(plugin.abort, seat, number, why))
                self._aborting.add(call)
                call.add_done_callback(self._aborted)

    def _aborted(self, call: asyncio.Task[Any]) -> None:
        self._aborting.discard(call)
        if not call.cancelled():
            call.exception()


def check(what: str, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Give the values of all outcomes.

    Raises
    ------
    ClusterError
        Some have none: it has those of the others, and the errors.
    """
    failed = {a: outcome.error for a, outcome in outcomes.items() if outcome.error is not None}
    results = {a: outcome.value for a, outcome in outcomes.items() if outcome.error is None}
    if not failed:
        return results
    # What the others say of one that failed says less than what it says itself.
    first = min(failed.items(), key=lambda item: isinstance(item[1], ClusterError))
    more = f" ({len(failed)} of {len(outcomes)} failed)" if len(failed) > 1 else ""
    raise ClusterError(
        f"{what} failed in {first[0]}: {type(first[1]).__name__}: {first[1]}{more}",
        results,
        failed,
    ) from first[1]

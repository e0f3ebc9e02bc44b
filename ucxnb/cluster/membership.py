"""Who is in a cluster: kept in step with Dask's scheduler."""

from __future__ import annotations

import asyncio
import enum
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from distributed import Client

from ..errors import ClusterError, UcxnbError, WorkerLostError
from . import plugin
from .plugin import Contact
from .topology import Topology, chosen_pairs

if TYPE_CHECKING:
    from .member import Member

__all__ = ["ClusterMember", "MemberState", "Membership"]

_LOOK_EVERY = 0.25  # seconds between two questions to the scheduler; more if they take long
_SHARE = 0.02  # of the time that those questions may take
_ENSURE_EVERY = 20.0  # seconds between two looks at whether all connections are there
_REMEMBERED = 64  # workers that are gone


class MemberState(enum.Enum):
    """What a worker of a cluster is doing."""

    STARTING = "starting"
    """Dask has it; its UCX worker starts, or connects."""

    READY = "ready"
    """It takes part."""

    FAILED = "failed"
    """No UCX worker could be started in it; `ClusterMember.reason` says why."""

    LEFT = "left"
    """It closed in order."""

    LOST = "lost"
    """It died, or was killed."""


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """A worker of a cluster at one moment.

    Attributes
    ----------
    address : str
        Of the Dask worker.
    state : MemberState
        Its state.
    since : float
        When it entered that state, seconds since the epoch.
    name, host : str
        Of the Dask worker; empty while it starts.
    pid : int
        Of its process, 0 while it starts.
    ucx_address : str
        ``host:port`` where its `UcxWorker` listens; empty while it starts.
    reason : str
        Why it failed or is gone.
    """

    address: str
    state: MemberState
    since: float
    name: str = ""
    host: str = ""
    pid: int = 0
    ucx_address: str = ""
    reason: str = ""


@dataclass(slots=True, eq=False)
class _Seat:
    """A worker, with what only the owner needs to know."""

    shown: ClusterMember
    contact: Contact | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    rosters: set[int] = field(default_factory=set)
    connected: set[str] = field(default_factory=set)

    @property
    def ready(self) -> bool:
        return self.shown.state is MemberState.READY


class Membership:
    """Keeps a cluster's members in step with the workers of a Dask cluster.

    Everything here runs on the event loop of the Dask client; the properties can be read anywhere.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    name : str
        Of the plugin.
    topology : Topology
        Whom to connect at once.
    here : Member or None
        The notebook's own member.
    idle_work : callable
        Called from time to time; it returns a coroutine to await, or None.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        topology: Topology,
        here: Member | None,
        idle_work: Callable[[], Any],
    ) -> None:
        self._client = client
        self._name = name
        self._topology = topology
        self._here = here
        self._idle_work = idle_work
        self._seats: dict[str, _Seat] = {}
        self._past: deque[ClusterMember] = deque(maxlen=_REMEMBERED)
        self._admitting: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._hint = asyncio.Event()
        self._settled = asyncio.Event()
        self._error: Exception | None = None
        self._version = 0
        self._ensured = 0.0
        self._here_connected: set[str] = set()
        self.problems: dict[tuple[str, str], str] = {}

    @property
    def members(self) -> tuple[ClusterMember, ...]:
        """Those that Dask has, in the order they came."""
        return tuple(seat.shown for seat in list(self._seats.values()))

    @property
    def ready(self) -> tuple[ClusterMember, ...]:
        """Those that take part."""
        return tuple(m for m in self.members if m.state is MemberState.READY)

    @property
    def past(self) -> tuple[ClusterMember, ...]:
        """The latest that are gone, oldest first."""
        return tuple(self._past)

    def seat(self, address: str) -> _Seat | None:
        """Give what is known about a worker that is ready."""
        seat = self._seats.get(address)
        return seat if seat is not None and seat.ready else None

    async def watch(self) -> None:
        """Look at what the scheduler has, until cancelled."""
        try:
            while True:
                began = time.monotonic()
                try:
                    await self._look()
                    if (work := self._idle_work()) is not None:
                        await work
                except Exception as error:  # the scheduler is gone, or will be back; or a topology
                    self._error = error
                    self._settled.set()
                pause = max(_LOOK_EVERY, (time.monotonic() - began) / _SHARE)
                self._hint.clear()
                try:
                    await asyncio.wait_for(self._hint.wait(), pause)
                except TimeoutError:
                    continue
        finally:
            for task in (*self._admitting, *self._telling):
                task.cancel()
            if self._connecting is not None:
                self._connecting.cancel()

    async def settle(self) -> None:
        """Wait until every worker that Dask has now takes part, or has failed, and is connected.

        Raises
        ------
        Exception
            Of the topology, or of Dask.
        """
        while True:
            self._settled.clear()
            self._error = None
            self._hint.set()
            await self._settled.wait()
            if self._error is not None:
                raise self._error
            if not self._admitting and self._connecting is None and not self._missing():
                return
            await asyncio.sleep(0.01)

    async def _look(self) -> None:
        present = await self._client.nthreads()
        for address in [a for a in self._seats if a not in present]:
            self._say_goodbye(address)
        for address in present:
            if address not in self._seats:
                self._seats[address] = _Seat(
                    ClusterMember(address, MemberState.STARTING, time.time())
                )
                task = asyncio.create_task(self._admit(address))
                self._admitting.add(task)
                task.add_done_callback(self._admitting.discard)
        # Not awaited: a worker that dies meanwhile would be noticed only after it.
        if not self._admitting and self._connecting is None:
            if time.monotonic() - self._ensured > _ENSURE_EVERY:
                self._ensured = time.monotonic()
                for seat in self._seats.values():
                    seat.connected.clear()  # what was cut meanwhile is connected again
                self._here_connected.clear()
            if self._missing():
                self._connecting = asyncio.create_task(self._connect())
                self._connecting.add_done_callback(self._connected)
        self._settled.set()

    async def _admit(self, address: str) -> None:
        """Find out how a new worker is reached."""
        seat = self._seats[address]
        answer = (
            await self._client.run(
                plugin.describe, self._name, workers=[address], on_error="return"
            )
        )[address]
        if self._seats.get(address) is not seat:
            return
        now = time.time()
        if isinstance(answer, Exception):
            seat.shown = replace(
                seat.shown, state=MemberState.FAILED, since=now, reason=_why(answer)
            )
            return
        self._version += 1
        seat.contact = answer
        seat.shown = ClusterMember(
            address,
            MemberState.READY,
            now,
            answer.name,
            answer.host,
            answer.pid,
            answer.ucx_address,
        )
        if self._here is not None:
            self._here.learn({address: answer.ucx_address})
        self._hint.set()

    def readmit(self, address: str) -> None:
        """A worker was started anew behind our back, or closed as if orphaned: ask again."""
        self._say_goodbye(address)
        self._hint.set()

    def _say_goodbye(self, address: str) -> None:
        seat = self._seats[address]
        state, reason = MemberState.LOST, "Dask has lost it"
        if self._here is not None:
            ended = [e for e in self._here.worker.endpoints(ended=True) if e.peer_name == address]
            if ended and ended[-1].state.value == "closed":
                state, reason = MemberState.LEFT, "it closed in order"
            elif ended and ended[-1].reason:
                reason = ended[-1].reason
            self._here.forget(address)
        # In this order: at no moment is it in neither of them.
        self._past.append(replace(seat.shown, state=state, since=time.time(), reason=reason))
        del self._seats[address]
        seat.gone.set()
        self._version += 1
        self._here_connected.discard(address)
        for other in self._seats.values():
            other.connected.discard(address)
            if other.ready and other.contact is not None:
                self._tell(plugin.forget, other, address)

    def _tell(self, call: Callable[..., Any], seat: _Seat, *args: Any) -> None:
        """Make a call to a member, and do not wait for it."""
        task = asyncio.create_task(self.call(call, seat, *args))
        self._telling.add(task)
        task.add_done_callback(self._told)

    def _told(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        if not task.cancelled():
            task.exception()  # it went away as well, and that is seen elsewhere

    async def call(self, call: Callable[..., Any], seat: _Seat, *args: Any) -> Any:
        """Run one of the plugin's calls in a member.

        Raises
        ------
        WorkerLostError
            The worker left meanwhile, or cannot be reached any more.
        Exception
            Of the call.
        """
        assert seat.contact is not None
        address = seat.shown.address
        run = asyncio.ensure_future(
            self._client.run(
                call, self._name, seat.contact.token, *args, workers=[address], on_error="return"
            )
        )
        left = asyncio.ensure_future(seat.gone.wait())
        try:
            await asyncio.wait({run, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            if not run.done():
                run.cancel()
        if not run.done() or run.cancelled():
            raise WorkerLostError(f"{address} left the Dask cluster", address)
        answer = run.result().get(address)
        if isinstance(answer, OSError) and not isinstance(answer, UcxnbError):
            self._hint.set()
            raise WorkerLostError(f"{address} is out of reach: {answer}", address) from answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    # ---- connections ----

    def _missing(self) -> bool:
        return bool(self._missing_pairs() or self._missing_from_here())

    def _missing_pairs(self) -> dict[str, list[str]]:
        ready = [address for address, seat in self._seats.items() if seat.ready]
        missing: dict[str, list[str]] = {}
        for one, other in chosen_pairs(self._topology, ready):
            if other not in self._seats[one].connected:
                missing.setdefault(one, []).append(other)
        return missing

    async def _connect(self) -> None:
        """Let everybody dial whom it has to."""
        contacts = self.contacts()
        missing = self._missing_pairs()
        dialling = [self._let_dial(one, others, contacts) for one, others in missing.items()]
        if others := self._missing_from_here():
            dialling.append(self._dial_from_here(others))
        await asyncio.gather(*dialling)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        self._hint.set()
        if not task.cancelled():
            task.result()

    def _missing_from_here(self) -> tuple[str, ...]:
        if self._here is None or self._topology != "all pairs":
            return ()
        return tuple(set(self.contacts()) - self._here_connected)

    async def _let_dial(self, one: str, others: list[str], contacts: dict[str, str]) -> None:
        seat = self._seats[one]
        # Those that are dialled must know of the one that dials, to look for it on demand.
        wanted = {other: contacts[other] for other in others}
        try:
            problems = await self.call(plugin.connect, seat, wanted, tuple(others))
        except (UcxnbError, OSError) as error:
            problems = dict.fromkeys(others, str(error))
        self._note(one, others, problems, seat.connected)

    async def _dial_from_here(self, others: tuple[str, ...]) -> None:
        assert self._here is not None
        problems = await plugin.connect_to_all(self._here, others)
        self._note("the notebook", others, problems, self._here_connected)

    def _note(
        self, one: str, others: Iterable[str], problems: dict[str, str], connected: set[str]
    ) -> None:
        for other in others:
            self.problems.pop((one, other), None)
            if other in problems:
                self.problems[one, other] = problems[other]
            # A pair that cannot be connected is tried again with the next full look.
            connected.add(other)

    # ---- lists ----

    @property
    def version(self) -> int:
        """Counts changes of who is ready."""
        return self._version

    def contacts(self) -> dict[str, str]:
        """Where those that are ready listen, by address."""
        return {
            address: seat.contact.ucx_address
            for address, seat in self._seats.items()
            if seat.ready and seat.contact is not None
        }


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, ClusterError) else f"{type(error).__name__}: {error}"

"""What Dask runs in each of its workers: a plugin that holds a member, and the calls to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distributed import Worker, WorkerPlugin
from distributed.comm import get_address_host
from distributed.utils import get_ip_interface

from ..errors import ClusterError, UcxnbError
from .idle import Counted, IdleCloser
from .member import Member
from .outcome import Outcome, pack_outcome
from .sample import MemberSample

__all__ = [
    "Contact",
    "UcxnbPlugin",
    "abort",
    "connect",
    "describe",
    "drop",
    "forget",
    "perform",
    "sample",
]

_SET_UP_PATIENCE = 30.0  # seconds for a plugin to be there after its worker is
_PATIENCE = 10.0  # seconds for another to agree to something
_LOOK_EVERY = 15.0  # seconds between two looks at whether the owner is still there


@dataclass(frozen=True, slots=True)
class Contact:
    """How a member is reached.

    Attributes
    ----------
    address : str
        Of its Dask worker.
    ucx_address : str
        Where its `UcxWorker` listens.
    name, host, pid : str, str, int
        Of the Dask worker.
    token : str
        As `Member.token`.
    """

    address: str
    ucx_address: str
    name: str
    host: str
    pid: int
    token: str


class UcxnbPlugin(WorkerPlugin):
    """Start a member in each Dask worker, also in those that come later.

    Parameters
    ----------
    name : str
        Of the plugin.
    auth_key : str or bytes
        What members prove to each other.
    interface : str or None
        The network interface to listen on; None for the one that Dask uses.
    fields : mapping
        Fields of the `WorkerConfig` of each worker.
    orphaned_after : float
        Seconds without a word of the cluster's owner after which a member closes.
    idle_close : float or None
        Seconds after which connections on demand are closed.
    """

    def __init__(
        self,
        name: str,
        auth_key: str | bytes,
        interface: str | None,
        fields: Mapping[str, Any],
        orphaned_after: float,
        idle_close: float | None,
    ) -> None:
        self.name = name
        self._idle_close = idle_close
        self._auth_key = auth_key
        self._interface = interface
        self._fields = dict(fields)
        self._orphaned_after = orphaned_after
        self._member: Member | None = None
        self._why_not = ""
        self._heard = 0.0
        self._watch: asyncio.Task[None] | None = None
        self._idle: IdleCloser | None = None
        self._starting = asyncio.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_starting", "_watch")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._starting = asyncio.Lock()
        self._watch = None

    async def setup(self, worker: Worker) -> None:
        """Start the member. What fails here is told when it is asked for."""
        worker.handlers[_handler(self.name, "dial")] = self._on_asked_to_dial
        worker.handlers[_handler(self.name, "let_go")] = self._on_asked_to_let_go
        self._watch = asyncio.create_task(self._watch_owner())
        await self.start(worker)

    async def start(self, worker: Worker) -> None:
        """Start the member, unless it runs."""
        self._heard = time.monotonic()
        async with self._starting:
            if self._member is not None:
                return
            loop = asyncio.get_running_loop()

            def ask_to_dial(address: str) -> None:
                asyncio.run_coroutine_threadsafe(_ask(worker, address, self.name, "dial"), loop)

            def ask_to_let_go(address: str, theirs: Counted) -> bool:
                asking = _ask(worker, address, self.name, "let_go", theirs=theirs)
                try:
                    return bool(asyncio.run_coroutine_threadsafe(asking, loop).result(_PATIENCE))
                except (OSError, UcxnbError):
                    return False  # it is gone, and its end is told elsewhere

            try:
                host = (
                    get_ip_interface(self._interface)
                    if self._interface
                    else get_address_host(worker.contact_address)
                )
                self._member = await asyncio.to_thread(
                    Member, worker.contact_address, host, self._auth_key, self._fields, ask_to_dial
                )
                if self._idle_close is not None:
                    self._idle = IdleCloser(self._member, self._idle_close, ask_to_let_go)
                self._why_not = ""
            except (UcxnbError, OSError, ValueError) as error:
                self._why_not = f"{type(error).__name__}: {error}"

    async def teardown(self, worker: Worker) -> None:
        """Close the member."""
        for what in ("dial", "let_go"):
            worker.handlers.pop(_handler(self.name, what), None)
        if self._watch is not None:
            self._watch.cancel()
        await self._close_member()

    def member(self, token: str | None = None) -> Member:
        """Give the member, and note that the owner is there.

        Raises
        ------
        ClusterError
            There is none, or another than the one that is meant.
        """
        self._heard = time.monotonic()
        if self._member is None:
            raise ClusterError(f"no UCX worker could be started: {self._why_not or 'it is closed'}")
        if token is not None and token != self._member.token:
            raise ClusterError(f"{self._member.address} was started anew meanwhile")
        return self._member

    async def _close_member(self) -> None:
        member, self._member, self._idle = self._member, None, None
        if member is not None:
            await asyncio.to_thread(member.close)

    async def _watch_owner(self) -> None:
        idle_close = _LOOK_EVERY if self._idle_close is None else self._idle_close
        while True:
            await asyncio.sleep(min(_LOOK_EVERY, self._orphaned_after / 4, idle_close / 4))
            if self._idle is not None:
                await asyncio.to_thread(self._idle.look)
            if time.monotonic() - self._heard > self._orphaned_after:
                await self._close_member()

    async def _on_asked_to_dial(self, address: str) -> None:
        if self._member is not None:
            await asyncio.to_thread(self._member.endpoint_to, address)

    async def _on_asked_to_let_go(self, address: str, theirs: list[int]) -> bool:
        if self._member is None:
            return False
        sent, sent_bytes, received, received_bytes = theirs
        counted = sent, sent_bytes, received, received_bytes
        return await asyncio.to_thread(self._member.let_go_there, address, counted)


def _handler(name: str, what: str) -> str:
    return f"{name}-{what}".replace("-", "_")


async def _ask(worker: Worker, address: str, name: str, what: str, **options: Any) -> Any:
    """Ask the plugin in another Dask worker for something."""
    async with worker.rpc(address) as other:
        return await getattr(other, _handler(name, what))(address=worker.contact_address, **options)


# ---- what a cluster's owner runs in Dask workers, by `Client.run` ----


async def describe(name: str, dask_worker: Worker) -> Contact:
    """Tell how this worker's member is reached; start it if it had been given up."""
    end = time.monotonic() + _SET_UP_PATIENCE
    while not isinstance(plugin := dask_worker.plugins.get(name), UcxnbPlugin):
        if time.monotonic() > end:
            raise ClusterError("the plugin of ucxnb is not in this worker")
        await asyncio.sleep(0.02)
    await plugin.start(dask_worker)
    member = plugin.member()
    return Contact(
        dask_worker.contact_address,
        member.ucx_address,
        str(dask_worker.name),
        get_address_host(dask_worker.contact_address),
        os.getpid(),
        member.token,
    )


async def connect(
    name: str, token: str, contacts: Mapping[str, str], addresses: tuple[str, ...],
    dask_worker: Worker,
) -> dict[str, str]:  # fmt: skip
    """Connect a member to others; tell which could not be reached, and why."""
    member = _member(dask_worker, name, token)
    member.learn(contacts)
    member.keep_connected_to(addresses)
    return await connect_to_all(member, addresses)


async def connect_to_all(member: Member, addresses: tuple[str, ...]) -> dict[str, str]:
    """Connect to several at once; tell which could not be reached, and why."""
    problems = {}
    at_once = asyncio.Semaphore(8)

    async def connect_to(address: str) -> None:
        async with at_once:
            try:
                await asyncio.to_thread(member.endpoint_to, address)
            except UcxnbError as error:
                problems[address] = str(error)

    await asyncio.gather(*map(connect_to, addresses))
    return problems


async def forget(name: str, token: str, address: str, dask_worker: Worker) -> None:
    """Tell a member that another is gone."""
    await asyncio.to_thread(_member(dask_worker, name, token).forget, address)


async def perform(
    name: str,
    token: str,
    operation: int,
    version: int,
    roster: tuple[str, ...] | None,
    contacts: Mapping[str, str] | None,
    ranks: tuple[int, ...] | None,
    task: bytes,
    extra: Any,
    dask_worker: Worker,
) -> bytes | None:
    """Do a member's part of an operation, in a thread of its own; None if it must be told more."""
    member = _member(dask_worker, name, token)
    if contacts is not None:
        member.learn(contacts)
    if not member.knows(version, roster):
        return None
    addresses = member.addresses_of(version, ranks)
    return await in_own_thread(member, operation, addresses, task, extra)


async def in_own_thread(
    member: Member, operation: int, addresses: tuple[str, ...], task: bytes, extra: Any
) -> bytes:
    """Perform an operation. No pool: members wait for each other, and a full one would hang."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[bytes] = loop.create_future()

    def tell(outcome: bytes) -> None:
        if not ended.done():
            ended.set_result(outcome)

    def run() -> None:
        try:
            outcome = pack_outcome(member.perform(operation, addresses, task, extra))
        except BaseException as error:  # whatever it is: without an answer the owner waits for ever
            outcome = pack_outcome(Outcome(error=ClusterError(f"{member.address}: {error!r}")))
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody asks any more
            loop.call_soon_threadsafe(tell, outcome)

    threading.Thread(target=run, name=f"ucxnb-operation-{operation}", daemon=True).start()
    return await ended


async def abort(name: str, token: str, operation: int, why: str, dask_worker: Worker) -> None:
    """Let an operation end."""
    await asyncio.to_thread(_member(dask_worker, name, token).abort, operation, why)


async def drop(name: str, token: str, keys: tuple[int, ...], dask_worker: Worker) -> None:
    """Let go of parts that nobody needs any more."""
    member = _member(dask_worker, name, token)
    for key in keys:
        member.values.pop(key, None)


async def sample(name: str, token: str, dask_worker: Worker) -> MemberSample:
    """Tell what a member does."""
    return _member(dask_worker, name, token).sample()


def _member(dask_worker: Worker, name: str, token: str) -> Member:
    plugin = dask_worker.plugins.get(name)
    if not isinstance(plugin, UcxnbPlugin):
        raise ClusterError("the cluster was closed")
    return plugin.member(token)

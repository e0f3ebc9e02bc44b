"""One `UcxWorker` of a cluster: its connections to the others, what it keeps, and what it does."""

from __future__ import annotations

import pickle
import secrets
import threading
import time
import traceback
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..config import ThreadMode
from ..engine import mark_toolkit_thread
from ..errors import (
    ClusterError,
    ConnectTimeoutError,
    UcxnbError,
    WorkerClosedError,
    WorkerLostError,
)
from ..worker import UcxWorker
from .group import Aborted, Group
from .idle import Counted, counted
from .outcome import Outcome
from .sample import MemberSample, sample_of
from .tags import OPERATION_MASK, tag_of
from .topology import dials

__all__ = ["Member", "PartKey"]

_PATIENCE = 15.0  # seconds for a peer that dials to appear
_ASK_AFTER = 0.05  # seconds after which a peer that should dial is asked to
_LOOK_AGAIN = 0.002
_MOST_SWEPT = 10_000  # messages of one operation, in one go
_REMEMBERED = 64  # operations that were given up


@dataclass(frozen=True, slots=True)
class PartKey:
    """Stands for a member's own part of a value, among the arguments of a function."""

    key: int


Task = Callable[[Group, "Member"], Any]
"""What a member does in an operation."""


class Member:
    """One worker of a cluster.

    Parameters
    ----------
    address : str
        What the others know it by: that of its Dask worker.
    host : str
        The address of this machine to listen on; empty to be connected to by nobody.
    auth_key : str or bytes
        The cluster's.
    fields : mapping
        Fields of `WorkerConfig`.
    ask : callable
        Called with the address of another that should dial this one, and has not.

    Attributes
    ----------
    worker : UcxWorker
    ucx_address : str
        Where it listens, empty if it does not.
    token : str
        Tells it from another that had the same address before.
    values : dict
        Parts of values that are kept, by key.
    """

    def __init__(
        self,
        address: str,
        host: str,
        auth_key: str | bytes,
        fields: Mapping[str, Any],
        ask: Callable[[str], None],
    ) -> None:
        self.address = address
        self.token = secrets.token_hex(8)
        self.values: dict[int, Any] = {}
        self.worker = UcxWorker(
            **{**fields, "name": address, "thread_mode": ThreadMode.MULTI, "auth_key": auth_key}
        )
        try:
            self.ucx_address = self.worker.create_listener(_any_port(host)).address if host else ""
        except BaseException:
            self.worker.close()
            raise
        self._ask = ask
        self._contacts: dict[str, str] = {}
        self._endpoints: dict[str, int] = {}
        self._kept: set[str] = set()
        self._retired: deque[int] = deque(maxlen=_REMEMBERED)
        self._dialling: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._rosters: OrderedDict[int, tuple[str, ...]] = OrderedDict()
        self._groups: dict[int, Group] = {}
        self._given_up: deque[int] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()
        self._last = Outcome()

    def close(self) -> None:
        """Close its worker, and let go of what it keeps."""
        for operation in list(self._groups):
            self.abort(operation, "the cluster was closed")
        self.worker.close()
        self.values.clear()

    # ---- connections ----

    def learn(self, contacts: Mapping[str, str]) -> None:
        """Hear where others listen."""
        self._contacts.update(contacts)

    def forget(self, address: str) -> None:
        """Hear that another is gone: nothing of it will come any more."""
        self._contacts.pop(address, None)
        endpoint_id = self._endpoints.pop(address, None)
        if endpoint_id is not None and self.worker.is_connected(endpoint_id):
            self.worker.disconnect(endpoint_id, timeout=0)

    def endpoint_to(self, address: str, check: Callable[[], None] = lambda: None) -> int:
        """Give the endpoint that leads to another member, and connect if there is none.

        Of two, one dials (`dials`), so that they have one connection; the other waits for it, and
        asks for it over Dask if it does not come.

        Raises
        ------
        WorkerLostError
            It cannot be reached, or is none of the cluster.
        """
        endpoint_id = self._endpoints.get(address)
        if endpoint_id is not None and self.worker.is_connected(endpoint_id):
            return endpoint_id
        there = self._contacts.get(address)
        if there is None:
            raise WorkerLostError(f"{address} is no worker of this cluster any more", address)
        i_dial = not self.ucx_address or (bool(there) and dials(self.address, address))
        with self._dialling[address]:
            endpoint_id = self._endpoints.get(address)
            if endpoint_id is not None and self.worker.is_connected(endpoint_id):
                return endpoint_id
            try:
                endpoint_id = (
                    self.worker.connect(there) if i_dial else self._await_dialler(address, check)
                )
            except UcxnbError as error:
                raise WorkerLostError(f"{address} cannot be reached: {error}", address) from error
            self._endpoints[address] = endpoint_id
        return endpoint_id

    def keep_connected_to(self, addresses: Iterable[str]) -> None:
        """Hear whom this member is to stay connected to, idle or not."""
        self._kept.update(addresses)

    def dialled(self) -> list[tuple[str, int]]:
        """Connections that this member made by itself, on demand."""
        return [
            (address, endpoint_id)
            for address, endpoint_id in list(self._endpoints.items())
            if address not in self._kept
            and self._contacts.get(address)
            and dials(self.address, address)
            and self.worker.is_connected(endpoint_id)
        ]

    def let_go_here(self, address: str, endpoint_id: int, agree: Callable[[], bool]) -> bool:
        """Close a connection if the other side agrees; meanwhile nobody here makes another."""
        with self._dialling[address]:
            if self._endpoints.pop(address, None) != endpoint_id:
                return False
            if not agree():
                self._endpoints[address] = endpoint_id
                return False
            self.worker.disconnect(endpoint_id)
        return True

    def let_go_there(self, address: str, theirs: Counted) -> bool:
        """Agree to the end of a connection if all that went either way has arrived."""
        with self._dialling[address]:
            for info in self.worker.endpoints():
                if info.peer_name != address or info.endpoint_id in self._retired:
                    continue
                mine = counted(info.stats)
                if mine is None or (mine[2:], mine[:2]) != (theirs[:2], theirs[2:]):
                    return False
                self._endpoints.pop(address, None)
                self._retired.append(info.endpoint_id)
                return True
        return False

    def _await_dialler(self, address: str, check: Callable[[], None]) -> int:
        began = time.monotonic()
        asked = False
        while True:
            for info in self.worker.endpoints():
                known = info.endpoint_id not in self._retired
                if known and info.peer_name == address and info.direction == "accepted":
                    return info.endpoint_id
            check()
            waited = time.monotonic() - began
            if waited > _PATIENCE:
                raise ConnectTimeoutError(f"{address} did not connect within {_PATIENCE:g} s")
            if waited > _ASK_AFTER and not asked:
                asked = True
                self._ask(address)
            time.sleep(_LOOK_AGAIN)

    # ---- operations ----

    def knows(self, version: int, addresses: tuple[str, ...] | None) -> bool:
        """Whether a list of members is known; remember it if it is passed."""
        if addresses is not None:
            self._rosters[version] = addresses
            while len(self._rosters) > 4:
                self._rosters.popitem(last=False)
        return version in self._rosters

    def perform(
        self, operation: int, addresses: tuple[str, ...], task: bytes | Task, extra: Any = None
    ) -> Outcome:
        """Do this member's part of an operation. It blocks; an error is part of the outcome."""
        group = Group(self, operation, addresses.index(self.address), addresses)
        with self._lock:
            self._groups[operation] = group
            if operation in self._given_up:
                group.abort("another worker failed before this one began")
        self._sweep()
        value: Any = None
        error: Exception | None = None
        mark = mark_toolkit_thread()
        try:
            work: Task = pickle.loads(task) if isinstance(task, bytes) else task
            value = work(group, self) if extra is None else work(group, self, extra)  # type: ignore[call-arg]
        except Aborted as aborted:
            error = ClusterError(f"{self.address} was told to stop: {aborted}")
        except SystemExit as raised:
            error = ClusterError(f"the function in {self.address} raised {raised!r}")
        except Exception as raised:  # whatever a user's function does
            raised.add_note(f"in {self.address}:\n{traceback.format_exc()}")
            error = raised
        finally:
            mark_toolkit_thread(mark)
            del self._groups[operation]
        outcome = Outcome(value, error, *group.times())
        self._last = Outcome(None, None, outcome.seconds, outcome.waited)
        if error is not None:
            self._given_up.append(operation)
        return outcome

    def abort(self, operation: int, why: str) -> None:
        """Let an operation end, also one that has yet to begin here. Any thread may call it."""
        with self._lock:
            self._given_up.append(operation)
            group = self._groups.get(operation)
        if group is not None:
            group.abort(why)
        self._sweep()

    def addresses_of(self, version: int, ranks: tuple[int, ...] | None) -> tuple[str, ...]:
        """Give the members of a list that take part in an operation."""
        roster = self._rosters[version]
        return roster if ranks is None else tuple(roster[rank] for rank in ranks)

    def _sweep(self) -> None:
        """Receive what was sent for operations that were given up: it holds memory, and senders."""
        for operation in list(self._given_up):
            if operation in self._groups:
                continue
            for _ in range(_MOST_SWEPT):
                try:
                    tag = tag_of(operation)
                    if not self.worker.try_receive_message(None, tag, tag_mask=OPERATION_MASK):
                        break
                except WorkerClosedError:
                    return
                except UcxnbError:
                    continue  # its sender died while it was on its way: it is gone

    def keep(self, group: Group, value: Any) -> None:
        """Keep what an operation left here; the key is the operation's number."""
        self.values[group.operation] = value

    def resolve(self, argument: Any) -> Any:
        """Put a member's own part in the place of a key."""
        return self.values[argument.key] if isinstance(argument, PartKey) else argument

    # ---- what can be seen ----

    def sample(self) -> MemberSample:
        """Tell what it does."""
        groups = list(self._groups.values())
        times = groups[0].times() if groups else (self._last.seconds, self._last.waited)
        return sample_of(self.worker.snapshot(), times[0] - times[1], times[1])


def _any_port(host: str) -> str:
    return f"[{host}]:0" if ":" in host else f"{host}:0"

"""`UcxCluster`: a UCX worker in each worker of a Dask cluster, and what they do together."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import secrets
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from distributed import Client, LocalCluster

from ..errors import ArgumentError, ClusterError, ObjectError, UcxnbError
from ..text import shown
from ..timeouts import checked_timeout
from ..worker import UcxWorker
from . import plugin
from .client_loop import begin, wait_for
from .conductor import Conductor, check
from .group import reduction
from .member import Member, PartKey, Task
from .membership import ClusterMember, Membership, MemberState
from .outcome import Outcome
from .pairs import PairFigures, PairMeasurement, TimePair
from .parts import Parts
from .poller import Answers, Poller
from .stats import ClusterStats, WorkerStatus, status_of
from .tasks import Call, FromRoot, Gather, KeepReduced, KeepSent
from .topology import Topology, chosen_pairs

__all__ = ["UcxCluster"]

_START_PATIENCE = 120.0  # seconds until all workers take part
_STATS_PATIENCE = 2.0
_ORPHANED_AFTER = 120.0
_FIXED = {"name", "thread_mode", "tag_scope", "enable_tag"}
_Result = TypeVar("_Result")

_open_clusters: weakref.WeakSet[UcxCluster] = weakref.WeakSet()


class UcxCluster:
    """A `UcxWorker` in each worker of a Dask cluster, all of them connected.

    Workers that Dask starts later take part as well; those that leave or die are taken out. Dask
    carries addresses and control, UCX the messages. `close` it, or use it as a context manager:
    that leaves the Dask cluster as it was.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster. ucxnb must be installed where its workers run.
    topology : {"all pairs", "ring", "on demand"} or callable
        Who is connected before anybody needs it; whoever else exchanges messages connects then.
        ``"on demand"`` is for hundreds of workers. A function gets a list of Dask's addresses and
        makes pairs of them.
    interface : str, optional
        The network interface, such as ``"ib0"``, whose address the workers listen on; by default
        that of Dask. It does not choose UCX's devices: ``ucx_options={"NET_DEVICES": ...}`` does.
    idle_close : float, optional
        Seconds after which a connection on demand that nobody has used is closed, if both sides
        agree; None keeps them. What a function got from `Group.endpoint_to` is closed then too.
    take_part : bool
        Whether this process has a `UcxWorker` too, `worker`, through which values come and go. It
        must then reach the workers over the network. If it does not take part, Dask carries values
        to and from the first worker.
    orphaned_after : float
        Seconds without a word of this process after which the UCX workers close, until it is heard
        again.
    **fields
        Fields of the `WorkerConfig` of each worker. ``name``, ``thread_mode``, ``tag_scope`` and
        ``enable_tag`` are set already, and ``auth_key`` is a random one unless you pass one.

    Raises
    ------
    ArgumentError, ConfigError
        The client is asynchronous, or something else is wrong with the arguments.
    ClusterError
        In no Dask worker could a UCX worker be started; the message has the first reason.
    UcxnbError
        Of the `UcxWorker` of this process.

    Notes
    -----
    Any thread may call it, several at once as well. In workers and here tags from
    ``0xFE_0000_0000`` on are its own.

    Examples
    --------
    >>> with UcxCluster.local(4) as cluster:
    ...     parts = cluster.scatter(np.arange(8.0))
    ...     total = cluster.allreduce(parts)
    ...     total.gather()[0]
    array([12., 16.])
    """

    def __init__(
        self,
        client: Client,
        *,
        topology: Topology = "all pairs",
        interface: str | None = None,
        idle_close: float | None = None,
        take_part: bool = True,
        orphaned_after: float = _ORPHANED_AFTER,
        **fields: Any,
    ) -> None:
        self._closed = True
        if not isinstance(client, Client) or client.asynchronous:
            raise ArgumentError(
                f"client={shown(client)}: it takes a distributed.Client that is not asynchronous"
            )
        if not callable(topology):
            chosen_pairs(topology, ())  # whether it is one
        if not isinstance(orphaned_after, (int, float)) or orphaned_after < 1:
            raise ArgumentError(f"orphaned_after={shown(orphaned_after)}: seconds, 1 or more")
        if idle_close is not None and (
            not isinstance(idle_close, (int, float)) or not idle_close >= 0.1
        ):
            raise ArgumentError(f"idle_close={shown(idle_close)}: seconds, 0.1 or more, or None")
        for name in _FIXED & fields.keys():
            raise ArgumentError(f"{name}: the workers of a cluster have it set already")
        key = fields.pop("auth_key", None) or secrets.token_hex(32)
        if not isinstance(key, (str, bytes)):
            raise ArgumentError("auth_key: it takes text or bytes, which Dask hands to the workers")
        self._client = client
        self._owns: contextlib.ExitStack | None = None
        self._name = f"ucxnb-{secrets.token_hex(6)}"
        self._orphaned_after = float(orphaned_after)
        self._dropped: deque[tuple[int, tuple[str, ...]]] = deque()
        self._heard = time.monotonic()
        self._since = time.time()
        self._lock = threading.Lock()
        here = f"notebook {secrets.token_hex(4)}"
        self._here = Member(here, "", key, fields, lambda _: None) if take_part else None
        self._membership = Membership(
            client, self._name, topology, self._here, _weakly(self._idle_work)
        )
        self._conductor = Conductor(client, self._membership, self._here)
        self._watching: Any = None
        self._closed = False
        _open_clusters.add(self)
        try:
            self._register(
                plugin.UcxnbPlugin(
                    self._name, key, interface, fields, self._orphaned_after, idle_close
                )
            )
            self._watching = begin(client, self._membership.watch())
            self._on_loop(self._membership.settle(), _START_PATIENCE)
            failed = [m for m in self._membership.members if m not in self._membership.ready]
            if failed and not self._membership.ready:
                raise ClusterError(f"{failed[0].address}: {failed[0].reason}")
        except BaseException:
            self.close()
            raise

    def _register(self, there: plugin.UcxnbPlugin) -> None:
        try:
            self._client.register_plugin(there)
        except Exception as error:  # Dask makes a plain one of what a worker says
            if "ModuleNotFoundError" not in f"{type(error).__name__} {error}":
                raise
            raise ClusterError(
                "ucxnb cannot be loaded where the Dask workers run; install there, in the same "
                f'version as here: pip install "ucxnb[cu13,dask]" ({error})'
            ) from error

    @classmethod
    def local(
        cls, n_workers: int, *, dask: Mapping[str, Any] | None = None, **options: Any
    ) -> UcxCluster:
        """Start a Dask cluster of processes on this machine, and a `UcxCluster` on it.

        Parameters
        ----------
        n_workers : int
            How many processes.
        dask : mapping, optional
            Arguments of `distributed.LocalCluster`. Unless they say so it has one thread for each
            worker, and no dashboard of its own.
        **options
            As of `UcxCluster`.

        Returns
        -------
        UcxCluster
            `close` ends the Dask cluster too. Its `client` has all that Dask can do.

        Raises
        ------
        ArgumentError
            `n_workers` is no number above 0.
        UcxnbError
            As `UcxCluster`.
        """
        if type(n_workers) is not int or n_workers < 1:
            raise ArgumentError(f"n_workers={shown(n_workers)}: it takes a whole number, 1 or more")
        arguments: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None}
        if not (dask or {}).get("dashboard_address"):
            # Dask serves its metrics all the same; not where another cluster's are.
            arguments["scheduler_kwargs"] = {"dashboard_address": "127.0.0.1:0"}
        with contextlib.ExitStack() as stack:
            local = stack.enter_context(
                LocalCluster(n_workers=n_workers, **{**arguments, **(dask or {})})
            )
            client = stack.enter_context(Client(local))
            cluster = cls(client, **options)
            cluster._owns = stack.pop_all()
        return cluster

    # ---- who is there ----

    @property
    def client(self) -> Client:
        """Dask's."""
        return self._client

    @property
    def worker(self) -> UcxWorker | None:
        """The `UcxWorker` of this process; None if it does not take part."""
        return None if self._here is None else self._here.worker

    @property
    def workers(self) -> tuple[ClusterMember, ...]:
        """Those that take part now, in the order of their ranks."""
        return self._membership.ready

    @property
    def members(self) -> tuple[ClusterMember, ...]:
        """All that are known: those that are gone, the latest 64, then all that Dask has."""
        return (*self._membership.past, *self._membership.members)

    @property
    def problems(self) -> dict[tuple[str, str], str]:
        """Pairs of the topology that could not be connected, and why. They are tried again."""
        return dict(self._membership.problems)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def wait_for_workers(self, count: int, *, timeout: float | None = None) -> None:
        """Wait until at least so many workers take part and are connected.

        Parameters
        ----------
        count : int
            How many.
        timeout : float, optional
            Seconds; None waits for ever.

        Raises
        ------
        ClusterError
            There are fewer when the time is up; it says how many, and what is wrong with others.
        ArgumentError
            The timeout is none.
        """
        seconds = checked_timeout(timeout)
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else max(0.05, end - time.monotonic())
            with contextlib.suppress(TimeoutError):
                self._on_loop(self._membership.settle(), left)
            if len(self.workers) >= count:
                return
            if end is not None and time.monotonic() >= end:
                others = [f"{m.address} {m.state.value} {m.reason}" for m in self.members]
                raise ClusterError(
                    f"{len(self.workers)} of {count} workers take part after {timeout} s; others: "
                    + ("; ".join(o for o in others if " ready " not in o) or "none")
                )
            time.sleep(0.05)

    # ---- what they do ----

    def map(
        self,
        function: Callable[..., Any],
        *args: Any,
        workers: Sequence[str] | None = None,
        keep: bool = False,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call a function in each worker, with its `UcxWorker`.

        Parameters
        ----------
        function : callable
            Called as ``function(worker, *args, **kwargs)``, with a `UcxWorker`, in a thread of its
            own. If it has a parameter ``group``, it gets the `Group` too, with which it knows the
            others and calls collectives.
        *args, **kwargs
            `Parts` among them are replaced by the local part. Everything else goes through Dask:
            hand large arrays around with `broadcast`.
        workers : sequence of str, optional
            Dask's addresses of those that do it, by rank; all by default.
        keep : bool
            Whether what the function returns stays in the workers.
        timeout : float, optional
            Seconds; None waits for ever. A function cannot be stopped: one that goes on after it
            runs to its end, and what it returns is lost.

        Returns
        -------
        dict of str to object, or Parts
            What it returned, by Dask's address, in the order of the ranks.

        Raises
        ------
        ClusterError
            The function raised in some, or some left: it has the results of the others.
        ArgumentError
            Some of `workers` take no part, or the function cannot be pickled.
        """
        if not callable(function):
            raise ArgumentError(f"function={shown(function)}: it takes a function")
        targets = self._targets(workers, [*args, *kwargs.values()])
        arguments = tuple(_keyed(argument) for argument in args)
        named = {name: _keyed(argument) for name, argument in kwargs.items()}
        task = Call(function, arguments, named, keep)
        number, outcomes = self._run(task, targets, timeout=timeout)
        results = check(_name_of(function), outcomes)
        return self._parts(number, targets, _name_of(function)) if keep else results

    def broadcast(
        self, value: Any, *, workers: Sequence[str] | None = None, timeout: float | None = None
    ) -> Parts:
        """Hand a value from here to each worker.

        Parameters
        ----------
        value : object
            An array, or whatever can be pickled. It must not change meanwhile.
        workers, timeout
            As of `map`.

        Returns
        -------
        Parts
            The same in each.

        Raises
        ------
        ClusterError, ArgumentError
            As of `map`; some workers may have it.
        ObjectError
            The value cannot be pickled.

        Notes
        -----
        Down a tree: a binomial one, or, in segments of 2 MiB, a binary one, so that nobody sends
        it more than twice.
        """
        targets = self._targets(workers)
        number, outcomes = self._run_from_here(False, value, targets, timeout)
        check("the broadcast", outcomes)
        return self._parts(number, targets, "the same")

    def scatter(
        self,
        values: Sequence[Any] | np.ndarray,
        *,
        workers: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Parts:
        """Hand each worker its share.

        Parameters
        ----------
        values : sequence of object, or numpy.ndarray
            One for each worker; an array is split along its first axis, as evenly as it goes.
        workers, timeout
            As of `map`.

        Returns
        -------
        Parts

        Raises
        ------
        ClusterError, ArgumentError
            As of `map`, and if there are not as many values as workers.
        ObjectError
            A value cannot be pickled.
        """
        targets = self._targets(workers)
        if isinstance(values, np.ndarray):
            if values.ndim == 0:
                raise ArgumentError("values: an array without an axis cannot be split")
            shares: list[Any] = np.array_split(values, len(targets))
        else:
            shares = list(values)
        if len(shares) != len(targets):
            raise ArgumentError(
                f"values: there are {len(shares)}, for {len(targets)} workers; one for each"
            )
        number, outcomes = self._run_from_here(True, shares, targets, timeout)
        check("the scatter", outcomes)
        return self._parts(number, targets, "a share")

    def gather(self, parts: Parts, *, timeout: float | None = None) -> list[Any]:
        """Bring the parts of a value here.

        Parameters
        ----------
        parts : Parts
            Of this cluster. They stay where they are.
        timeout : float, optional
            Seconds; None waits for ever.

        Returns
        -------
        list of object
            In the order of ``parts.workers``.

        Raises
        ------
        ClusterError, ArgumentError
            As of `map`; a part that was in a worker that is gone is lost.
        """
        targets = self._targets(None, [_checked_parts(parts)])
        here = self._here is not None
        task = Gather(_keyed(parts), root_has_one=not here)
        _, outcomes = self._run(task, targets, with_here=here, timeout=timeout)
        results = check("the gather", outcomes)
        return list(next(iter(results.values())))

    def allreduce(
        self,
        parts: Parts,
        op: str | np.ufunc = "sum",
        *,
        timeout: float | None = None,
    ) -> Parts:
        """Combine the arrays of all workers, element by element, and leave the result in each.

        Parameters
        ----------
        parts : Parts
            Arrays of one shape and type. They stay as they are.
        op, timeout
            As of `Group.allreduce` and `map`.

        Returns
        -------
        Parts
            The same in each, to the last bit.

        Raises
        ------
        ClusterError, ArgumentError
            As of `map`, and if the arrays differ.
        """
        reduction(op)
        targets = self._targets(None, [_checked_parts(parts)])
        number, outcomes = self._run(KeepReduced(_keyed(parts), op), targets, timeout=timeout)
        check("the allreduce", outcomes)
        return self._parts(number, targets, f"the {op if isinstance(op, str) else op.__name__}")

    def send(self, value: Any, to: str, *, timeout: float | None = None) -> Parts:
        """Send a value to one worker: from here, or from the worker in which it lies.

        Parameters
        ----------
        value : object
            Something from here, or `Parts` that lie in one worker.
        to : str
            Dask's address of the worker that gets it.
        timeout : float, optional
            Seconds; None waits for ever.

        Returns
        -------
        Parts
            In that worker.

        Raises
        ------
        ClusterError, ArgumentError
            As of `map`.
        """
        if not isinstance(value, Parts):
            return self.broadcast(value, workers=[to], timeout=timeout)
        source = self._targets(None, [value])
        if len(source) != 1:
            raise ArgumentError(f"value={value!r}: it takes parts that lie in one worker")
        targets = list(dict.fromkeys([*source, *self._targets([to])]))
        number, outcomes = self._run(KeepSent(_keyed(value)), targets, timeout=timeout)
        check("the send", outcomes)
        return self._parts(number, [to], "a value")

    # ---- what can be seen ----

    def stats(self, *, timeout: float = _STATS_PATIENCE) -> ClusterStats:
        """Ask every worker what it does.

        Parameters
        ----------
        timeout : float
            Seconds; those that have not answered by then are there without figures.

        Returns
        -------
        ClusterStats

        Raises
        ------
        ClusterError
            It is closed.
        ArgumentError
            The timeout is none.
        """
        seconds = checked_timeout(timeout)
        self._check_open()
        return self._stats_of(self._on_loop(self._ask_all(seconds), None))

    def measure(self, *, seconds: float = 0.02) -> PairFigures:
        """Measure latency and bandwidth between each two workers, one pair of a host at a time.

        Parameters
        ----------
        seconds : float
            How long each of the three tests of a pair takes.

        Returns
        -------
        PairFigures
            `PairMeasurement` gives them bit by bit, and can be stopped.

        Raises
        ------
        ClusterError, ArgumentError
            As of `PairMeasurement`.
        """
        measurement = PairMeasurement(self, seconds=seconds)
        for _ in measurement:
            pass
        return measurement.figures

    def _measure_pairs(
        self, task: TimePair, pairs: Sequence[tuple[str, str]], timeout: float
    ) -> dict[tuple[str, str], Any]:
        """Let pairs be measured at the same time; give figures, or the error, of each."""
        self._check_open()
        found: dict[tuple[str, str], Any] = {}

        def measure(pair: tuple[str, str]) -> None:
            try:
                _, outcomes = self._conductor.run(task, pair, timeout=timeout)
                found[pair] = check("the measurement", outcomes)[pair[0]]
            except ClusterError as error:
                found[pair] = error

        threads = [threading.Thread(target=measure, args=(pair,)) for pair in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def _stats_of(self, answers: Answers) -> ClusterStats:
        workers = status_of(self.members, answers)
        if self._here is not None:
            me = ClusterMember(self._here.address, MemberState.READY, self._since, "this process")
            workers.append(WorkerStatus(me, self._here.sample()))
        return ClusterStats.of(time.time(), workers)

    async def _ask_all(self, seconds: float | None) -> Answers:
        poller = Poller(self._membership)
        try:
            return await poller.poll(seconds)
        finally:
            poller.stop()

    # ---- inside ----

    def _run(
        self, task: Task, targets: Sequence[str], *, timeout: float | None, **options: Any
    ) -> tuple[int, dict[str, Outcome]]:
        self._check_open()
        return self._conductor.run(task, targets, timeout=checked_timeout(timeout), **options)

    def _run_from_here(
        self, scatter: bool, value: Any, targets: list[str], timeout: float | None
    ) -> tuple[int, dict[str, Outcome]]:
        """Broadcast or scatter: this process is the root, or the first worker in its place."""
        root = targets[0] if self._here is None else self._here.address
        task = FromRoot(scatter, root_keeps=self._here is None)
        number, outcomes = self._run(
            task,
            targets,
            with_here=self._here is not None,
            extra={root: (value,)},
            timeout=timeout,
        )
        if isinstance(error := outcomes[root].error, ObjectError):
            raise error  # it is the value's fault
        return number, outcomes

    def _targets(self, workers: Sequence[str] | None, arguments: Sequence[Any] = ()) -> list[str]:
        """Give the addresses of those that do something, by rank."""
        self._check_open()
        ready = [member.address for member in self.workers]
        parts = [argument for argument in arguments if isinstance(argument, Parts)]
        for each in parts:
            if each._cluster is not self:
                raise ArgumentError(f"{each!r} lie in workers of another cluster")
            if each.released:
                raise ArgumentError(f"{each!r}: the workers let go of them")
        if workers is not None:
            if isinstance(workers, str) or not all(isinstance(w, str) for w in workers):
                raise ArgumentError(f"workers={shown(workers)}: it takes addresses, as of workers")
            chosen = list(workers)
        elif parts:
            chosen = list(parts[0].workers)
        else:
            chosen = ready
        for address in chosen:
            if address not in ready:
                raise ArgumentError(
                    f"{shown(address)} is no worker that takes part; `workers` lists those"
                )
            if any(address not in each.workers for each in parts):
                raise ArgumentError(f"{address} has no part of it")
        if not chosen:
            raise ClusterError(
                "there is no worker: scale the Dask cluster up, and wait_for_workers"
            )
        if len(set(chosen)) != len(chosen):
            raise ArgumentError("workers: each takes part once")
        return chosen

    def _parts(self, key: int, workers: Sequence[str], what: str) -> Parts:
        dropped = self._dropped
        return Parts(
            self, key, tuple(workers), what, lambda key, where: dropped.append((key, where))
        )

    def _idle_work(self) -> Coroutine[Any, Any, None] | None:
        """What is to be done from time to time: let parts go, and let the workers hear of us."""
        silent = time.monotonic() - self._heard > self._orphaned_after / 4
        return self._tidy() if self._dropped or silent else None

    async def _tidy(self) -> None:
        keys: dict[str, list[int]] = {}
        while self._dropped:
            key, where = self._dropped.popleft()
            for address in where:
                keys.setdefault(address, []).append(key)
        if time.monotonic() - self._heard > self._orphaned_after / 4:
            self._heard = time.monotonic()
            keys = {member.address: keys.get(member.address, []) for member in self.workers}
        calls = []
        for address, numbers in keys.items():
            seat = self._membership.seat(address)
            if seat is not None:
                calls.append(self._drop(address, seat, tuple(numbers)))
        await asyncio.gather(*calls)

    async def _drop(self, address: str, seat: Any, keys: tuple[int, ...]) -> None:
        try:
            await self._membership.call(plugin.drop, seat, keys)
        except ClusterError:
            self._membership.readmit(address)  # it was closed as orphaned: this process slept
        except (UcxnbError, OSError):
            pass  # it has gone, and its parts with it

    def _on_loop(self, coroutine: Coroutine[Any, Any, _Result], timeout: float | None) -> _Result:
        future = begin(self._client, coroutine)
        try:
            return wait_for(self._client, future, timeout)
        except BaseException:
            future.cancel()
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise ClusterError("this UcxCluster was closed; make a new one")

    # ---- lifetime ----

    def close(self) -> None:
        """Close the UCX workers, and take everything out of the Dask cluster. Twice is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        _open_clusters.discard(self)
        if self._watching is not None:
            self._watching.cancel()
        try:
            if self._client.status == "running":
                self._client.unregister_worker_plugin(self._name)
        except Exception:  # the Dask cluster is gone, or its workers never had the plugin
            pass
        finally:
            if self._here is not None:
                self._here.close()
            if self._owns is not None:
                self._owns.close()

    def __enter__(self) -> UcxCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"{self!r} was dropped open: close it", ResourceWarning, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        if self._closed:
            return "<UcxCluster closed>"
        hosts = {member.host for member in self.workers}
        where = f" on {len(hosts)} hosts" if len(hosts) > 1 else ""
        return f"<UcxCluster: {len(self.workers)} workers{where}>"


def _weakly(method: Callable[[], _Result]) -> Callable[[], _Result | None]:
    """Call a method only as long as its object is there."""
    reference = weakref.WeakMethod(method)

    def call() -> _Result | None:
        return None if (bound := reference()) is None else bound()

    return call


def _keyed(argument: Any) -> Any:
    return PartKey(argument._key) if isinstance(argument, Parts) else argument


def _checked_parts(parts: object) -> Parts:
    if not isinstance(parts, Parts):
        raise ArgumentError(f"parts={shown(parts)}: it takes Parts, as broadcast and scatter make")
    return parts


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _close_all() -> None:
    for cluster in list(_open_clusters):
        cluster.close()


# Before the interpreter ends: Dask's loop must still run for it.
atexit.register(_close_all)

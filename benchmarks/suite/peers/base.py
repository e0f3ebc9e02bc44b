"""What a peer has to be able to do to be measured; one file in this folder for each library."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from ..plan import BOTH_WAYS, LATENCY, ONE_WAY

WINDOW = 32  # messages under way at once; ucx_perftest has as many


@dataclass(frozen=True, slots=True)
class Setup:
    """What one side is told when it starts.

    Attributes
    ----------
    rank : int
        0 is the side that takes the time, 1 the other.
    transport : str
        ``"shm"`` or ``"tcp"``.
    ucx_tls : str
        The same as a list for ``UCX_TLS``.
    links : int
        Connections to make.
    """

    rank: int
    transport: str
    ucx_tls: str
    links: int


class Peer:
    """One side of a connection of some library. Its two sides are two objects.

    A peer enters its library only inside these calls: an idle one must not take processor time
    from the one that is being measured.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """Modules that must be installed."""
    transports: ClassVar[tuple[str, ...]] = ("shm", "tcp")
    measures: ClassVar[tuple[str, ...]] = (LATENCY, ONE_WAY, BOTH_WAYS)
    sizes: ClassVar[tuple[int, int]] = (0, 1 << 40)
    """Smallest and largest message it is measured with, bytes."""
    in_one_process: ClassVar[bool] = False
    """Whether both sides are threads of one process."""
    spins: ClassVar[bool] = False
    """Whether it takes processor time while idle: it is stopped (SIGSTOP) between its turns."""

    def __init__(self, setup: Setup) -> None:
        self.rank = setup.rank
        self.setup = setup
        self.links = range(setup.links)

    @classmethod
    def missing(cls) -> str | None:
        """Say what is not installed, or None."""
        absent = [name for name in cls.needs if importlib.util.find_spec(name) is None]
        return f"{', '.join(absent)} is not installed" if absent else None

    @classmethod
    def launcher(cls, setup: Setup) -> tuple[list[str], dict[str, str]] | None:
        """Give the command and environment that start both sides at once, or None."""
        return None

    # ---- connecting; side 1 is asked for each step first ----

    def address(self) -> Any:
        """Say how the other side reaches this one, as JSON can carry it."""
        return None

    def connect(self, address: Any) -> None:
        """Connect to the other side."""

    def about(self) -> str:
        """Say which transport is in use, as far as the library tells; called once connected."""
        return ""

    def close(self) -> None:
        """Leave in order."""

    # ---- messages ----

    def prepare(self, buffer: bytearray) -> Any:
        """Make what `send` and `receive` take from a buffer, outside of the measured time."""
        return buffer

    def send(self, buffer: Any, link: int = 0) -> None:
        """Send one message; the buffer may be used again afterwards."""
        raise NotImplementedError

    def receive(self, buffer: Any, link: int = 0) -> None:
        """Receive one message into the buffer, which has its size."""
        raise NotImplementedError

    def sender(self, buffer: Any) -> Callable[[], Any]:
        """Make a call that sends a buffer: the library's own call, where that does it."""
        return partial(self.send, buffer)

    def receiver(self, buffer: Any) -> Callable[[], Any]:
        """Make a call that receives into a buffer: the library's own, where that does it."""
        return partial(self.receive, buffer)

    def send_many(self, buffer: Any, count: int) -> None:
        """Send as many messages as fast as the library can."""
        send = self.send
        for _ in range(count):
            send(buffer)

    def receive_many(self, buffer: Any, count: int) -> None:
        """Receive them."""
        receive = self.receive
        for _ in range(count):
            receive(buffer)

    def exchange_many(self, out: Any, into: Any, count: int) -> None:
        """Send and receive as many at the same time; the other side does the same."""
        raise NotImplementedError

    def broadcast(self, buffer: Any) -> None:
        """Send one message over every link."""
        send = self.send
        for link in self.links:
            send(buffer, link)


class WindowedPeer(Peer):
    """A peer whose many messages go as windows of requests."""

    def post_send(self, buffer: Any) -> Any:
        """Begin to send; gives a request."""
        raise NotImplementedError

    def post_receive(self, buffer: Any) -> Any:
        """Begin to receive; gives a request."""
        raise NotImplementedError

    def wait_all(self, requests: Sequence[Any]) -> None:
        """Wait until all have ended."""
        raise NotImplementedError

    def send_many(self, buffer: Any, count: int) -> None:
        post = self.post_send
        for n in windows(count):
            self.wait_all([post(buffer) for _ in range(n)])

    def receive_many(self, buffer: Any, count: int) -> None:
        post = self.post_receive
        for n in windows(count):
            self.wait_all([post(buffer) for _ in range(n)])

    def exchange_many(self, out: Any, into: Any, count: int) -> None:
        receive, send = self.post_receive, self.post_send
        for n in windows(count):
            requests = [receive(into) for _ in range(n)]
            requests += [send(out) for _ in range(n)]
            self.wait_all(requests)


class AsyncPeer(Peer):
    """A peer whose messages are awaited: its calls are coroutine functions."""

    async def open(self) -> None:
        """Get ready, inside the event loop; before `address`."""

    async def connect(self, address: Any) -> None:  # type: ignore[override]
        """Connect to the other side."""

    async def close(self) -> None:  # type: ignore[override]
        """Leave in order."""


def windows(count: int) -> Iterator[int]:
    """Cut a number of messages into windows."""
    for start in range(0, count, WINDOW):
        yield min(WINDOW, count - start)

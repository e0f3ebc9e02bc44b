"""What the commands do: each is a method of a session with one worker."""

from __future__ import annotations

from collections.abc import Sequence

from ..bench import DEFAULT_SIZES, Measurement
from ..config import WorkerConfig
from ..endpoint_info import EndpointInfo, EndpointState
from ..frontdoor import Listener
from ..stats import WorkerStats
from ..text import count_bytes, shortened
from ..worker import UcxWorker
from .grammar import COMMANDS, parse_line, usage_error
from .results import (
    Count,
    EndpointIds,
    EndpointTable,
    HelpText,
    ReceivedMessage,
    TimingTable,
    text_of,
)

__all__ = ["Session", "describe_end", "describe_peer"]

_TIMEOUT = 10.0


class Session:
    """Runs commands on a worker.

    Parameters
    ----------
    worker : UcxWorker
        Whose owner closes it.

    Attributes
    ----------
    worker : UcxWorker
        The same.
    left : bool
        Whether ``quit`` was said.
    """

    def __init__(self, worker: UcxWorker) -> None:
        self.worker = worker
        self.left = False

    def run(self, line: str) -> object:
        """Run one line of the grammar.

        Returns
        -------
        object
            The command's result, a Python value; None for an empty line, a comment and ``quit``.

        Raises
        ------
        UsageError
            It is no command, or its arguments are wrong.
        UcxnbError
            The command failed.
        """
        parsed = parse_line(line)
        if parsed is None:
            return None
        command, arguments = parsed
        return getattr(self, f"_{command.name}")(*arguments)

    def run_and_describe(self, line: str) -> str:
        """Run one line, and write the result for a terminal."""
        return text_of(self.run(line))

    def _connect(self, address: str) -> Count:
        endpoint_id = self.worker.connect(address)
        (info,) = (i for i in self.worker.endpoints(ended=True) if i.endpoint_id == endpoint_id)
        return Count(endpoint_id, f"endpoint {endpoint_id}: connected to {describe_peer(info)}")

    def _listen(self, address: str) -> Listener:
        return self.worker.create_listener(address)

    def _disconnect(self, endpoint_id: int) -> Count:
        self.worker.disconnect(endpoint_id)
        return Count(endpoint_id, f"endpoint {endpoint_id}: closed")

    def _endpoints(self) -> EndpointTable:
        return EndpointTable(self.worker.endpoints())

    def _send(self, endpoint_id: int, tag: int, data: bytes) -> Count:
        self.worker.send_tag(endpoint_id, tag, data, timeout=_TIMEOUT)
        size = count_bytes(len(data))
        return Count(len(data), f"sent {size} to endpoint {endpoint_id}, tag {tag}")

    def _receive(self, source: int | None, tag: int, timeout: float | None) -> ReceivedMessage:
        seconds = _TIMEOUT if timeout is None else timeout
        return ReceivedMessage(*self.worker.receive_message(source, tag, timeout=seconds))

    def _broadcast(self, tag: int, data: bytes) -> EndpointIds:
        return EndpointIds(self.worker.broadcast_tag(tag, data, timeout=_TIMEOUT))

    def _stats(self) -> WorkerStats:
        return self.worker.stats()

    def _benchmark(self, endpoint_id: int | None, sizes: Sequence[int]) -> TimingTable:
        ids = self.worker.get_endpoint_ids()
        if endpoint_id is None:
            if len(ids) != 1:
                raise usage_error(
                    COMMANDS["benchmark"], f"{len(ids)} endpoints are open: say which"
                )
            (endpoint_id,) = ids
        elif endpoint_id not in ids:
            raise usage_error(
                COMMANDS["benchmark"],
                f"there is no endpoint {endpoint_id}; a size without one needs a unit, as in 64B",
            )
        return TimingTable(
            Measurement(self.worker, endpoint_id, sizes or DEFAULT_SIZES, limit=False)
        )

    def _config(self) -> WorkerConfig:
        return self.worker.config

    def _help(self, name: str | None) -> HelpText:
        chosen = COMMANDS.values() if name is None else [COMMANDS[name]]
        return HelpText([(command.usage, command.summary) for command in chosen])

    def _quit(self) -> None:
        self.left = True


def describe_peer(info: EndpointInfo) -> str:
    """Name, address and transports of a peer."""
    over = f", over {', '.join(info.transports)}" if info.transports else ""
    return f"{shortened(info.peer_name, 40)} at {info.peer_address}{over}"


def describe_end(info: EndpointInfo) -> str:
    """How a connection ended."""
    how = "lost" if info.state is EndpointState.LOST else "closed"
    return f"endpoint {info.endpoint_id} ({shortened(info.peer_name, 40)}) {how}: {info.reason}"

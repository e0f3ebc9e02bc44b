"""`EchoPeer`: somebody to talk to, for someone with one machine."""

from __future__ import annotations

from .auth_key import AuthKey
from .peer_process import PeerProcess

__all__ = ["EchoPeer"]


class EchoPeer(PeerProcess):
    """A child process with a worker that sends every message back with the tag it came with.

    It listens on a free port of the loopback interface, and it ends with this process, however
    this process ends. It may be used and closed from any thread.

    Parameters
    ----------
    auth_key : str or bytes, optional
        Of its worker, as in `WorkerConfig`: the same as yours.
    start_timeout : float or None
        How long the child may take until it listens, seconds; None waits for ever.

    Attributes
    ----------
    address : str
        Where it listens, ``"127.0.0.1:port"``: what `UcxWorker.connect` takes.
    port : int
        The port alone.
    pid : int
        The child's process id.

    Raises
    ------
    OperationTimeoutError
        The child did not listen in time; it is gone.
    ArgumentError
        `start_timeout` is none.
    UcxnbError
        The child failed to start, with its own words. An error that ucxnb itself raised there,
        such as `MissingUcxError`, keeps its class.

    Examples
    --------
    >>> with EchoPeer() as peer, UcxWorker() as worker:
    ...     endpoint_id = worker.connect(peer.address)
    ...     worker.send_tag(endpoint_id, 7, b"hello")
    ...     worker.receive_tag(endpoint_id, 7)
    b'hello'
    """

    def __init__(
        self, *, auth_key: AuthKey | str | bytes | None = None, start_timeout: float | None = 30.0
    ) -> None:
        super().__init__(
            "the echo peer",
            "echo",
            "ucxnb.echo:echo_messages",
            auth_key=auth_key,
            start_timeout=start_timeout,
        )

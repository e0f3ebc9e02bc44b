"""Every error that ucxnb raises.

Each class also derives from the builtin that a Python programmer would catch anyway. All can be
pickled, with their attributes::

    UcxnbError                            Exception
    ├── ConfigError                       ValueError           a WorkerConfig field is wrong
    ├── AddressError                      ValueError           not a "host:port"
    ├── MissingUcxError                   ImportError          no usable UCXX is installed
    ├── UcxError                          RuntimeError         UCX itself said no (.status)
    ├── OpenFilesError                    OSError              too few file descriptors are left
    ├── WorkerClosedError                 RuntimeError         the worker was closed
    ├── ThreadModeError                   RuntimeError         two threads inside a SINGLE worker
    ├── FeatureDisabledError              RuntimeError         e.g. enable_tag=False
    ├── ArgumentError                     ValueError, TypeError    a timeout below 0, say
    ├── TagTypeError                      TypeError            a tag that is no integer
    ├── TagRangeError                     ValueError           a tag out of range
    ├── InvalidBufferError                BufferError, TypeError   not contiguous, not writable
    │   └── GpuMemoryError                                     on a GPU that is out of reach
    ├── BufferTooSmallError               ValueError           .needed bytes; the message is kept
    ├── ObjectError                       ValueError           what came is no object; .data
    ├── UntrustedPeersError               PermissionError      objects of peers without a key
    ├── RemoteKeyError                    ValueError           no key, or a stale or foreign one
    ├── RemoteRangeError                  IndexError           outside of a peer's memory
    ├── RemoteReadOnlyError               PermissionError      that memory can only be read
    ├── UnknownEndpointError              LookupError          no such endpoint id, ever
    ├── BroadcastError                    ConnectionError      .delivered, .failed
    ├── RequestCancelledError             CancelledError       of concurrent.futures
    ├── UsageError                        ValueError           a console command, with .usage
    ├── ClusterError                      RuntimeError         some workers failed; .failed
    ├── WorkerLostError                   ConnectionResetError     a Dask worker is gone; .worker
    ├── RecordingError                    ValueError           a file that is no recording
    ├── OperationTimeoutError             TimeoutError         a wait ran out of time
    │   ├── ConnectTimeoutError                                connect() did
    │   └── PeerFullError                                      a send waited for the peer to receive
    └── EndpointError                     ConnectionError      .endpoint_id
        ├── EndpointClosedError           ConnectionAbortedError   closed by you
        ├── EndpointLostError             ConnectionResetError     the peer went away
        │   └── PeerClosedError                                it said goodbye first
        ├── NoPeersError                                       nobody could ever send it
        ├── ConnectRefusedError           ConnectionRefusedError   nothing listens there
        ├── UnreachableError                                   no such name, no route
        ├── HandshakeError                                     what listens there is no ucxnb worker
        ├── RejectedError                 ConnectionRefusedError   the peer said no, and why
        │   └── AuthenticationError       PermissionError      it wants a key, or another one
        └── AddressInUseError                                  another program listens there
"""

from __future__ import annotations

import concurrent.futures

__all__ = [
    "AddressError",
    "AddressInUseError",
    "ArgumentError",
    "AuthenticationError",
    "BroadcastError",
    "BufferTooSmallError",
    "ClusterError",
    "ConfigError",
    "ConnectRefusedError",
    "ConnectTimeoutError",
    "EndpointClosedError",
    "EndpointError",
    "EndpointLostError",
    "FeatureDisabledError",
    "GpuMemoryError",
    "HandshakeError",
    "InvalidBufferError",
    "MissingUcxError",
    "NoPeersError",
    "ObjectError",
    "OpenFilesError",
    "OperationTimeoutError",
    "PeerClosedError",
    "PeerFullError",
    "RecordingError",
    "RejectedError",
    "RemoteKeyError",
    "RemoteRangeError",
    "RemoteReadOnlyError",
    "RequestCancelledError",
    "TagRangeError",
    "TagTypeError",
    "ThreadModeError",
    "UcxError",
    "UcxnbError",
    "UnknownEndpointError",
    "UnreachableError",
    "UntrustedPeersError",
    "UsageError",
    "WorkerClosedError",
    "WorkerLostError",
]


class UcxnbError(Exception):
    """Base of every error that ucxnb raises on purpose."""


class ConfigError(UcxnbError, ValueError):
    """A `WorkerConfig` field has a wrong type, an impossible value or an unknown name."""


class AddressError(UcxnbError, ValueError):
    """The text is not a ``host:port`` address."""


class MissingUcxError(UcxnbError, ImportError):
    """UCXX, and with it UCX, is not installed or cannot be loaded."""


class UcxError(UcxnbError, RuntimeError):
    """A UCX call failed.

    Attributes
    ----------
    status : int
        The ``ucs_status_t`` that UCX returned (negative), 0 if there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class OpenFilesError(UcxnbError, OSError):
    """Too few file descriptors are left; the message names the limit and how to raise it."""


class WorkerClosedError(UcxnbError, RuntimeError):
    """The worker was closed, or belongs to the parent process of a fork."""


class ThreadModeError(UcxnbError, RuntimeError):
    """Two threads were inside a ``ThreadMode.SINGLE`` worker at the same moment."""


class FeatureDisabledError(UcxnbError, RuntimeError):
    """The worker's configuration switches this kind of operation off."""


class ArgumentError(UcxnbError, ValueError, TypeError):
    """An argument of a call has a wrong type or an impossible value."""


class TagTypeError(UcxnbError, TypeError):
    """A tag is not an integer."""


class TagRangeError(UcxnbError, ValueError):
    """A tag does not fit into the bits that the worker's tag scope leaves for it."""


class InvalidBufferError(UcxnbError, BufferError, TypeError):
    """The object is no contiguous buffer, or no writable one where one is needed."""


class GpuMemoryError(InvalidBufferError):
    """The array is on a GPU whose memory cannot be reached from here; the message says why."""


class BufferTooSmallError(UcxnbError, ValueError):
    """The next message is larger than the receive buffer. The message is kept.

    Attributes
    ----------
    needed : int
        Size of the message, bytes.
    """

    def __init__(self, message: str, needed: int = 0) -> None:
        super().__init__(message)
        self.needed = needed


class ObjectError(UcxnbError, ValueError):
    """An object cannot be sent, or what came holds none that can be made here.

    Attributes
    ----------
    data : bytes
        The message that came; empty for one that was not sent.
    """

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data


class UntrustedPeersError(UcxnbError, PermissionError):
    """Objects are not taken from peers that did not prove to have a key: making one runs code."""


class RemoteKeyError(UcxnbError, ValueError):
    """A key leads to no memory: it is none, another worker's, or that of memory that was closed."""


class RemoteRangeError(UcxnbError, IndexError):
    """An access does not lie within the peer's memory. Nothing was done."""


class RemoteReadOnlyError(UcxnbError, PermissionError):
    """The owner of the memory lets peers read it, and not write. Nothing was done."""


class UnknownEndpointError(UcxnbError, LookupError):
    """The worker has no endpoint of that id."""


class BroadcastError(UcxnbError, ConnectionError):
    """A broadcast did not reach every endpoint.

    Attributes
    ----------
    delivered : tuple of int
        The endpoints whose send completed.
    failed : dict of int to Exception
        The error of each endpoint whose send did not.
    """

    def __init__(
        self,
        message: str,
        delivered: tuple[int, ...] = (),
        failed: dict[int, Exception] | None = None,
    ) -> None:
        super().__init__(message)
        self.delivered = delivered
        self.failed = failed or {}


class RequestCancelledError(UcxnbError, concurrent.futures.CancelledError):
    """The request was cancelled. A message that it would have got waits to be received."""


class UsageError(UcxnbError, ValueError):
    """A command of the console is unknown, or its arguments are wrong.

    Attributes
    ----------
    usage : str
        How the command is written, empty if there is no such command.
    """

    def __init__(self, message: str, usage: str = "") -> None:
        super().__init__(message)
        self.usage = usage


class ClusterError(UcxnbError, RuntimeError):
    """Workers of a `UcxCluster` did not do what they were asked to; the others did.

    Attributes
    ----------
    results : dict of str to object
        What the others gave, by Dask's address.
    failed : dict of str to Exception
        The error of each that failed.
    """

    def __init__(
        self,
        message: str,
        results: dict[str, object] | None = None,
        failed: dict[str, Exception] | None = None,
    ) -> None:
        super().__init__(message)
        self.results = results or {}
        self.failed = failed or {}


class WorkerLostError(UcxnbError, ConnectionResetError):
    """A Dask worker died, left, or cannot be reached.

    Attributes
    ----------
    worker : str
        Its address.
    """

    def __init__(self, message: str, worker: str = "") -> None:
        super().__init__(message)
        self.worker = worker


class RecordingError(UcxnbError, ValueError):
    """A file is no recording, or is damaged, or cannot be written here."""


class OperationTimeoutError(UcxnbError, TimeoutError):
    """A wait ended because its timeout did. Nothing that arrives later is lost."""


class ConnectTimeoutError(OperationTimeoutError):
    """The peer did not finish the handshake in time."""


class PeerFullError(OperationTimeoutError):
    """The peer has too much unreceived, and received too little of it in time: nothing was sent."""


class EndpointError(UcxnbError, ConnectionError):
    """Something is wrong with one connection; others are not touched.

    Attributes
    ----------
    endpoint_id : int or None
        The endpoint concerned, None while there is none yet.
    """

    def __init__(self, message: str, endpoint_id: int | None = None) -> None:
        super().__init__(message)
        self.endpoint_id = endpoint_id


class EndpointClosedError(EndpointError, ConnectionAbortedError):
    """You closed this endpoint (`disconnect`, `cleanup_all`)."""


class EndpointLostError(EndpointError, ConnectionResetError):
    """The peer is gone: it died, or the network between did."""


class PeerClosedError(EndpointLostError):
    """The peer closed the connection in order; all that it sent before can still be received."""


class NoPeersError(EndpointError):
    """A receive from anyone, with no endpoint and no listener that could bring one."""


class ConnectRefusedError(EndpointError, ConnectionRefusedError):
    """The host is there, and nothing listens on that port."""


class UnreachableError(EndpointError):
    """The name does not resolve, or no route leads to the address."""


class HandshakeError(EndpointError):
    """What answers at that address does not speak ucxnb's protocol."""


class RejectedError(EndpointError, ConnectionRefusedError):
    """The peer is a ucxnb worker and declined; the message says why."""


class AuthenticationError(RejectedError, PermissionError):
    """The keys differ, or only one side has one, or what a peer with the key said was changed."""


class AddressInUseError(EndpointError):
    """Another program listens on that address already, or it is not one of this machine."""

"""The echo loop: every message goes back to where it came from, with the tag it came with."""

from __future__ import annotations

from collections.abc import Callable

from .errors import (
    BufferTooSmallError,
    EndpointError,
    OperationTimeoutError,
    UcxError,
    UnknownEndpointError,
    WorkerClosedError,
)
from .worker import UcxWorker

__all__ = ["echo_messages"]

_LOOK_UP = 0.5  # seconds between two looks at `until` while nothing arrives
_PATIENCE = 0.05  # seconds to wait for a client that sends on before it receives


def echo_messages(worker: UcxWorker, until: Callable[[], bool] = lambda: False) -> None:
    """Echo what arrives at a worker, from anyone, until told to stop or the worker is closed.

    A client that dies or is slow to take its answers does not hold up the others.

    Parameters
    ----------
    worker : UcxWorker
        It should be listening.
    until : callable
        Asked about twice a second while nothing arrives; True ends the loop.
    """
    buffer = memoryview(bytearray(worker.config.buffer_size))
    while True:
        try:
            message = worker.receive_message(None, 0, buffer, timeout=_LOOK_UP, tag_mask=0)
        except OperationTimeoutError:
            if until():
                return
            continue
        except BufferTooSmallError as error:
            buffer = memoryview(bytearray(error.needed))
            continue
        except WorkerClosedError:
            return
        assert message.endpoint_id is not None  # the tag scope is "endpoint" here
        try:
            answer = buffer[: message.nbytes]
            worker.send_tag(message.endpoint_id, message.tag, answer, timeout=_PATIENCE)
        except OperationTimeoutError:
            # The answer is on its way, and UCX reads it from this buffer until the client takes it.
            buffer = memoryview(bytearray(len(buffer)))
        except (EndpointError, UnknownEndpointError, UcxError):
            continue
        except WorkerClosedError:
            return

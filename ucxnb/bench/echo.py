"""Round trips with a peer that sends every message back."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import BufferTooSmallError, OperationTimeoutError, UcxnbError
from ..worker import UcxWorker

__all__ = ["DEFAULT_SIZES", "EchoTiming", "time_echoes"]

DEFAULT_SIZES = (8, 1 << 10, 64 << 10, 1 << 20)

_TAGS = range(2**39, 2**40)  # few programs use these
_SECONDS = 0.3  # for each size
_LEAST, _MOST = 10, 20_000  # round trips for each size
_PATIENCE = 5.0  # seconds for one answer


@dataclass(frozen=True, slots=True)
class EchoTiming:
    """Round trips of messages of one size.

    Attributes
    ----------
    nbytes : int
        Size of each message, bytes.
    rounds : int
        How many went there and back.
    median_us, p99_us : float
        Half a round trip, microseconds: the median, and what 99 of 100 stayed below.
    bandwidth : float
        Bytes a second each way, from the median.
    """

    nbytes: int
    rounds: int
    median_us: float
    p99_us: float
    bandwidth: float


def time_echoes(
    worker: UcxWorker, endpoint_id: int, sizes: Sequence[int] = DEFAULT_SIZES
) -> list[EchoTiming]:
    """Time round trips with a peer that echoes, such as `EchoPeer` or ``ucxnb serve``.

    Parameters
    ----------
    worker : UcxWorker
        It must have nobody else receive from that endpoint meanwhile.
    endpoint_id : int
        The peer.
    sizes : sequence of int
        Message sizes, bytes; each is measured for about a third of a second.

    Returns
    -------
    list of EchoTiming
        One for each size.

    Raises
    ------
    OperationTimeoutError
        The peer does not echo.
    UcxnbError
        It echoes something else; and all errors of `UcxWorker.send_tag` and
        `UcxWorker.receive_tag`.
    """
    # Another one each time: what an interrupted measurement left behind is none of ours.
    tag = random.choice(_TAGS)
    return [_time_size(worker, endpoint_id, tag, nbytes) for nbytes in sizes]


def _time_size(worker: UcxWorker, endpoint_id: int, tag: int, nbytes: int) -> EchoTiming:
    source = None if worker.config.tag_scope == "worker" else endpoint_id
    data, answer = bytes(nbytes), bytearray(nbytes)
    times: list[int] = []
    end = time.perf_counter() + _SECONDS
    while len(times) <= _LEAST or (len(times) <= _MOST and time.perf_counter() < end):
        start = time.perf_counter_ns()
        worker.send_tag(endpoint_id, tag, data, timeout=_PATIENCE)
        try:
            got = worker.receive_tag(source, tag, answer, timeout=_PATIENCE)
        except BufferTooSmallError as error:
            got = error.needed
        except OperationTimeoutError:
            raise OperationTimeoutError(
                f"endpoint {endpoint_id} sent nothing back in {_PATIENCE:g} s: measure with a "
                "peer that echoes, such as `ucxnb serve`"
            ) from None
        times.append(time.perf_counter_ns() - start)
        if got != nbytes:
            raise UcxnbError(
                f"endpoint {endpoint_id} answered {nbytes:,} bytes with {got:,}: measure with a "
                "peer that echoes, such as `ucxnb serve`"
            )
    times = sorted(times[1:])  # the first one warms up
    median = statistics.median(times) / 2e3
    return EchoTiming(
        nbytes, len(times), median, times[len(times) * 99 // 100] / 2e3, nbytes / median * 1e6
    )

"""The limit: what UCX's own program reaches between two processes over the same transports."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from ..address import parse_address
from ..endpoint_info import EndpointInfo
from ..errors import AddressError
from ..transports import is_shared_memory
from ..ucx_programs import find_ucx_program
from .perftest import Perftest, run_perftests

__all__ = ["Limit", "measure_limits", "why_no_limit"]

# At most a tenth of a second or so of each test, over shared memory as over TCP.
_LEAST = 4
_MOST_ROUND_TRIPS, _ROUND_TRIP_BYTES = 5_000, 32 << 20
_MOST_MESSAGES, _MESSAGE_BYTES = 30_000, 64 << 20
_TIMEOUT = 8.0  # its two processes never sleep: where others need the cores, they crawl


@dataclass(frozen=True, slots=True)
class Limit:
    """What ``ucx_perftest`` reached.

    Attributes
    ----------
    p50_us : float
        Half a round trip, microseconds, median (``-t tag_lat``).
    message_rate : float
        Messages a second, one way (``-t tag_bw``).
    """

    p50_us: float
    message_rate: float


def why_no_limit(info: EndpointInfo) -> str:
    """Say why there is no limit to compare a connection with.

    Parameters
    ----------
    info : EndpointInfo
        The connection.

    Returns
    -------
    str
        Empty if there is one.
    """
    if find_ucx_program("ucx_perftest") is None:
        return 'no limit: there is no ucx_perftest; it comes with pip install "ucxnb[cu13]"'
    if not any(map(is_shared_memory, info.transports)) and not _is_loopback(info.peer_address):
        return "no limit: ucx_perftest runs on this machine, and the peer is on another one"
    return ""


def measure_limits(
    sizes: Sequence[int],
    transports: Sequence[str],
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Limit, None, None]:
    """Run ``ucx_perftest`` for each size.

    Parameters
    ----------
    sizes : sequence of int
        Message sizes, bytes, at least 1.
    transports : sequence of str
        Those of the connection, as ``"transport/device"``.
    should_stop : callable
        As in `run_perftests`.

    Yields
    ------
    Limit
        One for each size, as it is done; fewer if it was told to stop.

    Raises
    ------
    MissingUcxError, UcxError
        As `run_perftests`.
    """
    tests = [
        Perftest(kind, nbytes, max(_LEAST, min(most, total // nbytes)))
        for nbytes in sizes
        for kind, most, total in (
            ("tag_lat", _MOST_ROUND_TRIPS, _ROUND_TRIP_BYTES),
            ("tag_bw", _MOST_MESSAGES, _MESSAGE_BYTES),
        )
    ]
    names = list(dict.fromkeys(name.partition("/")[0] for name in transports))
    results = run_perftests(tests, transports=names, timeout=_TIMEOUT, should_stop=should_stop)
    with contextlib.closing(results):  # its processes end at once if the caller stops early
        for latency in results:
            bandwidth = next(results, None)
            if bandwidth is None:
                return
            yield Limit(latency.percentile_us, bandwidth.message_rate)


def _is_loopback(address: str) -> bool:
    try:
        host, _ = parse_address(address)
    except AddressError:
        return False
    return host.startswith("127.") or host in ("::1", "localhost")

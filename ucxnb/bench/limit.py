"""The limit: what UCX's own program reaches between two processes over the same transports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..address import parse_address
from ..endpoint_info import EndpointInfo
from ..errors import AddressError
from ..transports import is_shared_memory
from ..ucx_programs import find_ucx_program
from .perftest import run_perftest

__all__ = ["Limit", "measure_limit", "why_no_limit"]

_SECONDS = 0.1  # of each test, besides its start
_LEAST, _MOST = 20, 500_000  # messages of a test
_TIMEOUT = 15.0  # its two processes never sleep: where others need the cores, they crawl


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


def measure_limit(
    nbytes: int,
    transports: Sequence[str],
    p50_us: float,
    message_rate: float,
    should_stop: Callable[[], bool],
) -> Limit | None:
    """Run ``ucx_perftest`` for one size.

    Parameters
    ----------
    nbytes : int
        Message size, bytes.
    transports : sequence of str
        Those of the connection, as ``"transport/device"``.
    p50_us, message_rate : float
        What the connection reached, for the number of messages.
    should_stop : callable
        As in `run_perftest`.

    Returns
    -------
    Limit or None
        None if it was told to stop.

    Raises
    ------
    MissingUcxError, UcxError
        As `run_perftest`.
    """
    names = list(dict.fromkeys(name.partition("/")[0] for name in transports))
    figures = []
    for test, count in (
        ("tag_lat", _SECONDS * 1e6 / max(p50_us, 0.01) / 2),
        ("tag_bw", _SECONDS * message_rate),
    ):
        iterations = max(_LEAST, min(_MOST, int(count)))
        result = run_perftest(
            test,
            nbytes,
            iterations,
            transports=names,
            timeout=_TIMEOUT,
            should_stop=should_stop,
        )
        if result is None:
            return None
        figures.append(result)
    return Limit(figures[0].percentile_us, figures[1].message_rate)


def _is_loopback(address: str) -> bool:
    try:
        host, _ = parse_address(address)
    except AddressError:
        return False
    return host.startswith("127.") or host in ("::1", "localhost")

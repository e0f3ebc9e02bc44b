"""The peers by name, in the order of the tables. None of them imports its library here."""

from __future__ import annotations

from .base import Peer
from .mpi import Mpich, OpenMpi
from .pyzmq import Pyzmq
from .sockets import Sockets
from .starway import Starway
from .streams import Streams
from .ucxnb_await import UcxnbAwait
from .ucxnb_blocking import UcxnbBlocking
from .ucxnb_rows import UcxnbRows
from .ucxnb_threads import UcxnbThreads
from .ucxnb_window import UcxnbWindow
from .ucxx_async import UcxxAsync
from .ucxx_core import UcxxPolling, UcxxThread

PEERS: dict[str, type[Peer]] = {
    "ucxnb": UcxnbBlocking,
    "ucxnb-window": UcxnbWindow,
    "ucxnb-rows": UcxnbRows,
    "ucxnb-await": UcxnbAwait,
    "ucxnb-threads": UcxnbThreads,
    "ucxx-polling": UcxxPolling,
    "ucxx-thread": UcxxThread,
    "ucxx-async": UcxxAsync,
    "openmpi": OpenMpi,
    "mpich": Mpich,
    "pyzmq": Pyzmq,
    "sockets": Sockets,
    "streams": Streams,
    "starway": Starway,
}
PERFTEST = "ucx_perftest"  # a program of its own, see `suite.perftest`
"""UCX's own program: the limit."""

"""ucxnb: a Jupyter toolkit for UCX.

A worker to drive from a notebook, panels to connect, send, receive and broadcast, and a live
dashboard of what moves. Importing this loads neither UCX nor any notebook library.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from . import errors
from .config import ThreadMode, WorkerConfig
from .endpoint_info import EndpointInfo, EndpointState
from .errors import *  # noqa: F403  (the list is errors.__all__)
from .events import Event, EventKind
from .histogram import Histogram
from .message import Message
from .refusals import Refusal, Refusals
from .snapshot import EngineHealth, Snapshot
from .stats import Rates, StatsHistory, TrafficStats, WorkerStats

if TYPE_CHECKING:
    from .echopeer import EchoPeer
    from .engine import RegisteredMemory, RemoteMemory
    from .frontdoor import Listener, UcxListenerWarning, UnprotectedListenerWarning
    from .info import MachineInfo, machine_info
    from .nesting import enable_nested_asyncio
    from .protocols import Explanation
    from .reconnect import KeptConnection, Loss
    from .remote_array import RemoteArray
    from .request import Request, as_completed, wait_all, wait_any
    from .streams import UcxStream
    from .traffic import TrafficGenerator
    from .worker import UcxWorker

__version__ = _version("ucxnb")

# Loaded at first use.
_LAZY = {
    "EchoPeer": ".echopeer",
    "Explanation": ".protocols",
    "KeptConnection": ".reconnect",
    "Listener": ".frontdoor",
    "Loss": ".reconnect",
    "MachineInfo": ".info",
    "RegisteredMemory": ".engine",
    "RemoteArray": ".remote_array",
    "RemoteMemory": ".engine",
    "Request": ".request",
    "TrafficGenerator": ".traffic",
    "UcxStream": ".streams",
    "UcxWorker": ".worker",
    "UcxListenerWarning": ".frontdoor",
    "UnprotectedListenerWarning": ".frontdoor",
    "as_completed": ".request",
    "enable_nested_asyncio": ".nesting",
    "machine_info": ".info",
    "wait_all": ".request",
    "wait_any": ".request",
}

__all__ = [
    "EchoPeer",
    "EndpointInfo",
    "EndpointState",
    "EngineHealth",
    "Event",
    "EventKind",
    "Explanation",
    "Histogram",
    "KeptConnection",
    "Listener",
    "Loss",
    "MachineInfo",
    "Message",
    "Rates",
    "Refusal",
    "Refusals",
    "RegisteredMemory",
    "RemoteArray",
    "RemoteMemory",
    "Request",
    "Snapshot",
    "StatsHistory",
    "ThreadMode",
    "TrafficGenerator",
    "TrafficStats",
    "UcxStream",
    "UcxWorker",
    "UcxListenerWarning",
    "UnprotectedListenerWarning",
    "WorkerConfig",
    "WorkerStats",
    "as_completed",
    "enable_nested_asyncio",
    "machine_info",
    "wait_all",
    "wait_any",
    *errors.__all__,
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """Add the magics ``%ucx`` and ``%%ucx`` to IPython: ``%load_ext ucxnb``."""
    from .console.magics import UcxMagics

    shell.register_magics(UcxMagics(shell))


def unload_ipython_extension(shell: Any) -> None:
    """Close the magics' worker, and take them away: ``%unload_ext ucxnb``."""
    magics = shell.magics_manager.registry.pop("UcxMagics", None)
    if magics is not None:
        magics.close()
        for kind in shell.magics_manager.magics.values():
            kind.pop("ucx", None)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})

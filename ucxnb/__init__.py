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
from .message import Message
from .stats import Rates, StatsHistory, TrafficStats, WorkerStats

if TYPE_CHECKING:
    from .echopeer import EchoPeer
    from .frontdoor import Listener
    from .worker import UcxWorker

__version__ = _version("ucxnb")

# Loaded at first use.
_LAZY = {"EchoPeer": ".echopeer", "Listener": ".frontdoor", "UcxWorker": ".worker"}

__all__ = [
    "EchoPeer",
    "EndpointInfo",
    "EndpointState",
    "Listener",
    "Message",
    "Rates",
    "StatsHistory",
    "ThreadMode",
    "TrafficStats",
    "UcxWorker",
    "WorkerConfig",
    "WorkerStats",
    *errors.__all__,
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})

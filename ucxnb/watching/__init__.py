"""Watch workers of other processes, on this machine or another, over UCX itself."""

from __future__ import annotations

from .publisher import Publisher
from .remote_worker import RemoteWorker

__all__ = ["Publisher", "RemoteWorker"]

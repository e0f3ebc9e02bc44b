"""The hot path: tagged messages and background progress, in C and Cython."""

from __future__ import annotations

from ._engine import MAX_ENDPOINT_ID, Endpoint, TagEngine, load_ucp, mark_toolkit_thread

__all__ = ["MAX_ENDPOINT_ID", "Endpoint", "TagEngine", "load_ucp", "mark_toolkit_thread"]

"""The hot path: tagged messages and background progress, in C and Cython."""

from __future__ import annotations

try:
    from ._engine import (
        MAX_ENDPOINT_ID,
        Endpoint,
        RegisteredMemory,
        RemoteMemory,
        Request,
        RmaEngine,
        StreamEngine,
        TagEngine,
        UcpListener,
        group_by_worker,
        load_ucp,
        mark_toolkit_thread,
        results_of,
        split_ended,
        wait_for_all,
        wait_for_any,
    )
except ModuleNotFoundError as error:
    if error.name != f"{__name__}._engine":
        raise
    raise ImportError(
        f"{__path__[0]} is source code that was not built: Python took it because you are in the "
        "folder above it; go elsewhere, run python -P, or install with: pip install -e ."
    ) from None

__all__ = [
    "MAX_ENDPOINT_ID",
    "Endpoint",
    "RegisteredMemory",
    "RemoteMemory",
    "Request",
    "RmaEngine",
    "StreamEngine",
    "TagEngine",
    "UcpListener",
    "group_by_worker",
    "load_ucp",
    "mark_toolkit_thread",
    "results_of",
    "split_ended",
    "wait_for_all",
    "wait_for_any",
]

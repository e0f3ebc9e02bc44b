"""Descriptors that are still free: UCX aborts the process at some places when there are none."""

from __future__ import annotations

import os
import resource

from .errors import OpenFilesError

__all__ = ["FOR_A_CONNECTION", "FOR_A_WORKER", "need_descriptors"]

# More than each takes: 9 to 21 and 2 to 5 where there is no RDMA, and others open files meanwhile.
FOR_A_WORKER = 64
FOR_A_CONNECTION = 16


def need_descriptors(count: int, purpose: str) -> None:
    """Check that this process can open so many files more.

    Parameters
    ----------
    count : int
        How many.
    purpose : str
        What for, as the beginning of the message.

    Raises
    ------
    OpenFilesError
        It cannot.
    """
    spare: list[int] = []
    try:
        spare.append(os.eventfd(0))
        spare.extend(os.dup(spare[0]) for _ in range(count - 1))
    except OSError as error:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        advice = f"ulimit -n {hard}" if soft < hard else "ulimit -Hn, as an administrator"
        raise OpenFilesError(
            f"{purpose} needs up to {count} file descriptors, and process {os.getpid()} has fewer "
            f"than that left of its {soft:,}; close connections or files there, or raise the limit "
            f'before it starts: "{advice}"'
        ) from error
    finally:
        for descriptor in spare:
            os.close(descriptor)

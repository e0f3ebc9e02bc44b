"""UCX's transport names in plain words."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["describe_transport", "family_of", "is_gpu", "is_rdma", "is_shared_memory"]

_SHARED_MEMORY = ("posix", "sysv", "xpmem")
_RDMA = ("rc_", "ud_", "dc_", "gga_", "srd")
_GPU = ("cuda_", "gdr_copy", "rocm_", "ze_")
_WORDS = {
    "self": "within one process",
    "xpmem": "shared memory, one process's memory mapped into another (XPMEM)",
    "cma": "the kernel copies from one process's memory into another's, once",
    "knem": "the kernel copies from one process's memory into another's, once (KNEM)",
    "tcp": "TCP sockets: any network, through the kernel",
}


def describe_transport(name: str) -> str:
    """Say what a transport is.

    Parameters
    ----------
    name : str
        As UCX writes it, alone or with a device: ``"posix"``, ``"posix/memory"``, ``"rc_mlx5"``.

    Returns
    -------
    str
        A few words; empty for a transport that is not known here.
    """
    transport = name.partition("/")[0]
    if transport in _WORDS:
        return _WORDS[transport]
    if is_shared_memory(transport):
        return "shared memory between processes of one machine"
    if is_rdma(transport):
        return "RDMA: the network card moves the bytes, past the kernel"
    if is_gpu(transport):
        return "GPU memory"
    return ""


def is_shared_memory(name: str) -> bool:
    """Whether a transport is shared memory.

    Parameters
    ----------
    name : str
        As for `describe_transport`.

    Returns
    -------
    bool
    """
    return name.partition("/")[0] in _SHARED_MEMORY


def is_rdma(name: str) -> bool:
    """Whether a transport is RDMA.

    Parameters
    ----------
    name : str
        As for `describe_transport`.

    Returns
    -------
    bool
    """
    return name.startswith(_RDMA)


def is_gpu(name: str) -> bool:
    """Whether a transport reaches GPU memory.

    Parameters
    ----------
    name : str
        As for `describe_transport`.

    Returns
    -------
    bool
    """
    return name.startswith(_GPU)


def family_of(names: Iterable[str]) -> str:
    """Say what kind of transport decides how fast a connection is: the fastest of them.

    Parameters
    ----------
    names : iterable of str
        As for `describe_transport`.

    Returns
    -------
    str
        ``"gpu"``, ``"shm"``, ``"rdma"``, ``"tcp"``, or ``"muted"`` for none of them.
    """
    names = list(names)
    for family, belongs in (("gpu", is_gpu), ("shm", is_shared_memory), ("rdma", is_rdma)):
        if any(map(belongs, names)):
            return family
    return "tcp" if any(name.startswith("tcp") for name in names) else "muted"

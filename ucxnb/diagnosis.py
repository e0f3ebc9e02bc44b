"""What this machine lacks for UCX, what that means, and what to do about it."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .transports import is_gpu, is_rdma, is_shared_memory
from .ucx_info import UcxInfo

__all__ = ["Finding", "diagnose"]

_SMALL_SHM = 256 << 20  # bytes; Docker gives 64 MiB unless told otherwise
_MANY_DESCRIPTORS = 4096
_PER_ENDPOINT = 3  # descriptors
_PR_SET_PTRACER = 0x59616D61
_PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    topic : str
        What was looked at.
    good : bool
        Whether nothing is missing.
    found : str
        What is there.
    meaning : str
        What that means for you; empty if there is nothing to say.
    advice : str
        What to do next; empty if there is nothing to do.
    """

    topic: str
    good: bool
    found: str
    meaning: str = ""
    advice: str = ""


def diagnose(ucx: UcxInfo | None) -> list[Finding]:
    """Look at everything that decides which transports UCX can use here.

    Parameters
    ----------
    ucx : UcxInfo or None
        What ``ucx_info`` told, None if it is not there.

    Returns
    -------
    list of Finding
    """
    checks: list[Callable[[], Finding]] = [_shared_memory_size, _cma, _descriptors, _settings]
    findings = [check() for check in checks]
    if ucx is not None:
        findings = [
            _shared_memory(ucx),
            *findings[:2],
            _tcp_speed(ucx),
            _rdma(ucx),
            _gpu(ucx),
            *findings[2:],
        ]
    return findings


def _shared_memory(ucx: UcxInfo) -> Finding:
    names = sorted({t.name for t in ucx.transports if is_shared_memory(t.name)})
    if names:
        return Finding("Shared memory transports", True, ", ".join(names))
    return Finding(
        "Shared memory transports",
        False,
        "none",
        "Processes of this machine talk over TCP, some 50 times slower for small messages.",
        "Look at /dev/shm below; `ucx_info -d` names what it could not open.",
    )


def _shared_memory_size() -> Finding:
    topic = "Shared memory space"
    try:
        space = os.statvfs("/dev/shm")
    except OSError as error:
        return Finding(
            topic,
            False,
            f"/dev/shm cannot be used ({error.strerror})",
            "UCX's fastest way between processes (posix) is not available.",
            "In a container, mount a tmpfs there: docker run --shm-size=1g",
        )
    size, free = space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize
    found = f"{_size(size)} in /dev/shm, {_size(free)} free"
    if free >= _SMALL_SHM:
        return Finding(topic, True, found)
    return Finding(
        topic,
        False,
        found,
        "Each worker takes some megabytes of it; when it is full, none can start or connect.",
        "In a container: docker run --shm-size=1g. Elsewhere: mount -o remount,size=1g /dev/shm, "
        "or delete what lies there.",
    )


def _cma() -> Finding:
    topic = "CMA (one process copies from another)"
    problem = _copy_problem()
    if not problem:
        return Finding(topic, True, "works")
    return Finding(
        topic,
        False,
        f"blocked: {problem}",
        "Large messages between processes of this machine are copied twice through shared memory "
        "instead of once: correct, with less throughput.",
        "The kernel refuses process_vm_readv. In a container: docker run --cap-add=SYS_PTRACE. "
        "Elsewhere look at /proc/sys/kernel/yama/ptrace_scope: 0 and 1 allow it.",
    )


def _copy_problem() -> str:
    """Let a child copy from this process, as UCX's CMA does; return why it could not, or ""."""
    word = ctypes.create_string_buffer(b"ucxnb")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)  # UCX asks Yama for the same
    code = (
        "import ctypes as c, os, sys\n"
        "class V(c.Structure): _fields_ = [('base', c.c_void_p), ('n', c.c_size_t)]\n"
        "pid, base = map(int, sys.argv[1:])\n"
        "got = c.create_string_buffer(6)\n"
        "to, come = V(c.addressof(got), 6), V(base, 6)\n"
        "libc = c.CDLL(None, use_errno=True)\n"
        "libc.process_vm_readv.argtypes = [c.c_int, c.c_void_p, c.c_ulong, c.c_void_p, c.c_ulong,"
        " c.c_ulong]\n"
        "libc.process_vm_readv.restype = c.c_ssize_t\n"
        "n = libc.process_vm_readv(pid, c.byref(to), 1, c.byref(come), 1, 0)\n"
        "print(got.value.decode() if n == 6 else os.strerror(c.get_errno()))\n"
    )
    try:
        said = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, str(os.getpid()), str(ctypes.addressof(word))],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"the test could not run ({error})"
    finally:
        libc.prctl(_PR_SET_PTRACER, 0, 0, 0, 0)
    if said == "ucxnb":
        return ""
    hints = [said]
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.exists() and (value := scope.read_text().strip()) not in ("0", "1"):
        hints.append(f"ptrace_scope is {value}")
    if "Seccomp:\t2" in Path("/proc/self/status").read_text():
        hints.append("a seccomp filter is active")
    return ", ".join(hints)


def _tcp_speed(ucx: UcxInfo) -> Finding:
    """Whether UCX knows how fast TCP is: else its thresholds and estimates of it are far off."""
    topic = "Speed of TCP devices"
    devices = {t.device: t.bandwidth for t in ucx.transports if t.name == "tcp"}
    unknown = [device for device in devices if not _has_speed(device)]
    rates = ", ".join(sorted({f"{rate / 1e6:,.0f} MB/s" for rate in devices.values()}))
    if not unknown:
        return Finding(topic, True, rates or "there is none")
    return Finding(
        topic,
        False,
        f"not known of {', '.join(unknown)} (UCX assumes {rates})",
        "The kernel tells no speed, as usual for loopback and virtual devices. UCX's estimates "
        "for TCP are then too slow, and its thresholds not the best ones.",
        "Measure what other thresholds do: ExplorerPanel, or ucxnb.explorer.Tuner.",
    )


def _has_speed(device: str) -> bool:
    try:
        return int(Path(f"/sys/class/net/{device}/speed").read_text()) > 0
    except (OSError, ValueError):
        return False


def _rdma(ucx: UcxInfo) -> Finding:
    topic = "RDMA"
    names = sorted({t.name for t in ucx.transports if is_rdma(t.name)})
    cards = sorted(_entries("/sys/class/infiniband"))
    built = "--without-verbs" not in ucx.build
    if names:
        return Finding(topic, True, ", ".join(names))
    if not cards:
        return Finding(
            topic,
            False,
            "no RDMA network card" + ("" if built else ", and this build of UCX has no RDMA"),
            "Messages between machines go over TCP. On one machine nothing is lost.",
            "Nothing, on one machine. Between machines: a card, and a UCX built with verbs, such "
            "as conda-forge's packages ucx and ucxx.",
        )
    if built:
        return Finding(
            topic,
            False,
            f"{', '.join(cards)} cannot be opened",
            "Messages between machines go over TCP, many times slower than the card.",
            "In a container: docker run --device=/dev/infiniband --ulimit memlock=-1.",
        )
    return Finding(
        topic,
        False,
        f"this build of UCX has no RDMA, though the machine has {', '.join(cards)}",
        "Messages between machines go over TCP, many times slower than the card.",
        "Use a UCX built with verbs: the conda-forge packages ucx and ucxx have it, wheels do not.",
    )


def _gpu(ucx: UcxInfo) -> Finding:
    topic = "GPU"
    names = sorted({t.name for t in ucx.transports if is_gpu(t.name)})
    cards = [
        name
        for name in _entries("/dev")
        if name == "kfd" or (name[:6] == "nvidia" and name[6:].isdigit())
    ]
    if names:
        return Finding(topic, True, ", ".join(names))
    if cards:
        return Finding(
            topic,
            False,
            f"/dev/{cards[0]} is there, but UCX cannot use it",
            "Messages live in host memory only.",
            "Check that nvidia-smi works here, and install the extra of the driver's CUDA version: "
            "cu12 or cu13.",
        )
    return Finding(
        topic,
        False,
        "none",
        "Messages live in host memory only.",
        "Nothing, without one. With one: install the extra of the driver's CUDA version.",
    )


def _descriptors() -> Finding:
    topic = "File descriptors"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _MANY_DESCRIPTORS:
        text = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,} per process"
        return Finding(topic, True, text)
    most = "65536" if hard == resource.RLIM_INFINITY else str(hard)
    return Finding(
        topic,
        False,
        f"{soft:,} per process",
        f"Room for about {soft // _PER_ENDPOINT:,} connections: each takes 2 to {_PER_ENDPOINT}.",
        f"Before starting Python: ulimit -n {most}"
        if int(most) > soft
        else "Ask for a higher hard limit.",
    )


def _settings() -> Finding:
    found = sorted(name for name in os.environ if name.startswith("UCX_"))
    if not found:
        return Finding("UCX_* settings", True, "none in the environment")
    return Finding(
        "UCX_* settings",
        False,
        ", ".join(f"{name}={os.environ[name]}" for name in found),
        "They change what UCX chooses in every worker that is started from here.",
        "If a transport is missing, unset them and look again.",
    )


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.0f} MiB"

"""What a process holds open: its threads, children and descriptors."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

GRACE = 5.0  # seconds for what was closed to be gone: the kernel reaps threads a moment later

# It keeps its threads and devices for as long as the process lives.
OF_THE_CUDA_DRIVER = ("cuda", "/dev/nvidia")


@dataclass(frozen=True)
class Holdings:
    """A snapshot of what this process holds."""

    python_threads: frozenset[threading.Thread]
    native_threads: dict[str, str]
    children: dict[int, str]
    descriptors: Counter[str]

    @classmethod
    def now(cls) -> Holdings:
        return cls(frozenset(threading.enumerate()), _native_threads(), _children(), _descriptors())

    def grown_since(self, before: Holdings) -> list[str]:
        """Everything here that was not there before, in words."""
        found = [f"thread {t.name}" for t in self.python_threads - before.python_threads]
        if len(self.native_threads) > len(before.native_threads):
            new = self.native_threads.keys() - before.native_threads.keys()
            found += [f"native thread {tid} ({self.native_threads[tid]})" for tid in sorted(new)]
        for pid in self.children.keys() - before.children.keys():
            found.append(f"child process {pid} ({self.children[pid]})")
        extra = self.descriptors - before.descriptors
        found += [f"{count} x descriptor {target}" for target, count in sorted(extra.items())]
        return found


def leaked_since(before: Holdings, grace: float = GRACE) -> list[str]:
    """Return what is held now and was not before, after a grace period for it to go."""
    deadline = time.monotonic() + grace
    while found := Holdings.now().grown_since(before):
        if time.monotonic() > deadline:
            break
        gc.collect()
        time.sleep(0.02)
    return found


def _native_threads() -> dict[str, str]:
    names = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
        except OSError:
            continue
        if not name.startswith(OF_THE_CUDA_DRIVER):
            names[task.name] = name
    return names


def _children() -> dict[int, str]:
    mine = os.getpid()
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_text()
        except OSError:
            continue
        name, _, rest = stat.partition(" (")[2].rpartition(") ")
        if int(rest.split()[1]) == mine:
            found[int(entry.name)] = name
    return found


def _descriptors() -> Counter[str]:
    targets: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(OF_THE_CUDA_DRIVER):
            continue
        # The number in socket:[123] differs each time; what kind it is does not.
        targets[target.partition(":[")[0] if ":[" in target else target] += 1
    return targets

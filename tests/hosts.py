"""Several hosts on one machine: network namespaces, and a network between them that is slow."""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from typing import Self

from cable import NoNamespacesError, ip_command

_TUNSETIFF = 0x400454CA
_TAP, _NO_HEADER = 0x0002, 0x1000
_LONGEST_FRAME = 2048


class Hosts:
    """Hosts ``10.78.0.1`` and so on, each with a device ``wire``; nothing else is on their network.

    With `delay` or `loss` the devices are TAPs, and a thread of this process is the switch between
    them, which needs nothing of the kernel's packet schedulers. Else they are veth pairs to a
    bridge, as fast as the machine, or as `rate` says.

    Parameters
    ----------
    count : int
        How many.
    delay : float
        Seconds that each packet takes.
    loss : float
        Share of the packets that are lost.
    rate : str
        Of what each host sends, as ``tc`` writes it: ``"200mbit"``; empty for no limit.

    Attributes
    ----------
    addresses : list of str
        Of the hosts.
    prefixes : list of list of str
        What runs a command on each.
    """

    device = "wire"

    def __init__(
        self, count: int, *, delay: float = 0.0, loss: float = 0.0, rate: str = ""
    ) -> None:
        self._names = [f"ucxnb-{os.getpid()}-host{i}" for i in range(count)]
        self._switch_name = f"ucxnb-{os.getpid()}-bridge"
        self.addresses = [f"10.78.0.{i + 1}" for i in range(count)]
        self.prefixes = [["ip", "netns", "exec", name] for name in self._names]
        self._undo = contextlib.ExitStack()
        try:
            for name in self._names:
                self._add_namespace(name)
            if delay or loss:
                self._connect_taps(delay, loss)
            else:
                self._connect_veths(rate)
            for name, address in zip(self._names, self.addresses, strict=True):
                ip_command("-n", name, "address", "add", f"{address}/24", "dev", self.device)
                for device in ("lo", self.device):
                    ip_command("-n", name, "link", "set", device, "up")
        except BaseException:
            self.close()
            raise

    def _add_namespace(self, name: str) -> None:
        ip_command("netns", "add", name)
        self._undo.callback(ip_command, "netns", "delete", name)

    def _connect_veths(self, rate: str) -> None:
        self._add_namespace(self._switch_name)
        inside = ("-n", self._switch_name, "link")
        ip_command(*inside, "add", "name", "bridge", "type", "bridge")
        ip_command(*inside, "set", "bridge", "up")
        for i, name in enumerate(self._names):
            port = f"port{i}"
            ip_command(*inside, "add", "name", port, "type", "veth",
                       "peer", "name", self.device, "netns", name)  # fmt: skip
            ip_command(*inside, "set", port, "master", "bridge", "up")
            if rate:
                limit = ("root", "tbf", "rate", rate, "burst", "64kb", "latency", "100ms")
                command = ["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", self.device]
                subprocess.run([*command, *limit], check=True, timeout=30)

    def _connect_taps(self, delay: float, loss: float) -> None:
        switch = _Switch(delay, loss)
        self._undo.callback(switch.close)
        for i, name in enumerate(self._names):
            tap = f"ucxnb{os.getpid() % 100_000}t{i}"
            switch.add_tap(tap, i)
            ip_command("link", "set", tap, "address", f"02:00:00:00:00:{i:02x}")
            ip_command("link", "set", tap, "netns", name)
            ip_command("-n", name, "link", "set", tap, "name", self.device)
        switch.start()

    def close(self) -> None:
        """Take the namespaces away, with all that is in them."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Switch:
    """Hands frames from TAP to TAP, after a while, but for some."""

    def __init__(self, delay: float, loss: float) -> None:
        self._delay = delay
        self._loss = loss
        self._taps: dict[int, int] = {}  # the last byte of an address, and its descriptor
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="switch", daemon=True)

    def add_tap(self, name: str, number: int) -> None:
        try:
            tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise NoNamespacesError(f"/dev/net/tun: {error}") from error
        self._taps[number] = tap
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH", name.encode(), _TAP | _NO_HEADER))

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        os.close(self._stopped)
        if self._thread.ident is not None:
            self._thread.join()
        for descriptor in (*self._taps.values(), self._stop):
            os.close(descriptor)

    def _carry(self) -> None:
        rng = random.Random(1)
        on_the_way: list[tuple[float, int, int, bytes]] = []
        number = 0
        while True:
            now = time.monotonic()
            while on_the_way and on_the_way[0][0] <= now:
                _, _, tap, frame = heapq.heappop(on_the_way)
                with contextlib.suppress(OSError):  # the host is just going
                    os.write(tap, frame)
            wait = on_the_way[0][0] - now if on_the_way else None
            ready, _, _ = select.select([self._stop, *self._taps.values()], [], [], wait)
            if self._stop in ready:
                return
            for tap in ready:
                with contextlib.suppress(OSError):
                    while True:
                        frame = os.read(tap, _LONGEST_FRAME)
                        if rng.random() < self._loss:
                            continue
                        for other in self._targets(tap, frame):
                            number += 1
                            due = time.monotonic() + self._delay
                            heapq.heappush(on_the_way, (due, number, other, frame))

    def _targets(self, tap: int, frame: bytes) -> list[int]:
        if frame[0] & 1:  # to all
            return [other for other in self._taps.values() if other != tap]
        other = self._taps.get(frame[5])
        return [] if other is None else [other]

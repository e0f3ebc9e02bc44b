"""Two network namespaces with a switch between them, whose cable can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Self


class NoNamespacesError(Exception):
    """This machine does not let us make them; the message says why."""


class Cable:
    """A network of two hosts, ``10.77.0.1`` and ``10.77.0.2``; nothing else is on it.

    Each host is a network namespace whose device ``wire`` leads to a bridge in a third one. While
    the bridge is down it drops every packet, and the hosts see their device up and hear nothing.

    Attributes
    ----------
    addresses : tuple of str
        Of the two hosts.
    prefixes : tuple of list of str
        What runs a command on each.
    """

    addresses = ("10.77.0.1", "10.77.0.2")
    device = "wire"

    def __init__(self) -> None:
        if shutil.which("ip") is None:
            raise NoNamespacesError("there is no `ip`: apt-get install iproute2")
        self._hosts = [f"ucxnb-{os.getpid()}-{name}" for name in ("a", "b")]
        self._switch = f"ucxnb-{os.getpid()}-switch"
        self._made: list[str] = []
        self.prefixes = tuple(["ip", "netns", "exec", host] for host in self._hosts)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def cut(self) -> None:
        """Drop all packets, both ways, from now on."""
        ip_command("-n", self._switch, "link", "set", "switch", "down")

    def mend(self) -> None:
        """Let them through again."""
        ip_command("-n", self._switch, "link", "set", "switch", "up")

    def close(self) -> None:
        """Take the namespaces away, with all that is in them."""
        while self._made:
            ip_command("netns", "delete", self._made.pop())

    def _build(self) -> None:
        for name in (self._switch, *self._hosts):
            ip_command("netns", "add", name)
            self._made.append(name)
        ip_command("-n", self._switch, "link", "add", "name", "switch", "type", "bridge")
        for number, (host, address) in enumerate(zip(self._hosts, self.addresses, strict=True)):
            port = f"port{number}"
            ip_command(
                *("-n", self._switch, "link", "add", "name", port, "type", "veth"),
                *("peer", "name", self.device, "netns", host),
            )
            ip_command("-n", self._switch, "link", "set", port, "master", "switch", "up")
            ip_command("-n", host, "address", "add", f"{address}/24", "dev", self.device)
            for device in ("lo", self.device):
                ip_command("-n", host, "link", "set", device, "up")
        self.mend()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ip_command(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise NoNamespacesError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

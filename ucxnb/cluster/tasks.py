"""What members do in the operations of a `UcxCluster`; these travel to the workers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .group import Group
from .member import Member, PartKey

__all__ = ["Call", "FromRoot", "Gather", "KeepReduced", "KeepSent"]


@dataclass(frozen=True)
class Call:
    """Call a user's function with the local `UcxWorker`."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    keep: bool

    def __call__(self, group: Group, member: Member) -> Any:
        """Call it with the local worker, and keep or give what it returns."""
        args = [member.resolve(argument) for argument in self.args]
        kwargs = {name: member.resolve(argument) for name, argument in self.kwargs.items()}
        names = _parameters(self.function)
        if names[1:2] == ["group"]:
            args.insert(0, group)
        elif "group" in names:
            kwargs["group"] = group
        result = self.function(member.worker, *args, **kwargs)
        return member.keep(group, result) if self.keep else result


@dataclass(frozen=True)
class FromRoot:
    """Broadcast or scatter what the first of a group has, and keep it."""

    scatter: bool
    root_keeps: bool

    def __call__(self, group: Group, member: Member, extra: tuple[Any] | None = None) -> None:
        """Take part; `extra` is at the root, and holds the value."""
        value: Any = None if extra is None else extra[0]
        if self.scatter:
            # The notebook has no share of its own.
            if extra is not None and not self.root_keeps:
                value = [None, *value]
            value = group.scatter(value)
        else:
            value = group.broadcast(value)
        if self.root_keeps or group.rank:
            member.keep(group, value)


@dataclass(frozen=True)
class Gather:
    """Bring parts to the first of a group."""

    part: PartKey
    root_has_one: bool

    def __call__(self, group: Group, member: Member) -> list[Any] | None:
        """Take part; all of it comes out at the first."""
        mine = None if group.rank == 0 and not self.root_has_one else member.resolve(self.part)
        values = group.gather(mine)
        if values is None or self.root_has_one:
            return values
        return values[1:]


@dataclass(frozen=True)
class KeepReduced:
    """Reduce parts, and keep the result."""

    part: PartKey
    op: Any

    def __call__(self, group: Group, member: Member) -> None:
        """Take part, and keep the result."""
        member.keep(group, group.allreduce(member.resolve(self.part), self.op))


@dataclass(frozen=True)
class KeepSent:
    """Send a part from the first of a group to the last, which keeps it."""

    part: PartKey

    def __call__(self, group: Group, member: Member) -> None:
        """Take part, as its sender or receiver, or both."""
        value = group.broadcast(member.resolve(self.part) if group.rank == 0 else None)
        if group.rank == group.size - 1:
            member.keep(group, value)


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []  # of C, and it says nothing of what it takes

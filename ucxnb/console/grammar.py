"""The command grammar: a line of text becomes a command and its arguments."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from ..text import parse_hex, parse_size, parse_tag, shortened

__all__ = ["COMMANDS", "Command", "parse_line", "usage_error"]

_HEX = "hex:"
_ID_DIGITS = 20
_WORD = 40  # characters of a wrong word that are shown


@dataclass(frozen=True)
class Command:
    """A command of the grammar.

    Attributes
    ----------
    name : str
        Its first word.
    arguments : str
        The others, as help shows them.
    summary : str
        What it does, in one line.
    parse : callable
        From the text after the name to the arguments of the session's method of that name;
        raises `ValueError` in words for the person who typed it.
    takes_endpoint : bool
        Whether its first argument is an endpoint's id.
    """

    name: str
    arguments: str
    summary: str
    parse: Callable[[str], tuple[Any, ...]]
    takes_endpoint: bool = False

    @property
    def usage(self) -> str:
        """Name and arguments."""
        return f"{self.name} {self.arguments}".rstrip()


def parse_line(line: str) -> tuple[Command, tuple[Any, ...]] | None:
    """Read one line.

    Returns
    -------
    tuple or None
        The command and its arguments; None for an empty line and for a ``#`` comment.

    Raises
    ------
    UsageError
        Unknown command, or wrong arguments; with the usage.
    """
    name, *others = line.split(maxsplit=1) or [""]
    if not name or name.startswith("#"):
        return None
    command = COMMANDS.get(name)
    if command is None:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(COMMANDS)}"
        raise UsageError(f"{shortened(name, _WORD)!r} is no command: {hint}")
    try:
        return command, command.parse("".join(others).strip())
    except ValueError as error:
        raise usage_error(command, str(error)) from None


def usage_error(command: Command, problem: str) -> UsageError:
    """Make the error for wrong arguments."""
    return UsageError(f"{problem}\nusage: {command.usage}", command.usage)


def _nothing(rest: str) -> tuple[()]:
    if rest:
        raise ValueError(f"it takes no arguments, and got {shortened(rest, _WORD)!r}")
    return ()


def _words(rest: str, least: int, most: int) -> list[str]:
    words = rest.split()
    if not least <= len(words) <= most:
        wanted = f"{least} to {most}" if least else f"at most {most}"
        wanted = str(most) if least == most else wanted
        raise ValueError(f"it takes {wanted} argument{'' if most == 1 else 's'}, not {len(words)}")
    return words


def _address(rest: str) -> tuple[str]:
    (address,) = _words(rest, 1, 1)
    return (address,)


def _endpoint_id(word: str) -> int:
    if not word.isdecimal() or len(word) > _ID_DIGITS:
        raise ValueError(f"{shortened(word, _WORD)!r} is no endpoint id: `endpoints` lists them")
    return int(word)


def _one_id(rest: str) -> tuple[int]:
    (word,) = _words(rest, 1, 1)
    return (_endpoint_id(word),)


def _payload(text: str) -> bytes:
    if text.startswith(_HEX):
        return parse_hex(text[len(_HEX) :])
    if not text:
        raise ValueError('there is no message: write "" for an empty one')
    if len(text) > 1 and text[0] in "'\"" and text.find(text[0], 1) == len(text) - 1:
        text = text[1:-1]
    return text.encode("utf-8", "surrogateescape")


def _send(rest: str) -> tuple[int, int, bytes]:
    words = rest.split(maxsplit=2)
    if len(words) < 2:
        raise ValueError("it takes an endpoint id, a tag and a message")
    return _endpoint_id(words[0]), parse_tag(words[1]), _payload("".join(words[2:]))


def _broadcast(rest: str) -> tuple[int, bytes]:
    words = rest.split(maxsplit=1)
    if not words:
        raise ValueError("it takes a tag and a message")
    return parse_tag(words[0]), _payload("".join(words[1:]))


def _receive(rest: str) -> tuple[int | None, int, float | None]:
    source, tag, *timeout = _words(rest, 2, 3)
    seconds = None
    if timeout:
        try:
            seconds = float(timeout[0])
        except ValueError:
            seconds = -1.0
        if not seconds >= 0:
            word = shortened(timeout[0], _WORD)
            raise ValueError(f"{word!r} is no timeout: write seconds, as in 2.5")
    return None if source == "any" else _endpoint_id(source), parse_tag(tag), seconds


def _benchmark(rest: str) -> tuple[int | None, tuple[int, ...]]:
    words = rest.split()
    endpoint_id = _endpoint_id(words.pop(0)) if words and words[0].isdecimal() else None
    return endpoint_id, tuple(parse_size(size) for word in words for size in word.split(","))


def _help(rest: str) -> tuple[str | None]:
    words = _words(rest, 0, 1)
    if words and words[0] not in COMMANDS:
        raise ValueError(f"{shortened(words[0], _WORD)!r} is no command")
    return (words[0] if words else None,)


COMMANDS = {
    command.name: command
    for command in (
        Command("connect", "<host:port>", "connect to a listening worker", _address),
        Command("listen", "<host:port>", "accept peers; port 0 takes a free one", _address),
        Command("disconnect", "<id>", "close a connection in order", _one_id, True),
        Command("endpoints", "", "list the connections, and what UCX chose for each", _nothing),
        Command(
            "send",
            "<id> <tag> <message>",
            "send text ('quoted' keeps spaces around it), or bytes as in hex:48656c",
            _send,
            True,
        ),
        Command(
            "receive",
            "<id|any> <tag> [timeout]",
            "wait for a message, 10 seconds if no timeout is given",
            _receive,
            True,
        ),
        Command("broadcast", "<tag> <message>", "send to every connection", _broadcast),
        Command("stats", "", "show the worker's counters", _nothing),
        Command(
            "benchmark",
            "[id] [sizes]",
            "measure a peer that echoes or takes part; sizes as in 8B,1KiB,1MiB",
            _benchmark,
            True,
        ),
        Command("config", "", "show the worker's settings", _nothing),
        Command("help", "[command]", "explain the commands, or one", _help),
        Command("quit", "", "close everything and leave", _nothing),
    )
}

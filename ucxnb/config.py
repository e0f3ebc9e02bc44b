"""`WorkerConfig`: everything a worker can be told before it starts."""

from __future__ import annotations

import difflib
import enum
import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .auth_key import AuthKey
from .errors import ConfigError
from .text import shown

__all__ = ["ThreadMode", "WorkerConfig"]


class ThreadMode(enum.Enum):
    """How many of your threads may be inside the worker at the same moment."""

    SINGLE = "single"
    """One; a second one gets a `ThreadModeError`."""

    MULTI = "multi"
    """Any number."""


class _Options(Mapping[str, str]):
    """A mapping that cannot change, so that a config can be hashed, and can be pickled."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """Settings of a `UcxWorker`: immutable, checked when made.

    Parameters
    ----------
    thread_mode : ThreadMode
        `ThreadMode.SINGLE` or `ThreadMode.MULTI`. The toolkit's own threads (progress, panels,
        dashboard) do not count.
    buffer_size : int
        Size that your receive buffers should have, bytes. The worker does not allocate it.
    enable_tag, enable_stream, enable_rma : bool
        UCX features to switch on (``UCP_FEATURE_TAG``, ``_STREAM``, ``_RMA`` with atomics).
    progress_interval_us : int
        How long the background thread leaves the worker alone, microseconds, after it saw one of
        your threads drive it; if they go on, longer and longer, up to about a millisecond.
    tag_scope : {"endpoint", "worker"}
        With ``"endpoint"`` a receive names the endpoint it takes from, and tags have 40 bits.
        With ``"worker"`` a tag goes over the wire as it is, all 64 bits, and a receive takes from
        anyone.
    name : str
        What peers are told about you; empty for a name made of the host name and process id.
    auth_key : str or bytes, optional
        A secret of 16 to 1,024 bytes. Only workers with the same one let each other in; nothing is
        encrypted by it. None takes the one in the environment variable ``UCXNB_AUTH_KEY`` when a
        worker is made, if there is one. Kept as an `AuthKey`, which never shows it; a config that
        holds one cannot be pickled.
    ucx_options : mapping of str to str
        UCX settings without their ``UCX_`` prefix, as in ``{"TLS": "tcp,self"}``. They win over
        ``UCX_*`` environment variables, and both win over ucxnb's own: ``MM_ERROR_HANDLING=y``,
        ``TCP_CONN_NB=y``, ``TCP_TX_SEG_SIZE`` and ``TCP_RX_SEG_SIZE`` of ``512k``.
    max_unexpected_bytes : int or None
        Memory that messages may take which have arrived and were not received, bytes, for all
        connections of the worker together; None is no limit. What goes beyond it waits at the
        sender: its sends wait there, in order, until you receive. Half of it is shared equally
        among the connections, 64 KiB at least for each. A message counts with its size and what
        UCX needs to keep it: 384 bytes up to 56 bytes, else 8 KiB; bytes of a stream count as they
        are. One of 1 MiB or more stays with
        its sender until you receive it (rendezvous), and counts 8 KiB; if you set UCX's
        ``RNDV_THRESH`` higher, it comes at once, and more memory may be taken than this says. If
        you wait for a message that was sent after others, and those fill the share, it does not
        come before you have received some of them. Not with ``tag_scope="worker"``, where nobody
        can tell who sent what was received. The default fits into a machine of 2 GB.
    unpickle_from_anyone : bool
        Whether `UcxWorker.receive_object` takes objects from peers that did not prove to have
        `auth_key`. Making an object runs code that its sender chose.
    connect_timeout : float or None
        Default limit of `UcxWorker.connect`, seconds.
    handshake_timeout : float
        How long a peer that connects to a listener may take to say who it is, seconds.
    close_timeout : float
        How long `disconnect` and `close` wait for what was sent to leave, seconds.
    heartbeat_interval : float
        A sign of life is sent to each peer this often, seconds; a peer silent for three times as
        long counts as unresponsive.
    heartbeat_timeout : float or None
        A peer silent for this long counts as lost, seconds; None never gives up on it.
    history_interval : float
        Time between two samples of `UcxWorker.history`, seconds.
    history_length : int
        Number of samples kept.

    Raises
    ------
    ConfigError
        Names the field, what it got and what it takes.
    """

    thread_mode: ThreadMode = ThreadMode.SINGLE
    buffer_size: int = 64 * 1024
    enable_tag: bool = True
    enable_stream: bool = True
    enable_rma: bool = False
    progress_interval_us: int = 100
    tag_scope: str = "endpoint"
    name: str = ""
    auth_key: AuthKey | str | bytes | None = None
    ucx_options: Mapping[str, str] = field(default_factory=dict)
    max_unexpected_bytes: int | None = 1024**3
    unpickle_from_anyone: bool = False
    connect_timeout: float | None = 10.0
    handshake_timeout: float = 5.0
    close_timeout: float = 5.0
    heartbeat_interval: float = 2.0
    heartbeat_timeout: float | None = 60.0
    history_interval: float = 1.0
    history_length: int = 600

    def __post_init__(self) -> None:
        if not isinstance(self.thread_mode, ThreadMode):
            raise _wrong("thread_mode", self.thread_mode, "ThreadMode.SINGLE or ThreadMode.MULTI")
        for name in ("enable_tag", "enable_stream", "enable_rma", "unpickle_from_anyone"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "True or False")
        for name, low, high, optional in _INTEGERS:
            number = getattr(self, name)
            if not (optional and number is None):
                _check_number(name, number, int, low, high, optional=optional)
        for name, least, most, optional in _SECONDS:
            seconds = getattr(self, name)
            if not (optional and seconds is None):
                _check_number(name, seconds, (int, float), least, most, optional=optional)
        if not isinstance(self.tag_scope, str) or self.tag_scope not in ("endpoint", "worker"):
            raise _wrong("tag_scope", self.tag_scope, '"endpoint" or "worker"')
        if not isinstance(self.name, str) or len(self.name) > 200 or not _printable(self.name):
            raise _wrong("name", self.name, "a printable text of at most 200 characters")
        if self.heartbeat_timeout is not None and self.heartbeat_timeout <= self.heartbeat_interval:
            raise _wrong(
                "heartbeat_timeout", self.heartbeat_timeout, "None, or more than heartbeat_interval"
            )
        if not (self.enable_tag or self.enable_stream or self.enable_rma):
            raise ConfigError(
                "enable_tag, enable_stream and enable_rma are all False: a worker needs one of them"
            )
        if self.auth_key is not None:
            object.__setattr__(self, "auth_key", AuthKey(self.auth_key))
        object.__setattr__(self, "ucx_options", _checked_options(self.ucx_options))

    @property
    def features(self) -> tuple[str, ...]:
        """What is switched on, of ``"tag"``, ``"stream"`` and ``"rma"``."""
        return tuple(name for name in ("tag", "stream", "rma") if getattr(self, f"enable_{name}"))

    def shown(self) -> list[tuple[str, str]]:
        """Give each field's name and value as text, for people.

        Returns
        -------
        list of tuple of str
        """
        return [(f.name, _as_text(getattr(self, f.name))) for f in fields(self)]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self.shown()
        )
        return f"<table><caption>WorkerConfig</caption>{rows}</table>"

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> WorkerConfig:
        """Make a config from names and values.

        Parameters
        ----------
        values : mapping of str to object
            Field names and their values.

        Returns
        -------
        WorkerConfig

        Raises
        ------
        ConfigError
            Also for a name that is no field, with the closest one that is.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{shown(values)} is no mapping of field names to values")
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1) if isinstance(name, str) else []
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
                raise ConfigError(f"WorkerConfig has no field {shown(name)}: {hint}")
        return cls(**values)

    def replace(self, **changes: Any) -> WorkerConfig:
        """Return a copy with some fields changed.

        Parameters
        ----------
        **changes
            Field names and their values; an unknown name is a `ConfigError`.

        Returns
        -------
        WorkerConfig
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return self.from_values({**values, **changes})


_INTEGERS = (
    ("buffer_size", 1, 2**40, False),
    ("progress_interval_us", 1, 1_000_000, False),
    ("max_unexpected_bytes", 64 * 1024, 2**50, True),
    ("history_length", 2, 1_000_000, False),
)
_SECONDS = (
    ("connect_timeout", 0.001, 86400, True),
    ("handshake_timeout", 0.001, 3600, False),
    ("close_timeout", 0.0, 3600, False),
    ("heartbeat_interval", 0.01, 3600, False),
    ("heartbeat_timeout", 0.02, 86400, True),
    ("history_interval", 0.01, 86400, False),
)
_OPTION_NAME = re.compile(r"[A-Z][A-Z0-9_]*\Z")
_SEGMENT_NAME = re.compile(r"(POSIX|SYSV|XPMEM|MM)_SEG_SIZE$")
_LARGEST_SEGMENT = 65535


def _as_text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={setting}" for name, setting in value.items()) or "none"
    if isinstance(value, AuthKey):
        return "set"
    if isinstance(value, ThreadMode):
        return value.name
    return f"{value:,}" if type(value) is int else str(value)


def _wrong(name: str, value: object, takes: str) -> ConfigError:
    return ConfigError(f"{name}={shown(value)}: it takes {takes}")


def _printable(text: str) -> bool:
    return text.isprintable()


def _check_number(
    name: str,
    value: Any,
    types: type[int] | tuple[type[int], type[float]],
    low: float,
    high: float,
    *,
    optional: bool = False,
) -> None:
    kind = "an integer" if types is int else "a number of seconds"
    none = "None or " if optional else ""
    if isinstance(value, bool) or not isinstance(value, types) or not low <= value <= high:
        raise _wrong(name, value, f"{none}{kind} from {low} to {high}")


def _checked_options(options: object) -> Mapping[str, str]:
    if not isinstance(options, Mapping):
        raise _wrong("ucx_options", options, 'a mapping such as {"TLS": "tcp,self"}')
    for key, value in options.items():
        if not isinstance(key, str) or not _OPTION_NAME.match(key):
            raise ConfigError(
                f"ucx_options: {shown(key)} is no UCX setting; write its name in capitals, as in "
                '{"TLS": "tcp,self"}'
            )
        if key.startswith("UCX_"):
            raise ConfigError(f"ucx_options: write {key[4:]!r} instead of {key!r}")
        if not isinstance(value, str) or not _printable(value):
            raise ConfigError(
                f"ucx_options: the value of {key!r} is a text of printable characters, not "
                f"{shown(value)}"
            )
        if _SEGMENT_NAME.match(key) and _number_of_bytes(value) > _LARGEST_SEGMENT:
            raise ConfigError(
                f"ucx_options: {key}={shown(value)}: UCX would lose messages, since it counts the "
                f"bytes of a segment with 16 bits; {_LARGEST_SEGMENT} is the largest"
            )
    return _Options(options)


def _number_of_bytes(value: str) -> int:
    match = re.fullmatch(r"(\d+)([kmg]?)b?", value.strip().lower())
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2]] if match else 0

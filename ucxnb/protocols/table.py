"""UCX's protocol tables as values: which protocol each operation takes for each message size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .estimates import Estimate

__all__ = ["Lane", "Printed", "ProtocolRange", "read_printed"]

_PREFIX = re.compile(r"^(?:#|\[[^\]]*\]\s+\[[^\]]*\])")
_BORDER = re.compile(r"^[+-]+$")
_SIZE = r"\d+[KMGTPE]?"
_RANGE = re.compile(rf"^({_SIZE})(?:\.\.({_SIZE}|inf))?$")
_LANE = re.compile(r"^lane\[(\d+)\]:\s+(?:\d+:)?(\S+?)(?:\.\d+)? (.*)$")
_NO_USE = re.compile(r"\bseg \d+|\S*[\[/]\S*|<?->")
_SILENT = re.compile(
    r"^(UCP endpoint|UCP worker '.*'|(peer|address|atomics): .*|<failed to get address>)?$"
)
_OPERATION = re.compile(
    r"^(?P<what>.+?)(?:\((?P<variant>[^)]*)\))? (?P<way>from|into|of) (?P<memory>\S+)"
    r"(?P<known> memory)?(?P<rest>.*)$"
)
_FAR = re.compile(r"^ (?:to|from|with) (\S+)")
_OPERATIONS = {
    "tagged message by ucp_tag_send*": "tag",
    "synchronous tagged message by ucp_tag_send_sync*": "tag sync",
    "active message by ucp_am_send*": "am",
    "active message by ucp_am_send* with reply flag": "am reply",
    "stream message by ucp_stream_send*": "stream",
    "remote memory write by ucp_put*": "put",
    "remote memory read by ucp_get*": "get",
    "fetching atomic by ucp_atomic_op*": "atomic fetch",
    "atomic compare-and-swap by ucp_atomic_op*": "atomic swap",
    "rendezvous data send": "rndv send",
    "rendezvous data fetch": "rndv fetch",
    "rendezvous data drop": "rndv drop",
}
_POSTED = "posted atomic by ucp_atomic_op*"  # names no memory
_HEAD = {"range", "description", "config", "count"}
_FACTORS = {unit: 1 << 10 * i for i, unit in enumerate("KMGTPE", 1)}


@dataclass(frozen=True, slots=True)
class Lane:
    """One of the transports of an endpoint, with what UCX uses it for.

    Attributes
    ----------
    index : int
        Its number.
    transport : str
        As ``"transport/device"``.
    uses : tuple of str
        As UCX names them: ``"am"`` (messages), ``"rma"``, ``"keepalive"``, ``"wireup"``.
    line : str
        What UCX printed.
    """

    index: int
    transport: str
    uses: tuple[str, ...]
    line: str


@dataclass(frozen=True, slots=True)
class ProtocolRange:
    """The protocol of one operation for a range of message sizes.

    Attributes
    ----------
    operation : str
        ``"tag"``, ``"stream"``, ``"put"``, ``"get"``, ``"rndv fetch"``; of an operation that is
        not known here, UCX's own words.
    variant : str
        Flags of the call, ``"multi"``, ``"fast-completion"``; empty for the calls ucxnb makes.
    memory : str
        Where the buffer lies: ``"host"``, ``"cuda"``.
    far_memory : str
        Where the peer's lies, of one-sided operations and rendezvous; else empty.
    first : int
        The smallest size, bytes.
    last : int or None
        The largest one, bytes; None if there is no end.
    protocol : str
        In UCX's words, as ``"eager copy-in copy-out"``.
    assumed : bool
        Whether it depends on what the peer will choose, so that UCX marks it ``(?)``.
    lane : str
        The transports it goes over, as ``"tcp/lo"``.
    count : int or None
        How many messages took it, where UCX tells (``UCX_PROTO_INFO=used``).
    probed : bool
        Whether it was seen of two new processes with the same settings, not of this connection.
    estimates : tuple of Estimate
        What UCX expects it to take, and what else it could have chosen; empty if it did not tell.
    """

    operation: str
    variant: str
    memory: str
    far_memory: str
    first: int
    last: int | None
    protocol: str
    assumed: bool
    lane: str
    count: int | None = None
    probed: bool = False
    estimates: tuple[Estimate, ...] = ()

    def holds(self, nbytes: int) -> bool:
        """Tell whether messages of one size take it.

        Parameters
        ----------
        nbytes : int
            The size.

        Returns
        -------
        bool
        """
        return self.first <= nbytes and (self.last is None or nbytes <= self.last)

    def expected(self, nbytes: int) -> float | None:
        """Give the time that UCX expects of a message.

        Parameters
        ----------
        nbytes : int
            Its size.

        Returns
        -------
        float or None
            Seconds; None if UCX did not tell.
        """
        for estimate in self.estimates:
            if estimate.first <= nbytes and (estimate.last is None or nbytes <= estimate.last):
                return estimate.chosen.time_of(nbytes)
        return None

    @property
    def sizes(self) -> str:
        """Its range as UCX writes it: ``"0..92"``, ``"256K..inf"``."""
        first = _written(self.first)
        if self.last == self.first:
            return first
        return f"{first}..{'inf' if self.last is None else _written(self.last)}"

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Operation, variant and both memories: what a table of UCX's is of."""
        return self.operation, self.variant, self.memory, self.far_memory


@dataclass(slots=True)
class Printed:
    """What was read of a text that UCX printed.

    Attributes
    ----------
    lanes : list of Lane
        Those of the endpoint.
    tables : dict of str to list of ProtocolRange
        By the name of the endpoint configuration.
    unknown : list of str
        Lines that are none of what is known here, as they were.
    """

    lanes: list[Lane] = field(default_factory=list)
    tables: dict[str, list[ProtocolRange]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def read_printed(text: str) -> Printed:
    """Read what ``ucp_ep_print_info`` and ``ucp_worker_print_info`` write, or ``UCX_PROTO_INFO``.

    UCX 1.19 to 1.22 are known. A line that is not understood stays in `Printed.unknown`; nothing
    is guessed from it.

    Parameters
    ----------
    text : str
        Whole lines, with or without ``#`` or the time before each.

    Returns
    -------
    Printed
    """
    found = Printed()
    lines = [(line, _PREFIX.sub("", line, count=1).strip()) for line in text.splitlines()]
    box: list[tuple[str, list[str]]] = []
    foreign = False
    for original, line in lines:
        if line.startswith("|") and line.endswith("|"):
            box.append((original, [cell.strip() for cell in line[1:-1].split("|")]))
        elif _BORDER.match(line) and box:
            continue
        else:
            _read_box(box, found, foreign)
            box = []
            # Endpoints of UCX's own, to memory of another kind, come after that of the worker.
            foreign = foreign or line.startswith("UCP endpoint for ")
            if foreign or _BORDER.match(line) or _SILENT.match(line):
                continue
            if lane := _LANE.match(line):
                found.lanes.append(_lane(lane))
            else:
                found.unknown.append(original)
    _read_box(box, found, foreign)
    return found


def _lane(match: re.Match[str]) -> Lane:
    uses = _NO_USE.sub(" ", match[3]).split()
    return Lane(int(match[1]), match[2], tuple(uses), match[0])


def _read_box(box: list[tuple[str, list[str]]], found: Printed, foreign: bool) -> None:
    """Read the tables between two lines that belong to none: the next one begins with a title."""
    if foreign:
        return
    for title, rows in _tables(box):
        names = [cell for _, cells in title for cell in cells]
        place = _place(names[1]) if len(names) == 2 else None
        ranges = [] if place is None else [_range(place, cells) for _, cells in rows]
        if place is None or None in ranges:
            bad = [line for line, _ in (*title, *rows)]
            found.unknown += bad
            continue
        table = found.tables.setdefault(names[0], [])
        # A table is printed once for each kind of remote memory, equal ones too.
        table += [new for new in ranges if new is not None and new not in table]


def _tables(
    box: Iterable[tuple[str, list[str]]],
) -> Iterator[tuple[list[tuple[str, list[str]]], list[tuple[str, list[str]]]]]:
    title: list[tuple[str, list[str]]] = []
    rows: list[tuple[str, list[str]]] = []
    for line in box:
        cells = line[1]
        if {cell.lower() for cell in cells} <= _HEAD:
            continue
        if len(cells) < 3:
            if rows:
                yield title, rows
                title, rows = [], []
            title.append(line)
        else:
            rows.append(line)
    if title or rows:
        yield title, rows


def _place(words: str) -> tuple[str, str, str, str] | None:
    """Read what a table is of."""
    if words.startswith(_POSTED):
        return "atomic post", "", "", ""
    match = _OPERATION.match(words)
    if match is None:
        return None
    what = match["what"].strip()
    far = _FAR.match(match["rest"])
    return (
        _OPERATIONS.get(what, what),
        match["variant"] or "",
        match["memory"].partition("/")[0],
        far[1].partition("/")[0] if far else "",
    )


def _range(place: tuple[str, str, str, str], cells: list[str]) -> ProtocolRange | None:
    count = None
    if len(cells) == 4 and cells[0].isdigit():
        count, cells = int(cells[0]), cells[1:]
    sizes = _RANGE.match(cells[0]) if len(cells) == 3 else None
    if sizes is None:
        return None
    first = _read(sizes[1])
    last = first if sizes[2] is None else None if sizes[2] == "inf" else _read(sizes[2])
    protocol = cells[1].removeprefix("(?)").strip()
    return ProtocolRange(*place, first, last, protocol, protocol != cells[1], cells[2], count)


def _read(size: str) -> int:
    return int(size) if size.isdigit() else int(size[:-1]) * _FACTORS[size[-1]]


def _written(size: int) -> str:
    unit = ""
    for name in _FACTORS:
        if size < 1024 or size % 1024:
            break
        size, unit = size // 1024, name
    return f"{size}{unit}"

"""Who is connected to whom, over which transport."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from bokeh.models import ColumnDataSource, Range1d

from ..endpoint_info import EndpointState
from ..events import EventKind
from ..text import shortened
from ..transports import family_of
from .moment import Moment
from .plots import add_hover, new_plot
from .table import Table
from .units import human_bytes, human_rate

__all__ = ["EndpointMap"]

_NAME = 20  # characters under a node
_MOST_PEERS = 64  # that are drawn; the others are counted
_ONE_RING = 16  # peers
_LOST_SHOWN = 10.0  # seconds
_EDGE_NUMBERS = ("x0", "y0", "x1", "y1", "width", "x", "y")
_EDGE_TEXTS = ("paint", "dash", "ends", "via", "transports", "state", "traffic")
_NODE_NUMBERS = ("x", "y", "size", "label_offset")
_NODE_TEXTS = ("paint", "label", "name", "about")
# Paints, and what the key says; dashes tell families apart where colours cannot.
_FAMILIES = {
    "shm": ("shared memory", "solid"),
    "tcp": ("TCP", "12 3"),
    "rdma": ("RDMA", "6 3"),
    "gpu": ("GPU", "2 3"),
    "muted": ("one process, or unknown", "8 3 2 3"),
}


@dataclass(slots=True)
class _Edge:
    """What is between two nodes."""

    connections: int = 0
    transports: dict[str, None] = field(default_factory=dict)
    bytes_per_second: float = 0.0
    messages_per_second: float = 0.0
    unresponsive: bool = False
    lost: bool = False

    def texts(self) -> dict[str, str]:
        paint = family_of(self.transports)
        state = "lost" if self.lost else "unresponsive" if self.unresponsive else "open"
        bad = {"lost": "bad", "unresponsive": "doubt"}.get(state)
        count = "" if self.connections < 2 else f"{self.connections} connections, "
        rates = f"{human_bytes(self.bytes_per_second)}/s, {human_rate(self.messages_per_second)}"
        return {
            "paint": bad or paint,
            "dash": "3 3" if bad else _FAMILIES[paint][1],
            "transports": ", ".join(self.transports) or "none any more",
            "state": f"{count}{state}",
            "traffic": rates,
        }


class EndpointMap:
    """Picture of the workers that are watched, and of all that they are connected to.

    A line's width grows with its traffic; its colour and dashes say which kind of transport UCX
    chose. Both ends of a connection between two workers that are watched are one line. A node
    stays where it is for as long as no other comes or goes.

    Parameters
    ----------
    series, nodes : Table, optional
        Figures that another one like it is given; else its own.

    Attributes
    ----------
    name, source, root
        As of `TimePlot`; the source is that of the lines.
    series : Table
        The lines.
    nodes : Table
        The nodes.
    """

    def __init__(self, series: Table | None = None, nodes: Table | None = None) -> None:
        self.name = "edges"
        self.series = Table(_EDGE_NUMBERS, _EDGE_TEXTS) if series is None else series
        self.nodes = Table(_NODE_NUMBERS, _NODE_TEXTS) if nodes is None else nodes
        self._lost: dict[tuple[str, str], float] = {}
        self.source = _source("edges", self.series)
        node_source = _source("nodes", self.nodes)
        self.root = new_plot(
            "map", "Who is connected to whom", 210, x_range=_range(1.5), y_range=_range(1.3)
        )
        self.root.axis.visible = False
        self.root.grid.visible = False
        lines = self.root.segment(
            "x0",
            "y0",
            "x1",
            "y1",
            source=self.source,
            line_color="color",
            line_width="width",
            line_dash="dash",
        )
        points = self.root.scatter(
            "x", "y", source=node_source, size="size", fill_color="color", line_color="color"
        )
        self.root.text(
            "x",
            "y",
            text="via",
            source=self.source,
            text_font_size="10px",
            text_align="center",
            text_baseline="bottom",
            y_offset=-5,
            name="muted",
        )
        self.root.text(
            "x",
            "y",
            text="label",
            source=node_source,
            text_font_size="11px",
            text_align="center",
            y_offset="label_offset",
            text_baseline="top",
            name="text",
        )
        labels = ("ends", "transports", "traffic", "state")
        add_hover(self.root, lines, [(label, label, ()) for label in labels], mode="mouse")
        add_hover(self.root, points, [("name", "name", ()), ("", "about", ())], mode="mouse")

    def update(self, moment: Moment) -> None:
        """Draw the connections of a moment."""
        names = [snapshot.name for snapshot in moment.later]
        edges = self._edges(moment, names)
        peers = list(dict.fromkeys(b for _, b in edges if b not in names))
        hidden = set(peers[_MOST_PEERS:])
        places = _places(names, peers[:_MOST_PEERS])
        shown = {ends: e for ends, e in edges.items() if ends[1] not in hidden}
        rows: list[dict[str, Any]] = [
            {
                "x0": places[a][0],
                "y0": places[a][1],
                "x1": places[b][0],
                "y1": places[b][1],
                "width": _width(edge.bytes_per_second),
                "x": 0.45 * places[a][0] + 0.55 * places[b][0],
                "y": 0.45 * places[a][1] + 0.55 * places[b][1],
                "via": _names(edge.transports) if len(shown) <= _ONE_RING else "",
                "ends": f"{a} and {b}",
                **edge.texts(),
            }
            for (a, b), edge in shown.items()
        ]
        self.series.replace(**{c: [row[c] for row in rows] for c in self.series.columns})
        more = f" ({len(hidden)} more peers)" if hidden else ""
        ended = {snapshot.name for snapshot in moment.later if snapshot.closed}
        self.nodes.replace(
            x=[x for x, _ in places.values()],
            y=[y for _, y in places.values()],
            size=[16.0 if name in names else 10.0 for name in places],
            # Below its node, or above where lines come from below.
            label_offset=[-21.0 if y > 0.3 else 9.0 for _, y in places.values()],
            paint=[
                "muted" if name in ended else "node" if name in names else "peer" for name in places
            ],
            label=[shortened(name, _NAME) for name in places],
            name=[shortened(name, 120) for name in places],
            about=[
                "closed" if name in ended else f"watched{more}" if name in names else "peer"
                for name in places
            ],
        )

    def _edges(self, moment: Moment, names: list[str]) -> dict[tuple[str, str], _Edge]:
        edges: dict[tuple[str, str], _Edge] = {}
        for i, (then, now) in enumerate(zip(moment.earlier, moment.later, strict=True)):
            before = {endpoint.endpoint_id: endpoint.stats for endpoint in then.endpoints}
            for endpoint in now.endpoints:
                peer = endpoint.peer_name or endpoint.peer_address
                # The other end of a connection between two that are watched tells the same.
                if peer in names and names.index(peer) < i and (peer, now.name) in edges:
                    continue
                edge = edges.setdefault((now.name, peer), _Edge())
                edge.connections += 1
                edge.transports.update(dict.fromkeys(endpoint.transports))
                edge.unresponsive |= endpoint.state is EndpointState.UNRESPONSIVE
                if endpoint.endpoint_id in before:
                    rates = endpoint.stats.since(before[endpoint.endpoint_id])
                    edge.bytes_per_second += rates.bytes_sent + rates.bytes_received
                    edge.messages_per_second += rates.message_rate()
        for name, event in moment.events:
            if event.kind is EventKind.LOST:
                self._lost[name, event.peer] = event.time
        for ends, time in list(self._lost.items()):
            if time < moment.time - _LOST_SHOWN or ends in edges:
                del self._lost[ends]
            elif ends[::-1] not in edges:
                edges[ends] = _Edge(lost=True)
        return edges


def _source(name: str, table: Table) -> ColumnDataSource:
    return ColumnDataSource({column: [] for column in (*table.columns, "color")}, name=name)


def _range(far: float) -> Range1d:
    return Range1d(start=-far, end=far)


def _names(transports: dict[str, None]) -> str:
    """The transports without their devices."""
    return ", ".join(dict.fromkeys(transport.partition("/")[0] for transport in transports))


def _width(bytes_per_second: float) -> float:
    """1.5 for nothing, and one more for every factor of 10 above 1 kB/s."""
    return 1.5 + min(8.0, max(0.0, math.log10(max(1.0, bytes_per_second)) - 2))


def _places(names: list[str], peers: list[str]) -> dict[str, tuple[float, float]]:
    """Put one worker in the middle, or several on a ring, and their peers around them."""
    places = {}
    ring = 0.0 if len(names) == 1 else 0.5 if peers else 1.0
    turn = 0.5 if len(names) == 2 else 0.25  # two beside each other: text fits below
    for i, name in enumerate(names):
        places[name] = _on_ring(i, len(names), ring, turn)
    for i, peer in enumerate(peers):
        far = 1.1 if len(peers) > _ONE_RING and i % 2 else 0.8 if len(peers) > _ONE_RING else 1.0
        places[peer] = _on_ring(i, len(peers), far, 0.25 if len(names) == 2 else 0.0)
    return places


def _on_ring(i: int, count: int, radius: float, turn: float) -> tuple[float, float]:
    angle = 2 * math.pi * (i / count + turn)
    return radius * math.cos(angle), radius * math.sin(angle)

"""The table of connections as HTML."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dashboard.units import human_bytes, human_count
from ..text import safe_html

if TYPE_CHECKING:
    from ..endpoint_info import EndpointInfo

__all__ = ["endpoint_table"]

_MOST_OPEN = 50
_MOST_ENDED = 3
_COLUMNS = ("Id", "Peer", "State", "Transport", "Sent", "Received", "Unreceived")


def endpoint_table(endpoints: Sequence[EndpointInfo], ended: Sequence[EndpointInfo]) -> str:
    """Render the open endpoints, and the last few that ended, with everything escaped.

    Parameters
    ----------
    endpoints, ended : sequence of EndpointInfo
        Oldest first.

    Returns
    -------
    str
        HTML of bounded size.
    """
    if not endpoints and not ended:
        return (
            '<div class="ucxnb-empty">No connection yet. Connect to a peer, or listen and let one '
            "connect to you.</div>"
        )
    shown = [*endpoints[:_MOST_OPEN], *ended[-_MOST_ENDED:]]
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    body = "".join(_row(info) for info in shown)
    more = len(endpoints) - _MOST_OPEN
    note = f'<div class="ucxnb-empty">and {more:,} more</div>' if more > 0 else ""
    return (
        f'<div class="ucxnb-table-box"><table class="ucxnb-table" aria-label="Connections">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}"
    )


def _row(info: EndpointInfo) -> str:
    state = info.state.value
    since = time.strftime("%H:%M:%S", time.localtime(info.since))
    stats = info.stats
    cells = (
        (str(info.endpoint_id), ""),
        (info.peer_name or "unnamed", f"{info.peer_address}, {info.direction}"),
        (state, info.reason or _held(stats.sends_held) or f"since {since}"),
        (", ".join(info.transports) or "not known yet", ""),
        (human_bytes(stats.bytes_sent), _messages(stats.messages_sent)),
        (human_bytes(stats.bytes_received), _messages(stats.messages_received)),
        (human_bytes(stats.unreceived_bytes), _messages(stats.unreceived_messages)),
    )
    columns = "".join(
        f'<td data-label="{name}" data-column="{name.lower()}">'
        f'<span class="ucxnb-first">{safe_html(first, 60)}</span>'
        + (f'<span class="ucxnb-second">{safe_html(second, 160)}</span>' if second else "")
        + "</td>"
        for name, (first, second) in zip(_COLUMNS, cells, strict=True)
    )
    return f'<tr data-state="{safe_html(state)}">{columns}</tr>'


def _held(sends: int) -> str:
    return f"{human_count(sends)} held: it receives too slowly" if sends else ""


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{human_count(count)} messages"

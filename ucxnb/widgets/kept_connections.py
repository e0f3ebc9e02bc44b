"""What the connections do that are made again when they are lost, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..text import safe_html

if TYPE_CHECKING:
    from ..reconnect import KeptConnection

__all__ = ["kept_connections"]

_MOST = 10


def kept_connections(kept: Sequence[KeptConnection]) -> str:
    """Render a line for each, with its latest loss, everything escaped.

    Parameters
    ----------
    kept : sequence of KeptConnection
        Oldest first.

    Returns
    -------
    str
        HTML of bounded size; empty if there is none.
    """
    return "".join(_line(link) for link in kept[:_MOST])


def _line(link: KeptConnection) -> str:
    losses = link.losses
    last = f"<br>Lost before: {safe_html(str(losses[-1]), 300)}" if losses else ""
    return (
        f'<div class="ucxnb-empty" role="status">Kept connection to {safe_html(link.address, 80)}: '
        f"{safe_html(link.status, 200)}{last}</div>"
    )

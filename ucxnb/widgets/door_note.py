"""What a worker's listeners let in and keep out, as HTML."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dashboard.units import human_count
from ..text import safe_html

if TYPE_CHECKING:
    from ..frontdoor import Listener
    from ..refusals import Refusals

__all__ = ["door_note"]

_MOST_WARNINGS = 3


def door_note(listeners: Sequence[Listener], refusals: Refusals) -> str:
    """Render the listeners that anyone may connect to, and who was refused.

    Parameters
    ----------
    listeners : sequence of Listener
        Those that are open.
    refusals : Refusals
        Their number is shown, and the latest with its reason.

    Returns
    -------
    str
        HTML of bounded size, with everything escaped; empty if there is nothing to say.
    """
    warnings = [listener.warning for listener in listeners if listener.warning]
    lines = [_line(f"Warning: {warning}", "warning") for warning in warnings[:_MOST_WARNINGS]]
    if refusals.count:
        last = refusals.latest[-1]
        at = time.strftime("%H:%M:%S", time.localtime(last.time))
        count = "1 peer" if refusals.count == 1 else f"{human_count(refusals.count)} peers"
        lines.append(
            _line(
                f"{count} refused, the latest {last.peer_address} at {at}: {last.reason}", "refused"
            )
        )
    return "".join(lines)


def _line(text: str, kind: str) -> str:
    return f'<div class="ucxnb-note ucxnb-note-{kind}">{safe_html(text, 400)}</div>'

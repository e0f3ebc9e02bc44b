"""Drop-down lists of endpoints that follow the worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from ..text import shortened

if TYPE_CHECKING:
    from ..endpoint_info import EndpointInfo

__all__ = ["endpoint_label", "offer", "offer_endpoints"]


def endpoint_label(info: EndpointInfo) -> str:
    """One line that names an endpoint: ``"1 · alice (10.0.0.5:4000)"``."""
    if not info.peer_name:
        return f"{info.endpoint_id} · {shortened(info.peer_address, 60)}"
    name, address = shortened(info.peer_name, 40), shortened(info.peer_address, 60)
    return f"{info.endpoint_id} · {name} ({address})"


def offer_endpoints(
    dropdown: ipywidgets.Dropdown, endpoints: Sequence[EndpointInfo], none: str
) -> None:
    """Let a drop-down list offer these endpoints.

    Parameters
    ----------
    dropdown : ipywidgets.Dropdown
        Its values are endpoint ids.
    endpoints : sequence of EndpointInfo
        What to offer.
    none : str
        Label of the first choice, whose value is 0 (a Dropdown takes None for "nothing chosen").
        If it is empty there is no such choice as long as there are endpoints.
    """
    choices: list[tuple[str, Any]] = [(endpoint_label(i), i.endpoint_id) for i in endpoints]
    if none:
        choices.insert(0, (none, 0))
    elif not choices:
        choices = [("no connection yet", 0)]
    offer(dropdown, choices)


def offer(dropdown: ipywidgets.Dropdown, choices: Sequence[tuple[str, Any]]) -> None:
    """Change the choices of a drop-down list if they are other ones; keep what is chosen."""
    if tuple(choices) == tuple(dropdown.options):
        return
    chosen = dropdown.value
    values = [value for _, value in choices]
    with dropdown.hold_sync():
        dropdown.options = choices
        dropdown.value = chosen if chosen in values else values[0] if values else None

"""Drop-down lists of endpoints that follow the worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from ..endpoint_info import CLOSED_BY_YOU
from ..text import shortened

if TYPE_CHECKING:
    from ..endpoint_info import EndpointInfo
    from .watch import Sight

__all__ = ["EndpointChoice", "endpoint_label", "offer", "offer_endpoints"]


class EndpointChoice(ipywidgets.Dropdown):
    """A list of the open endpoints that stays with the one that was chosen.

    When that one is lost it stays chosen and says so, so that nothing goes to somebody else
    unasked. When the same peer is connected again, by a kept connection or with the same name or
    address, that connection is chosen.

    Parameters
    ----------
    label, tooltip : str
        As in `fields.choice`.
    nobody : str
        Label of the first choice, whose value is 0; empty if there is none.
    """

    def __init__(self, label: str, tooltip: str, nobody: str = "") -> None:
        super().__init__(description=label, tooltip=tooltip, layout={"width": "auto"})
        self._nobody = nobody
        self._known: dict[int, EndpointInfo] = {}
        offer_endpoints(self, (), nobody)

    def refresh(self, sight: Sight) -> None:
        """Offer what a watch saw."""
        known = {info.endpoint_id: info for info in sight.endpoints}
        lost = None if self.value in known else self._known.get(self.value)
        back = None
        if lost is not None and not _closed_by_you(lost, sight):
            back = _same_peer(lost, sight)
            if back is None:
                known[lost.endpoint_id] = lost
        self._known = known
        choices = _choices(sight.endpoints, self._nobody)
        if lost is not None and lost.endpoint_id in known:
            choices.insert(0, (f"{endpoint_label(lost)}: lost", lost.endpoint_id))
        offer(self, choices, back)


def _closed_by_you(lost: EndpointInfo, sight: Sight) -> bool:
    return any(
        info.endpoint_id == lost.endpoint_id and info.reason == CLOSED_BY_YOU
        for info in sight.ended
    )


def _same_peer(lost: EndpointInfo, sight: Sight) -> int | None:
    """Find the endpoint that came in the place of one that was lost."""
    open_ids = [info.endpoint_id for info in sight.endpoints]
    for link in sight.kept:
        if any(loss.endpoint_id == lost.endpoint_id for loss in link.losses):
            return link.endpoint_id if link.endpoint_id in open_ids else None
    for info in sight.endpoints:
        named = bool(info.peer_name) and info.peer_name == lost.peer_name
        called = info.direction == "connected" and info.peer_address == lost.peer_address
        if info.endpoint_id > lost.endpoint_id and (named or called):
            return info.endpoint_id
    return None


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
    offer(dropdown, _choices(endpoints, none))


def _choices(endpoints: Sequence[EndpointInfo], none: str) -> list[tuple[str, Any]]:
    choices: list[tuple[str, Any]] = [(endpoint_label(i), i.endpoint_id) for i in endpoints]
    if none:
        choices.insert(0, (none, 0))
    elif not choices:
        choices = [("no connection yet", 0)]
    return choices


def offer(
    dropdown: ipywidgets.Dropdown, choices: Sequence[tuple[str, Any]], choose: Any = None
) -> None:
    """Change the choices of a drop-down list if they are other ones.

    What is chosen stays so, unless another value is named.
    """
    if choose is None and tuple(choices) == tuple(dropdown.options):
        return
    chosen = dropdown.value if choose is None else choose
    values = [value for _, value in choices]
    with dropdown.hold_sync():
        dropdown.options = choices
        dropdown.value = chosen if chosen in values else values[0] if values else None

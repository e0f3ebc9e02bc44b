"""The panel that connects, listens, and lists who is connected."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets

from .choices import offer, offer_endpoints
from .door_note import door_note
from .endpoint_table import endpoint_table
from .fields import button, choice, text_field
from .job import Job
from .kept_connections import kept_connections
from .panel import Panel
from .watch import Sight

__all__ = ["ConnectPanel"]

_CONNECT_TIMEOUT = 10.0


class ConnectPanel(Panel):
    """Connect to peers, listen for them, see them and who was refused, disconnect.

    Parameters
    ----------
    worker : UcxWorker
        The worker to drive. Closing the panel does not close it, nor its connections.

    Attributes
    ----------
    address, listen_address : ipywidgets.Text
        ``host:port`` to connect to, and to listen on.
    keep : ipywidgets.Checkbox
        Whether to connect again when the connection is lost (`UcxWorker.keep_connected`).
    connect_button, listen_button, disconnect_button, unlisten_button : ipywidgets.Button
        What they say.
    endpoint, listener : ipywidgets.Dropdown
        Which one to disconnect, or to close.
    """

    _title = "Connections"

    def _build(self) -> Sequence[ipywidgets.Widget]:
        self.address = text_field(
            "Connect to", "", "Address of a peer that listens, host:port", "127.0.0.1:8080"
        )
        self.connect_button = button("Connect", "plug", "Connect to this address", "primary")
        self.keep = ipywidgets.Checkbox(
            value=False,
            description="Reconnect",
            tooltip="Connect again whenever the connection is lost",
            indent=False,
            layout={"width": "auto"},
        )
        self.listen_address = text_field(
            "Listen on",
            "127.0.0.1:0",
            "Address to listen on, host:port; port 0 takes any free one",
        )
        self.listen_button = button("Listen", "assistive-listening-systems", "Let peers connect")
        self.listener = choice("Listening", "Addresses that peers can connect to")
        self.unlisten_button = button("Stop listening", "stop", "Take no more peers there")
        self.endpoint = choice("Endpoint", "Which connection to close")
        self.disconnect_button = button("Disconnect", "unlink", "Close this connection")
        self._table = ipywidgets.HTML(endpoint_table((), ()))
        self._note = ipywidgets.HTML(layout={"display": "none"})
        self._kept = ipywidgets.HTML()
        self._listening_row = _row(self.listener, self.unlisten_button)
        self._endpoint_row = _row(self.endpoint, self.disconnect_button)
        rows = ipywidgets.Box(
            [
                _row(self.address, self.keep, self.connect_button),
                _row(self.listen_address, self.listen_button),
                self._endpoint_row,
                self._listening_row,
            ]
        )
        rows.add_class("ucxnb-field-rows")
        self._on_click(self.connect_button, self._connect)
        self._on_click(self.listen_button, self._listen)
        self._on_click(self.disconnect_button, self._disconnect)
        self._on_click(self.unlisten_button, self._unlisten)
        self._starters = (
            self.connect_button,
            self.listen_button,
            self.disconnect_button,
            self.unlisten_button,
        )
        for code, control in (
            (self._connect_code, self.address),
            (self._connect_code, self.keep),
            (self._listen_code, self.listen_address),
        ):
            self.python_line.follow(code, control)
        self.python_line.show(self._connect_code)
        self._show_rows(False, False)
        return rows, self._note, self._table, self._kept

    def refresh(self, sight: Sight) -> None:
        """Show the endpoints and listeners, and who was refused.

        Parameters
        ----------
        sight : Sight
            What the watch saw; the panel keeps nothing of it.
        """
        offer_endpoints(self.endpoint, sight.endpoints, "")
        offer(self.listener, [(listener.address, listener) for listener in sight.listeners])
        self._show_rows(bool(sight.endpoints), bool(sight.listeners))
        table = endpoint_table(sight.endpoints, sight.ended)
        if table != self._table.value:
            self._table.value = table
        note = door_note(sight.listeners, sight.refusals)
        if note != self._note.value:
            self._note.value = note
            self._note.layout.display = None if note else "none"
        kept = kept_connections(sight.kept)
        if kept != self._kept.value:
            self._kept.value = kept

    def _show_rows(self, endpoints: bool, listeners: bool) -> None:
        for row, shown in ((self._endpoint_row, endpoints), (self._listening_row, listeners)):
            row.layout.visibility = "visible" if shown else "hidden"
            row.layout.display = None if endpoints or listeners else "none"

    def _address(self) -> str:
        address = self.address.value.strip()
        if not address:
            raise ValueError("which address? Write it as 127.0.0.1:8080")
        return address

    def _connect_code(self, worker: str) -> str:
        if self.keep.value:
            return f"link = {worker}.keep_connected({self._address()!r})"
        return f"endpoint_id = {worker}.connect({self._address()!r})"

    def _listen_code(self, worker: str) -> str:
        return f"listener = {worker}.create_listener({self.listen_address.value.strip()!r})"

    def _connect(self) -> None:
        self.python_line.show(self._connect_code)
        address, keep = self._address(), self.keep.value

        def work(job: Job) -> str:
            limit = self._worker.config.connect_timeout
            timeout = _CONNECT_TIMEOUT if limit is None else limit
            if not keep:
                endpoint_id = self._worker.connect(address, timeout=timeout)
                return f"Connected to {address} as endpoint {endpoint_id}."
            link = self._worker.keep_connected(address, timeout=timeout)
            return f"Connected to {address} as endpoint {link.endpoint_id}, and kept so."

        self._start(f"Connecting to {address} …", work)

    def _listen(self) -> None:
        address = self.listen_address.value.strip()
        self.python_line.show(self._listen_code)

        def work(job: Job) -> str:
            listener = self._worker.create_listener(address)
            return f"Listening on {listener.address}."

        self._start(f"Opening {address} …", work)

    def _disconnect(self) -> None:
        endpoint_id = self.endpoint.value
        if not endpoint_id:
            raise ValueError("there is no connection to close")
        self.python_line.show(lambda worker: f"{worker}.disconnect({endpoint_id})")

        def work(job: Job) -> str:
            self._worker.disconnect(endpoint_id)
            return f"Disconnected endpoint {endpoint_id}."

        self._start(f"Disconnecting endpoint {endpoint_id} …", work)

    def _unlisten(self) -> None:
        listener = self.listener.value
        if listener is None:
            raise ValueError("nothing listens")
        self.python_line.show(
            lambda worker: (
                f"for listener in {worker}.listeners:\n"
                f"    if listener.address == {listener.address!r}:\n"
                "        listener.close()"
            )
        )

        def work(job: Job) -> str:
            listener.close()
            return f"No longer listening on {listener.address}. Connections stay open."

        self._start(f"Closing {listener.address} …", work)


def _row(*controls: ipywidgets.Widget) -> ipywidgets.HBox:
    row = ipywidgets.HBox(controls)
    row.add_class("ucxnb-field-row")
    return row

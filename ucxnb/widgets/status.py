"""The line of a panel that says what happened."""

from __future__ import annotations

import ipywidgets

from ..text import safe_html

__all__ = ["StatusLine"]


class StatusLine(ipywidgets.HTML):
    """One message in words; screen readers announce it.

    Attributes
    ----------
    text : str
        The message as last said, not escaped.
    kind : {"info", "busy", "error"}
        What sort of message it is.
    """

    def __init__(self) -> None:
        self.text = ""
        self.kind = "info"
        super().__init__()
        self.say("")

    def say(self, text: str, kind: str = "info") -> None:
        """Replace the message. Any thread may."""
        self.text, self.kind = text, kind
        role = "alert" if kind == "error" else "status"
        self.value = (
            f'<div class="ucxnb-status ucxnb-status-{kind}" role="{role}" aria-live="polite">'
            f"{safe_html(text, 600)}</div>"
        )

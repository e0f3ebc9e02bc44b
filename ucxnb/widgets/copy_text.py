"""A text with a button that copies it."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

__all__ = ["CopyText", "OwnWidget"]


class OwnWidget(anywidget.AnyWidget):
    """Base of the panels' widgets that have code of their own in the browser.

    The style is that of the panels (``static/panels.css``).
    """

    def close(self) -> None:
        """Take it off every page and free it, with its layout, a widget as well."""
        super().close()
        if "layout" in self._trait_values:
            self.layout.close()


class CopyText(OwnWidget):
    """Show a text as it is, with a button that copies it. An empty text shows nothing.

    Parameters
    ----------
    label : str
        What it is, for the button's tooltip and for screen readers.
    text : str
        The text; any thread may change it.
    """

    _esm = Path(__file__).parent / "static" / "copy_text.js"

    text = traitlets.Unicode(help="The text.").tag(sync=True)
    label = traitlets.Unicode(help="What it is.").tag(sync=True)

    def __init__(self, label: str, text: str = "") -> None:
        super().__init__(label=label, text=text)

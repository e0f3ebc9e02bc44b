"""A bokeh layout inside an anywidget, which needs neither a port nor a network."""

from __future__ import annotations

import json
from pathlib import Path

import anywidget
import bokeh
import traitlets
from bokeh.embed import json_item
from bokeh.models import LayoutDOM

__all__ = ["BokehWidget", "static_text"]

_STATIC = Path(__file__).parent / "static"
_BOKEHJS = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"


def static_text(*names: str) -> str:
    """Join files of the folder ``static``."""
    return "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in names)


class BokehWidget(anywidget.AnyWidget):
    """Base of the widgets that show a bokeh layout.

    BokehJS is the one of the installed bokeh package and travels with the widget, so a notebook
    needs neither a network nor ``output_notebook``. ``static/bokeh_widget.js`` and ``.css`` stand
    before a widget's own code.

    Parameters
    ----------
    root : bokeh.models.LayoutDOM
        The layout. Its sources carry names.
    label : str
        What a screen reader says about the plots.
    """

    item = traitlets.Unicode(help="The layout as bokeh's JSON, without points.").tag(sync=True)
    bokehjs = traitlets.Unicode(help="Source of BokehJS.").tag(sync=True)
    bokeh_version = traitlets.Unicode(bokeh.__version__, help="Its version.").tag(sync=True)
    label = traitlets.Unicode(help="Text alternative of the plots.").tag(sync=True)

    def __init__(self, root: LayoutDOM, label: str) -> None:
        super().__init__(
            item=json.dumps(json_item(root)),
            bokehjs=_BOKEHJS.read_text(encoding="utf-8"),
            label=label,
        )

    def close(self) -> None:
        """Take the view off every page and free it, with its layout, a widget as well."""
        super().close()
        if "layout" in self._trait_values:
            self.layout.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label!r}>"

"""Controls made alike in every panel."""

from __future__ import annotations

import ipywidgets

__all__ = ["button", "buttons", "choice", "text_field"]


def text_field(label: str, value: str, tooltip: str, placeholder: str = "") -> ipywidgets.Text:
    """Make a field for one line of text."""
    return ipywidgets.Text(
        value=value,
        description=label,
        tooltip=tooltip,
        placeholder=placeholder,
        layout={"width": "auto"},
    )


def choice(label: str, tooltip: str) -> ipywidgets.Dropdown:
    """Make an empty drop-down list."""
    return ipywidgets.Dropdown(description=label, tooltip=tooltip, layout={"width": "auto"})


def button(label: str, icon: str, tooltip: str, style: str = "") -> ipywidgets.Button:
    """Make a button; `style` is one of ipywidgets' button styles."""
    made = ipywidgets.Button(
        description=label,
        icon=icon,
        tooltip=tooltip,
        button_style=style,
        layout={"width": "auto"},
    )
    made.add_class("ucxnb-button")
    return made


def buttons(*members: ipywidgets.Widget) -> ipywidgets.HBox:
    """Lay buttons out in a row that wraps."""
    row = ipywidgets.HBox(members)
    row.add_class("ucxnb-buttons")
    return row

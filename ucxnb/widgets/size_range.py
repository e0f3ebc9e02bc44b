"""The controls for a range of message sizes."""

from __future__ import annotations

import ipywidgets
import traitlets

from ..text import size_text

__all__ = ["SizeRange"]

_SIZES = [1 << power for power in range(29)]  # 1 B to 256 MiB


class SizeRange(ipywidgets.HBox):
    """Choose the smallest and largest size, powers of two up to 256 MiB.

    Two lists rather than ipywidgets' slider of two ends, which keyboards and screen readers know
    no name of.

    Parameters
    ----------
    smallest, largest : int
        Bytes, chosen at first.

    Attributes
    ----------
    value : tuple of (int, int)
        Smallest and largest, bytes; the smaller one is always first.
    """

    value = traitlets.Tuple(traitlets.Int(), traitlets.Int())

    def __init__(self, smallest: int, largest: int) -> None:
        choices = [(size_text(size), size) for size in _SIZES]
        self._ends = tuple(
            ipywidgets.Dropdown(
                options=choices, description=label, tooltip=tooltip, layout={"width": "auto"}
            )
            for label, tooltip in (
                ("Sizes", "Smallest message to measure"),
                ("to", "Largest message to measure"),
            )
        )
        super().__init__(self._ends, value=(smallest, largest))
        self.add_class("ucxnb-size-range")
        self._show(None)
        self.observe(self._show, "value")
        for end in self._ends:
            end.observe(self._choose, "value")

    @traitlets.validate("value")
    def _sizes(self, proposal: dict[str, tuple[int, int]]) -> tuple[int, int]:
        low, high = proposal["value"]
        for size in (low, high):
            if size not in _SIZES:
                raise traitlets.TraitError(f"{size} is no power of two from 1 to 256 MiB")
        return min(low, high), max(low, high)

    def _show(self, _: object) -> None:
        for end, size in zip(self._ends, self.value, strict=True):
            end.value = size

    def _choose(self, _: object) -> None:
        low, high = (end.value for end in self._ends)
        if low is not None and high is not None:
            self.value = low, high
            self._show(None)

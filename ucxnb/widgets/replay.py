"""A recording in a dashboard, with a slider to scrub through it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import ipywidgets

from ..dashboard.cell import close_with_cell, forget
from ..ticker import Ticker
from .panel import close_parts, stylesheet

if TYPE_CHECKING:
    from ..recording import Player

__all__ = ["Replay"]

_SPEEDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
_INTERVAL = 0.2


class Replay(ipywidgets.VBox):
    """Play a recording in the dashboard that its workers would have had.

    Display it as the last line of a cell. `close` frees it; so does running the cell again.

    Parameters
    ----------
    player : Player
        What to play. It can be moved from Python as well: the slider follows.
    window : float
        Seconds shown at first.

    Attributes
    ----------
    player : Player
        As passed.
    dashboard : ucxnb.dashboard.Dashboard
    """

    def __init__(self, player: Player, *, window: float = 60.0) -> None:
        from ..dashboard.app import Dashboard

        self.player = player
        recording = player.recording
        self._closed = False
        self._button = ipywidgets.Button(description="Play", tooltip="Let the recording play")
        self._slider = ipywidgets.FloatSlider(
            value=player.time - recording.start,
            min=0.0,
            max=max(0.1, recording.end - recording.start),
            step=0.1,
            description="Time",
            readout=False,
            tooltip="Seconds from the start of the recording",
            layout=ipywidgets.Layout(flex="1 1 auto", width="auto"),
        )
        self._clock = ipywidgets.Label()
        self._speed = ipywidgets.Dropdown(
            options=[(f"{speed:g} times", speed) for speed in _SPEEDS],
            value=min(_SPEEDS, key=lambda speed: abs(speed - player.speed)),
            description="Speed",
            layout=ipywidgets.Layout(width="180px"),
        )
        super().__init__()
        self.dashboard = Dashboard(player, window=window)
        controls = ipywidgets.HBox([self._button, self._slider, self._clock, self._speed])
        self.children = (stylesheet(), controls, self.dashboard.widget)
        self.add_class("ucxnb-room")
        self._shown = self._slider.value  # what this end has set
        self._button.on_click(self._on_button)
        self._slider.observe(self._on_slider, "value")
        self._speed.observe(self._on_speed, "value")
        self._ticker = Ticker("ucxnb-replay", _INTERVAL, self._tick)
        close_with_cell(self)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Stop playing, take it off the page and free it. Twice is fine."""
        if getattr(self, "_closed", True):
            return
        self._closed = True
        self._ticker.stop()
        self.player.pause()
        self.dashboard.close()
        super().close()
        close_parts(self)
        forget(self)

    def _on_button(self, _: object) -> None:
        if self.player.playing:
            self.player.pause()
        else:
            self.player.play()
        self._tick()

    def _on_slider(self, change: dict[str, Any]) -> None:
        if change["new"] != self._shown:
            self.player.seek(self.player.recording.start + change["new"])

    def _on_speed(self, change: dict[str, Any]) -> None:
        self.player.speed = change["new"]

    def _tick(self) -> bool:
        """Let the controls follow the player."""
        at = self.player.time
        self._shown = round(at - self.player.recording.start, 1)
        self._slider.value = self._shown
        clock = time.strftime("%H:%M:%S", time.localtime(at))
        self._clock.value = f"{clock} ({at - self.player.recording.start:,.1f} s)"
        self._button.description = "Pause" if self.player.playing else "Play"
        return True

    def __repr__(self) -> str:
        return f"<Replay of {self.player.recording!r}>"

"""Messages per second over time."""

from __future__ import annotations

from collections.abc import Sequence

from .moment import Moment
from .plots import TimeAxis
from .series import Tiers
from .time_plot import Line, TimePlot
from .units import RATES

__all__ = ["MessageRate"]


class MessageRate(TimePlot):
    """Plot of the messages per second that all workers together send and receive.

    Parameters
    ----------
    axis, steps, series
        As for `TimePlot`.
    """

    def __init__(self, axis: TimeAxis, steps: Sequence[float], series: Tiers | None = None) -> None:
        lines = [Line("sent", "sent", 3.5), Line("received", "received", 1.5)]
        super().__init__(
            axis, steps, "message_rate", "Message rate", RATES, 10.0, lines, series=series
        )

    def update(self, moment: Moment) -> None:
        """Add the rates of a moment."""
        rates = moment.rates()
        self.series.append(
            moment.time,
            sum(rate.messages_sent for rate in rates),
            sum(rate.messages_received for rate in rates),
        )

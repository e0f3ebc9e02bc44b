"""The numbers beside the plots."""

from __future__ import annotations

from collections.abc import Iterable

from .moment import Moment
from .progress_engine import busy_share
from .units import human_bytes, human_count, human_rate

__all__ = ["counter_table"]


def counter_table(moment: Moment) -> dict[str, list[list[str]]]:
    """Counters and present rates of all workers together, as texts.

    Parameters
    ----------
    moment : Moment
        What to show.

    Returns
    -------
    dict
        ``"pairs"``: rows of label, sent, received. ``"singles"``: rows of label, value.
    """
    rates = moment.rates()
    stats = [snapshot.stats for snapshot in moment.later]
    pairs = list(zip(moment.earlier, moment.later, strict=True))

    def total(name: str, items: Iterable[object]) -> float:
        return sum(getattr(item, name) for item in items)

    woken = sum(now.health.wake_ups - then.health.wake_ups for then, now in pairs)
    seconds = max(now.stats.elapsed - then.stats.elapsed for then, now in pairs)
    return {
        "pairs": [
            [
                "Throughput",
                human_bytes(total("bytes_sent", rates)) + "/s",
                human_bytes(total("bytes_received", rates)) + "/s",
            ],
            [
                "Message rate",
                human_rate(total("messages_sent", rates)),
                human_rate(total("messages_received", rates)),
            ],
            [
                "Data",
                human_bytes(total("bytes_sent", stats)),
                human_bytes(total("bytes_received", stats)),
            ],
            [
                "Messages",
                human_count(int(total("messages_sent", stats))),
                human_count(int(total("messages_received", stats))),
            ],
            [
                "Waiting",
                human_bytes(total("bytes_in_flight", stats)),
                human_bytes(total("unreceived_bytes", stats)),
            ],
        ],
        "singles": [
            ["Connections", human_count(int(total("connections", stats)))],
            ["Errors", human_count(int(total("errors", stats)))],
            ["Sends held", human_count(int(total("sends_held", stats)))],
            ["Progress busy", f"{100 * max(busy_share(*pair) for pair in pairs):.0f} %"],
            ["Wake-ups", human_rate(woken / seconds if seconds > 0 else 0.0)],
        ],
    }

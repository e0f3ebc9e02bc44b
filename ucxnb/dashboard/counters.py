"""The numbers beside the plots."""

from __future__ import annotations

from ..stats import WorkerStats
from .units import human_bytes, human_count, human_rate

__all__ = ["counter_table"]


def counter_table(earlier: WorkerStats, later: WorkerStats) -> dict[str, list[list[str]]]:
    """Counters and present rates as texts.

    Parameters
    ----------
    earlier, later : WorkerStats
        Snapshots; the rates are those between them.

    Returns
    -------
    dict
        ``"pairs"``: rows of label, sent, received. ``"singles"``: rows of label, value.
    """
    rates = later.since(earlier)
    return {
        "pairs": [
            [
                "Throughput",
                human_bytes(rates.bytes_sent) + "/s",
                human_bytes(rates.bytes_received) + "/s",
            ],
            ["Message rate", human_rate(rates.messages_sent), human_rate(rates.messages_received)],
            ["Data", human_bytes(later.bytes_sent), human_bytes(later.bytes_received)],
            ["Messages", human_count(later.messages_sent), human_count(later.messages_received)],
        ],
        "singles": [
            ["Connections", human_count(later.connections)],
            ["Errors", human_count(later.errors)],
            ["Unreceived", human_bytes(later.unreceived_bytes)],
            ["Sends held", human_count(later.sends_held)],
        ],
    }

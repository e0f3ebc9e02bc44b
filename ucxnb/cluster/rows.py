"""The table of a cluster's dashboard: a row of texts for each worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..dashboard.units import human_bytes, human_count, human_rate
from ..stats import Rates
from ..text import shortened
from .membership import MemberState
from .stats import ClusterStats, WorkerStatus

__all__ = ["COLUMNS", "Row", "rows_of"]

COLUMNS = (
    "rank", "worker", "host", "state", "sent", "received", "messages", "connections", "unreceived",
    "errors", "note",
)  # fmt: skip
"""What the texts of a row are."""

_GONE = (MemberState.LOST, MemberState.LEFT, MemberState.FAILED)
_LONGEST = 60
_NEWS = 300.0  # seconds for which those that are gone stand at the top


@dataclass(frozen=True, slots=True)
class Row:
    """A worker in the table.

    Attributes
    ----------
    state : str
        What its colour says: ``"ready"``, ``"straggler"``, ``"starting"``, ``"left"``,
        ``"lost"`` or ``"failed"``.
    cells : tuple of str
        Its texts, as `COLUMNS`.
    """

    state: str
    cells: tuple[str, ...]


def rows_of(earlier: ClusterStats | None, later: ClusterStats) -> list[Row]:
    """Write the table of a moment: who was lost a while ago, who takes part by rank, the rest."""
    before = {} if earlier is None else {s.member.address: s for s in earlier.workers}
    places = {name: i for i, name in enumerate(later.names)}
    late = later.stragglers()
    news: list[Row] = []
    present: list[Row] = []
    past: list[Row] = []
    for status in later.workers:
        row = _row(status, before.get(status.member.address), places, late)
        state, age = status.member.state, later.time - status.member.since
        if state in (MemberState.LOST, MemberState.FAILED) and age < _NEWS:
            news.append(row)
        else:
            (past if state in _GONE else present).append(row)
    return news[::-1] + present + past[::-1]


def _row(
    status: WorkerStatus,
    before: WorkerStatus | None,
    places: Mapping[str, int],
    late: Mapping[str, str],
) -> Row:
    member, sample = status.member, status.sample
    why = late.get(member.address, "")
    state = "straggler" if why else member.state.value
    rank = str(places[member.address]) if member.address in places else ""
    name = shortened(member.name or member.address, _LONGEST)
    cells = [rank, name, shortened(member.host, _LONGEST), state]
    if sample is None:
        cells += [""] * 6
    else:
        rates = Rates()
        if before is not None and before.sample is not None:
            rates = sample.stats.since(before.sample.stats)
        cells += [
            f"{human_bytes(rates.bytes_sent)}/s",
            f"{human_bytes(rates.bytes_received)}/s",
            human_rate(rates.message_rate()),
            human_count(len(sample.peers)),
            human_bytes(sample.stats.unreceived_bytes),
            human_count(sample.stats.errors),
        ]
    cells.append(shortened(why or member.reason, 2 * _LONGEST))
    return Row(state, tuple(cells))

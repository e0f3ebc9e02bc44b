"""What UCX expects a protocol to take, and why it chose it: its performance graphs, read."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Candidate", "Estimate", "read_graphs"]

_SIZE = r"(\d+)([KMGTPE]?)"
_FACTORS = {"": 1} | {unit: 1 << 10 * i for i, unit in enumerate("KMGTPE", 1)}
_NODE = re.compile(r"^\s*node(\d+) \[.*?label=<(.*)>\];\s*$")
_FIRST = re.compile(r'^\s*node0 \[label="(.*?)\\n(.*)" ')
_LINK = re.compile(r"^\s*node(\d+) -> node(\d+)(?: \[style=(\w+)\])?;\s*$")
_SELECTED = re.compile(rf"([^\s>]+) {_SIZE}\.\.(?:{_SIZE}|inf)<br/>")
_SUM = re.compile(r">(?:sum|total) (?:([\d.]+)([KMG])Bs)?\+?(?:([\d.]+)(?:&mu;|u|μ)s)?<")
_NAME = re.compile(r"<b>(.*?)</b>")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A protocol that UCX weighed, with the time it expects of it.

    Attributes
    ----------
    name : str
        UCX's short name, as ``"egr/multi/bcopy"``.
    seconds : float
        For a message of no bytes.
    seconds_per_byte : float
        For each byte.
    chosen : bool
        Whether UCX took it.
    """

    name: str
    seconds: float
    seconds_per_byte: float
    chosen: bool

    def time_of(self, nbytes: float) -> float:
        """Give the time expected of one message.

        Parameters
        ----------
        nbytes : float
            Its size.

        Returns
        -------
        float
            Seconds.
        """
        return self.seconds + self.seconds_per_byte * nbytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """What UCX weighed for a range of sizes (``UCX_PROTO_INFO_DIR``).

    Attributes
    ----------
    first : int
        The smallest size, bytes.
    last : int or None
        The largest, bytes; None if there is no end.
    candidates : tuple of Candidate
        All that could have been taken, the chosen one first. UCX writes times with 10 ns and
        rates with 1 MiB/s.
    """

    first: int
    last: int | None
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate:
        """The one UCX took."""
        return self.candidates[0]


def read_graphs(folder: Path) -> tuple[dict[str, list[tuple[str, str, Estimate]]], list[str]]:
    """Read the graphs that UCX wrote into a folder.

    Parameters
    ----------
    folder : Path
        The ``UCX_PROTO_INFO_DIR``.

    Returns
    -------
    dict of str to list of (str, str, Estimate)
        By operation as the file's name tells, such as ``"tag_send_from_host_memory"``: protocol
        and lane as in the table, and the estimate.
    list of str
        Files that were not understood.
    """
    found: dict[str, list[tuple[str, str, Estimate]]] = {}
    unknown: list[str] = []
    for path in sorted(folder.glob("*.dot")):
        read = _read_graph(path.read_text(errors="replace"))
        name = re.sub(rf"_{_SIZE}_(?:{_SIZE}|inf)$", "", path.stem)
        match = re.match(r"^.*?_cfg_\d+_(.+)$", name)
        if read is None or match is None:
            unknown.append(path.name)
        else:
            found.setdefault(match[1], []).append(read)
    return found, unknown


def _read_graph(text: str) -> tuple[str, str, Estimate] | None:
    labels: dict[str, str] = {}
    links: list[tuple[str, str, str]] = []
    title = None
    for line in text.splitlines():
        if match := _FIRST.match(line):
            title = match[1], match[2]
        elif match := _NODE.match(line):
            labels[match[1]] = match[2]
        elif match := _LINK.match(line):
            links.append((match[1], match[2], match[3] or ""))
    root = next((far for near, far, _ in links if near == "0"), None)
    selected = _SELECTED.search(labels.get(root or "", ""))
    if title is None or selected is None:
        return None
    candidates = []
    for near, far, style in links:
        if near != root:
            continue
        candidate = _candidate(labels.get(far, ""), style == "bold")
        if candidate is not None:
            candidates.append(candidate)
    candidates.sort(key=lambda candidate: not candidate.chosen)
    if not candidates or not candidates[0].chosen:
        return None
    first = int(selected[2]) * _FACTORS[selected[3]]
    last = int(selected[4]) * _FACTORS[selected[5]] if selected[4] else None
    return (*map(html.unescape, title), Estimate(first, last, tuple(candidates)))  # type: ignore[return-value]


def _candidate(label: str, chosen: bool) -> Candidate | None:
    name, total = _NAME.search(label), _SUM.search(label)
    if name is None or total is None:
        return None
    rate = float(total[1]) * _FACTORS[total[2]] if total[1] else 0.0
    words = " + ".join(html.unescape(name[1]).split("<br/>"))
    return Candidate(words, float(total[3] or 0) / 1e6, 1 / rate if rate else 0.0, chosen)

"""The run: every peer takes its turn at each measurement, again and again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from .machine import describe_machine
from .pair import Pair, PeerError
from .peers import PEERS, PERFTEST
from .perftest import Perftest
from .plan import Cell, Plan, least_rounds, most_rounds
from .quiet import OthersShare

# A pilot of that share of a measurement's time, and of as many rounds, tells how many to take.
PILOT_SHARE, PILOT_ROUNDS = 0.1, 64
GIVE_UP = 3  # failures of a peer over one transport
Say = Callable[[str], None]


class Contender:
    """A peer over one transport: restarted after a failure, given up after several.

    Parameters
    ----------
    name, transport, ucx_tls
        Which.
    results : dict
        Where failures are noted.
    say : callable
        Told of them as they happen.
    """

    def __init__(
        self, name: str, transport: str, ucx_tls: str, results: dict[str, Any], say: Say
    ) -> None:
        self.name, self.transport = name, transport
        self._tls = ucx_tls
        self._results = results
        self._say = say
        self._pair: Pair | Perftest | None = None
        self._links = 0
        self._counts: dict[Cell, int] = {}
        self._failed: set[Cell] = set()

    def can(self, cell: Cell) -> bool:
        """Whether it has such a measure, and has not failed at it."""
        if len(self._failed) >= GIVE_UP or cell in self._failed:
            return False
        if self.name == PERFTEST:
            return cell.measure in Perftest.measures
        low, high = PEERS[self.name].sizes
        return cell.measure in PEERS[self.name].measures and low <= cell.nbytes <= high

    def measure(self, cell: Cell, seconds: float) -> dict[str, float] | None:
        """Measure once, or note a failure and give None."""
        try:
            if self._pair is None or self._links != cell.links:
                self.close()
                self._pair, self._links = self._start(cell.links), cell.links
                self._results["peers"].setdefault(self.name, {})[self.transport] = self._pair.about
            if cell not in self._counts:
                self._counts[cell] = self._find_count(self._pair, cell, seconds)
            count = self._counts[cell]
            result = self._pair.measure(cell.measure, cell.nbytes, count, _timeout(seconds))
            if result["seconds"] < seconds / 2:  # a pilot may have met a busy moment
                wanted = int(count * seconds / result["seconds"])
                self._counts[cell] = min(wanted, most_rounds(cell.measure))
            return result
        except PeerError as failure:
            self._pair = None
            self._failed.add(cell)
            entry = {"peer": self.name, "transport": self.transport, "at": cell.text()}
            self._results["failures"].append({**entry, "reason": str(failure)})
            self._say(f"FAILED {self.name} over {self.transport}, {cell.text()}: {failure}")
            return None

    def _start(self, links: int) -> Pair | Perftest:
        if self.name == PERFTEST:
            return Perftest(self._tls)
        return Pair(self.name, self.transport, self._tls, links)

    @staticmethod
    def _find_count(pair: Pair | Perftest, cell: Cell, seconds: float) -> int:
        """Find how many rounds take the time wanted; this warms up as well."""
        count = pair.first_count(cell.nbytes)
        most = most_rounds(cell.measure)
        while True:
            took = pair.try_out(cell.measure, cell.nbytes, count, _timeout(seconds))
            enough = took >= seconds * PILOT_SHARE and count >= PILOT_ROUNDS
            if enough or took >= seconds or count >= most:
                return max(least_rounds(cell.measure), min(most, int(count * seconds / took)))
            growth = 1.5 * seconds * PILOT_SHARE / took
            count = min(most, int(count * min(100, max(8, growth))))

    def close(self) -> None:
        """End its processes."""
        if self._pair is not None:
            self._pair.close()
            self._pair = None


def _timeout(seconds: float) -> float:
    """A hang is told from a slow peer by a wide margin."""
    return 30 + 20 * seconds


def shm_of_ucx() -> str:
    """Give the shared-memory transports that UCX chooses here, as for ``UCX_TLS``."""
    from ucxnb import UcxWorker

    options = {"TLS": "shm"}
    with UcxWorker(ucx_options=options) as server, UcxWorker(ucx_options=options) as client:
        peer = client.connect(server.create_listener().address)
        client.send_tag(peer, 1, b"")
        server.receive_tag(None, 1)
        names = [name.partition("/")[0] for name in client.endpoints()[0].transports]
    return ",".join(dict.fromkeys(names))


def available(names: Sequence[str], results: dict[str, Any], say: Say) -> list[str]:
    """Leave out what is not installed, by name."""
    here = []
    for name in names:
        reason = None if name == PERFTEST else PEERS[name].missing()
        if reason is None:
            here.append(name)
        else:
            results["skipped"].append({"peer": name, "reason": reason})
            say(f"skipped {name}: {reason}")
    return here


def run_suite(plan: Plan, names: Sequence[str], say: Say) -> dict[str, Any]:
    """Measure everything.

    Parameters
    ----------
    plan : Plan
        What.
    names : sequence of str
        Peers; those not installed are skipped by name.
    say : callable
        Told of the progress, line by line.

    Returns
    -------
    dict
        As JSON can carry it: ``machine``, ``plan``, ``peers`` (the transport each used),
        ``skipped``, ``failures``, ``measurements``, ``minutes``, ``others`` (see `OthersShare`).
        After Ctrl-C, what there is by then, with ``interrupted`` set.
    """
    start, others = time.monotonic(), OthersShare()
    results: dict[str, Any] = {
        "format": 1,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": describe_machine(),
        "plan": {name: getattr(plan, name) for name in Plan.__slots__},
        "peers": {},
        "skipped": [],
        "failures": [],
        "measurements": [],
    }
    names = available(names, results, say)
    try:
        for transport in plan.transports:
            tls = shm_of_ucx() if transport == "shm" else "tcp"
            _run_transport(plan, transport, tls, names, results, say)
    except KeyboardInterrupt:
        results["interrupted"] = True
        say("interrupted")
    results["minutes"] = round((time.monotonic() - start) / 60, 1)
    results["others"] = round(others.share(), 3)
    return results


def _run_transport(
    plan: Plan, transport: str, tls: str, names: list[str], results: dict[str, Any], say: Say
) -> None:
    with _contenders(transport, tls, names, results, say) as contenders:
        for cells in plan.groups():
            for repeat in range(plan.repeats):
                for cell in cells:
                    say(f"{transport}, repeat {repeat + 1} of {plan.repeats}: {cell.text()}")
                    for contender in contenders:
                        if not contender.can(cell):
                            continue
                        result = contender.measure(cell, plan.seconds)
                        if result is not None:
                            what = {"peer": contender.name, "transport": transport}
                            entry = {**what, **asdict(cell), "repeat": repeat, **result}
                            results["measurements"].append(entry)


@contextlib.contextmanager
def _contenders(
    transport: str, tls: str, names: list[str], results: dict[str, Any], say: Say
) -> Iterator[list[Contender]]:
    contenders = [
        Contender(name, transport, tls, results, say)
        for name in names
        if name == PERFTEST or transport in PEERS[name].transports
    ]
    try:
        yield contenders
    finally:
        for contender in contenders:
            contender.close()

"""Search for settings that are faster, by measurement."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import UcxnbError
from ..protocols import Explanation
from ..text import size_text
from ..transports import is_gpu, is_rdma, is_shared_memory
from .comparison import Comparison, check_statistics, speed_ratio
from .fresh_pair import FreshPair, StoppedError, check_order
from .settings import split_settings

__all__ = ["Trial", "Tuner", "TunerStep", "candidate_settings"]

_ROUNDS = 2  # in which all candidates that are left run
_FINALISTS = 3
_ABOUT = 0.9  # a search of few figures tells no less apart
# UCX counts the bytes of a segment in shared memory with 16 bits.
_SEGMENTS = (16 << 10, 32 << 10, 60 << 10)


@dataclass(frozen=True, slots=True)
class TunerStep:
    """What was just measured.

    Attributes
    ----------
    settings : dict of str to str
        What was tried.
    ratio : float or None
        How many times as fast it was this once; None if it could not be measured.
    note : str
        Why not.
    fraction : float
        How much of the whole is done, 0 to 1.
    """

    settings: dict[str, str]
    ratio: float | None
    note: str
    fraction: float


@dataclass(slots=True)
class Trial:
    """A candidate in the search.

    Attributes
    ----------
    settings : dict of str to str
        What was tried.
    ratios : list of float
        How many times as fast it was, each time.
    note : str
        Why it could not be measured; empty if it could.
    """

    settings: dict[str, str]
    ratios: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def median(self) -> float:
        """Of the ratios."""
        return statistics.median(self.ratios)


class Tuner:
    """Search for faster settings: iterate over it, and look at `result` at the end.

    All candidates are measured beside what there is, those that did best once more, and the best
    one of them then again from the start, in new processes each time: only those last figures
    count, so that luck in the search does not. One thread iterates; any may look.

    Parameters
    ----------
    operation, nbytes, metric, seconds
        As for `FreshPair.measure`.
    base : mapping of str to str, optional
        What holds for all; without ``UCX_``.
    candidates : sequence of mapping of str to str, optional
        What to try; left out, thresholds and segment sizes around `nbytes`
        (`candidate_settings`).
    repeats : int
        How often the best one is measured at the end; fewer than 6 decide nothing.
    confidence : float
        As for `median_interval`.
    should_stop : callable, optional
        Asked many times a second; once it is True the iteration ends.

    Attributes
    ----------
    result : Comparison or None
        Of the best candidate; None until there is one.
    tried : list of Trial
        The candidates, with their figures in the search.
    stopped : bool
        Whether the iteration ended because it was told to.

    Raises
    ------
    ArgumentError
        One of the arguments is impossible. Iterating raises the errors of `FreshPair` if what
        there is cannot be measured; a candidate that cannot is left out.

    Examples
    --------
    >>> tuner = Tuner("tag", 8256)
    >>> for step in tuner:
    ...     print(step.settings, step.ratio)
    >>> print(tuner.result)
    SYSV_SEG_SIZE=32k: faster in tag latency of 8256 B: 1.41 times as fast (95% interval 1.30 to
    1.49, 9 repetitions in new processes)
    """

    def __init__(
        self,
        operation: str,
        nbytes: int,
        metric: str = "latency",
        *,
        base: Mapping[str, str] | None = None,
        candidates: Sequence[Mapping[str, str]] | None = None,
        repeats: int = 9,
        seconds: float = 0.05,
        confidence: float = 0.95,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        check_order(operation, nbytes, metric, seconds)
        check_statistics(repeats, confidence)
        for settings in (base or {}, *(candidates or ())):
            split_settings(settings)
        self._what = operation, nbytes, metric, seconds
        self._base = dict(base or {})
        self._candidates = candidates
        self._repeats, self._confidence = repeats, confidence
        self._should_stop = should_stop
        self._done, self._all = 0, 1
        self.tried: list[Trial] = []
        self.result: Comparison | None = None
        self.stopped = False

    def __iter__(self) -> Iterator[TunerStep]:
        try:
            yield from self._search()
        except StoppedError:
            self.stopped = True

    @property
    def text(self) -> str:
        """What came of it, in words."""
        if self.result is not None:
            return self.result.text
        if self.stopped:
            return "Stopped: no result."
        if self.tried and all(trial.note for trial in self.tried):
            return "None of the candidates could be measured."
        return "Nothing was tried: there is no candidate." if not self.tried else "Not done yet."

    def _search(self) -> Iterator[TunerStep]:
        left: list[Trial] = []
        for number in range(_ROUNDS):
            with FreshPair(self._base, should_stop=self._should_stop) as old:
                if not number:
                    left = self.tried = self._chosen(old.explanation)
                    self._all = len(left) + min(len(left), _FINALISTS) + self._repeats
                for trial in left:
                    yield self._try(old, trial, number)
            left = _best([trial for trial in left if not trial.note])[:_FINALISTS]
            if not left:
                return
            self._all = self._done + (_ROUNDS - 1 - number) * len(left) + self._repeats
        best, ratios = left[0].settings, []
        for turn in range(self._repeats):
            with FreshPair.together(
                self._base, {**self._base, **best}, should_stop=self._should_stop
            ) as pairs:
                ratios.append(speed_ratio(pairs[0], pairs[1], *self._what, turn))
            yield self._step(best, ratios[-1])
        operation, nbytes, metric, _ = self._what
        self.result = Comparison(
            best, self._base, operation, nbytes, metric, tuple(ratios), self._confidence
        )

    def _chosen(self, explanation: Explanation) -> list[Trial]:
        candidates = self._candidates
        if candidates is None:
            candidates = candidate_settings(explanation, *self._what[:2])
        return [Trial(dict(settings)) for settings in candidates]

    def _try(self, old: FreshPair, trial: Trial, turn: int) -> TunerStep:
        settings = {**self._base, **trial.settings}
        try:
            with FreshPair(settings, should_stop=self._should_stop) as new:
                trial.ratios.append(speed_ratio(old, new, *self._what, turn))
        except UcxnbError as error:
            trial.note = f"{error!s:.300}"
            return self._step(trial.settings, None, trial.note)
        return self._step(trial.settings, trial.ratios[-1])

    def _step(self, settings: dict[str, str], ratio: float | None, note: str = "") -> TunerStep:
        self._done += 1
        return TunerStep(settings, ratio, note, min(1.0, self._done / self._all))

    def __repr__(self) -> str:
        operation, nbytes, metric = self._what[:3]
        return f"<Tuner of {operation} {metric} of {size_text(nbytes)}: {self.text}>"


def _best(trials: list[Trial]) -> list[Trial]:
    """Order by speed; of those that are about as fast as the first, the one listed first leads."""
    near = max((trial.median for trial in trials), default=0.0) * _ABOUT
    return sorted(trials, key=lambda trial: -min(trial.median, near))


def candidate_settings(
    explanation: Explanation, operation: str, nbytes: int
) -> list[dict[str, str]]:
    """Choose settings that change what happens to messages of one size.

    Parameters
    ----------
    explanation : Explanation
        What UCX chooses without them (`FreshPair.explanation`).
    operation : str
        As for `FreshPair.measure`.
    nbytes : int
        The size.

    Returns
    -------
    list of dict of str to str
        Each one thing to try: thresholds below and above the size, and larger segments.
    """
    row = explanation.at(nbytes, operation)
    found: list[dict[str, str]] = []
    if operation == "tag":
        rendezvous = row is not None and row.protocol.startswith("rendezvous")
        found.append({"RNDV_THRESH": "inf" if rendezvous else str(nbytes)})
        if rendezvous:
            found.insert(0, {"RNDV_THRESH": "auto"})  # in case somebody set it
            if any(_copies_by_itself(lane.transport) for lane in explanation.lanes):
                found += [{"RNDV_SCHEME": scheme} for scheme in ("am", "get_zcopy", "put_zcopy")]
    zero_copy = row is not None and "zero-copy" in row.protocol
    found.append({"ZCOPY_THRESH": "inf" if zero_copy else str(nbytes)})
    for transport in dict.fromkeys(lane.transport.partition("/")[0] for lane in explanation.lanes):
        name = f"{transport.upper()}_SEG_SIZE"
        if is_shared_memory(transport) and row is not None and transport in row.lane:
            found += [{name: str(size)} for size in _SEGMENTS]
        elif transport == "tcp":
            found += [{"TCP_TX_SEG_SIZE": size, "TCP_RX_SEG_SIZE": size} for size in ("64k", "2m")]
    return found


def _copies_by_itself(transport: str) -> bool:
    """Whether a transport can read or write the peer's buffers, as rendezvous schemes want."""
    return is_rdma(transport) or is_gpu(transport) or transport.startswith(("cma", "knem", "xpmem"))

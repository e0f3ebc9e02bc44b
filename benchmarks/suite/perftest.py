"""``ucx_perftest`` in the place of a pair: UCX without Python, the limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ucxnb import UcxnbError
from ucxnb.bench import run_perftest

from .loops import PERCENTILES, flow
from .pair import PeerError
from .plan import LATENCY, ONE_WAY


class Perftest:
    """It has no test of both ways at once. Each measurement starts two processes of its own."""

    measures = (LATENCY, ONE_WAY)

    def __init__(self, ucx_tls: str) -> None:
        self.about = ucx_tls
        self._tls = ucx_tls.split(",")

    @staticmethod
    def first_count(nbytes: int) -> int:
        """Give the rounds of a first pilot: many, as each run takes long to start."""
        return max(1, min(1000, (32 << 20) // max(1, nbytes)))

    def try_out(self, measure: str, nbytes: int, count: int, timeout: float) -> float:
        """Measure once, for the seconds that it takes.

        Raises
        ------
        PeerError
            As `measure`.
        """
        return self._run(measure, nbytes, count, timeout, PERCENTILES[:1])["seconds"]

    def measure(self, measure: str, nbytes: int, count: int, timeout: float) -> dict[str, float]:
        """Run ``tag_lat``, once for each percentile of its last 2,048 times, or ``tag_bw``.

        Raises
        ------
        PeerError
            It failed, or took too long.
        """
        return self._run(measure, nbytes, count, timeout, PERCENTILES)

    def _run(
        self, measure: str, nbytes: int, count: int, timeout: float, percentiles: Sequence[Any]
    ) -> dict[str, float]:
        try:
            return self._run_once(measure, nbytes, count, timeout, percentiles)
        except UcxnbError:
            pass  # now and then its server does not get the port that was free a moment ago
        try:
            return self._run_once(measure, nbytes, count, timeout, percentiles)
        except UcxnbError as error:
            raise PeerError(str(error)) from None

    def _run_once(
        self, measure: str, nbytes: int, count: int, timeout: float, percentiles: Sequence[Any]
    ) -> dict[str, float]:
        how: dict[str, Any] = {"transports": self._tls, "timeout": timeout}
        if measure == ONE_WAY:
            done = run_perftest("tag_bw", nbytes, count, **how)
            return flow(count, nbytes, count / done.message_rate)
        result = {"count": float(count)}
        for name, percentile, least in percentiles:
            if count >= least:
                done = run_perftest("tag_lat", nbytes, count, percentile=percentile, **how)
                result[name] = done.percentile_us
                result["seconds"] = 2 * done.average_us * count / 1e6
        return result

    def close(self) -> None:
        """Nothing is left of it between measurements."""

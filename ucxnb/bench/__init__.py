"""Measurements of a connection, as a user of it sees them, and of UCX itself."""

from __future__ import annotations

from .measure import Measurement, Progress
from .pair import TRANSPORTS, private_pair
from .partner import BenchPartner, serve_measurements
from .perftest import Perftest, PerftestResult, run_perftest, run_perftests
from .row import BenchRow
from .run import BenchRun, runs_to_csv, runs_to_pandas
from .sizes import DEFAULT_SIZES, sizes_between

__all__ = [
    "DEFAULT_SIZES",
    "TRANSPORTS",
    "BenchPartner",
    "BenchRow",
    "BenchRun",
    "Measurement",
    "Perftest",
    "PerftestResult",
    "Progress",
    "private_pair",
    "run_perftest",
    "run_perftests",
    "runs_to_csv",
    "runs_to_pandas",
    "serve_measurements",
    "sizes_between",
]

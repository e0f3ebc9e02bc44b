"""Measurements of a connection, as a user of it sees them, and of UCX itself."""

from __future__ import annotations

from .echo import EchoTiming, time_echoes
from .perftest import PerftestResult, run_perftest

__all__ = ["EchoTiming", "PerftestResult", "run_perftest", "time_echoes"]

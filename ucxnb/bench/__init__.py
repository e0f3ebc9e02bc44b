"""Measurements of a connection, as a user of it sees them."""

from __future__ import annotations

from .echo import EchoTiming, time_echoes

__all__ = ["EchoTiming", "time_echoes"]

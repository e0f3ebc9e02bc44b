"""Record what workers do, and play it again in the same dashboard."""

from __future__ import annotations

from .player import PlayedWorker, Player
from .recorder import Recorder
from .recording import Recording

__all__ = ["PlayedWorker", "Player", "Recorder", "Recording"]

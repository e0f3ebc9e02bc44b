"""Where peers meet: a TCP socket of ours that introduces two UCX workers to each other.

It carries the handshake, liveness and goodbyes of each connection; messages go over UCX.
"""

from __future__ import annotations

from .door import FrontDoor
from .listener import Listener, UcxListenerWarning, UnprotectedListenerWarning

__all__ = ["FrontDoor", "Listener", "UcxListenerWarning", "UnprotectedListenerWarning"]

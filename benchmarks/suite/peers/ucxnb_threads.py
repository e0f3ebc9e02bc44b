"""ucxnb, two workers in one process, a thread of Python's for each."""

from __future__ import annotations

from ..plan import BOTH_WAYS, LATENCY, ONE_WAY
from .ucxnb_blocking import UcxnbBlocking
from .ucxnb_window import UcxnbWindow


class UcxnbThreads(UcxnbWindow):
    """Blocking calls for latency and one way; windows both ways."""

    measures = (LATENCY, ONE_WAY, BOTH_WAYS)
    in_one_process = True

    send_many = UcxnbBlocking.send_many
    receive_many = UcxnbBlocking.receive_many

"""The hot calls, for test_instruction_counts.py, which runs this under callgrind.

``os.getppid()``, which nothing else calls, marks the beginning of each part.
"""

from __future__ import annotations

import os

CALLS = 100  # in a part: fewer than the messages that shared memory holds unreceived
ROUNDS = 10
PARTS = (
    "send_tag",
    "receive_tag",
    "send_tag",
    "try_receive_tag",
    "try_receive_tag, nothing there",
    "send_rows",
    "receive_rows",
    "ireceive_tag",
    "isend_tag",
    "wait_all of receives",
    "wait_all of sends",
)


def main() -> None:
    """Go through all parts a few times, and end without cleaning up."""
    from ucxnb import UcxWorker, wait_all

    left, right = UcxWorker(), UcxWorker()
    there = left.connect(right.create_listener().address)
    here = right.get_endpoint_ids()[0]
    data, buffer = b"12345678", bytearray(8)
    rows = memoryview(bytearray(8 * CALLS)).cast("B", (CALLS, 8))

    def send() -> None:
        for _ in range(CALLS):
            left.send_tag(there, 1, data)

    def receive() -> None:
        for _ in range(CALLS):
            right.receive_tag(here, 1, buffer)

    def try_receive() -> None:
        for _ in range(CALLS):
            right.try_receive_tag(here, 1, buffer)

    def send_rows() -> None:
        left.send_rows(there, 1, rows)

    def receive_rows() -> None:
        right.receive_rows(here, 1, rows)

    receives, sends = [], []

    def ireceive() -> None:
        receives.extend([right.ireceive_tag(here, 1, buffer) for _ in range(CALLS)])

    def isend() -> None:
        sends.extend([left.isend_tag(there, 1, data) for _ in range(CALLS)])

    def wait_for_receives() -> None:
        wait_all(receives)
        receives.clear()

    def wait_for_sends() -> None:
        wait_all(sends)
        sends.clear()

    parts = (send, receive, send, try_receive, try_receive, send_rows, receive_rows)
    parts += (ireceive, isend, wait_for_receives, wait_for_sends)
    for part in parts:  # to warm up
        part()
    for part in parts * ROUNDS:
        os.getppid()
        part()
    os.getppid()
    os._exit(0)


if __name__ == "__main__":
    main()

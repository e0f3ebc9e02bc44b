"""Random stories of receives given up in every way: no message is lost, and the books are right."""

from __future__ import annotations

import random
import time

import pytest

from ucxnb import BufferTooSmallError, OperationTimeoutError, Request, UcxWorker

TIMEOUT = 30
WIRES = [{}, {"TLS": "tcp"}]


@pytest.mark.parametrize("options", WIRES, ids=["default", "tcp"])
@pytest.mark.parametrize("seed", range(3))
def test_random_receives_given_up_in_every_way_lose_nothing(options, seed):
    with UcxWorker(ucx_options=options) as left, UcxWorker(ucx_options=options) as right:
        to_right = left.connect(right.create_listener().address)
        story = Story(left, to_right, right, random.Random(seed))
        for _ in range(60):
            story.tell(12)


class Story:
    """Sends, receives in every way, and keeps book."""

    SIZES = (8, 8, 9000, 400_000)

    def __init__(self, left: UcxWorker, to_right: int, right: UcxWorker, rng: random.Random):
        self.left, self.to_right, self.right, self.rng = left, to_right, right, rng
        (self.to_left,) = right.get_endpoint_ids()
        self.sent = self.taken = 0
        self.missing: set[int] = set()
        self.held: list[tuple[bytearray | None, Request]] = []
        self.sends: list[Request] = []
        self.steps = [
            self.send, self.send, self.send, self.post, self.post, self.drop, self.wait,
            self.wait, self.try_receive, self.try_receive_into, self.receive_batch,
        ]  # fmt: skip

    def tell(self, steps: int) -> None:
        for _ in range(steps):
            self.rng.choice(self.steps)()
        end = time.monotonic() + TIMEOUT
        while self.missing or not all(send.done for send in self.sends):
            assert time.monotonic() < end, f"lost: {self.missing}"
            self.try_receive()
            for _ in range(len(self.held)):
                buffer, request = self.held.pop(0)
                if request.done:
                    self.take_from(buffer, request)
                else:
                    self.held.append((buffer, request))
        self.sends.clear()
        assert self.right.stats().messages_received == self.taken == self.sent

    def take(self, data: bytes | memoryview) -> None:
        number = int.from_bytes(data[:8], "little")
        assert number in self.missing, f"{number} came twice, or broken"
        assert data[-1] == (number & 255 if len(data) > 8 else data[7])
        self.missing.remove(number)
        self.taken += 1

    def take_from(self, buffer: bytearray | None, request: Request, timeout: float = 0) -> None:
        try:
            message = request.wait(timeout)
        except BufferTooSmallError:
            return
        self.take(message.data if buffer is None else memoryview(buffer)[: message.nbytes])

    def send(self) -> None:
        size = self.rng.choice(self.SIZES)
        self.missing.add(self.sent)
        data = self.sent.to_bytes(8, "little") + bytes([self.sent & 255]) * (size - 8)
        self.sends.append(self.left.isend_tag(self.to_right, 0, data))
        self.sent += 1

    def post(self) -> None:
        size = self.rng.choice((None, 400_000, 50))
        buffer = None if size is None else bytearray(size)
        source = self.rng.choice((None, self.to_left))
        mask = self.rng.choice((None, None, 7))
        self.held.append((buffer, self.right.ireceive_tag(source, 0, buffer, tag_mask=mask)))

    def drop(self) -> None:
        if self.held:
            self.held.pop(self.rng.randrange(len(self.held)))

    def wait(self) -> None:
        if self.held:
            buffer, request = self.held.pop(self.rng.randrange(len(self.held)))
            try:
                self.take_from(buffer, request, self.rng.choice((0, 0.0005)))
            except OperationTimeoutError:
                request.cancel()

    def try_receive(self) -> None:
        if (data := self.right.try_receive_tag(None, 0)) is not None:
            self.take(data)

    def try_receive_into(self) -> None:
        buffer = bytearray(400_000)
        nbytes = self.right.try_receive_tag(self.to_left, 0, buffer)
        if nbytes is not None:
            self.take(memoryview(buffer)[:nbytes])

    def receive_batch(self) -> None:
        tags = [0] * self.rng.randrange(1, 4)
        try:
            batch = self.right.receive_tags(self.to_left, tags, timeout=self.rng.choice((0, 5e-4)))
        except OperationTimeoutError:
            return
        for data in batch:
            self.take(data)

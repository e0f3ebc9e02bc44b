"""The front door: frames, the handshake without sockets, and strangers at a real listener."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time

import pytest
from eventually import eventually

import ucxnb
from ucxnb import EndpointState, ThreadMode, UcxWorker
from ucxnb.engine import MAX_ENDPOINT_ID
from ucxnb.frontdoor.channel import Channel
from ucxnb.frontdoor.handshake import Handshake, Introduction
from ucxnb.frontdoor.protocol import (
    MAX_PAYLOAD,
    VERSION,
    Frame,
    FrameDecoder,
    FrameType,
    ProtocolError,
    encode_frame,
)

TIMEOUT = 30
FRAMES = [
    Frame(
        FrameType.HELLO,
        {"name": "näme", "tag_scope": "endpoint", "features": "tag", "auth": "none"},
    ),
    Frame(FrameType.READY, {}),
    Frame(FrameType.ADDRESS, {"address": "00ff" * 300, "prefix": MAX_ENDPOINT_ID, "window": 0}),
    Frame(FrameType.GOODBYE, {"sent": 2**60, "streamed": 0}),
]


def header(kind=FrameType.HELLO, length=0, version=VERSION, magic=b"UCXn"):
    return struct.pack("!4sBBI", magic, version, kind, length)


# ---- frames ----


@pytest.mark.parametrize("kind", list(FrameType))
def test_a_frame_comes_out_as_it_went_in(kind):
    frame = Frame(kind, {"number": 7, "text": "ü", "none": None})
    assert list(FrameDecoder().feed(encode_frame(frame))) == [frame]


def test_frames_may_be_cut_anywhere():
    stream = b"".join(map(encode_frame, FRAMES))
    for cut in range(len(stream) + 1):
        decoder = FrameDecoder()
        assert [*decoder.feed(stream[:cut]), *decoder.feed(stream[cut:])] == FRAMES


def test_frames_may_come_byte_by_byte():
    decoder = FrameDecoder()
    got, completed_at = [], []
    for number, byte in enumerate(b"".join(map(encode_frame, FRAMES)), 1):
        for frame in decoder.feed(bytes([byte])):
            got.append(frame)
            completed_at.append(number)
    assert got == FRAMES
    ends = [len(b"".join(map(encode_frame, FRAMES[:n]))) for n in range(1, len(FRAMES) + 1)]
    assert completed_at == ends


@pytest.mark.parametrize("known", range(4))
def test_junk_is_noticed_at_its_first_byte(known):
    decoder = FrameDecoder()
    assert list(decoder.feed(b"UCXn"[:known])) == []
    with pytest.raises(ProtocolError, match="it says"):
        list(decoder.feed(b"?"))


def test_frames_before_junk_are_not_lost():
    frames = FrameDecoder().feed(encode_frame(FRAMES[0]) + b"?")
    assert next(frames) == FRAMES[0]
    with pytest.raises(ProtocolError):
        next(frames)


@pytest.mark.parametrize("version", [0, VERSION + 1, 255])
def test_another_version_is_told_which_this_one_is(version):
    with pytest.raises(ProtocolError, match=f"version {version}, this is version {VERSION}"):
        list(FrameDecoder().feed(header(version=version)))


def test_a_rejection_is_understood_from_every_version():
    payload = b'{"reason":"too old"}'
    data = header(FrameType.REJECT, len(payload), version=200) + payload
    assert list(FrameDecoder().feed(data)) == [Frame(FrameType.REJECT, {"reason": "too old"})]


def test_a_frame_that_is_too_long_is_refused_by_its_header():
    with pytest.raises(ProtocolError, match=str(MAX_PAYLOAD + 1)):
        list(FrameDecoder().feed(header(length=MAX_PAYLOAD + 1)))
    with pytest.raises(ProtocolError, match="over the limit"):
        encode_frame(Frame(FrameType.HELLO, {"name": "x" * MAX_PAYLOAD}))
    largest = Frame(FrameType.HELLO, {"x": "y" * (MAX_PAYLOAD - len('{"x":""}'))})
    assert list(FrameDecoder().feed(encode_frame(largest))) == [largest]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (0, b""),
        (max(FrameType) + 1, b""),
        (255, b"{}"),
        (FrameType.HELLO, b"{"),
        (FrameType.HELLO, b"{} {}"),
        (FrameType.HELLO, b'{"a":"\xff"}'),
        (FrameType.HELLO, b"[" * MAX_PAYLOAD),
        (FrameType.HELLO, b'{"a":' * 10_000),
        (FrameType.HELLO, b"9" * MAX_PAYLOAD),
        (FrameType.HELLO, b"[1]"),
        (FrameType.HELLO, b"null"),
        (FrameType.HELLO, b'"text"'),
    ],
    ids=range(12),
)
def test_a_frame_that_cannot_be_read(kind, payload):
    with pytest.raises(ProtocolError):
        list(FrameDecoder().feed(header(kind, len(payload)) + payload))


# ---- the handshake, without sockets ----


class Side:
    """A handshake, and how often it admitted its peer."""

    def __init__(self, name, *, connecting, prefix=1, tag_scope="endpoint"):
        self.admitted = 0
        self.prefix = prefix
        self.handshake = Handshake(
            Introduction(name, tag_scope, ("tag",), f"worker of {name}".encode()),
            self._admit,
            connecting=connecting,
        )

    def _admit(self):
        self.admitted += 1
        return self.prefix, 100 * self.prefix


def conversation(connecting, listening):
    """Drive two sides against each other; yields each frame before it is received."""
    sides = [connecting, listening]
    queues = [[], connecting.handshake.begin()]
    assert listening.handshake.begin() == []
    while queues[0] or queues[1]:
        to = 0 if queues[0] else 1
        frame = queues[to].pop(0)
        yield sides[to], frame
        (decoded,) = FrameDecoder().feed(encode_frame(frame))
        queues[1 - to] += sides[to].handshake.receive(decoded)


def test_two_handshakes_introduce_each_other():
    client = Side("client", connecting=True, prefix=5)
    server = Side("server", connecting=False, prefix=MAX_ENDPOINT_ID)
    talk = [
        (side.handshake.me.name, frame.type.name) for side, frame in conversation(client, server)
    ]
    assert talk == [
        ("server", "HELLO"),
        ("client", "WELCOME"),
        ("server", "AUTH"),
        ("client", "AUTH"),
        ("client", "ADDRESS"),
        ("server", "ADDRESS"),
        ("client", "READY"),
    ]
    assert client.handshake.done
    assert server.handshake.done
    assert client.handshake.peer == Introduction(
        "server", "endpoint", ("tag",), b"worker of server", MAX_ENDPOINT_ID, 100 * MAX_ENDPOINT_ID
    )
    assert server.handshake.peer == Introduction(
        "client", "endpoint", ("tag",), b"worker of client", 5, 500
    )


def test_nothing_is_given_away_before_authentication():
    client, server = Side("client", connecting=True), Side("server", connecting=False)
    authenticated = set()
    for side, frame in conversation(client, server):
        for each in (client, server):
            if each not in authenticated:
                assert each.admitted == 0
        if frame.type is not FrameType.ADDRESS:
            assert "worker of" not in json.dumps(dict(frame.payload))
            assert b"worker of".hex() not in json.dumps(dict(frame.payload))
        if frame.type is FrameType.AUTH:
            authenticated.add(side)
    assert client.admitted == server.admitted == 1


def advanced_to(connecting, expected):
    """A side whose next frame is of type `expected`, and that frame."""
    client, server = Side("client", connecting=True), Side("server", connecting=False)
    for side, frame in conversation(client, server):
        if (side is client) == connecting and frame.type is expected:
            return side.handshake, frame
    raise AssertionError("it never comes")


STEPS = [
    (True, FrameType.WELCOME),
    (True, FrameType.AUTH),
    (True, FrameType.ADDRESS),
    (True, FrameType.READY),
    (False, FrameType.HELLO),
    (False, FrameType.AUTH),
    (False, FrameType.ADDRESS),
]


@pytest.mark.parametrize(("connecting", "expected"), STEPS)
def test_a_frame_out_of_order_ends_it(connecting, expected):
    for kind in FrameType:
        if kind in (expected, FrameType.REJECT):
            continue
        handshake, _ = advanced_to(connecting, expected)
        with pytest.raises(ProtocolError, match=f"{kind.name} where {expected.name} comes"):
            handshake.receive(Frame(kind, {}))
        assert not handshake.done


TEXTS = [None, 5, ["x"], "x" * 257, "line\nbreak", "\x1b[31m", "\u202e"]
WRONG = [
    (step, field, value)
    for step, fields in {
        (True, FrameType.WELCOME): {
            "name": TEXTS,
            "tag_scope": TEXTS,
            "features": TEXTS,
            "auth": TEXTS,
        },
        (False, FrameType.HELLO): {
            "name": TEXTS,
            "tag_scope": TEXTS,
            "features": TEXTS,
            "auth": TEXTS,
        },
        (True, FrameType.AUTH): {"method": TEXTS},
        (False, FrameType.AUTH): {"method": TEXTS},
        (True, FrameType.ADDRESS): {
            "address": [None, 5, "", "xy", "abc", "00" * (16 * 1024 + 1)],
            "prefix": [None, -1, MAX_ENDPOINT_ID + 1, 1.0, True, "1"],
            "window": [-1, 2**63, 1.0, True, "1"],
        },
        (False, FrameType.ADDRESS): {
            "address": [None, 5, "", "xy", "abc", "00" * (16 * 1024 + 1)],
            "prefix": [None, -1, MAX_ENDPOINT_ID + 1, 1.0, True, "1"],
            "window": [-1, 2**63, 1.0, True, "1"],
        },
    }.items()
    for field, values in fields.items()
    for value in values
]


@pytest.mark.parametrize(("step", "field", "value"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_field_ends_it(step, field, value):
    handshake, frame = advanced_to(*step)
    with pytest.raises(ProtocolError):
        handshake.receive(Frame(frame.type, {**frame.payload, field: value}))
    handshake, frame = advanced_to(*step)
    with pytest.raises(ProtocolError):
        handshake.receive(Frame(frame.type, {k: v for k, v in frame.payload.items() if k != field}))
    assert not handshake.done


@pytest.mark.parametrize("step", STEPS)
def test_fields_of_the_future_are_ignored(step):
    handshake, frame = advanced_to(*step)
    handshake.receive(Frame(frame.type, {**frame.payload, "new": {"deep": [1]}}))


@pytest.mark.parametrize("step", STEPS[:1] + STEPS[4:5])
def test_tag_scopes_must_agree(step):
    handshake, frame = advanced_to(*step)
    with pytest.raises(ucxnb.RejectedError, match=r'tag_scope.*"worker".*"endpoint"'):
        handshake.receive(Frame(frame.type, {**frame.payload, "tag_scope": "worker"}))


@pytest.mark.parametrize(
    ("step", "field"), [(STEPS[0], "auth"), (STEPS[4], "auth"), (STEPS[1], "method")]
)
def test_a_peer_that_wants_a_key(step, field):
    handshake, frame = advanced_to(*step)
    with pytest.raises(ucxnb.AuthenticationError):
        handshake.receive(Frame(frame.type, {**frame.payload, field: "hmac-sha256"}))


@pytest.mark.parametrize("step", STEPS)
def test_a_peer_may_decline_at_any_time(step):
    handshake, _ = advanced_to(*step)
    with pytest.raises(ucxnb.RejectedError, match="go away") as caught:
        handshake.receive(Frame(FrameType.REJECT, {"reason": "go away"}))
    assert not isinstance(caught.value, ucxnb.AuthenticationError)
    with pytest.raises(ucxnb.AuthenticationError, match="wrong key"):
        handshake.receive(Frame(FrameType.REJECT, {"reason": "wrong key", "kind": "auth"}))


@pytest.mark.parametrize("reason", [None, 7, [], "\x1b[2J", "bell\a"])
def test_a_reason_that_cannot_be_shown_is_not(reason):
    handshake, _ = advanced_to(True, FrameType.WELCOME)
    with pytest.raises(ucxnb.RejectedError, match="without a reason"):
        handshake.receive(Frame(FrameType.REJECT, {"reason": reason}))
    with pytest.raises(ucxnb.RejectedError) as caught:
        handshake.receive(Frame(FrameType.REJECT, {"reason": "long " * 1000}))
    assert len(str(caught.value)) <= 400


# ---- strangers at a real listener ----


class Stranger:
    """A TCP client that speaks the protocol by hand."""

    def __init__(self, listener):
        self.socket = socket.create_connection((listener.host, listener.port), timeout=TIMEOUT)
        self._decoder = FrameDecoder()
        self._frames = []

    def say(self, *frames):
        for frame in frames:
            self.socket.sendall(frame if isinstance(frame, bytes) else encode_frame(frame))

    def hear(self):
        """The next frame, None at the end of the connection."""
        while not self._frames:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                return None
            if not data:
                return None
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    def hear_all(self):
        return list(iter(self.hear, None))

    def join(self, worker_address):
        """Complete the handshake, as a worker with that address."""
        handshake = Handshake(
            Introduction("stranger", "endpoint", ("tag",), worker_address),
            lambda: (1, None),
            connecting=True,
        )
        self.say(*handshake.begin())
        while not handshake.done:
            frame = self.hear()
            assert frame is not None, "the listener hung up"
            self.say(*handshake.receive(frame))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


HELLO = FRAMES[0]
AUTH = Frame(FrameType.AUTH, {"method": "none", "proof": ""})


def exchange(client, endpoint_id, server):
    client.send_tag(endpoint_id, 1, b"ping")
    message = server.receive_message(None, 1, timeout=TIMEOUT)
    assert message.data == b"ping"
    server.send_tag(message.endpoint_id, 1, b"pong")
    assert client.receive_tag(endpoint_id, 1, timeout=TIMEOUT) == b"pong"
    return message.endpoint_id


def test_a_stranger_that_drips_bytes_is_dropped_at_the_deadline_and_holds_nobody_up():
    with UcxWorker(handshake_timeout=0.6) as server, UcxWorker() as client:
        listener = server.create_listener()
        with Stranger(listener) as stranger:
            sent = 0
            stop = threading.Event()
            data = encode_frame(Frame(FrameType.HELLO, {**HELLO.payload, "name": "x" * 250}))

            def drip():
                nonlocal sent
                with contextlib.suppress(ConnectionError):
                    while sent < len(data) and not stop.wait(0.01):
                        stranger.say(data[sent : sent + 1])
                        sent += 1

            thread = threading.Thread(target=drip)
            thread.start()
            try:
                eventually(lambda: sent >= 3)
                there = exchange(client, client.connect(listener.address, timeout=10), server)
                assert stranger.hear_all() == []  # ends when the door is shut
                assert sent < len(data)
            finally:
                stop.set()
                thread.join()
        assert server.get_endpoint_ids() == [there]


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ([HELLO], ["WELCOME"]),
        ([HELLO, AUTH], ["WELCOME", "AUTH", "ADDRESS"]),
        ([HELLO, AUTH, encode_frame(FRAMES[2])[:50]], ["WELCOME", "AUTH", "ADDRESS"]),
    ],
    ids=["after HELLO", "after AUTH", "in ADDRESS"],
)
def test_a_stranger_that_falls_silent_in_the_handshake(said, answers):
    with UcxWorker(handshake_timeout=0.4) as server, UcxWorker() as client:
        listener = server.create_listener()
        with Stranger(listener) as stranger:
            stranger.say(*said)
            assert [stranger.hear().type.name for _ in answers] == answers
            there = exchange(client, client.connect(listener.address), server)
            assert server.get_endpoint_ids() == [there]
            assert stranger.hear_all() == []
        assert [info.endpoint_id for info in server.endpoints(ended=True)] == [there]


def test_closing_shows_strangers_the_door():
    with UcxWorker(handshake_timeout=60) as server, contextlib.ExitStack() as stack:
        listener = server.create_listener()
        strangers = [stack.enter_context(Stranger(listener)) for _ in range(20)]
        for number, stranger in enumerate(strangers):
            stranger.say(*[HELLO, AUTH][: number % 3])
            for _ in range((0, 1, 3)[number % 3]):
                stranger.hear()
        server.close()
        for stranger in strangers:
            assert stranger.hear_all() == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "it says b'GET"),
        (header(version=VERSION + 1), f"version {VERSION + 1}"),
        (header(length=2**32 - 1), "4294967295"),
        (Frame(FrameType.READY, {}), "READY where HELLO"),
        (Frame(FrameType.HELLO, {**HELLO.payload, "tag_scope": "worker"}), "tag_scope"),
        (Frame(FrameType.HELLO, {**HELLO.payload, "auth": "hmac"}), "key"),
        (Frame(FrameType.HELLO, {}), "'name'"),
    ],
    ids=range(7),
)
def test_who_is_refused_is_told_why(said, reason):
    with UcxWorker() as server, Stranger(server.create_listener()) as stranger:
        stranger.say(said)
        (frame,) = stranger.hear_all()
        assert frame.type is FrameType.REJECT
        assert reason in frame.payload["reason"]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (Frame(FrameType.WELCOME, HELLO.payload), "WELCOME"),
        (Frame(FrameType.GOODBYE_ACK, {}), "GOODBYE_ACK"),
        (Frame(FrameType.GOODBYE, {"sent": -1, "streamed": 0}), "-1"),
        (Frame(FrameType.GOODBYE, {}), "None"),
        (b"junk", "junk"),
        (header(255), "cannot be read"),
    ],
    ids=range(6),
)
def test_a_peer_that_breaks_the_protocol_is_lost_and_nobody_else(said, what):
    with UcxWorker() as server, UcxWorker() as client:
        listener = server.create_listener()
        there = exchange(client, endpoint_id := client.connect(listener.address), server)
        with Stranger(listener) as stranger:
            stranger.join(client._ucp.address)
            (bad,) = set(server.get_endpoint_ids()) - {there}
            stranger.say(said)
            stranger.hear_all()
            eventually(lambda: not server.is_connected(bad))
        (ended,) = [info for info in server.endpoints(ended=True) if info.endpoint_id == bad]
        assert ended.state is EndpointState.LOST
        assert "protocol" in ended.reason
        assert what in ended.reason
        with pytest.raises(ucxnb.EndpointLostError, match="protocol"):
            server.send_tag(bad, 1, b"")
        assert exchange(client, endpoint_id, server) == there


def test_a_goodbye_that_promises_more_than_was_sent_is_not_waited_for_for_ever():
    with UcxWorker(close_timeout=0.3) as server, UcxWorker() as client:
        with Stranger(server.create_listener()) as stranger:
            stranger.join(client._ucp.address)
            stranger.say(Frame(FrameType.GOODBYE, {"sent": 10**9, "streamed": 0}))
            assert [frame.type for frame in stranger.hear_all()][-1] is FrameType.GOODBYE_ACK
        (ended,) = server.endpoints(ended=True)
        assert ended.state is EndpointState.CLOSED


@contextlib.contextmanager
def one_answer(*frames):
    """The address of a server that hears one frame, and then says `frames` and no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard = []

        def serve():
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    heard.append(connection.recv(1 << 16))
                    connection.sendall(b"".join(map(encode_frame, frames)))
                    while connection.recv(1 << 16):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}", heard
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (Frame(FrameType.REJECT, {"reason": "bad key", "kind": "auth"}), "Authentication", "key"),
        (Frame(FrameType.REJECT, {"reason": "full"}), "Rejected", "full"),
        (Frame(FrameType.WELCOME, {**HELLO.payload, "auth": "hmac"}), "Authentication", "key"),
        (Frame(FrameType.WELCOME, {**HELLO.payload, "tag_scope": "worker"}), "Rejected", "scope"),
        (Frame(FrameType.HEARTBEAT, {}), "Handshake", "HEARTBEAT where WELCOME"),
    ],
    ids=range(5),
)
def test_connecting_to_one_that_declines(answer, error, text):
    with UcxWorker() as worker, one_answer(answer) as (address, heard):
        with pytest.raises(ucxnb.EndpointError, match=text) as caught:
            worker.connect(address)
        assert type(caught.value) is getattr(ucxnb, f"{error}Error")
        assert address in str(caught.value)
        assert heard
        assert worker.get_endpoint_ids() == []
        assert worker.endpoints(ended=True) == []


def test_closing_ends_a_connect_that_nobody_answers():
    with UcxWorker(thread_mode=ThreadMode.MULTI) as worker, one_answer() as (address, heard):
        outcome = []

        def connect():
            try:
                outcome.append(worker.connect(address, timeout=None))
            except Exception as error:
                outcome.append(error)

        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        eventually(lambda: heard)
        worker.close()
        thread.join(TIMEOUT)
        assert isinstance(outcome[0], ucxnb.WorkerClosedError)


def test_a_peer_whose_messages_do_not_arrive_is_lost(monkeypatch):
    """As when UCX's way is blocked, and the control channel is not."""
    with UcxWorker(heartbeat_interval=0.05, heartbeat_timeout=0.5) as server:
        with UcxWorker(heartbeat_interval=0.05, heartbeat_timeout=None) as client:
            endpoint_id = client.connect(server.create_listener().address)
            client.send_tag(endpoint_id, 1, b"it arrives, and nobody receives it")
            time.sleep(0.8)
            assert server.get_endpoint_ids()
            counts = Channel._counts

            def overstate(channel, engine):
                told = counts(channel, engine)
                return {**told, "sent": told["sent"] + 1}

            monkeypatch.setattr(Channel, "_counts", overstate)
            eventually(lambda: not server.get_endpoint_ids())
        (info,) = server.endpoints(ended=True)
        assert info.state is EndpointState.LOST
        assert "nothing of what it sends has arrived" in info.reason
        assert server.receive_tag(info.endpoint_id, 1, timeout=10).startswith(b"it arrives")

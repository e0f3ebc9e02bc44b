"""With a key: who does not have it gets nowhere, and nobody sees it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import pickle
import re
import socket
import threading
import time
import traceback
import warnings
from pathlib import Path

import pytest
from eventually import eventually

import ucxnb
from ucxnb import (
    AuthenticationError,
    ConfigError,
    EchoPeer,
    UcxWorker,
    UnprotectedListenerWarning,
    WorkerConfig,
)
from ucxnb.auth_key import KEY_VARIABLE, AuthKey
from ucxnb.bench import BenchPartner, private_pair
from ucxnb.console.session import Session
from ucxnb.frontdoor.handshake import Handshake, Introduction
from ucxnb.frontdoor.protocol import (
    Frame,
    FrameDecoder,
    FrameType,
    ProtocolError,
    encode_frame,
)

KEY = "the key of these tests, not a good one"
OTHER = "the key of other tests, no better"
TIMEOUT = 30
BOTH = "set the same auth_key on both workers, or UCXNB_AUTH_KEY where both run"


@pytest.fixture(autouse=True)
def _no_key_from_outside(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


# ---- the handshake, without sockets


class Side:
    """A handshake that counts how often it admitted its peer."""

    def __init__(self, key, *, connecting):
        self.admitted = 0
        self.name = "connecting" if connecting else "listening"
        self.handshake = Handshake(
            Introduction(self.name, "endpoint", ("tag",), f"worker of {self.name}".encode()),
            self._enroll,
            connecting=connecting,
            key=None if key is None else AuthKey(key),
        )

    def _enroll(self):
        self.admitted += 1
        return 7, 1000

    def hear(self, *frames):
        """Receive frames as they come over the wire; gives the answers."""
        answers = []
        for frame in frames:
            (decoded,) = FrameDecoder().feed(encode_frame(frame))
            answers += self.handshake.receive(decoded)
        return answers

    @property
    def knows_an_address(self):
        peer = self.handshake.peer
        return peer is not None and bool(peer.worker_address)


def sides(key=KEY, listening_key=None):
    return Side(key, connecting=True), Side(listening_key or key, connecting=False)


def talk(connecting, listening, change=lambda sender, frame: frame):
    """Let two sides talk, with somebody between them; gives all (sender, frame) as sent.

    What a side raises has its `side` as an attribute.
    """
    said = []
    queues = {"connecting": connecting.handshake.begin(), "listening": []}
    receivers = {"connecting": listening, "listening": connecting}
    while any(queues.values()):
        sender = "listening" if queues["listening"] else "connecting"
        frame = queues[sender].pop(0)
        said.append((sender, frame))
        receiver = receivers[sender]
        try:
            answers = receiver.hear(change(sender, frame))
        except (ucxnb.UcxnbError, ProtocolError) as error:
            error.side = receiver
            raise
        queues[receiver.name] += answers
    return said


def with_fields(frame, **fields):
    return Frame(frame.type, {**frame.payload, **fields})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (KEY, KEY),
        (KEY, KEY.encode()),
        ("schlüssel-鍵-🔑!", "schlüssel-鍵-🔑!".encode()),
        (b"\0" * 16, "\0" * 16),
        (b"\xff" * 1024, b"\xff" * 1024),
    ],
    ids=range(5),
)
def test_two_with_the_same_key_let_each_other_in(one, other):
    connecting, listening = sides(one, other)
    talk(connecting, listening)
    assert connecting.handshake.done
    assert listening.handshake.done
    assert connecting.handshake.peer.worker_address == b"worker of listening"
    assert listening.handshake.peer.worker_address == b"worker of connecting"


def test_the_key_is_not_said_and_no_nonce_or_proof_is_said_twice():
    values = []
    for _ in range(3):
        for _, frame in talk(*sides()):
            assert KEY not in str(frame)
            assert KEY.encode().hex() not in str(frame)
            values += [v for f, v in frame.payload.items() if f in ("nonce", "proof")]
    assert len(values) == len(set(values)) == 3 * 6
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in values)


@pytest.mark.parametrize("other", [OTHER, KEY + " ", KEY.upper()])
def test_another_key_is_refused_before_anything_is_given_away(other):
    connecting, listening = sides(KEY, other)
    with pytest.raises(AuthenticationError, match="keys differ: " + re.escape(BOTH)) as caught:
        talk(connecting, listening)
    assert caught.value.side is listening
    assert connecting.admitted == listening.admitted == 0
    assert not connecting.knows_an_address
    assert not listening.knows_an_address


@pytest.mark.parametrize(("key", "listening_key"), [(KEY, None), (None, KEY)])
def test_a_key_on_one_side_only_is_refused_at_the_first_frame(key, listening_key):
    connecting = Side(key, connecting=True)
    listening = Side(listening_key, connecting=False)
    with pytest.raises(AuthenticationError, match="only one side.*" + re.escape(BOTH)) as caught:
        talk(connecting, listening)
    assert caught.value.side is listening


def test_a_listener_that_talks_the_key_away_is_refused():
    def without_key(sender, frame):
        fields = {"auth": "none", "method": "none"}
        return with_fields(frame, **{f: v for f, v in fields.items() if f in frame.payload})

    connecting, listening = Side(KEY, connecting=True), Side(None, connecting=False)
    with pytest.raises(AuthenticationError, match="only one side") as caught:
        talk(connecting, listening, without_key)
    assert caught.value.side is connecting
    connecting, listening = sides()
    with pytest.raises(AuthenticationError):
        talk(connecting, listening, without_key)


SIGNED = [
    (FrameType.HELLO, "name", "another"),
    (FrameType.HELLO, "nonce", "00" * 32),
    (FrameType.AUTH, "proof", "00" * 32),
    (FrameType.ADDRESS, "address", b"worker of a thief".hex()),
    (FrameType.ADDRESS, "prefix", 8),
    (FrameType.ADDRESS, "window", None),
    (FrameType.ADDRESS, "proof", "00" * 32),
]


@pytest.mark.parametrize(("kind", "field", "value"), SIGNED, ids=lambda v: str(v)[:12])
@pytest.mark.parametrize("sender", ["connecting", "listening"])
def test_what_was_changed_on_the_way_is_noticed(sender, kind, field, value):
    if (sender, kind) == ("listening", FrameType.HELLO):
        kind = FrameType.WELCOME
    connecting, listening = sides()
    receiver = listening if sender == "connecting" else connecting

    def change(who, frame):
        if (who, frame.type) != (sender, kind):
            return frame
        assert field in frame.payload
        return with_fields(frame, **{field: value})

    with pytest.raises(AuthenticationError):
        talk(connecting, listening, change)
    assert not receiver.knows_an_address
    assert not receiver.handshake.done


def test_an_address_of_another_handshake_is_refused():
    earlier = next(f for _, f in talk(*sides()) if f.type is FrameType.ADDRESS)
    connecting, listening = sides()
    with pytest.raises(AuthenticationError, match="changed on its way") as caught:
        talk(connecting, listening, lambda _, f: earlier if f.type is earlier.type else f)
    assert caught.value.side is connecting


def test_what_was_heard_before_does_not_open_the_door():
    said = talk(*sides())
    frames = [frame for who, frame in said if who == "connecting"]
    listening = Side(KEY, connecting=False)
    listening.hear(frames[0])
    with pytest.raises(AuthenticationError):
        listening.hear(frames[1])
    assert listening.admitted == 0

    frames = [frame for who, frame in said if who == "listening"]
    connecting = Side(KEY, connecting=True)
    connecting.handshake.begin()
    connecting.hear(frames[0])
    with pytest.raises(AuthenticationError):
        connecting.hear(frames[1])
    assert connecting.admitted == 0


def test_a_challenge_that_is_sent_back_is_not_answered_for_its_sender():
    connecting = Side(KEY, connecting=True)
    (hello,) = connecting.handshake.begin()
    (proof,) = connecting.hear(Frame(FrameType.WELCOME, hello.payload))
    with pytest.raises(AuthenticationError):
        connecting.hear(proof)


def test_a_proof_is_not_one_for_the_other_role():
    connecting, listening = sides()
    (hello,) = connecting.handshake.begin()
    (welcome,) = listening.hear(hello)
    (auth,) = connecting.hear(welcome)
    with pytest.raises(AuthenticationError):
        connecting.hear(auth)


@pytest.mark.parametrize("kind", [FrameType.AUTH, FrameType.ADDRESS])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda proof: "",
        lambda proof: proof[:-1],
        lambda proof: proof[:32],
        lambda proof: proof + "0",
        lambda proof: proof * 4,
        lambda proof: proof.upper(),
        lambda proof: " " + proof,
        lambda proof: "é" * 64,
        lambda proof: "0" * 64,
        lambda proof: proof[::-1],
    ],
    ids=range(10),
)
def test_a_proof_of_another_form_is_no_proof(kind, spoil):
    connecting, listening = sides()
    with pytest.raises(AuthenticationError):
        talk(
            connecting,
            listening,
            lambda _, frame: (
                with_fields(frame, proof=spoil(frame.payload["proof"]))
                if frame.type is kind
                else frame
            ),
        )
    assert not listening.handshake.done


@pytest.mark.parametrize("proof", [None, 5, ["x"], True, "x" * 257, "0" * 63 + "\n"])
@pytest.mark.parametrize("kind", [FrameType.AUTH, FrameType.ADDRESS])
def test_a_proof_that_is_no_text_ends_it(kind, proof):
    with pytest.raises(ProtocolError, match="proof"):
        talk(
            *sides(),
            lambda _, frame: with_fields(frame, proof=proof) if frame.type is kind else frame,
        )


@pytest.mark.parametrize(
    "nonce", [None, 5, "", "00" * 31, "00" * 33, "0x" + "00" * 31, "é" * 64, "AB" * 32]
)
@pytest.mark.parametrize("kind", [FrameType.HELLO, FrameType.WELCOME])
def test_a_nonce_of_another_form_ends_it(kind, nonce):
    with pytest.raises(ProtocolError, match="nonce"):
        talk(
            *sides(),
            lambda _, frame: with_fields(frame, nonce=nonce) if frame.type is kind else frame,
        )


# ---- real workers


class Watched(UcxWorker):
    """A worker that notes each address that it hands to UCX."""

    handed_over: tuple[bytes, ...] = ()

    def _open_endpoint(self, endpoint_id, address, *more):
        self.handed_over += (address,)
        return super()._open_endpoint(endpoint_id, address, *more)


def exchange(client, endpoint_id, server):
    client.send_tag(endpoint_id, 1, b"ping")
    assert server.receive_tag(None, 1, timeout=TIMEOUT) == b"ping"


@pytest.mark.reliability
def test_nothing_reaches_ucx_and_no_id_is_used_before_the_proof(saw):
    seconds = []
    with Watched(auth_key=KEY) as server, Watched(auth_key=KEY) as client:
        listener = server.create_listener()
        address = client._ucp.address
        for key in (OTHER, None):
            stranger = Side(key, connecting=True).handshake
            frames = stranger.begin()
            frames += [
                Frame(FrameType.AUTH, {"method": "hmac-sha256", "proof": "00" * 32}),
                Frame(
                    FrameType.ADDRESS,
                    {"address": address.hex(), "prefix": 1, "window": None, "proof": ""},
                ),
            ]
            with socket.create_connection((listener.host, listener.port), TIMEOUT) as sock:
                sock.sendall(b"".join(map(encode_frame, frames)))
                heard = b""
                with contextlib.suppress(ConnectionError):
                    while data := sock.recv(1 << 16):
                        heard += data
                assert server._ucp.address.hex().encode() not in heard
        for key in (OTHER, None):
            with Watched(auth_key=key) as worker:
                start = time.monotonic()
                with pytest.raises(AuthenticationError, match=re.escape(BOTH)):
                    worker.connect(listener.address)
                seconds.append(time.monotonic() - start)
                assert worker.handed_over == ()
                assert worker.endpoints(ended=True) == []
        assert server.handed_over == ()
        assert server.endpoints(ended=True) == []
        assert server.refusals().count == 4
        exchange(client, client.connect(listener.address), server)
        assert server.handed_over == (client._ucp.address,)
        assert client.handed_over == (server._ucp.address,)
        assert server.get_endpoint_ids() == [1]
    saw(
        "strangers",
        "a worker with another `auth_key`, or with none, connects",
        tried=len(seconds),
        sees="`AuthenticationError` there; a refused peer in `refusals()` and in the panel here",
        seconds=seconds,
        lost="nothing; nothing of it reached UCX",
    )


@pytest.mark.parametrize(("key", "listening_key"), [(KEY, None), (None, KEY), (KEY, OTHER)])
def test_both_sides_hear_what_to_do(key, listening_key):
    with UcxWorker(auth_key=listening_key) as server, UcxWorker(auth_key=key) as client:
        listener = server.create_listener()
        with pytest.raises(AuthenticationError) as caught:
            client.connect(listener.address)
        assert listener.address in str(caught.value)
        assert BOTH in str(caught.value)
        (refusal,) = server.refusals().latest
        assert BOTH in refusal.reason
        assert client.refusals().count == 0
        # Both go on with others.
        with UcxWorker(auth_key=listening_key) as friend:
            exchange(friend, friend.connect(listener.address), server)
        with UcxWorker(auth_key=key) as friend:
            exchange(client, client.connect(friend.create_listener().address), friend)


class Thief:
    """Between two workers: passes frames on, and puts another address into those of one side."""

    def __init__(self, target, changes, address):
        self.changes, self.address = changes, address
        self._server = socket.create_server(("127.0.0.1", 0))
        self.at = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._target = target
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        client, _ = self._server.accept()
        with client, socket.create_connection(self._target, TIMEOUT) as server:
            back = threading.Thread(target=self._pass_on, args=(server, client, "listening"))
            back.start()
            self._pass_on(client, server, "connecting")
            back.join()

    def _pass_on(self, source, target, sender):
        decoder = FrameDecoder()
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                for frame in decoder.feed(data):
                    if frame.type is FrameType.ADDRESS and sender == self.changes:
                        frame = with_fields(frame, address=self.address.hex())
                    target.sendall(encode_frame(frame))
            target.shutdown(socket.SHUT_WR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._thread.join(TIMEOUT)
        self._server.close()


@pytest.mark.reliability
@pytest.mark.parametrize("changes", ["connecting", "listening"])
def test_an_address_that_was_changed_on_its_way_is_not_used(changes, saw):
    with (
        Watched(auth_key=KEY) as server,
        Watched(auth_key=KEY) as client,
        UcxWorker() as other,
    ):
        listener = server.create_listener()
        with Thief((listener.host, listener.port), changes, other._ucp.address) as thief:
            start = time.monotonic()
            with pytest.raises(AuthenticationError, match="changed on its way"):
                client.connect(thief.at)
            seconds = time.monotonic() - start
            (refusal,) = eventually(lambda: server.refusals().latest)
        assert "changed on its way" in refusal.reason
        assert other._ucp.address not in server.handed_over + client.handed_over
        assert server.get_endpoint_ids() == client.get_endpoint_ids() == []
    saw(
        "strangers",
        "between two workers with a key, somebody puts another worker address into the handshake",
        tried=1,
        sees="`AuthenticationError` there; a refused peer in `refusals()` and in the panel here",
        seconds=[seconds],
        lost="nothing; the wrong address did not reach UCX",
    )


def listen(channel, key):
    """In a process of its own: let in who has the key, and say what happened."""
    with UcxWorker(auth_key=key) as worker:
        channel.send(worker.create_listener().address)
        channel.send(worker.receive_tag(None, 1, timeout=TIMEOUT))
        refusals = worker.refusals()
        channel.send((refusals.count, refusals.latest[-1].reason))
        channel.receive()


def test_between_two_processes(start_child):
    child = start_child(listen, KEY)
    address = child.receive()
    with UcxWorker(auth_key=OTHER) as stranger:
        for _ in range(3):
            with pytest.raises(AuthenticationError):
                stranger.connect(address)
    with UcxWorker(auth_key=KEY.encode()) as friend:
        friend.send_tag(friend.connect(address), 1, b"it is me")
        assert child.receive() == b"it is me"
        count, reason = child.receive()
        assert count == 3
        assert BOTH in reason
        child.send("done")
        child.result()


# ---- where the key comes from


def test_the_environment_s_key_is_read_when_a_worker_is_made(monkeypatch):
    with UcxWorker() as before:
        assert before.config.auth_key is None
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert WorkerConfig().auth_key is None
    with UcxWorker() as server, UcxWorker(auth_key=KEY) as client:
        assert server.config.auth_key == AuthKey(KEY)
        exchange(client, client.connect(server.create_listener().address), server)


def test_a_key_that_is_given_wins(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, OTHER)
    with UcxWorker(auth_key=KEY) as server, UcxWorker() as client:
        with pytest.raises(AuthenticationError):
            client.connect(server.create_listener().address)
        monkeypatch.delenv(KEY_VARIABLE)
        with UcxWorker(client.config) as with_the_same_config:
            assert with_the_same_config.config.auth_key == AuthKey(OTHER)


@pytest.mark.parametrize("value", ["", "too short"])
def test_a_wrong_key_in_the_environment_is_no_missing_one(monkeypatch, value):
    monkeypatch.setenv(KEY_VARIABLE, value)
    with pytest.raises(ConfigError, match=rf"{KEY_VARIABLE}: .*16 to 1,024.* not {len(value)};"):
        UcxWorker()


def test_child_processes_take_the_environment_s_key(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with EchoPeer() as peer, UcxWorker() as worker:
        endpoint_id = worker.connect(peer.address)
        worker.send_tag(endpoint_id, 1, b"hello")
        assert worker.receive_tag(endpoint_id, 1, timeout=TIMEOUT) == b"hello"
    with private_pair() as (worker, endpoint_id):
        assert worker.is_connected(endpoint_id)
        assert worker.config.auth_key == AuthKey(KEY)


@pytest.mark.parametrize("kind", [EchoPeer, BenchPartner])
def test_child_processes_take_a_key_that_nobody_else_sees(kind):
    key = "\0" + KEY
    with kind(auth_key=key) as peer, UcxWorker(auth_key=key) as worker, UcxWorker() as keyless:
        worker.connect(peer.address)
        with pytest.raises(AuthenticationError):
            keyless.connect(peer.address)
        for file in ("cmdline", "environ"):
            assert KEY.encode() not in Path(f"/proc/{peer.pid}/{file}").read_bytes()


@pytest.mark.parametrize("kind", [EchoPeer, BenchPartner])
def test_a_wrong_key_starts_no_child(kind):
    for key in ("short", 5):
        with pytest.raises(ConfigError, match="auth_key"):
            kind(auth_key=key)


# ---- the key as a setting


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("tiny secret", "not 11"),
        (b"tiny secret", "not 11"),
        ("", "not 0"),
        ("long secret" * 100, "not 1,100"),
        ("é" * 513, "not 1,026"),
        (12345678901234567890, "not int"),
        (bytearray(b"secret secret secret"), "not bytearray"),
        (True, "not bool"),
        ("secret secret \udc80", "UTF-8"),
    ],
    ids=range(9),
)
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key, what):
    with pytest.raises(ConfigError) as caught:
        WorkerConfig(auth_key=key)
    shown = "".join(traceback.format_exception(caught.value))
    assert str(caught.value).startswith("auth_key: it takes a text or bytes of 16 to 1,024 bytes")
    assert what in str(caught.value)
    assert "secret secret" not in shown
    assert "tiny secret" not in shown
    assert "1234567" not in shown


def test_the_key_shows_itself_nowhere(caplog, capsys):
    caplog.set_level(0)
    with UcxWorker(auth_key=KEY, name="server") as server, UcxWorker(auth_key=OTHER) as client:
        listener = server.create_listener()
        with pytest.raises(AuthenticationError) as caught:
            client.connect(listener.address)
        config = server.config
        shown = [
            repr(config),
            str(config),
            config._repr_html_(),
            str(config.shown()),
            str(dataclasses.asdict(config)),
            str(vars(config)),
            repr(server),
            repr(listener),
            str(server.refusals()),
            Session(server).run_and_describe("config"),
            "".join(traceback.format_exception(caught.value)),
            caplog.text,
            *capsys.readouterr(),
        ]
    assert dict(config.shown())["auth_key"] == "set"
    assert dict(WorkerConfig().shown())["auth_key"] == "None"
    for text in shown:
        for secret in (KEY, OTHER):
            for form in (secret, secret.encode().hex()):
                assert form not in text


def test_a_config_with_a_key_can_be_copied_and_not_pickled():
    config = WorkerConfig(auth_key=KEY)
    for same in (
        copy.copy(config),
        copy.deepcopy(config),
        dataclasses.replace(config),
        config.replace(name=""),
        WorkerConfig(**dataclasses.asdict(config)),
        WorkerConfig(auth_key=KEY.encode()),
    ):
        assert same == config
        assert hash(same) == hash(config)
    assert config != WorkerConfig(auth_key=OTHER)
    assert config != WorkerConfig()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="UCXNB_AUTH_KEY") as caught:
            pickle.dumps(config, protocol)
        assert KEY not in str(caught.value)
    assert pickle.loads(pickle.dumps(config.replace(auth_key=None))) == WorkerConfig()


# ---- listeners that anyone can reach


def listening(worker, address):
    try:
        return worker.create_listener(address)
    except ucxnb.AddressInUseError:
        pytest.skip(f"this machine has no {address}")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_a_listener_that_anyone_can_reach_warns_once(address):
    with UcxWorker() as worker:
        for _ in range(2):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                listener = listening(worker, address)
            (warning,) = caught
            assert warning.category is UnprotectedListenerWarning
            assert BOTH in str(warning.message)
            assert listener.address in str(warning.message)
            assert listener.warning == str(warning.message)
            assert warning.filename == __file__


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("127.0.0.1:0", None),
        ("127.8.9.10:0", None),
        ("localhost:0", None),
        ("[::1]:0", None),
        ("[::ffff:127.0.0.1]:0", None),
        (":0", None),
        ("0.0.0.0:0", KEY),
        ("[::]:0", KEY),
    ],
)
def test_a_listener_that_is_protected_does_not_warn(address, key):
    with UcxWorker(auth_key=key) as worker:
        assert listening(worker, address).warning == ""  # a warning is an error here


def test_a_warning_that_is_an_error_leaves_nothing_open():
    with UcxWorker() as worker:
        with pytest.raises(UnprotectedListenerWarning) as caught:
            worker.create_listener("0.0.0.0:0")
        port = int(re.search(r":(\d+) ", str(caught.value))[1])
        assert worker.listeners == ()
        assert worker.create_listener(f"127.0.0.1:{port}").port == port

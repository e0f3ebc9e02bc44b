"""Strangers of every kind at the front door, while friends talk and new ones come."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from eventually import eventually

from ucxnb import UcxWorker
from ucxnb.frontdoor.protocol import MAX_PAYLOAD, VERSION, Frame, FrameType, encode_frame
from ucxnb.frontdoor.worker_address import tcp_interfaces
from ucxnb.ucx_programs import find_ucx_program

pytestmark = pytest.mark.reliability

TIMEOUT = 30
LOOPBACK = {"NET_DEVICES": "lo"}
# What a hundred strangers may cost a listener.
MORE_MEMORY = 64 << 20
MORE_THREADS = 2
MORE_DESCRIPTORS = 300

HELLO = encode_frame(
    Frame(
        FrameType.HELLO,
        {"name": "stranger", "tag_scope": "endpoint", "features": "", "auth": "none"},
    )
)
AUTH = encode_frame(Frame(FrameType.AUTH, {"method": "none", "proof": ""}))


def address_frame(text):
    return encode_frame(Frame(FrameType.ADDRESS, {"address": text, "prefix": 1, "window": None}))


def header(kind=FrameType.HELLO, length=0, version=VERSION):
    return struct.pack("!4sBBI", b"UCXn", version, kind, length)


# ---- the listener, in a process of its own ----


def listen_and_echo(channel, options):
    """Echo what comes with tag 1; answers "what do you hold" and stops at None."""
    stop = threading.Event()
    with UcxWorker(**options) as server:
        listener = server.create_listener()
        channel.send((listener.address, server._ucp.address))

        def echo():
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    message = server.receive_message(None, 1, timeout=0.1)
                    server.send_tag(message.endpoint_id, 2, message.data)

        thread = threading.Thread(target=echo)
        thread.start()
        while channel.receive(100) is not None:
            channel.send((*holdings(), server.refusals().count))
        stop.set()
        thread.join()


def holdings():
    """Bytes of memory, threads and descriptors of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    tasks, descriptors = os.listdir("/proc/self/task"), os.listdir("/proc/self/fd")
    return pages * os.sysconf("SC_PAGESIZE"), len(tasks), len(descriptors)


class Listening:
    """A child that runs `listen_and_echo`, as its parent sees it."""

    def __init__(self, child):
        self._child = child
        self.address, self.worker_address = child.receive()
        host, _, port = self.address.rpartition(":")
        self.where = (host, int(port))

    def holds(self):
        self._child.send("what do you hold")
        return self._child.receive()

    def stop(self):
        self._child.send(None)
        self._child.result()


class Friends:
    """One that stays and talks, and one that connects, says a word and leaves, again and again."""

    def __init__(self, address, options):
        self._address = address
        self._options = options
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._guard, args=[f]) for f in (self._stay, self._visit)
        ]
        self.errors = []
        self.exchanges = 0
        self.visits = []  # seconds that each connect took

    def _guard(self, function):
        try:
            with UcxWorker(ucx_options=self._options) as worker:
                function(worker)
        except Exception as error:
            self.errors.append(error)

    def _stay(self, worker):
        there = worker.connect(self._address, timeout=TIMEOUT)
        while not self._stop.wait(0.002):
            self._exchange(worker, there)
            self.exchanges += 1

    def _visit(self, worker):
        while not self._stop.wait(0.01):
            before = time.monotonic()
            there = worker.connect(self._address, timeout=TIMEOUT)
            self.visits.append(time.monotonic() - before)
            self._exchange(worker, there)
            worker.disconnect(there)

    def _exchange(self, worker, there):
        word = os.urandom(8)
        worker.send_tag(there, 1, word)
        assert worker.receive_tag(there, 2, timeout=TIMEOUT) == word

    def go_on(self):
        """Wait until both have done more; a friend's trouble is raised here."""
        exchanges, visits = self.exchanges, len(self.visits)
        eventually(
            lambda: (
                self.errors or (self.exchanges > exchanges + 5 and len(self.visits) > visits + 3)
            )
        )
        if self.errors:
            raise self.errors[0]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


# ---- the strangers: each yields while it is there ----


def connected(where, source=None):
    bound = None if source is None else (source, 0)
    return socket.create_connection(where, timeout=TIMEOUT, source_address=bound)


@contextlib.contextmanager
def saying(where, words):
    """One connection for each of `words`, which stay until the listener hangs up."""
    with contextlib.ExitStack() as stack:
        for word in words:
            sock = stack.enter_context(connected(where))
            with contextlib.suppress(ConnectionError):
                sock.sendall(word)
        yield len(words)


def short_junk(server):
    rng = random.Random(1)
    return saying(server.where, [rng.randbytes(rng.randrange(1, 50)) for _ in range(100)])


def junk_of_2_kb(server):
    rng = random.Random(2)
    return saying(server.where, [rng.randbytes(2048) for _ in range(100)])


@contextlib.contextmanager
def junk_of_100_mb(server):
    tried = 0
    chunk, left = random.Random(3).randbytes(1 << 20), 100 << 20
    while left > 0:
        with connected(server.where) as sock:
            tried += 1
            with contextlib.suppress(ConnectionError):
                while left > 0:
                    left -= len(chunk)
                    sock.sendall(chunk)
    yield tried


@contextlib.contextmanager
def large_frames(server):
    """100 MB that begin like a HELLO, and then more and more frames of the largest size."""
    body = b'{"x":"' + b"y" * (MAX_PAYLOAD - 8) + b'"}'
    frame = header(FrameType.HELLO, len(body)) + body
    for _ in range(100):
        with connected(server.where) as sock, contextlib.suppress(ConnectionError):
            for _ in range(16):
                sock.sendall(frame)
    yield 100


@contextlib.contextmanager
def port_scan(server):
    for number in range(300):
        with connected(server.where) as sock:
            if number % 2:  # leave with a reset
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    yield 300


def half_open(server):
    return saying(server.where, [b""] * 400)


def one_byte(server):
    return saying(server.where, [HELLO[:1]] * 100)


@contextlib.contextmanager
def drip(server):
    """Speak and read byte by byte, as slowly as a friend needs for a whole visit."""
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(server.where)) for _ in range(50)]

        def speak():
            for at in range(len(HELLO)):
                for sock in socks:
                    with contextlib.suppress(OSError):
                        sock.sendall(HELLO[at : at + 1])
                        sock.recv(1, socket.MSG_DONTWAIT)
                if stop.wait(0.05):
                    return

        thread = threading.Thread(target=speak)
        thread.start()
        yield len(socks)
        stop.set()
        thread.join()


@contextlib.contextmanager
def browser(server):
    for _ in range(20):
        client = http.client.HTTPConnection(*server.where, timeout=TIMEOUT)
        with contextlib.suppress(http.client.HTTPException, ConnectionError):
            client.request("GET", "/", headers={"X": "y" * 5000})
            raise AssertionError(client.getresponse().status)
        client.close()
    yield 20


@contextlib.contextmanager
def perftest(server):
    host, port = server.where
    program, environment = find_ucx_program("ucx_perftest")
    command = [program, host, "-p", str(port), "-t", "tag_lat", "-n", "1"]
    for _ in range(2):
        with _process(command, environment) as process:
            process.wait(TIMEOUT)
            assert process.returncode != 0
    yield 2


@contextlib.contextmanager
def ucxx_client(server):
    """UCX's own way to connect, which waits for an answer for as long as it likes."""
    refused = server.holds()[3]
    host, port = server.where
    code = (
        "import asyncio, ucxx\n"
        f"asyncio.run(asyncio.wait_for(ucxx.create_endpoint({host!r}, {port}), 1))\n"
    )
    with _process([sys.executable, "-c", code], os.environ):
        eventually(lambda: server.holds()[3] > refused)
        yield 1


@contextlib.contextmanager
def _process(command, environment):
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**environment, "UCX_LOG_LEVEL": "fatal"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def another_version(server):
    others = (0, VERSION - 1, VERSION + 1, 255)
    return saying(server.where, [header(version=v) + b"x" * 20 for v in others] * 10)


def silent_after_hello(server):
    return saying(server.where, [HELLO] * 50)


def silent_after_auth(server):
    return saying(server.where, [HELLO + AUTH] * 50)


def silent_in_address(server):
    half = address_frame(server.worker_address.hex())[:60]
    return saying(server.where, [HELLO + AUTH + half] * 50)


def silent_after_address(server):
    return saying(server.where, [HELLO + AUTH + address_frame(server.worker_address.hex())] * 20)


def lying_length(server):
    lengths = [MAX_PAYLOAD, MAX_PAYLOAD + 1, 2**31, 2**32 - 1]
    return saying(server.where, [header(length=length) + b"{}" for length in lengths] * 25)


def lying_address(server):
    real = bytearray(server.worker_address)
    version, cut, longer = bytes([0x2F]) + real[1:], real[:-9], real[:-2] * 20
    lies = [address_frame(bytes(lie).hex()) for lie in (version, cut, longer, real[:1])]
    return saying(server.where, [HELLO + AUTH + lie for lie in lies * 10])


STRANGERS = {
    "junk of 1 to 50 bytes": short_junk,
    "2 kB of junk": junk_of_2_kb,
    "100 MB of junk": junk_of_100_mb,
    "frames of the largest size, one after the other": large_frames,
    "a port scan": port_scan,
    "half-open connections": half_open,
    "one that says one byte and no more": one_byte,
    "one that speaks and reads byte by byte": drip,
    "an HTTP client": browser,
    "ucx_perftest as a client": perftest,
    "a UCXX program's own client": ucxx_client,
    "a peer of another version": another_version,
    "one that falls silent after HELLO": silent_after_hello,
    "one that falls silent after AUTH": silent_after_auth,
    "one that falls silent in its ADDRESS": silent_in_address,
    "one that falls silent after the handshake": silent_after_address,
    "a lying length": lying_length,
    "a lying worker address in the handshake": lying_address,
}


def test_no_stranger_harms_anybody(start_child, saw):
    server = Listening(start_child(listen_and_echo, {"ucx_options": LOOPBACK}))
    with Friends(server.address, LOOPBACK) as friends:
        friends.go_on()
        for name, stranger in STRANGERS.items():
            try:
                tried, seconds = suffer(stranger, server, friends)
            except BaseException as error:
                error.add_note(f"the stranger: {name}")
                raise
            saw(
                "strangers",
                name,
                tried=tried,
                sees="nothing; new peers are in after the time given",
                seconds=[max(seconds)],
                lost="nothing",
            )
    server.stop()


def suffer(stranger, server, friends):
    """How many of a stranger there were, and how long new friends took to connect meanwhile."""
    before = server.holds()
    visits = len(friends.visits)
    with stranger(server) as tried:
        friends.go_on()
        during = server.holds()
        seconds = friends.visits[visits:]
    more = (MORE_MEMORY, MORE_THREADS, MORE_DESCRIPTORS)
    for now, past, most in zip(during, before, more, strict=False):
        assert now < past + most
    eventually(lambda: server.holds()[2] < before[2] + 10)
    return tried, seconds


def test_strangers_that_keep_coming_do_not_push_others_out(start_child, saw):
    """More half-open connections than there are places, from one address: a new one every ms."""
    server = Listening(start_child(listen_and_echo, {"ucx_options": LOOPBACK}))
    stop = threading.Event()
    tried = 0

    def flood():
        nonlocal tried
        with contextlib.ExitStack() as stack:
            held = [connected(server.where, "127.0.0.2") for _ in range(300)]
            stack.callback(lambda: [sock.close() for sock in held])
            while not stop.wait(0.001):
                held.append(connected(server.where, "127.0.0.2"))
                with contextlib.suppress(OSError):
                    held[-1].sendall(HELLO)
                held.pop(0).close()
                tried += 1

    thread = threading.Thread(target=flood)
    with Friends(server.address, LOOPBACK) as friends:
        friends.go_on()
        thread.start()
        try:
            eventually(lambda: tried > 100)
            visits = len(friends.visits)
            for _ in range(5):
                friends.go_on()
            seconds = friends.visits[visits:]
        finally:
            stop.set()
            thread.join()
    server.stop()
    saw(
        "strangers",
        "half-open connections that keep coming, a thousand a second",
        tried=tried,
        sees="nothing; new peers are in after the time given",
        seconds=[max(seconds)],
        lost="nothing",
    )


@pytest.mark.parametrize("crowd", ["127.0.0.1", "127.0.0.2"])
def test_who_makes_room_is_of_the_crowd_and_said_nothing(crowd):
    with UcxWorker() as worker, contextlib.ExitStack() as stack:
        listener = worker.create_listener()
        where = (listener.host, listener.port)
        early = stack.enter_context(connected(where, "127.0.0.1"))
        early.sendall(HELLO)
        assert early.recv(1 << 16).startswith(b"UCXn")
        for _ in range(300):
            stack.enter_context(connected(where, crowd))
        eventually(lambda: worker.refusals().count >= 40)
        early.sendall(AUTH)
        assert early.recv(1 << 16).startswith(b"UCXn")


def test_a_worker_s_own_connects_do_not_make_room_for_strangers():
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        worker = stack.enter_context(UcxWorker())
        listener = worker.create_listener()
        outcome = []

        def connect():
            try:
                worker.connect(f"127.0.0.1:{silent.getsockname()[1]}", timeout=None)
            except Exception as error:
                outcome.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        accepted, _ = silent.accept()
        eventually(lambda: worker._door._handshakes)
        for _ in range(300):
            stack.enter_context(connected((listener.host, listener.port)))
        eventually(lambda: worker.refusals().count >= 40)
        assert not outcome
        with accepted:
            accepted.sendall(b"nonsense")
            thread.join()
        assert "nonsense" in str(outcome[0])


# ---- the ports that UCX opens by itself ----

# The first words of UCX's TCP protocol: its magic number, and a request to connect.
MAGIC = struct.pack("<Q", 0xCAFEBABE12345678)


def ucx_ports(server):
    return [(host or "127.0.0.1", port) for _, host, port in tcp_interfaces(server.worker_address)]


def junk_for_ucx():
    rng = random.Random(4)
    yield from (rng.randbytes(2048) for _ in range(10))
    yield from (MAGIC + rng.randbytes(rng.choice([8, 40, 2048])) for _ in range(30))
    for am_id in range(32):
        message = rng.randbytes(64)
        yield MAGIC + struct.pack("<BI", am_id, len(message)) + message


@pytest.mark.parametrize("options", [LOOPBACK, {"TLS": "tcp", **LOOPBACK}], ids=["all", "tcp"])
def test_junk_at_the_ports_of_ucx_from_a_host_of_no_peer(options, start_child, saw):
    server = Listening(start_child(listen_and_echo, {"ucx_options": options}))
    tried = 0
    with Friends(server.address, options) as friends:
        friends.go_on()
        for where in ucx_ports(server):
            for junk in junk_for_ucx():
                with socket.socket() as stranger:
                    stranger.bind(("127.0.0.3", 0))
                    stranger.settimeout(0.01)
                    with contextlib.suppress(OSError):
                        stranger.connect(where)
                        stranger.sendall(junk)
                    tried += 1
        friends.go_on()
    server.stop()
    saw(
        "strangers",
        "junk at the TCP ports of UCX, from a host of no peer",
        tried=tried,
        sees="nothing: the packets do not get through",
        seconds=[],
        lost="nothing",
    )


def test_shared_memory_alone_opens_no_port(start_child):
    options = {"TLS": "shm,self"}
    server = Listening(start_child(listen_and_echo, {"ucx_options": options}))
    with Friends(server.address, options) as friends:
        friends.go_on()
    assert ucx_ports(server) == []
    server.stop()


def test_the_ports_of_ucx_open_for_a_peer_and_close_behind_it():
    options = {"TLS": "tcp", **LOOPBACK}
    with UcxWorker(ucx_options=options) as server, UcxWorker(ucx_options=options) as client:
        ((_, _, port),) = tcp_interfaces(server._ucp.address)

        def is_open():
            with socket.socket() as knocks:
                knocks.settimeout(0.2)
                return knocks.connect_ex(("127.0.0.1", port)) == 0

        assert not is_open()
        there = client.connect(server.create_listener().address)
        client.send_tag(there, 1, b"in")
        assert server.receive_tag(None, 1, timeout=TIMEOUT) == b"in"
        assert is_open()
        client.disconnect(there)
        eventually(lambda: not is_open())


def test_strangers_in_the_handshake_do_not_keep_the_ports_of_ucx_open():
    options = {"TLS": "tcp", **LOOPBACK}
    with UcxWorker(ucx_options=options, handshake_timeout=0.5) as server:
        ports = server._door.ucx_ports
        listener = server.create_listener()
        with connected((listener.host, listener.port)) as stranger:
            stranger.sendall(HELLO + AUTH)
            eventually(lambda: ports._hosts)
            eventually(lambda: not ports._hosts)


def junk_from_the_host_of_a_peer(channel):
    options = {"TLS": "tcp", **LOOPBACK, "LOG_LEVEL": "fatal", "HANDLE_ERRORS": "none"}
    with UcxWorker(ucx_options=options) as server, UcxWorker(ucx_options=options) as client:
        client.connect(server.create_listener().address)
        ((_, _, port),) = tcp_interfaces(server._ucp.address)
        for junk in junk_for_ucx():
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(junk)
                time.sleep(0.01)  # UCX shows nobody what it has read
        time.sleep(0.3)


def test_junk_at_the_ports_of_ucx_from_the_host_of_a_peer(start_child, saw):
    """What is not protected; should UCX survive it one day, so much the better."""
    child = start_child(junk_from_the_host_of_a_peer)
    code = child.process.wait(60)
    assert code <= 0
    child.kill()
    saw(
        "strangers",
        "junk at the TCP ports of UCX, from the host of a peer (not protected)",
        tried=1,
        sees="the process ends (SIGABRT)" if code else "nothing",
        seconds=[],
        lost="everything in that process" if code else "nothing",
    )

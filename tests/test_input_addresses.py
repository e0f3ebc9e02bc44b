"""Addresses of every kind: each is reached, or refused with a typed error."""

from __future__ import annotations

import socket
import time

import pytest
from documented import attempt
from hypothesis import assume, given
from hypothesis import strategies as st
from junk import examples

import ucxnb
from ucxnb import UcxWorker
from ucxnb.address import parse_address
from ucxnb.errors import AddressError

LOOPBACK = ("127.0.0.1", "127.9.8.7", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[0::1%lo]")
# Names that no name service is asked for: they are none, or none that can be written.
WRONG_HOSTS = (
    "[fe80::1%nope]", "[::1%lo%lo]", "[fe80::1%]", "[fe80::1%\0]", "[fe80::1%\ud800]", "[::1%a b]",
    "[::1", "::1]", "[]", "", " ", "-", ".", "a..b", "a" * 64, "bücher", "١٢٧.٠.٠.١", "127.0.0.1/8",
    "\ud800", "\0", "a\0b", "[::1]:80", "http://127.0.0.1", "[::ffff:127.0.0.256]", "[1:2]",
)  # fmt: skip
ports = st.one_of(
    st.integers(-5, 70_000).map(str),
    st.sampled_from(
        ["", "0", "00080", "65536", "http", "0x50", "1e3", "８０", "٣", "+1", " 1", "1 "]
    ),
    st.integers(6, 5000).map("9".__mul__),
)
hosts = st.one_of(st.sampled_from(LOOPBACK), st.sampled_from(WRONG_HOSTS), st.text(max_size=30))
addresses = st.one_of(
    st.builds("{}:{}".format, hosts, ports),
    st.builds(lambda text, n: (text * n)[:1_000_000], st.text(min_size=1), st.integers(1, 10**6)),
    st.text(),
)


@examples(200)
@given(addresses)
def test_any_text_is_an_address_or_is_refused(text):
    try:
        address = parse_address(text, default_host="127.0.0.1", any_port=True)
    except AddressError as error:
        assert '"127.0.0.1:8080"' in str(error)
        assert len(str(error)) < 5000
        return
    assert parse_address(str(address), any_port=True) == address
    assert 0 <= address.port <= 65535


def stays_here(text):
    """Whether connecting there sends nothing beyond this machine, or nothing at all."""
    try:
        host = parse_address(text, default_host="127.0.0.1", any_port=True).host
    except AddressError:
        return True
    return f"[{host}]" in WRONG_HOSTS or host in ("localhost", "::1") or host.startswith("127.")


@pytest.mark.reliability
def test_connecting_and_listening_anywhere(saw):
    tried, seconds = 0, []
    with UcxWorker(connect_timeout=5) as worker, UcxWorker() as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        good = server.create_listener().address
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"

        @examples(100)
        @given(st.one_of(addresses, st.sampled_from([good, nobody, f"  {good}\n"])))
        def each(text):
            nonlocal tried
            assume(stays_here(text))
            began = time.monotonic()
            endpoint_id = attempt(worker.connect, text)
            if isinstance(endpoint_id, int):
                worker.disconnect(endpoint_id)
            else:
                seconds.append(time.monotonic() - began)
            listener = attempt(worker.create_listener, text)
            if isinstance(listener, ucxnb.Listener):
                listener.close()
            tried += 1

        each()
        assert worker.get_endpoint_ids() == []
        endpoint_id = worker.connect(good)
        worker.send_tag(endpoint_id, 1, b"still there")
        assert server.receive_tag(None, 1, timeout=30) == b"still there"
    saw(
        "input",
        "an address that is none: ports, IPv6 scopes, unicode, a megabyte of text",
        tried=tried,
        sees="AddressError, ConnectRefusedError, UnreachableError or AddressInUseError",
        seconds=seconds,
        lost="nothing",
    )


def test_a_long_wait_is_allowed_everywhere(pair):
    left, _, right, _ = pair
    address = right.listeners[0].address
    for timeout in (float("inf"), 1e300, 10**400, 1e10, None):
        left.disconnect(left.connect(address, timeout=timeout), timeout=timeout or 1)

from __future__ import annotations

import pytest

from ucxnb.address import Address, parse_address
from ucxnb.errors import AddressError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("server.example.com:8080", "server.example.com", 8080),
        ("server.example.com.:8080", "server.example.com.", 8080),
        ("[::1]:8080", "::1", 8080),
        ("[0:0::0:1]:1", "::1", 1),
        ("[fe80::1%eth0]:9", "fe80::1%eth0", 9),
        ("node_7:65535", "node_7", 65535),
        ("  localhost:1 ", "localhost", 1),
        ("localhost:00080", "localhost", 80),
        (f"{'a' * 63}.org:1", f"{'a' * 63}.org", 1),
    ],
)
def test_reads_host_and_port(text, host, port):
    assert parse_address(text) == Address(host, port) == (host, port)


@pytest.mark.parametrize("address", [Address("::1", 5), Address("localhost", 80)])
def test_its_text_reads_back(address):
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no port"),
        ("localhost", "no port"),
        (":8080", "no host"),
        ("localhost:", "the port ''"),
        ("localhost:http", "the port 'http'"),
        ("localhost:-1", "the port '-1'"),
        ("localhost:+1", "the port"),
        ("localhost:1_0", "the port"),
        ("localhost: 1", "the port"),
        ("localhost:٣", "the port"),
        ("localhost:0", "port 0 is not from 1"),
        ("localhost:65536", "port 65536"),
        ("localhost:123456", "the port"),
        ("::1:8080", "brackets"),
        ("[::1:8080", "bracket is not closed"),
        ("[::1]x:8080", "bracket is not closed"),
        ("[127.0.0.1]:8080", "no IPv6 address"),
        ("[]:8080", "no IPv6 address"),
        ("two words:8080", "no host name"),
        ("http://host:80", "brackets"),
        ("a..b:80", "no host name"),
        (".a:80", "no host name"),
        ("-a:80", "no host name"),
        (f"{'a' * 64}.org:1", "no host name"),
        (f"{'a.' * 130}org:1", "no host name"),
        ("host\n:80", "no host name"),
        ("bücher.example:80", "no host name"),
    ],
)
def test_refuses_with_the_reason(text, why):
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert why in str(caught.value)
    assert '"127.0.0.1:8080"' in str(caught.value)


@pytest.mark.parametrize("value", [None, 8080, b"127.0.0.1:80", ("127.0.0.1", 80)])
def test_refuses_what_is_no_text(value):
    with pytest.raises(AddressError, match=type(value).__name__):
        parse_address(value)


def test_default_host_and_any_port_only_where_asked_for():
    assert parse_address(":0", default_host="127.0.0.1", any_port=True) == ("127.0.0.1", 0)
    assert parse_address("a:0", default_host="b", any_port=True) == ("a", 0)
    with pytest.raises(AddressError, match="from 0 to 65535"):
        parse_address("a:65536", any_port=True)

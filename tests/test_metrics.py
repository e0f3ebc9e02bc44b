"""Metrics for Prometheus, scraped as Prometheus does."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

import ucxnb
from ucxnb import UcxWorker
from ucxnb.metrics import MetricsServer


def scrape(server: MetricsServer) -> dict[tuple[str, frozenset], float]:
    """Every sample, by its name and labels."""
    with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=10) as response:
        text = response.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_gauges_and_histograms():
    with UcxWorker(name="a") as a, UcxWorker(name="b") as b:
        peer = a.connect(b.create_listener().address)
        for size in (0, 5, 5000):
            a.send_tag(peer, 1, bytes(size))
        request = b.ireceive_tag(None, 1)
        request.wait(10)
        with MetricsServer([a, b]) as server:
            found = scrape(server)

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    assert value("ucxnb_messages_sent_total", worker="a") == 3
    assert value("ucxnb_bytes_sent_total", worker="a") == 5005
    assert value("ucxnb_endpoint_messages_sent_total", worker="a", endpoint="1", peer="b") == 3
    assert value("ucxnb_unreceived_messages", worker="b") == 2
    assert value("ucxnb_connections", worker="b") == 1
    assert value("ucxnb_sent_message_size_bytes_bucket", worker="a", le="0.0") == 1
    assert value("ucxnb_sent_message_size_bytes_bucket", worker="a", le="15.0") == 2
    assert value("ucxnb_sent_message_size_bytes_bucket", worker="a", le="+Inf") == 3
    assert value("ucxnb_sent_message_size_bytes_sum", worker="a") == 5005
    assert value("ucxnb_request_latency_seconds_bucket", worker="b", le="+Inf") == 1
    assert value("ucxnb_progress_busy_seconds_total", worker="a") > 0


def test_a_closed_worker_keeps_its_figures():
    with UcxWorker(name="a") as worker, MetricsServer([worker]) as server:
        worker.close()
        assert scrape(server)["ucxnb_connections", frozenset({("worker", "a")})] == 0


def test_an_address_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ucxnb.AddressInUseError, match=str(port)):
            MetricsServer([], f"127.0.0.1:{port}")
    with pytest.raises(ucxnb.AddressError):
        MetricsServer([], "nowhere")


def test_it_is_bound_to_this_machine():
    with MetricsServer([]) as server:
        assert server.address.startswith("127.0.0.1:")
        assert server.address in repr(server)
    server.close()

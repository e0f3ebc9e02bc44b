"""asyncio's own readers and writers on a UCX stream."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from ucxnb import EndpointLostError, FeatureDisabledError, UcxWorker

WAIT = 30.0


async def opened(pair):
    left, there, right, here = pair
    return *await left.open_stream_async(there), *await right.open_stream_async(here)


async def close(*writers):
    for writer in writers:
        writer.close()
        await writer.wait_closed()


def run(test):
    asyncio.run(asyncio.wait_for(test, WAIT))


def test_lines_and_blocks_come_over(pair):
    async def test():
        left_reader, left, right_reader, right = await opened(pair)
        left.writelines([b"one\n", b"", b"two\n"])
        assert [await right_reader.readline(), await right_reader.readline()] == [
            b"one\n",
            b"two\n",
        ]
        data = os.urandom(5_000_000)
        right.write(data)
        read, _ = await asyncio.gather(left_reader.readexactly(len(data)), right.drain())
        assert read == data
        assert left.get_extra_info("endpoint_id") == pair[1]
        await close(left, right)

    run(test())


def test_a_reader_that_rests_slows_its_writer_down(pair):
    async def test():
        _, left, right_reader, right = await opened(pair)
        left.transport.set_write_buffer_limits(high=1000, low=100)
        assert left.transport.get_write_buffer_limits() == (100, 1000)
        for _ in range(300):
            left.write(bytes(10_000))
            await left.drain()
        await asyncio.sleep(0.1)
        # The reader stopped the transport, so that the rest waits with the worker.
        assert not right.transport.is_reading()
        assert pair[2].stats().unreceived_bytes > 0
        assert await right_reader.readexactly(3_000_000) == bytes(3_000_000)
        await close(left, right)

    run(test())


def test_a_read_that_is_given_up_loses_nothing(pair):
    async def test():
        _, left, right_reader, right = await opened(pair)
        left.write(b"abc")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(right_reader.readexactly(5), 0.05)
        left.write(b"de")
        assert await right_reader.readexactly(5) == b"abcde"
        await close(left, right)

    run(test())


def test_what_was_written_leaves_before_the_end(pair):
    async def test():
        _, left, right_reader, right = await opened(pair)
        left.write(bytes(3_000_000))
        left.close()
        assert len(await right_reader.readexactly(3_000_000)) == 3_000_000
        await left.wait_closed()
        left.write(b"ignored")
        await close(right)

    run(test())
    left, there, right, here = pair
    left.send_stream(there, b"the connection is open")
    buffer = bytearray(22)
    right.receive_stream(here, buffer, True, timeout=WAIT)
    assert buffer == b"the connection is open"


def test_the_end_of_the_peer_is_the_end_of_the_file(pair):
    async def test():
        _, left, right_reader, right = await opened(pair)
        left.write(b"last words")
        await close(left)
        await asyncio.to_thread(pair[0].disconnect, pair[1])
        assert await right_reader.read() == b"last words"
        await close(right)

    run(test())


def test_a_writer_that_is_aborted_says_nothing_more(pair):
    async def test():
        _, left, right_reader, right = await opened(pair)
        left.transport.abort()
        await left.wait_closed()
        assert left.transport.is_closing()
        await close(right)
        assert right_reader.at_eof()

    run(test())


def dying(channel, address):
    with UcxWorker(ucx_options={"TLS": "tcp,self"}) as worker:
        worker.send_stream(worker.connect(address), b"x")
        channel.send(None)
        threading.Event().wait()


def test_a_lost_peer_is_an_error_of_the_reader(start_child):
    async def test():
        with UcxWorker(ucx_options={"TLS": "tcp,self"}) as worker:
            child = start_child(dying, worker.create_listener().address)
            await asyncio.to_thread(child.receive)
            reader, writer = await worker.open_stream_async(worker.get_endpoint_ids()[0])
            assert await reader.readexactly(1) == b"x"
            child.kill()
            with pytest.raises(EndpointLostError):
                await reader.read(1)
            with pytest.raises(EndpointLostError):
                await close(writer)

    run(test())


def test_where_streams_are_off_none_is_opened():
    async def test():
        with UcxWorker(enable_stream=False) as left, UcxWorker() as right:
            there = await left.connect_async(right.create_listener().address)
            with pytest.raises(FeatureDisabledError):
                await left.open_stream_async(there)

    run(test())

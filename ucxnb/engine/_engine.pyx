# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""Tagged messages over UCP; whatever may take long does so with the GIL released.

Releasing and taking the GIL costs a small message as much as UCX itself does. So a call that comes
back within moments keeps it: one that moves at most `SMALL` bytes while no other thread is inside
UCX, whose lock it would wait for. That cannot deadlock, since nothing that UCX calls takes the GIL.
"""

cimport cython
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release,
    PyBuffer_FillInfo, PyObject_GetBuffer,
)
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear, PyErr_Occurred
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport getpid, read

from ucxnb.engine._ucp cimport *

cdef extern from "Python.h":
    # Unlike Cython's own declaration, without a look for an exception.
    uint64_t PyLong_AsUnsignedLongLong(object number) noexcept

import asyncio
import operator
import os
import re
from collections.abc import Sized

from ucxnb.endpoint_info import CLOSED_BY_YOU, EndpointState
from ucxnb.engine.event_loop import LoopWatch, resolve
from ucxnb.errors import (
    ArgumentError, BroadcastError, BufferTooSmallError, EndpointClosedError, EndpointLostError,
    FeatureDisabledError, GpuMemoryError, InvalidBufferError, MissingUcxError, NoPeersError,
    OperationTimeoutError, PeerClosedError, PeerFullError, RemoteKeyError, RemoteRangeError,
    RemoteReadOnlyError, RequestCancelledError, TagRangeError, TagTypeError, ThreadModeError,
    UcxError, UcxnbError, UnknownEndpointError, WorkerClosedError,
)
from ucxnb.histogram import Histogram
from ucxnb.message import Message
from ucxnb.snapshot import LATENCY_STEPS, EngineHealth
from ucxnb.stats import TrafficStats, WorkerStats
from ucxnb.text import shown
from ucxnb.timeouts import checked_timeout

cdef enum:
    SCRATCH_SIZE = 8192  # messages up to this size are received without allocating first
    SMALL = 8192  # messages up to this size are copied within moments
    LARGE = 1048576  # messages over this size take longer than waiting threads spin
    MAX_TRANSPORTS = 32
    MAX_SPARES = 64  # operations that are kept to be used again
    MAX_SPINS_MISSED = 5
    TRIES = 3
    STEPS_TO_EMPTY = 64  # after so many, nothing is left in shared memory of what was there before
    AWAITS_IN_A_ROW = 64  # that need not wait, before others on the event loop get a turn

cdef int64_t SOON_NS = 1_000  # a receive keeps the GIL that long
cdef int64_t SLICE_NS = 100_000_000  # a blocking call looks for Ctrl-C this often
cdef int64_t AWAIT_SPIN_NS = 60_000
cdef int64_t LOOK_NS = 2_000_000
cdef int64_t FLOOD_NS = 50_000_000  # a receive that does not wait looks through a flood that long
cdef uint64_t ENDPOINT_TAGS = (<uint64_t>1 << UCXNB_ID_SHIFT) - 1

MAX_ENDPOINT_ID = (1 << (64 - UCXNB_ID_SHIFT)) - 1


def load_ucp():
    """Bind to the UCP library that is loaded in this process.

    Returns
    -------
    str
        Its version.

    Raises
    ------
    MissingUcxError
        If none is loaded, or one that is too old.
    """
    cdef const char *problem = ucxnb_load_ucp()
    if problem != NULL:
        raise MissingUcxError(f"UCX cannot be used: {problem.decode()}")
    return ucxnb_ucp.ucp_get_version_string().decode()


def mark_toolkit_thread(bint mark=True):
    """Exempt the calling thread from ``ThreadMode.SINGLE``: it is one of ucxnb's own.

    Returns
    -------
    bool
        Whether it was exempt before.
    """
    cdef ucxnb_thread_t *thread = ucxnb_thread()
    before = bool(thread.of_toolkit)
    thread.of_toolkit = mark
    return before


cdef str status_text(ucs_status_t status):
    return ucxnb_ucp.ucs_status_string(status).decode()


_peer_failures = frozenset((
    UCS_ERR_CANCELED, UCS_ERR_CONNECTION_RESET, UCS_ERR_ENDPOINT_TIMEOUT, UCS_ERR_IO_ERROR,
    UCS_ERR_NOT_CONNECTED, UCS_ERR_REJECTED, UCS_ERR_TIMED_OUT, UCS_ERR_UNREACHABLE,
))


cdef inline int64_t deadline_of(object timeout) except -1:
    cdef double seconds
    if timeout is None:
        return INT64_MAX
    try:
        seconds = timeout
    except (TypeError, ValueError, OverflowError):
        seconds = -1
    if not seconds >= 0:
        seconds = checked_timeout(timeout)
    if seconds > 1e8:
        return INT64_MAX
    return ucxnb_now_ns() + <int64_t>(seconds * 1e9)


cdef extern from *:
    """
    /* What tuple.__new__ does, at a third of the price. */
    static PyObject *ucxnb_new_message(PyObject *type, PyObject *endpoint_id, PyObject *tag,
                                       PyObject *length, PyObject *data)
    {
        PyObject *message = ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 4);
        if (message != NULL) {
    #if PY_VERSION_HEX >= 0x030E0000
            ((PyTupleObject *)message)->ob_hash = -1;
    #endif
            Py_INCREF(endpoint_id);
            PyTuple_SET_ITEM(message, 0, endpoint_id);
            Py_INCREF(tag);
            PyTuple_SET_ITEM(message, 1, tag);
            Py_INCREF(length);
            PyTuple_SET_ITEM(message, 2, length);
            Py_INCREF(data);
            PyTuple_SET_ITEM(message, 3, data);
        }
        return message;
    }
    """
    object ucxnb_new_message(object type, object endpoint_id, object tag, object length,
                             object data)


cdef inline object make_message(object endpoint_id, object tag, size_t length, object data):
    # Message(...) would run Python code, and so a signal's handler, which would lose the message.
    return ucxnb_new_message(Message, endpoint_id, tag, length, data)


cdef inline int64_t slice_end(int64_t deadline) noexcept nogil:
    cdef int64_t end = ucxnb_now_ns() + SLICE_NS
    return end if end < deadline else deadline


cdef object make_histogram(const uint64_t *counts, int buckets, int steps):
    while buckets > 0 and counts[buckets - 1] == 0:
        buckets -= 1
    return Histogram(tuple([counts[i] for i in range(buckets)]), steps)


include "endpoint.pxi"
include "buffers.pxi"
include "array_protocols.pxi"
include "core.pxi"
include "requests.pxi"
include "sending.pxi"
include "receiving.pxi"
include "batches.pxi"
include "streams.pxi"
include "rma.pxi"
include "wireup.pxi"


cdef class TagEngine(WireupEngine):
    """What a `UcxWorker` does itself at full speed: messages, streams, memory, progress."""

    def progress(self):
        """Make one step of progress; the background thread does so without being asked.

        Returns
        -------
        int
            What ``ucp_worker_progress`` returned: 0 if there was nothing to do.

        Raises
        ------
        ThreadModeError, WorkerClosedError
            Nothing was done.
        """
        cdef unsigned count
        self.enter()
        try:
            with nogil:
                count = ucxnb_progress(&self.engine.driver)
        finally:
            self.leave()
        return count

    def run_progress_loop(self, duration=None):
        """Drive the worker from this thread for a while, sleeping when there is nothing to do.

        Parameters
        ----------
        duration : float, optional
            Seconds; None goes on until Ctrl-C, or until another thread closes the worker.

        Returns
        -------
        int
            The sum of what ``ucp_worker_progress`` returned.

        Raises
        ------
        ArgumentError, ThreadModeError, WorkerClosedError
            Nothing was done.
        """
        cdef uint64_t total = 0
        cdef int64_t deadline = deadline_of(duration)
        self.enter()
        try:
            while not self.engine.closing and ucxnb_now_ns() < deadline:
                with nogil:
                    ucxnb_run(&self.engine, slice_end(deadline), &total)
                PyErr_CheckSignals()
        finally:
            self.leave()
        return total

    def _totals(self):
        """Snapshot of the worker's counters."""
        cdef ucxnb_load_t load = self.unreceived(None)
        self.reap()
        return WorkerStats(
            self.messages_sent, self.messages_received, self.bytes_sent, self.bytes_received,
            self.errors, (ucxnb_now_ns() - self.started_ns) * 1e-9, len(self.open_endpoints),
            unreceived_messages=load.messages, unreceived_bytes=load.bytes,
            sends_held=self.engine.held, sends_in_flight=self.engine.in_flight.sends,
            bytes_in_flight=self.engine.in_flight.bytes,
            stream_bytes_sent=self.stream_bytes_sent,
            stream_bytes_received=self.stream_bytes_received,
            puts=self.puts, gets=self.gets, atomics=self.atomics, put_bytes=self.put_bytes,
            get_bytes=self.get_bytes,
        )

    def _histograms(self):
        """Messages sent and received by size, and operations by the nanoseconds they took."""
        self.reap()
        return (
            make_histogram(self.sizes_sent, UCXNB_SIZES, 1),
            make_histogram(self.sizes_received, UCXNB_SIZES, 1),
            make_histogram(self.latencies, UCXNB_LATENCIES, LATENCY_STEPS),
        )

    def _health(self):
        """How its progress goes; after `_stop_engine` how it went."""
        cdef ucxnb_health_t health = ucxnb_read_health(&self.engine.driver)
        return EngineHealth(health.busy_ns * 1e-9, health.wake_ups, health.longest_gap_ns * 1e-9)

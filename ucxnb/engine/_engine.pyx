# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""Tagged messages over UCP, with the GIL released around every UCP call.

No UCP call is ever made with the GIL held: UCX takes the worker's lock inside, and a thread that
waits for it must not stop Python.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memmove, memset
from posix.unistd cimport read

from ucxnb.engine._ucp cimport *

import operator
import os

from ucxnb.endpoint_info import EndpointState
from ucxnb.errors import (
    ArgumentError, BroadcastError, BufferTooSmallError, EndpointClosedError, EndpointLostError,
    FeatureDisabledError, InvalidBufferError, MissingUcxError, NoPeersError, OperationTimeoutError,
    PeerClosedError, TagRangeError, TagTypeError, ThreadModeError, UcxError, UnknownEndpointError,
    WorkerClosedError,
)
from ucxnb.message import Message
from ucxnb.stats import TrafficStats, WorkerStats

cdef enum:
    SCRATCH_SIZE = 8192  # messages up to this size are received without allocating first
    MAX_TRANSPORTS = 32

cdef int64_t SLICE_NS = 100_000_000  # a blocking call looks for Ctrl-C this often
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


def mark_toolkit_thread():
    """Exempt the calling thread from ``ThreadMode.SINGLE``: it is one of ucxnb's own."""
    global ucxnb_toolkit_thread
    ucxnb_toolkit_thread = 1


cdef int64_t deadline_of(object timeout) except -1:
    cdef double seconds
    if timeout is None:
        return INT64_MAX
    try:
        seconds = timeout
    except TypeError:
        raise ArgumentError(f"timeout={timeout!r}: it takes None or seconds") from None
    if not seconds >= 0:
        raise ArgumentError(f"timeout={timeout!r}: it takes None or seconds, 0 or more")
    if seconds > 1e8:
        return INT64_MAX
    return ucxnb_now_ns() + <int64_t>(seconds * 1e9)


cdef inline int64_t slice_end(int64_t deadline) noexcept nogil:
    cdef int64_t end = ucxnb_now_ns() + SLICE_NS
    return end if end < deadline else deadline


cdef int export_buffer(object data, Py_buffer *view, bint writable) except -1:
    """Borrow the memory of `data`; the caller releases it."""
    try:
        PyObject_GetBuffer(data, view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
    except TypeError:
        raise InvalidBufferError(
            f"{type(data).__name__} has no buffer; pass bytes, bytearray, memoryview or an array"
        ) from None
    except (BufferError, ValueError) as error:
        kind = "writable, contiguous" if writable else "contiguous"
        raise InvalidBufferError(
            f"a {kind} buffer is needed: {error}; copy it first, as in bytearray(data) or "
            "numpy.ascontiguousarray(array)"
        ) from None
    if type(data) is not bytes and type(data) is not bytearray and view.itemsize >= 8:
        if getattr(getattr(data, "dtype", None), "hasobject", False):
            PyBuffer_Release(view)
            raise InvalidBufferError("an array of Python objects has no bytes of its own to send")
    return 0


cdef inline bint is_exported(Py_buffer *view) noexcept:
    return <PyObject *>view.obj != NULL


@cython.final
cdef class View:
    """Keeps somebody's buffer exported for as long as UCX may touch it."""

    cdef Py_buffer view

    def __dealloc__(self):
        if is_exported(&self.view):
            PyBuffer_Release(&self.view)


cdef View keep_view(Py_buffer *view):
    """Take over an exported buffer; `view` is empty afterwards."""
    cdef View kept = View.__new__(View)
    memcpy(&kept.view, view, sizeof(Py_buffer))
    memset(view, 0, sizeof(Py_buffer))
    return kept


@cython.final
cdef class Transfer:
    """An operation that goes on after the call that started it."""

    cdef void *request
    cdef object owner  # of the memory: a View, or bytes made here
    cdef char *memory
    cdef Endpoint endpoint
    cdef uint64_t tag
    cdef size_t length
    cdef ucs_status_t status

    cdef bint test(self):
        """Whether it has ended; `status` is final then."""
        if self.status == UCS_INPROGRESS:
            with nogil:
                self.status = ucxnb_test_request(self.request)
        return self.status != UCS_INPROGRESS


@cython.final
cdef class Endpoint:
    """One connection: the UCP endpoint, its counters, and what is known about the peer."""

    cdef ucxnb_endpoint_t ucp
    cdef readonly object endpoint_id
    cdef uint64_t send_prefix
    cdef unsigned long long messages_sent, messages_received, bytes_sent, bytes_received, errors
    cdef int64_t started_ns, ended_ns
    cdef public object peer_address, peer_name, direction, state, since, reason
    cdef public bint closed_by_me

    def stats(self):
        """Snapshot of its counters."""
        cdef int64_t end = self.ended_ns if self.ended_ns else ucxnb_now_ns()
        return TrafficStats(
            self.messages_sent, self.messages_received, self.bytes_sent, self.bytes_received,
            self.errors, (end - self.started_ns) * 1e-9,
        )

    @property
    def failure(self):
        """What UCX reported about it, or an empty text."""
        if self.ucp.failure == 0:
            return ""
        return ucxnb_ucp.ucs_status_string(self.ucp.failure).decode()

    @property
    def transports(self):
        """What UCX chose: a tuple of ``transport/device``; empty once it has ended."""
        cdef ucp_transport_entry_t entries[MAX_TRANSPORTS]
        cdef unsigned count, i
        with nogil:
            count = ucxnb_endpoint_transports(&self.ucp, entries, MAX_TRANSPORTS)
        names = (
            f"{entries[i].transport_name.decode()}/{entries[i].device_name.decode()}"
            for i in range(count)
        )
        return tuple(dict.fromkeys(names))

    cdef str text(self):
        name = f" ({self.peer_name})" if self.peer_name else ""
        return f"endpoint {self.endpoint_id}, {self.peer_address}{name}"


cdef object ended_error(Endpoint endpoint):
    """The exception for using an endpoint that has ended."""
    if endpoint.closed_by_me:
        return EndpointClosedError(
            f"{endpoint.text()}: you closed it; connect again", endpoint.endpoint_id
        )
    kind = PeerClosedError if endpoint.state is EndpointState.CLOSED else EndpointLostError
    reason = endpoint.reason or endpoint.failure or "the connection failed"
    return kind(f"{endpoint.text()}: {reason}; connect again", endpoint.endpoint_id)


cdef class TagEngine:
    """What a `UcxWorker` does itself at full speed: tagged messages, progress, counters."""

    cdef ucxnb_engine_t engine
    cdef bint started, single, tag_enabled, endpoint_scope
    cdef object owner_pid
    cdef int inside, user_depth
    cdef unsigned long user_thread
    cdef uint64_t tag_limit
    cdef dict endpoints_by_id
    cdef dict open_endpoints
    cdef list unfinished_sends
    cdef list unfinished_receives
    cdef unsigned long long messages_sent, messages_received, bytes_sent, bytes_received, errors
    cdef int64_t started_ns
    cdef object scratch
    cdef readonly bint closed
    cdef public int _sources_to_come
    """Listeners and connects under way: a receive from anyone may wait while there is one."""

    def __cinit__(self, *args, **kwargs):
        self.endpoints_by_id = {}
        self.open_endpoints = {}
        self.unfinished_sends = []
        self.unfinished_receives = []
        self.closed = True

    # ---- life, for UcxWorker ----

    def _start_engine(self, uintptr_t worker, config, bint single):
        """Start the background thread on a UCP worker handle."""
        cdef int error
        cdef long interval_us = config.progress_interval_us
        self.endpoint_scope = config.tag_scope == "endpoint"
        self.tag_limit = ENDPOINT_TAGS if self.endpoint_scope else UINT64_MAX
        self.tag_enabled = config.enable_tag
        self.single = single
        with nogil:
            error = ucxnb_engine_start(&self.engine, <ucp_worker_h>worker, interval_us,
                                       self.endpoint_scope)
        if error:
            raise UcxError(f"the progress thread cannot start: {os.strerror(error)}")
        self.owner_pid = os.getpid()
        self.started_ns = ucxnb_now_ns()
        self.started = True
        self.closed = False

    def _shut_engine(self):
        """Refuse new calls, and make those that are blocked end soon."""
        if ucxnb_calls_inside:
            raise ThreadModeError(
                "close() inside another call of the same thread, as from a signal handler: set a "
                "flag there, and close after that call has returned"
            )
        self.closed = True
        with nogil:
            ucxnb_engine_shut(&self.engine)

    @property
    def _calls_inside(self):
        """Calls that have not returned yet."""
        return self.inside

    def _stop_engine(self):
        """Stop the background thread; every endpoint must have been ended before."""
        cdef int64_t deadline = ucxnb_now_ns() + 1_000_000_000
        cdef list left = self.unfinished_sends + self.unfinished_receives
        cdef Transfer transfer
        if not self.started:
            return
        self.started = False
        while left and ucxnb_now_ns() < deadline:
            with nogil:
                ucxnb_progress(&self.engine.driver)
            left = [transfer for transfer in left if not transfer.test()]
        # UCX may still write to these; leaking them is the safe thing.
        _leaked.extend(left)
        self.unfinished_sends.clear()
        self.unfinished_receives.clear()
        with nogil:
            ucxnb_engine_stop(&self.engine)

    def _abandon_engine(self):
        """In the child of a fork: nothing here works any more."""
        self.closed = True
        if self.started:
            self.started = False
            ucxnb_engine_abandon(&self.engine)

    def _enter_call(self):
        """Begin a call: the worker is open, and its thread mode allows this thread."""
        self.enter()

    def _leave_call(self):
        """End what `_enter_call` began."""
        self.leave()

    cdef int enter(self) except -1:
        global ucxnb_calls_inside
        cdef unsigned long thread
        if self.closed:
            raise self.closed_error()
        if self.single and not ucxnb_toolkit_thread:
            thread = PyThread_get_thread_ident()
            if self.user_depth and self.user_thread != thread:
                raise ThreadModeError(
                    "another thread is inside this worker; make it with "
                    "thread_mode=ThreadMode.MULTI, or use one thread at a time"
                )
            self.user_thread = thread
            self.user_depth += 1
        self.inside += 1
        ucxnb_calls_inside += 1
        return 0

    cdef void leave(self) noexcept:
        global ucxnb_calls_inside
        ucxnb_calls_inside -= 1
        self.inside -= 1
        if self.single and not ucxnb_toolkit_thread:
            self.user_depth -= 1

    cdef object closed_error(self):
        if self.owner_pid is not None and self.owner_pid != os.getpid():
            return WorkerClosedError("this worker belongs to the parent process; make a new one")
        return WorkerClosedError("this worker is closed; make a new one")

    # ---- endpoints, for the front door ----

    @property
    def _failure_fd(self):
        """Descriptor that is readable after UCX reported an endpoint as failed."""
        return self.engine.failure_fd

    def _failed_endpoints(self):
        """Open endpoints that UCX reported as failed; clears the descriptor."""
        cdef uint64_t count
        cdef Endpoint endpoint
        read(self.engine.failure_fd, &count, sizeof(count))
        return [endpoint for endpoint in self.open_endpoints.values() if endpoint.ucp.failure]

    def _open_endpoint(self, endpoint_id, const unsigned char[::1] address, send_prefix):
        """Create a UCP endpoint to a worker address (``ucp_ep_create``)."""
        cdef Endpoint endpoint = Endpoint.__new__(Endpoint)
        cdef uint64_t c_id = endpoint_id
        cdef ucs_status_t status
        cdef const unsigned char *bytes_of_address = &address[0]
        endpoint.endpoint_id = endpoint_id
        endpoint.send_prefix = (<uint64_t>send_prefix << UCXNB_ID_SHIFT) if self.endpoint_scope else 0
        with nogil:
            status = ucxnb_endpoint_open(&self.engine, &endpoint.ucp, c_id, bytes_of_address)
        if status != UCS_OK:
            raise UcxError(f"UCX cannot reach the peer's worker: {status_text(status)}", status)
        endpoint.started_ns = ucxnb_now_ns()
        self.endpoints_by_id[endpoint.endpoint_id] = endpoint
        return endpoint

    def _add_endpoint(self, Endpoint endpoint):
        """From now on the user sees it."""
        self.open_endpoints[endpoint.endpoint_id] = endpoint

    def _begin_close(self, Endpoint endpoint):
        """The user closes it: no new operations from here on."""
        endpoint.closed_by_me = True
        with nogil:
            ucxnb_endpoint_set_state(&endpoint.ucp, UCXNB_CLOSING)

    def _arrived(self, Endpoint endpoint):
        """Messages from it that have arrived, received or not."""
        cdef uint64_t waiting
        cdef Transfer transfer
        with nogil:
            waiting = ucxnb_harvest(&endpoint.ucp)
        for transfer in self.unfinished_receives:
            if transfer.tag >> UCXNB_ID_SHIFT == <uint64_t>endpoint.endpoint_id:
                waiting += 1
        return endpoint.messages_received + waiting

    def _end_endpoint(self, Endpoint endpoint):
        """Close the UCP endpoint; what has arrived can still be received, unless I closed it."""
        with nogil:
            ucxnb_harvest(&endpoint.ucp)
        self.open_endpoints.pop(endpoint.endpoint_id, None)
        if endpoint.ended_ns == 0:
            endpoint.ended_ns = ucxnb_now_ns()
        if endpoint.state is EndpointState.LOST:
            endpoint.errors += 1
            self.errors += 1
        if endpoint.closed_by_me:
            self._forget_endpoint(endpoint)
        with nogil:
            if endpoint.ucp.state == UCXNB_OPEN:
                ucxnb_endpoint_set_state(&endpoint.ucp, UCXNB_ENDED)
            ucxnb_endpoint_close(&endpoint.ucp)

    def _forget_endpoint(self, Endpoint endpoint):
        """Drop what nobody received of an endpoint that ends, or has ended."""
        cdef Transfer transfer
        cdef uint64_t c_id = endpoint.endpoint_id
        with nogil:
            ucxnb_endpoint_forget(&endpoint.ucp)
        for transfer in list(self.unfinished_receives):
            if transfer.tag >> UCXNB_ID_SHIFT == c_id and self.endpoint_scope:
                self.unfinished_receives.remove(transfer)
                self.unfinished_sends.append(transfer)  # only its memory matters now

    def _remove_endpoint(self, Endpoint endpoint):
        """Forget an ended endpoint and its id altogether."""
        self._forget_endpoint(endpoint)
        self.endpoints_by_id.pop(endpoint.endpoint_id, None)

    def _known_endpoints(self):
        """All that are open or ended a short while ago."""
        return [e for e in list(self.endpoints_by_id.values()) if e.state is not None]

    @property
    def _open_count(self):
        return len(self.open_endpoints)

    def _flush_endpoint(self, Endpoint endpoint, timeout):
        """Wait until all that was sent has left (``ucp_ep_flush_nbx``); whether it has."""
        cdef void *request
        cdef ucs_status_t status
        cdef Transfer transfer
        cdef int64_t deadline = deadline_of(timeout)
        with nogil:
            request = ucxnb_post_flush(&endpoint.ucp)
        if not UCS_PTR_IS_PTR(request):
            return UCS_PTR_STATUS(request) == UCS_OK
        transfer = self.keep_transfer(request, None, NULL, endpoint, 0, 0)
        try:
            self.await_transfer(transfer, deadline, False, True)
        finally:
            if not transfer.test():
                self.unfinished_sends.append(transfer)
        return transfer.status == UCS_OK

    cdef Endpoint find_endpoint(self, object endpoint_id):
        cdef object found
        try:
            found = self.endpoints_by_id.get(endpoint_id)
        except TypeError:
            found = None
        if found is not None:
            return <Endpoint>found
        try:
            operator.index(endpoint_id)
        except TypeError:
            raise ArgumentError(
                f"endpoint_id={endpoint_id!r}: it takes the integer that connect() returned"
            ) from None
        raise UnknownEndpointError(
            f"there is no endpoint {endpoint_id!r}; open are {sorted(self.open_endpoints)}"
        )

    def _endpoint(self, endpoint_id):
        """The endpoint of an id.

        Raises `UnknownEndpointError` or `ArgumentError`.
        """
        return self.find_endpoint(endpoint_id)

    def get_endpoint_ids(self):
        """Ids of the connections open now, in the order they were made.

        Returns
        -------
        list of int
            Accepted peers appear, and lost ones disappear, without a call of yours.
        """
        return list(self.open_endpoints)

    def is_connected(self, endpoint_id):
        """Whether a connection is open.

        Parameters
        ----------
        endpoint_id : int
            Any id; one that this worker never gave is not connected.

        Returns
        -------
        bool
            False within a second of the peer's death.
        """
        try:
            return endpoint_id in self.open_endpoints
        except TypeError:
            return False

    # ---- sending ----

    cdef uint64_t wire_tag(self, object tag) except? 0xdead:
        cdef object number = tag
        if type(tag) is not int:
            try:
                number = operator.index(tag)
            except TypeError:
                raise TagTypeError(f"tag={tag!r}: a tag is an integer") from None
        if number < 0 or number > self.tag_limit:
            bits = UCXNB_ID_SHIFT if self.endpoint_scope else 64
            scope = "endpoint" if self.endpoint_scope else "worker"
            raise TagRangeError(
                f'tag={tag!r}: with tag_scope="{scope}" a tag is from 0 to 2**{bits} - 1'
            )
        return number

    cdef int need_tag(self) except -1:
        if not self.tag_enabled:
            raise FeatureDisabledError(
                "tag messages are switched off; make the worker with enable_tag=True"
            )
        return 0

    cdef Transfer keep_transfer(self, void *request, object owner, char *memory,
                                Endpoint endpoint, uint64_t tag, size_t length):
        cdef Transfer transfer = Transfer.__new__(Transfer)
        transfer.request = request
        transfer.owner = owner
        transfer.memory = memory
        transfer.endpoint = endpoint
        transfer.tag = tag
        transfer.length = length
        transfer.status = UCS_INPROGRESS
        return transfer

    cdef int await_transfer(self, Transfer transfer, int64_t deadline, bint spin,
                            bint even_if_shut=False) except -1:
        """Wait until it ends, the deadline comes, the worker closes or a signal raises."""
        cdef int c_spin = spin
        while transfer.status == UCS_INPROGRESS:
            with nogil:
                transfer.status = ucxnb_wait_request(&self.engine, transfer.request,
                                                     slice_end(deadline), c_spin, even_if_shut)
            if transfer.status != UCS_INPROGRESS:
                break
            PyErr_CheckSignals()
            if ucxnb_now_ns() >= deadline or (self.engine.closing and not even_if_shut):
                break
            c_spin = 0
        return 0

    cdef void count_sent(self, Endpoint endpoint, size_t length) noexcept:
        endpoint.messages_sent += 1
        endpoint.bytes_sent += length
        self.messages_sent += 1
        self.bytes_sent += length

    cdef object failed_error(self, Endpoint endpoint, ucs_status_t status, str what):
        """Count a failed operation and make its exception."""
        self.errors += 1
        if endpoint is None:
            return UcxError(f"{what}: {status_text(status)}", status)
        endpoint.errors += 1
        if endpoint.ucp.state != UCXNB_OPEN:
            return ended_error(endpoint)
        if status in _peer_failures:
            return EndpointLostError(
                f"{endpoint.text()}: {what}: {status_text(status)}; connect again",
                endpoint.endpoint_id,
            )
        return UcxError(f"{endpoint.text()}: {what}: {status_text(status)}", status)

    cdef void reap(self):
        """Let go of sends that ended after their call had given up on them."""
        cdef Transfer transfer
        cdef list left = []
        for transfer in self.unfinished_sends:
            if not transfer.test():
                left.append(transfer)
            elif transfer.status == UCS_OK and transfer.length and transfer.endpoint is not None:
                self.count_sent(transfer.endpoint, transfer.length)
        self.unfinished_sends = left

    def _reap(self):
        """Release the buffers of operations that ended after their call had."""
        if self.unfinished_sends:
            self.reap()

    def send_tag(self, endpoint_id, tag, data, *, timeout=None):
        """Send one message and wait until its buffer can be used again.

        Small messages are buffered on the way (eager) and return at once; for large ones
        (rendezvous) this returns when the receiver has fetched them. Neither proves that the
        peer's program has taken the message: only an answer does.

        Parameters
        ----------
        endpoint_id : int
            Where to, from `connect` or `get_endpoint_ids`.
        tag : int
            0 to 2**40 - 1, or all 64 bits with ``tag_scope="worker"``.
        data : bytes-like
            Any contiguous buffer, of any size, also empty. It must not change before this returns.
        timeout : float, optional
            Seconds; None waits for ever.

        Raises
        ------
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        OperationTimeoutError
            UCX cannot take a send back: the message still goes out, and `data` stays in use (it
            must not change) until it has.
        TagRangeError, TagTypeError, InvalidBufferError, ArgumentError
            Nothing was sent.
        ThreadModeError, WorkerClosedError, FeatureDisabledError
            Nothing was sent.

        Notes
        -----
        ``ucp_tag_send_nbx``. Messages with one endpoint and tag arrive in the order sent.
        """
        cdef Endpoint endpoint
        cdef Transfer transfer
        cdef Py_buffer view
        cdef uint64_t wire
        cdef int64_t deadline
        cdef void *request
        cdef ucs_status_t status
        self.enter()
        try:
            self.need_tag()
            endpoint = self.find_endpoint(endpoint_id)
            wire = self.wire_tag(tag) | endpoint.send_prefix
            deadline = deadline_of(timeout)
            if endpoint.ucp.state != UCXNB_OPEN:
                raise ended_error(endpoint)
            export_buffer(data, &view, False)
            with nogil:
                request = ucxnb_post_send(&endpoint.ucp, view.buf, view.len, wire)
                status = UCS_PTR_STATUS(request)
                if UCS_PTR_IS_PTR(request):
                    status = ucxnb_wait_request(&self.engine, request, slice_end(deadline), 1, 0)
            if status == UCS_INPROGRESS:
                transfer = self.keep_transfer(request, None, NULL, endpoint, wire, view.len)
                transfer.owner = keep_view(&view)
                status = self.finish_send(transfer, deadline)
                view.len = transfer.length
            else:
                PyBuffer_Release(&view)
            if status != UCS_OK:
                raise self.failed_error(endpoint, status, f"sending tag {tag} failed")
            self.count_sent(endpoint, view.len)
        finally:
            self.leave()

    cdef ucs_status_t finish_send(self, Transfer transfer, int64_t deadline) except *:
        """Wait for a posted send; if the wait ends first, its buffer is kept until it has."""
        try:
            self.await_transfer(transfer, deadline, False)
        finally:
            if transfer.status == UCS_INPROGRESS:
                self.unfinished_sends.append(transfer)
        if transfer.status == UCS_INPROGRESS:
            if self.engine.closing:
                raise self.closed_error()
            raise OperationTimeoutError(
                f"{transfer.endpoint.text()}: a message of {transfer.length:,} bytes was not "
                "fetched in time; it cannot be taken back, so its buffer stays in use until it is"
            )
        return transfer.status

    def broadcast_tag(self, tag, data, *, timeout=None):
        """Send one message to every connection.

        It is posted to all of them before the first is waited for.

        Parameters
        ----------
        tag : int
            As in `send_tag`.
        data : bytes-like
            As in `send_tag`.
        timeout : float, optional
            Seconds for all together; None waits for ever.

        Returns
        -------
        list of int
            The endpoints that got it: all that were open. Empty if none was.

        Raises
        ------
        BroadcastError
            Some did not get it: `BroadcastError.failed` says which and why,
            `BroadcastError.delivered` lists the others.
        TagRangeError, TagTypeError, InvalidBufferError, ArgumentError
            Nothing was sent.
        ThreadModeError, WorkerClosedError, FeatureDisabledError
            Nothing was sent.

        Notes
        -----
        ``ucp_tag_send_nbx`` to each endpoint.
        """
        cdef Endpoint endpoint
        cdef Transfer transfer
        cdef Py_buffer view
        cdef View kept
        cdef uint64_t tag_bits, wire
        cdef int64_t deadline
        cdef void *request
        cdef list transfers = [], delivered = []
        cdef dict failed = {}
        self.enter()
        try:
            self.need_tag()
            tag_bits = self.wire_tag(tag)
            deadline = deadline_of(timeout)
            export_buffer(data, &view, False)
            kept = keep_view(&view)
            for endpoint in list(self.open_endpoints.values()):
                wire = tag_bits | endpoint.send_prefix
                with nogil:
                    request = ucxnb_post_send(&endpoint.ucp, kept.view.buf, kept.view.len, wire)
                transfer = self.keep_transfer(request, kept, NULL, endpoint, wire, kept.view.len)
                if not UCS_PTR_IS_PTR(request):
                    transfer.status = UCS_PTR_STATUS(request)
                transfers.append(transfer)
            try:
                for transfer in transfers:
                    self.await_transfer(transfer, deadline, True)
            finally:
                for transfer in transfers:
                    if not transfer.test():
                        self.unfinished_sends.append(transfer)
            for transfer in transfers:
                endpoint = transfer.endpoint
                if transfer.status == UCS_OK:
                    self.count_sent(endpoint, transfer.length)
                    delivered.append(endpoint.endpoint_id)
                elif transfer.status == UCS_INPROGRESS:
                    failed[endpoint.endpoint_id] = OperationTimeoutError(
                        f"{endpoint.text()}: not fetched in time"
                    )
                else:
                    failed[endpoint.endpoint_id] = self.failed_error(
                        endpoint, transfer.status, f"sending tag {tag} failed"
                    )
        finally:
            self.leave()
        if failed:
            if self.closed:
                raise self.closed_error()
            raise BroadcastError(
                f"tag {tag} reached {len(delivered)} of {len(transfers)} endpoints: "
                + "; ".join(str(error) for error in failed.values()),
                tuple(delivered), failed,
            )
        return delivered

    # ---- receiving ----

    cdef Endpoint aim(self, ucxnb_match_t *match, object endpoint_id, object tag, object tag_mask):
        """Fill in which messages a receive takes; returns its endpoint, None for anyone."""
        cdef Endpoint endpoint = None
        match.engine = &self.engine
        match.endpoint = NULL
        match.tag = self.wire_tag(tag)
        match.mask = self.tag_limit
        if tag_mask is not None:
            match.mask = self.wire_tag(tag_mask)
        if endpoint_id is not None:
            if not self.endpoint_scope:
                raise ArgumentError(
                    'with tag_scope="worker" a receive cannot tell endpoints apart: '
                    "pass endpoint_id=None"
                )
            endpoint = self.find_endpoint(endpoint_id)
            if endpoint.closed_by_me:
                raise ended_error(endpoint)
            match.endpoint = &endpoint.ucp
            match.tag |= endpoint.ucp.id << UCXNB_ID_SHIFT
            match.mask |= ~ENDPOINT_TAGS
        return endpoint

    cdef object delivered(self, uint64_t wire, size_t length, object data, bint describe):
        """Count a received message and make the call's result."""
        cdef object endpoint_id = None
        cdef object found
        cdef Endpoint endpoint
        self.messages_received += 1
        self.bytes_received += length
        if self.endpoint_scope:
            endpoint_id = wire >> UCXNB_ID_SHIFT
            found = self.endpoints_by_id.get(endpoint_id)
            if found is not None:
                endpoint = <Endpoint>found
                endpoint.messages_received += 1
                endpoint.bytes_received += length
        if describe:
            return Message(endpoint_id, wire & self.tag_limit, length, data)
        return length if data is None else data

    cdef object not_found(self, int found, ucxnb_match_t *match, Endpoint endpoint):
        """The exception for a receive that ends without a message; None to go on waiting."""
        if found == UCXNB_SHUT:
            return self.closed_error() if self.engine.closing else ended_error(endpoint)
        if found == UCXNB_PEER_ENDED:
            return ended_error(endpoint)
        if found == UCXNB_NO_MEMORY:
            return MemoryError(f"a message of {match.length:,} bytes was lost")
        if endpoint is None and not self.open_endpoints and self._sources_to_come == 0:
            return NoPeersError(
                "no endpoint is open and no listener could bring one; connect or listen first"
            )
        return None

    cdef object too_small(self, uint64_t wire, size_t length, size_t capacity):
        source = f" from endpoint {wire >> UCXNB_ID_SHIFT}" if self.endpoint_scope else ""
        return BufferTooSmallError(
            f"the message with tag {wire & self.tag_limit}{source} has {length:,} bytes, the "
            f"buffer {capacity:,}; it is kept: receive it into a larger buffer, or with none",
            length,
        )

    cdef object receive(self, object endpoint_id, object tag, object buffer, object tag_mask,
                        object timeout, bint wait, bint describe):
        cdef Py_buffer view
        cdef object result
        memset(&view, 0, sizeof(view))
        self.enter()
        try:
            self.need_tag()
            if buffer is not None:
                export_buffer(buffer, &view, True)
            result = self.receive_into(&view, endpoint_id, tag, tag_mask, timeout, wait, describe)
        finally:
            if is_exported(&view):
                PyBuffer_Release(&view)
            self.leave()
        return result

    cdef object receive_into(self, Py_buffer *view, object endpoint_id, object tag,
                             object tag_mask, object timeout, bint wait, bint describe):
        cdef ucxnb_match_t match
        cdef int64_t deadline = deadline_of(timeout)
        cdef Endpoint endpoint = self.aim(&match, endpoint_id, tag, tag_mask)
        # A receive that may not wait must not leave a user's buffer half written.
        cdef bint direct = is_exported(view) and (wait or view.len <= SCRATCH_SIZE)
        cdef object memory = None  # bytes of ours, where the message goes if not direct
        cdef char *target
        cdef Transfer transfer
        cdef View kept
        cdef void *request = NULL
        cdef ucs_status_t status = UCS_OK
        cdef int found, spin = 1
        if self.unfinished_receives:
            transfer = self.find_unfinished(&match, view)
            if transfer is not None:
                return self.resume(transfer, view, deadline, wait, describe)
        if direct:
            target = <char *>view.buf
            match.capacity = view.len
        else:
            memory = self.take_scratch()
            target = PyBytes_AS_STRING(memory)
            match.capacity = SCRATCH_SIZE
        while True:
            with nogil:
                found = ucxnb_match(&match)
                if found == UCXNB_NO_MATCH:
                    if wait:
                        found = ucxnb_wait(&self.engine.driver, ucxnb_match, &match,
                                           slice_end(deadline), spin)
                    else:
                        ucxnb_progress(&self.engine.driver)
                        found = ucxnb_match(&match)
                if found == UCXNB_MATCHED:
                    request = ucxnb_post_receive(&self.engine, target, match.length, match.handle)
                    status = UCS_PTR_STATUS(request)
                    if UCS_PTR_IS_PTR(request):
                        if wait:
                            status = ucxnb_wait_request(&self.engine, request,
                                                        slice_end(deadline), 1, 0)
                        else:
                            status = ucxnb_test_request(request)
            if found == UCXNB_MATCHED:
                break
            if found == UCXNB_TOO_SMALL:
                if is_exported(view) and match.length > <size_t>view.len:
                    raise self.too_small(match.sender_tag, match.length, view.len)
                memory = PyBytes_FromStringAndSize(NULL, match.length)
                target = PyBytes_AS_STRING(memory)
                match.capacity = match.length
                continue
            error = self.not_found(found, &match, endpoint)
            if error is not None:
                raise error
            if not wait:
                self.scratch = memory
                return None
            PyErr_CheckSignals()
            if ucxnb_now_ns() >= deadline:
                raise OperationTimeoutError(
                    f"no message with tag {tag} from "
                    f"{endpoint.text() if endpoint is not None else 'anyone'} in {timeout} s; "
                    "both sides must use the same tag"
                )
            spin = 0
        if status == UCS_INPROGRESS:
            transfer = self.keep_transfer(request, memory, target, endpoint, match.sender_tag,
                                          match.length)
            if direct:
                kept = keep_view(view)
                view = &kept.view
                transfer.owner = kept
            self.unfinished_receives.insert(0, transfer)
            return self.resume(transfer, view, deadline, wait, describe)
        if status != UCS_OK:
            raise self.failed_error(endpoint, status, f"receiving tag {tag} failed")
        if direct:
            return self.delivered(match.sender_tag, match.length, None, describe)
        return self.unload(memory, match.sender_tag, match.length, view, describe)

    cdef object take_scratch(self):
        """Memory for small messages: one piece, used again and again."""
        cdef object scratch = self.scratch
        self.scratch = None
        return PyBytes_FromStringAndSize(NULL, SCRATCH_SIZE) if scratch is None else scratch

    cdef object unload(self, object memory, uint64_t wire, size_t length, Py_buffer *view,
                       bint describe):
        """Bring a message from memory of ours to where the user wants it."""
        cdef char *source = PyBytes_AS_STRING(memory)
        if is_exported(view):
            with nogil:
                memcpy(view.buf, source, length)
        if <size_t>len(memory) == SCRATCH_SIZE and self.scratch is None:
            self.scratch = memory  # its bytes are copied, never given away
        elif not is_exported(view) and <size_t>len(memory) == length:
            return self.delivered(wire, length, memory, describe)
        if is_exported(view):
            return self.delivered(wire, length, None, describe)
        return self.delivered(wire, length, PyBytes_FromStringAndSize(source, length), describe)

    cdef Transfer find_unfinished(self, ucxnb_match_t *match, Py_buffer *view):
        """The message whose transfer an earlier receive began, if this receive is for it."""
        cdef Transfer transfer, found = None
        cdef char *start = <char *>view.buf
        for transfer in self.unfinished_receives:
            if found is None and ((transfer.tag ^ match.tag) & match.mask) == 0:
                if is_exported(view) and transfer.length > <size_t>view.len:
                    raise self.too_small(transfer.tag, transfer.length, view.len)
                found = transfer
            elif (is_exported(view) and start < transfer.memory + transfer.length
                    and transfer.memory < start + view.len):
                raise InvalidBufferError(
                    f"a message with tag {transfer.tag & self.tag_limit} is still arriving in "
                    "this buffer; receive that one first, or use another buffer"
                )
        return found

    cdef object resume(self, Transfer transfer, Py_buffer *view, int64_t deadline, bint wait,
                       bint describe):
        """Go on with a transfer that began; it is kept for the next receive if it does not end."""
        self.unfinished_receives.remove(transfer)
        try:
            if wait:
                self.await_transfer(transfer, deadline, True)
            else:
                with nogil:
                    ucxnb_progress(&self.engine.driver)
                transfer.test()
        finally:
            if transfer.status == UCS_INPROGRESS:
                self.unfinished_receives.insert(0, transfer)
        tag = transfer.tag & self.tag_limit
        if transfer.status == UCS_INPROGRESS:
            if self.engine.closing:
                raise self.closed_error()
            if not wait:
                return None
            raise OperationTimeoutError(
                f"the message with tag {tag} has {transfer.length:,} bytes, and not all came in "
                "time; receive the same tag again to go on"
            )
        if transfer.status != UCS_OK:
            raise self.failed_error(transfer.endpoint, transfer.status, f"receiving tag {tag} failed")
        if isinstance(transfer.owner, bytes):
            return self.unload(transfer.owner, transfer.tag, transfer.length, view, describe)
        if not is_exported(view):
            data = PyBytes_FromStringAndSize(transfer.memory, transfer.length)
            return self.delivered(transfer.tag, transfer.length, data, describe)
        if view.buf != transfer.memory:
            memmove(view.buf, transfer.memory, transfer.length)
        return self.delivered(transfer.tag, transfer.length, None, describe)

    def receive_tag(self, endpoint_id, tag, buffer=None, *, timeout=None, tag_mask=None):
        """Wait for a message and receive it.

        Parameters
        ----------
        endpoint_id : int or None
            Where from; None takes from anyone (the only choice with ``tag_scope="worker"``).
        tag : int
            The tag it was sent with.
        buffer : writable bytes-like, optional
            Where the message goes: any contiguous buffer that is large enough. Yours again when
            this returns or raises, with the exception named below.
        timeout : float, optional
            Seconds; None waits for ever.
        tag_mask : int, optional
            Only the tag's bits that are set here must match; 0 takes any tag.

        Returns
        -------
        int or bytes
            With a buffer the number of bytes received, with none the bytes themselves.

        Raises
        ------
        BufferTooSmallError
            The message is kept, `BufferTooSmallError.needed` says how large it is.
        OperationTimeoutError
            Nothing is lost: a message that comes later waits to be received. If a large one had
            begun to arrive, it goes on arriving in `buffer`, and the next receive of its tag
            completes it. The same holds for ``KeyboardInterrupt``.
        EndpointLostError, PeerClosedError
            The peer is gone and all that arrived from it has been received.
        NoPeersError
            From anyone, with no endpoint open and no listener.
        EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        TagRangeError, TagTypeError, InvalidBufferError, ArgumentError
            Nothing was received.
        ThreadModeError, WorkerClosedError, FeatureDisabledError
            Nothing was received.

        Notes
        -----
        ``ucp_tag_probe_nb`` and ``ucp_tag_msg_recv_nbx``: nothing is posted into your buffer before
        the message is there.
        """
        return self.receive(endpoint_id, tag, buffer, tag_mask, timeout, True, False)

    def try_receive_tag(self, endpoint_id, tag, buffer=None, *, tag_mask=None):
        """Receive a message that has arrived; never wait for one.

        Parameters
        ----------
        endpoint_id, tag, buffer, tag_mask
            As in `receive_tag`.

        Returns
        -------
        int or bytes or None
            As `receive_tag`; None if there is no message, or a large one is still arriving.

        Raises
        ------
        BufferTooSmallError, EndpointLostError, PeerClosedError, NoPeersError
            As `receive_tag`, and so all its other errors but the timeout.

        Notes
        -----
        Messages over 8 KiB pass through memory of the worker's own on their way into `buffer`,
        so that a slow sender cannot hold the call up.
        """
        return self.receive(endpoint_id, tag, buffer, tag_mask, None, False, False)

    def receive_message(self, endpoint_id, tag, buffer=None, *, timeout=None, tag_mask=None):
        """Wait for a message and say who sent it.

        Parameters
        ----------
        endpoint_id, tag, buffer, timeout, tag_mask
            As in `receive_tag`.

        Returns
        -------
        Message
            Endpoint, tag, size, and the bytes if no buffer was given.

        Raises
        ------
        BufferTooSmallError, OperationTimeoutError, EndpointLostError, NoPeersError
            As `receive_tag`, and so all its other errors.
        """
        return self.receive(endpoint_id, tag, buffer, tag_mask, timeout, True, True)

    def try_receive_message(self, endpoint_id, tag, buffer=None, *, tag_mask=None):
        """Receive a message that has arrived, and say who sent it; never wait for one.

        Parameters
        ----------
        endpoint_id, tag, buffer, tag_mask
            As in `receive_tag`.

        Returns
        -------
        Message or None
            As `receive_message`; None as in `try_receive_tag`.

        Raises
        ------
        BufferTooSmallError, EndpointLostError, PeerClosedError, NoPeersError
            As `receive_tag`, and so all its other errors but the timeout.
        """
        return self.receive(endpoint_id, tag, buffer, tag_mask, None, False, True)

    # ---- progress and counters ----

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
        if self.unfinished_sends:
            self.reap()
        return WorkerStats(
            self.messages_sent, self.messages_received, self.bytes_sent, self.bytes_received,
            self.errors, (ucxnb_now_ns() - self.started_ns) * 1e-9, len(self.open_endpoints),
        )

    def _count_error(self):
        """Count a failure that happened outside the engine."""
        self.errors += 1


cdef str status_text(ucs_status_t status):
    return ucxnb_ucp.ucs_status_string(status).decode()


_leaked = []
_peer_failures = frozenset((
    UCS_ERR_CANCELED, UCS_ERR_CONNECTION_RESET, UCS_ERR_ENDPOINT_TIMEOUT, UCS_ERR_IO_ERROR,
    UCS_ERR_NOT_CONNECTED, UCS_ERR_REJECTED, UCS_ERR_TIMED_OUT, UCS_ERR_UNREACHABLE,
))

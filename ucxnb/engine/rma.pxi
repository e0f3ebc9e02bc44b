"""One-sided memory: registered here, put and got there (``UCP_FEATURE_RMA``)."""

cdef enum:
    KEY_SIZE = 36
    MAPPED_SMALL = 262144  # what is mapped is copied with the GIL up to this size

cdef bytes KEY_MAGIC = b"UCXm"


@cython.final
cdef class RegisteredMemory:
    """Memory that peers may reach with its `remote_key`, until you `close` it.

    Made by `UcxWorker.register` and `UcxWorker.allocate`. It is a buffer: ``memoryview(memory)``
    and ``numpy.frombuffer(memory, dtype)`` give views of it. A context manager.

    Attributes
    ----------
    nbytes : int
        Its size.
    writable : bool
        Whether peers may put into it.
    """

    cdef RmaEngine worker
    cdef ucxnb_memory_t memory
    cdef Py_buffer view  # of the user's
    cdef int type  # ucs_memory_type_t
    cdef readonly size_t nbytes
    cdef readonly bint writable
    cdef bytes key
    cdef int exports
    cdef bint is_closing, is_closed
    cdef object context, owner_pid  # what the memory belongs to, until it is unmapped
    cdef object __weakref__

    def __init__(self):
        raise TypeError("registered memory comes from register() and allocate()")

    def __dealloc__(self):
        if is_exported(&self.view):
            PyBuffer_Release(&self.view)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.is_closed:
            raise BufferError("this memory is closed: register or allocate another")
        if self.type != UCS_MEMORY_TYPE_HOST:
            raise BufferError("this memory is on a GPU: use the array that was registered")
        PyBuffer_FillInfo(buffer, self, self.memory.address, self.nbytes, not self.writable, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1
        self.unmap_if_unused()

    def __len__(self):
        return self.nbytes

    def __repr__(self):
        kind = "" if self.writable else "read-only, "
        state = "closed" if self.is_closed else "open"
        return f"<RegisteredMemory: {self.nbytes:,} bytes, {kind}{state}>"

    @property
    def closed(self):
        """Whether peers can no longer reach it."""
        return self.is_closed

    def remote_key(self):
        """What a peer needs to reach this memory, to be sent to it by any means.

        Returns
        -------
        bytes
            36 of them. Whoever has them and a connection to this worker can read the memory and, if
            it is `writable`, change it, until it is closed.

        Raises
        ------
        RemoteKeyError
            It is closed.
        """
        if self.is_closing:
            raise RemoteKeyError("this memory is closed, and has no key any more")
        return self.key

    def close(self, *, timeout=5.0):
        """End the access of all peers, and unregister the memory (``ucp_mem_unmap``).

        Peers let go of it first: what they have begun is finished, and what they begin from now on
        is an error on their side. Doing it again does nothing. Memory that UCX allocated lives on
        while there are views of it.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the peers; None waits for ever.

        Raises
        ------
        OperationTimeoutError
            A peer did not let go in time: the message says which. The memory stays registered, and
            must not be used for anything else: close it again, or disconnect that peer.
        ArgumentError, ThreadModeError
            Nothing was done.
        """
        if not self.is_closed:
            self.is_closing = True
            self.worker._revoke(self.key, timeout)
            self.is_closed = True
            self.worker.memories.discard(self)
            self.unmap_if_unused()

    cdef int unmap_if_unused(self) except -1:
        self.worker = None if self.is_closed else self.worker
        if self.is_closed and self.exports == 0 and self.context is not None:
            if self.owner_pid == getpid():
                with nogil:
                    ucxnb_unmap(&self.memory)
            self.context = None
            if is_exported(&self.view):
                PyBuffer_Release(&self.view)
        return 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


@cython.final
cdef class RemoteMemory:
    """A peer's memory that this side may reach.

    Made by `UcxWorker.open_remote`, and by the first use of a key.

    Attributes
    ----------
    nbytes : int
        Its size.
    writable : bool
        Whether it can be put into.
    key : bytes
        Its remote key.
    """

    cdef Endpoint endpoint
    cdef ucp_rkey_h handle
    cdef uint64_t address
    cdef void *direct  # where it is mapped here, or NULL
    cdef readonly uint64_t nbytes
    cdef readonly bint writable
    cdef readonly bytes key
    cdef bint revoked
    cdef int users  # operations under way
    cdef ucxnb_operation_t *flushing

    def __init__(self):
        raise TypeError("remote memory comes from open_remote()")

    def __repr__(self):
        kind = "" if self.writable else "read-only, "
        state = "gone" if self.revoked else "open"
        state += ", mapped" if self.direct != NULL else ""
        return f"<RemoteMemory: {self.nbytes:,} bytes of {self.endpoint.text()}, {kind}{state}>"

    @property
    def endpoint_id(self):
        """The connection to its owner."""
        return self.endpoint.endpoint_id

    @property
    def closed(self):
        """Whether its owner closed it, or the connection ended."""
        return self.revoked

    cdef inline int check(self, uint64_t offset, uint64_t length, bint write) except -1:
        if self.revoked:
            if self.endpoint.ucp.state != UCXNB_OPEN:
                raise ended_error(self.endpoint)
            raise RemoteKeyError(
                f"{self.endpoint.text()}: the peer closed that memory; ask it for another key"
            )
        if offset > self.nbytes or length > self.nbytes - offset:
            raise RemoteRangeError(
                f"{length:,} bytes from offset {offset:,} do not lie within the {self.nbytes:,} "
                "bytes of that memory; nothing was done"
            )
        if write and not self.writable:
            raise RemoteReadOnlyError(
                f"{self.endpoint.text()}: that memory can only be read; its owner registers it "
                "with writable=True to change this"
            )
        return 0

    cdef void end_use(self) noexcept:
        self.users -= 1
        if self.revoked and self.endpoint.ucp.state != UCXNB_OPEN:
            self.close_key()

    cdef void close_key(self) noexcept:
        if self.users == 0 and self.flushing == NULL and self.handle != NULL:
            ucxnb_close_key(self.handle)
            self.handle = NULL


cdef bytes checked_key(object key):
    cdef bytes plain
    try:
        plain = bytes(memoryview(key))
    except (TypeError, ValueError):
        plain = b""
    if len(plain) != KEY_SIZE or not plain.startswith(KEY_MAGIC):
        raise RemoteKeyError(
            f"{shown(key)} is no remote key: RegisteredMemory.remote_key() of the peer gives one, "
            f"{KEY_SIZE} bytes, and send it whole"
        )
    return plain


cdef inline uint64_t checked_offset(object offset) except? 0xdead:
    cdef uint64_t plain
    if type(offset) is int:
        plain = PyLong_AsUnsignedLongLong(offset)
        if plain >> 63 == 0:
            return plain
        PyErr_Clear()  # too large, or negative
    return converted_offset(offset)


cdef uint64_t converted_offset(object offset) except? 0xdead:
    cdef object number
    try:
        number = operator.index(offset)
    except TypeError:
        raise ArgumentError(f"offset={shown(offset)}: it takes a number of bytes") from None
    if not 0 <= number < 2**63:
        raise RemoteRangeError(
            f"offset={shown(offset)}: it takes bytes from the start of the memory; nothing was done"
        )
    return number


cdef class RmaEngine(StreamEngine):
    """Reaches peers' memory, and lets them reach this worker's."""

    cdef set memories  # that are registered
    cdef object remotes  # that are, or were, open
    cdef bytes memory_id
    cdef bint rma_enabled

    def __cinit__(self, *args, **kwargs):
        self.memories = set()
        self.remotes = []
        self.memory_id = os.urandom(16)

    def _enable_rma(self, bint enabled):
        self.rma_enabled = enabled

    # ---- memory of this side ----

    def _map(self, object context, uintptr_t handle, object buffer, object nbytes,
             object writable):
        """Register a buffer, or memory that UCX allocates; the caller has checked `nbytes`.

        The UCP context is kept until the memory is unmapped, by its last view perhaps.
        """
        cdef RegisteredMemory memory = RegisteredMemory.__new__(RegisteredMemory)
        cdef ucs_status_t status
        cdef void *address = NULL
        cdef size_t length
        cdef bint may_write
        self.need_rma()
        if buffer is None:
            length = nbytes
            may_write = True
        else:
            export_buffer(buffer, &memory.view, False, self)
            memory.type = type_of(&memory.view)
            address = memory.view.buf
            length = memory.view.len
            may_write = type(buffer) is not bytes and not memory.view.readonly
            if length == 0:
                raise InvalidBufferError("buffer is empty: there is nothing to register")
            if writable and not may_write:
                raise InvalidBufferError("writable=True, and the buffer is read-only")
            may_write = may_write and (writable is None or writable)
        with nogil:
            ucxnb_ask_in(&self.engine.driver)
            status = ucxnb_map(<ucp_context_h>handle, address, length, memory.type, may_write,
                               &memory.memory)
            ucxnb_ask_no_more(&self.engine.driver)
        if status != UCS_OK:
            raise UcxError(f"UCX cannot register {length:,} bytes: {status_text(status)}", status)
        if buffer is None:
            with nogil:
                memset(memory.memory.address, 0, length)
        memory.nbytes = length
        memory.writable = may_write
        memory.worker = self
        memory.context, memory.owner_pid = context, getpid()
        # Nobody guesses it: the last part is random.
        memory.key = KEY_MAGIC + self.memory_id + os.urandom(16)
        self.memories.add(memory)
        return memory

    def _memory_of(self, bytes key):
        """The memory of a key that a peer asks for, or why there is none."""
        cdef RegisteredMemory memory
        for memory in self.memories:
            if memory.key == key and not memory.is_closing:
                return memory
        if key[4:20] != self.memory_id:
            return "it is the key of another worker's memory"
        return "that memory was closed"

    def _pack_key(self, RegisteredMemory memory):
        """What the peer's UCX needs: address and packed key."""
        cdef void *packed
        cdef size_t length
        cdef ucs_status_t status
        with nogil:
            status = ucxnb_pack_key(&memory.memory, &packed, &length)
        if status != UCS_OK:
            raise UcxError(f"UCX cannot pack a remote key: {status_text(status)}", status)
        try:
            return (<uintptr_t>memory.memory.address,
                    PyBytes_FromStringAndSize(<char *>packed, length))
        finally:
            ucxnb_free_key(packed)

    def _release_memory(self):
        """The engine has stopped. Memory that is still seen is unmapped after its last view."""
        cdef RegisteredMemory memory
        cdef RemoteMemory remote
        for remote in self.remotes:
            remote.revoked = True
            remote.close_key()
        self.remotes = []
        for memory in self.memories:
            memory.is_closing = memory.is_closed = True
            memory.unmap_if_unused()
        self.memories.clear()

    # ---- memory of peers, for the front door ----

    def _open_remote(self, Endpoint endpoint, bytes key, bytes packed, uint64_t address,
                     uint64_t nbytes, bint writable):
        """Make what its owner told of a key usable."""
        cdef RemoteMemory remote = RemoteMemory.__new__(RemoteMemory)
        cdef ucs_status_t status
        cdef object padded = packed + bytes(UCXNB_KEY_PADDING)
        cdef const char *bytes_of_key = PyBytes_AS_STRING(padded)
        remote.endpoint = endpoint
        remote.address = address
        remote.nbytes = nbytes
        remote.writable = writable
        remote.key = key
        with nogil:
            status = ucxnb_open_key(&endpoint.ucp, bytes_of_key, address, &remote.handle,
                                    &remote.direct)
        if status != UCS_OK:
            raise UcxError(f"{endpoint.text()}: UCX cannot use its key: {status_text(status)}",
                           status)
        self.remotes = [old for old in self.remotes if (<RemoteMemory>old).handle != NULL]
        self.remotes.append(remote)
        endpoint.remotes[key] = remote
        return remote

    def _revoke_remote(self, RemoteMemory remote):
        """Its owner takes it back: nothing new is begun."""
        remote.revoked = True
        remote.endpoint.remotes.pop(remote.key, None)

    def _release_remote(self, RemoteMemory remote):
        """Whether all that was begun is over; to be called until it is."""
        cdef ucxnb_operation_t *operation
        cdef ucs_status_t status
        self.reap()
        if remote.users > 0:
            return False
        if remote.handle == NULL:
            return True
        if remote.endpoint.ucp.state != UCXNB_OPEN:
            if remote.flushing != NULL:
                operation = remote.flushing
                remote.flushing = NULL
                self.release_operation(operation)
            remote.close_key()
            return True
        if remote.flushing == NULL:
            operation = self.take_operation(remote.endpoint)
            with nogil:
                status = ucxnb_post_flush(&remote.endpoint.ucp, operation, True)
            if status != UCS_INPROGRESS:
                ucxnb_operation_renew(operation)
                self.spare_operation(operation)
                return True
            operation.is_send = True
            operation.counted = True
            self.keep_operation(operation, lend(NULL, None, remote.endpoint))
            remote.flushing = operation
            with nogil:
                ucxnb_wake_background(&self.engine.driver)
        if remote.flushing.state != UCXNB_DONE:
            return False
        operation = remote.flushing
        remote.flushing = NULL
        remote.close_key()
        self.release_operation(operation)
        return True

    cdef void end_remotes(self, Endpoint endpoint):
        cdef RemoteMemory remote
        for remote in endpoint.remotes.values():
            remote.revoked = True
            remote.close_key()
        endpoint.remotes.clear()

    # ---- reaching it ----

    cdef int need_rma(self) except -1:
        if not self.rma_enabled:
            raise FeatureDisabledError(
                "one-sided memory is switched off; make the worker with enable_rma=True"
            )
        return 0

    @cython.final
    cdef inline Endpoint reachable(self, object endpoint_id):
        """The endpoint, whose peer's memory can be reached."""
        cdef Endpoint endpoint
        if not self.rma_enabled:
            self.need_rma()
        endpoint = self.find_endpoint(endpoint_id)
        if endpoint.ucp.state != UCXNB_OPEN:
            raise ended_error(endpoint)
        if not endpoint.has_rma:
            raise FeatureDisabledError(
                f"{endpoint.text()}: one-sided memory is switched off there; it needs "
                "enable_rma=True"
            )
        return endpoint

    @cython.final
    cdef inline RemoteMemory find_remote(self, Endpoint endpoint, object remote, object timeout):
        cdef object found
        if type(remote) is bytes:
            found = endpoint.remotes.get(remote)
            if found is not None:
                return <RemoteMemory>found
        elif type(remote) is RemoteMemory:
            if (<RemoteMemory>remote).endpoint is not endpoint:
                raise RemoteKeyError(
                    f"{remote!r} belongs to another connection than {endpoint.text()}"
                )
            return <RemoteMemory>remote
        key = checked_key(remote)
        found = endpoint.remotes.get(key)
        return self._lease(endpoint, key, timeout) if found is None else found

    def _check_remote(self, endpoint_id, remote, timeout):
        """The memory of a key."""
        cdef RemoteMemory found
        self.enter()
        try:
            checked_timeout(timeout)
            found = self.find_remote(self.reachable(endpoint_id), remote, timeout)
            found.check(0, 0, False)
            return found
        finally:
            self.leave()

    @cython.final
    cdef inline void aim_access(self, ucxnb_access_t *access, RemoteMemory remote, uint64_t offset,
                                Py_buffer *view) noexcept:
        access.endpoint = &remote.endpoint.ucp
        access.key = remote.handle
        access.address = remote.address + offset
        access.buffer = view.buf
        access.length = view.len

    @cython.final
    cdef object access(self, object endpoint_id, object data, object remote, object offset,
                       object timeout, int kind, bint wait):
        """Put or get; a request, or with `wait` the number of bytes."""
        cdef Endpoint endpoint
        cdef RemoteMemory far
        cdef Py_buffer view
        cdef ucxnb_access_t access
        cdef int64_t deadline
        cdef uint64_t start
        self.enter()
        try:
            endpoint = self.reachable(endpoint_id)
            deadline = deadline_of(timeout)
            start = 0 if offset is None else checked_offset(offset)
            export_buffer(data, &view, kind == UCXNB_GET, self)
            try:
                far = self.find_remote(endpoint, remote, timeout)
                far.check(start, view.len, kind == UCXNB_PUT)
            except BaseException:
                PyBuffer_Release(&view)
                raise
            self.aim_access(&access, far, start, &view)
            if wait:
                return self.access_now(&access, far, &view, deadline, kind)
            return self.begin_access(&access, far, &view, kind)
        finally:
            self.leave()

    cdef ucs_status_t access_mapped(self, ucxnb_access_t *access, RemoteMemory remote, int kind,
                                    int memory_type) noexcept:
        cdef char *there = <char *>remote.direct + (access.address - remote.address)
        cdef bint on_gpu = memory_type != UCS_MEMORY_TYPE_HOST
        cdef ucs_status_t status
        if access.length <= MAPPED_SMALL and not on_gpu:
            return ucxnb_access_mapped(access, there, kind, False)
        remote.users += 1
        with nogil:
            status = ucxnb_access_mapped(access, there, kind, on_gpu)
        remote.end_use()
        return status

    cdef object access_now(self, ucxnb_access_t *access, RemoteMemory remote, Py_buffer *view,
                           int64_t deadline, int kind):
        """Do it and wait; takes over the view."""
        cdef Endpoint endpoint = remote.endpoint
        cdef size_t length = access.length
        cdef ucs_status_t status = UCS_OK
        cdef ucxnb_operation_t *operation
        cdef Loan loan
        if length == 0 or remote.direct != NULL:
            status = self.access_mapped(access, remote, kind, type_of(view))
            PyBuffer_Release(view)
            if status != UCS_OK:
                raise self.failed_error(endpoint, status, f"the {deed_of(kind)} failed")
            self.count_accessed(endpoint, kind, length)
            return length
        operation = self.take_operation(endpoint)
        operation.kind = kind
        operation.memory_type = type_of(view)
        remote.users += 1
        if (length <= SMALL and not ucxnb_on_gpu(operation)
                and ucxnb_nobody_drives(&self.engine.driver)):
            status = ucxnb_post_access(access, operation, True)
            if status == UCS_INPROGRESS or ucxnb_count_post(&self.engine):
                with nogil:
                    self.drive_access(operation, status, length, deadline)
        else:
            with nogil:
                status = ucxnb_post_access(access, operation, False)
                if status == UCS_INPROGRESS or ucxnb_count_post(&self.engine):
                    self.drive_access(operation, status, length, deadline)
        if status == UCS_INPROGRESS:
            loan = lend(view, None, endpoint)
            loan.remote = remote
            status = self.finish_send(operation, loan, length, deadline)
        else:
            remote.end_use()
            operation.kind = UCXNB_TAGGED
            self.spare_operation(operation)
            PyBuffer_Release(view)
        if status != UCS_OK:
            raise self.failed_error(endpoint, status, f"the {deed_of(kind)} failed")
        self.count_accessed(endpoint, kind, length)
        return length

    cdef void drive_access(self, ucxnb_operation_t *operation, ucs_status_t status, size_t length,
                           int64_t deadline) noexcept nogil:
        if status == UCS_INPROGRESS:
            self.note_start(operation, length)
            ucxnb_wait_operation(operation, slice_end(deadline), 1, False)
        else:
            ucxnb_progress(&self.engine.driver)

    cdef Request begin_access(self, ucxnb_access_t *access, RemoteMemory remote, Py_buffer *view,
                              int kind):
        cdef Endpoint endpoint = remote.endpoint
        cdef Request request = make_request(self, endpoint, deed_of(kind), True)
        cdef Loan loan = lend(view, None, endpoint)
        cdef size_t length = access.length
        cdef ucs_status_t status = UCS_OK
        cdef ucxnb_operation_t *operation = NULL
        if length == 0 or remote.direct != NULL:
            status = self.access_mapped(access, remote, kind, type_of(&loan.view))
        else:
            operation = self.take_operation(endpoint)
            operation.kind = kind
            operation.memory_type = type_of(&loan.view)
            operation.is_send = True
            operation.length = length
            operation.request = <void *>request
            loan.remote = remote
            remote.users += 1
            self.note_start(operation, length)
            self.keep_operation(operation, loan)
            with nogil:
                status = ucxnb_post_access(access, operation, False)
                if status == UCS_INPROGRESS:
                    ucxnb_wake_background(&self.engine.driver)
                if ucxnb_count_post(&self.engine):
                    ucxnb_progress(&self.engine.driver)
            if status == UCS_INPROGRESS:
                request.operation = operation
                return request
            self.forget_operation(operation)
        if status == UCS_OK:
            self.count_accessed(endpoint, kind, length)
            request.message = make_message(endpoint.endpoint_id, 0, length, None)
        else:
            request.error = self.failed_error(endpoint, status, f"the {deed_of(kind)} failed")
        return request

    def put(self, endpoint_id, data, remote, offset=0, *, timeout=None):
        """Write into a peer's memory; its program takes no part in it.

        Parameters
        ----------
        endpoint_id : int
            The connection to the memory's owner.
        data : bytes-like or array
            As in `send_tag`. It can change again when this returns; the peer's memory has
            changed only after `flush`.
        remote : bytes or RemoteMemory
            The memory's `RegisteredMemory.remote_key`. The first use of a key asks its owner, over
            the control channel, whether it is good.
        offset : int
            Where in the memory the first byte goes.
        timeout : float, optional
            Seconds; None waits for ever.

        Raises
        ------
        RemoteKeyError
            It is no key, or of another worker's memory, or of memory that was closed.
        RemoteRangeError, RemoteReadOnlyError
            It does not lie within the memory, or that can only be read. Nothing was written.
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        OperationTimeoutError
            It goes on, and `data` stays in use until it has ended. The same holds for
            ``KeyboardInterrupt``.
        InvalidBufferError, ArgumentError, UcxError
            Nothing was written.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was written; ``enable_rma`` is needed on both sides.

        Notes
        -----
        ``ucp_put_nbx``, or a plain copy where the memory is mapped into this process
        (``ucp_rkey_ptr``). Two puts may take effect in any order, unless there is a `fence` between
        them.
        """
        self.access(endpoint_id, data, remote, offset, timeout, UCXNB_PUT, True)

    def get(self, endpoint_id, buffer, remote, offset=0, *, timeout=None):
        """Read from a peer's memory; its program takes no part in it.

        Parameters
        ----------
        endpoint_id, remote, timeout
            As in `put`.
        buffer : writable bytes-like or array
            Where the bytes go, as in `receive_tag`; it is filled. Yours again when this returns.
        offset : int
            Where in the memory the first byte lies.

        Returns
        -------
        int
            How many bytes were read: the size of the buffer.

        Raises
        ------
        RemoteKeyError, RemoteRangeError
            As in `put`.
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        OperationTimeoutError
            It goes on, and `buffer` stays in use until it has ended. The same holds for
            ``KeyboardInterrupt``.
        InvalidBufferError, ArgumentError, UcxError
            Nothing was read.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was read; ``enable_rma`` is needed on both sides.

        Notes
        -----
        ``ucp_get_nbx``, or a plain copy where the memory is mapped into this process.
        """
        return self.access(endpoint_id, buffer, remote, offset, timeout, UCXNB_GET, True)

    def iput(self, endpoint_id, data, remote, offset=0):
        """Begin to write into a peer's memory.

        Parameters
        ----------
        endpoint_id, remote, offset
            As in `put`. The first use of a key waits for its owner: `UcxWorker.open_remote` does
            that beforehand.
        data : bytes-like or array
            It must not change until the request is done, and is kept alive that long.

        Returns
        -------
        Request
            Done when `data` may change again. It cannot be cancelled.

        Raises
        ------
        RemoteKeyError, RemoteRangeError, RemoteReadOnlyError
            As in `put`.
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        InvalidBufferError, ArgumentError, UcxError
            Nothing was written.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was written.

        Notes
        -----
        ``ucp_put_nbx``.
        """
        return self.access(endpoint_id, data, remote, offset, None, UCXNB_PUT, False)

    def iget(self, endpoint_id, buffer, remote, offset=0):
        """Begin to read from a peer's memory.

        Parameters
        ----------
        endpoint_id, remote, offset
            As in `iput`.
        buffer : writable bytes-like or array
            Where the bytes go. Yours again when the request is done; kept alive that long.

        Returns
        -------
        Request
            Done when the buffer is filled. It cannot be cancelled.

        Raises
        ------
        RemoteKeyError, RemoteRangeError
            As in `put`.
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        InvalidBufferError, ArgumentError, UcxError
            Nothing was read.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was read.

        Notes
        -----
        ``ucp_get_nbx``.
        """
        return self.access(endpoint_id, buffer, remote, offset, None, UCXNB_GET, False)

    # ---- atomics ----

    cdef object atomic(self, object endpoint_id, object remote, object offset, bint compare,
                       object expected, object value, object nbytes, object timeout):
        """Add, or compare and swap; what the number was before."""
        cdef Endpoint endpoint
        cdef RemoteMemory far
        cdef uint64_t start, word, expected_word, before
        cdef int64_t deadline
        cdef int size
        self.enter()
        try:
            endpoint = self.reachable(endpoint_id)
            deadline = deadline_of(timeout)
            start = checked_offset(offset)
            size = checked_word_size(nbytes)
            word = word_of("value", value, nbytes)
            expected_word = word_of("expected", expected, nbytes)
            far = self.find_remote(endpoint, remote, timeout)
            far.check(start, size, True)
            check_aligned(far.address + start, size)
            if far.direct != NULL:
                before = apply_atomic(<char *>far.direct + start, size, compare, expected_word,
                                      word)
            else:
                # What was begun before comes first.
                if self.flush_until(endpoint, deadline, False) == UCS_INPROGRESS:
                    raise OperationTimeoutError(
                        f"{endpoint.text()}: what was begun before did not end in {timeout} s; "
                        "the atomic was not begun"
                    )
                before = self._ask_for_atomic(
                    endpoint, far.key, start, size, expected_word if compare else None, word,
                    timeout,
                )
            endpoint.atomics += 1
            self.atomics += 1
            return before
        finally:
            self.leave()

    def _do_atomic(self, bytes key, uint64_t offset, int nbytes, expected, uint64_t value):
        """An atomic that a peer asks for: what the number was before, or why nothing was done."""
        cdef object found = self._memory_of(key)
        cdef RegisteredMemory memory
        if type(found) is str:
            return found
        memory = <RegisteredMemory>found
        if memory.type != UCS_MEMORY_TYPE_HOST:
            return "its memory is on a GPU, which atomics do not reach"
        if (not memory.writable or nbytes not in (4, 8) or offset > memory.nbytes
                or <uint64_t>nbytes > memory.nbytes - offset
                or (<uintptr_t>memory.memory.address + offset) % <uint64_t>nbytes):
            return "no such number can be changed there"
        return apply_atomic(<char *>memory.memory.address + offset, nbytes, expected is not None,
                            0 if expected is None else expected, value)

    def atomic_add(self, endpoint_id, remote, offset, value, *, nbytes=8, timeout=None):
        """Add to a number in a peer's memory, as one step.

        Parameters
        ----------
        endpoint_id, remote, timeout
            As in `put`.
        offset : int
            Where the number lies in the memory, a multiple of its size.
        value : int
            What to add; it wraps around. Negative ones subtract.
        nbytes : {8, 4}
            The number's size: an unsigned integer in the machine's byte order.

        Raises
        ------
        RemoteKeyError, RemoteRangeError, RemoteReadOnlyError
            As in `put`.
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        OperationTimeoutError
            It goes on. The same holds for ``KeyboardInterrupt``.
        ArgumentError, UcxError
            Nothing was done.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was done.

        Notes
        -----
        UCX has no atomics for connections that notice a dead peer. So where the memory is mapped
        into this process (``ucp_rkey_ptr``; `UcxWorker.allocate` on this machine), the processor
        does it, in less than a microsecond; elsewhere the owner's control thread does, in about
        0.2 milliseconds. Both are atomic with each other, and with the owner's own
        processor. It is done when this returns, and after all that was begun before.
        """
        self.atomic(endpoint_id, remote, offset, False, 0, value, nbytes, timeout)

    def fetch_add(self, endpoint_id, remote, offset, value, *, nbytes=8, timeout=None):
        """Add to a number in a peer's memory, and tell what it was before, as one step.

        Parameters
        ----------
        endpoint_id, remote, offset, value, nbytes, timeout
            As in `atomic_add`.

        Returns
        -------
        int
            The number before, unsigned.

        Raises
        ------
        RemoteKeyError, RemoteRangeError, EndpointLostError, OperationTimeoutError
            As `atomic_add`, and so all its other errors.

        Notes
        -----
        As `atomic_add`.
        """
        return self.atomic(endpoint_id, remote, offset, False, 0, value, nbytes, timeout)

    def compare_swap(self, endpoint_id, remote, offset, expected, value, *, nbytes=8,
                     timeout=None):
        """Replace a number in a peer's memory if it is the one expected, as one step.

        Parameters
        ----------
        endpoint_id, remote, offset, nbytes, timeout
            As in `atomic_add`.
        expected : int
            What it must be.
        value : int
            What it becomes.

        Returns
        -------
        int
            The number before, unsigned: it was replaced if this is `expected`.

        Raises
        ------
        RemoteKeyError, RemoteRangeError, EndpointLostError, OperationTimeoutError
            As `atomic_add`, and so all its other errors.

        Notes
        -----
        As `atomic_add`.
        """
        return self.atomic(endpoint_id, remote, offset, True, expected, value, nbytes, timeout)

    # ---- order ----

    def flush(self, endpoint_id, *, timeout=None):
        """Wait until all that was begun on a connection has taken effect at the peer.

        Puts and atomics have changed its memory then, gets are done, and messages and streams have
        reached its UCX, which does not mean that its program has received them.

        Parameters
        ----------
        endpoint_id : int
            Which connection.
        timeout : float, optional
            Seconds; None waits for ever.

        Raises
        ------
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer. What had an effect is not known.
        OperationTimeoutError
            It goes on. The same holds for ``KeyboardInterrupt``.
        ArgumentError, UcxError
            Nothing was done, or UCX cannot do it.
        ThreadModeError, WorkerClosedError
            Nothing was done.

        Notes
        -----
        ``ucp_ep_flush_nbx``, after sends that are held because the peer has too much unreceived.
        """
        cdef Endpoint endpoint
        cdef int64_t deadline
        cdef ucs_status_t status
        self.enter()
        try:
            endpoint = self.find_endpoint(endpoint_id)
            deadline = deadline_of(timeout)
            if endpoint.ucp.state != UCXNB_OPEN:
                raise ended_error(endpoint)
            status = self.flush_until(endpoint, deadline, False)
            if status == UCS_INPROGRESS:
                if self.engine.closing:
                    raise self.closed_error()
                raise OperationTimeoutError(
                    f"{endpoint.text()}: not all has reached it in {timeout} s; flush again"
                )
            if status != UCS_OK:
                raise self.failed_error(endpoint, status, "the flush failed")
        finally:
            self.leave()

    def fence(self):
        """Keep the order: what is begun after this takes effect after what was begun before.

        It does not wait. It holds for puts, gets and atomics, on each connection.

        Raises
        ------
        UcxError, ThreadModeError, WorkerClosedError
            Nothing was done.

        Notes
        -----
        ``ucp_worker_fence``.
        """
        cdef ucs_status_t status
        self.enter()
        try:
            with nogil:
                status = ucxnb_fence(&self.engine)
            if status != UCS_OK:
                raise UcxError(f"the fence failed: {status_text(status)}", status)
        finally:
            self.leave()


cdef int checked_word_size(object nbytes) except -1:
    if type(nbytes) is not int or nbytes not in (4, 8):
        raise ArgumentError(f"nbytes={shown(nbytes)}: an atomic number has 4 or 8 bytes")
    return nbytes


cdef int check_aligned(uint64_t address, int nbytes) except -1:
    if address % <uint64_t>nbytes:
        raise ArgumentError(
            f"offset: an atomic number of {nbytes} bytes lies at a multiple of that; nothing was "
            "done"
        )
    return 0


cdef uint64_t apply_atomic(void *number, int nbytes, bint compare, uint64_t expected,
                           uint64_t value) noexcept:
    if compare:
        return ucxnb_compare_swap(number, nbytes, expected, value)
    return ucxnb_add(number, nbytes, value)


cdef uint64_t word_of(str name, object number, object nbytes) except? 0xdead:
    """A number of that size, negative ones as their complement."""
    cdef object value
    try:
        value = operator.index(number)
    except TypeError:
        raise ArgumentError(f"{name}={shown(number)}: it takes an integer") from None
    if not -(1 << (8 * nbytes - 1)) <= value < 1 << (8 * nbytes):
        raise ArgumentError(f"{name}={shown(number)}: it takes an integer of {nbytes} bytes")
    return value & ((1 << (8 * nbytes)) - 1)

"""Sending: to one connection, and to all."""

cdef object full_error(Endpoint endpoint, str what):
    return PeerFullError(
        f"{endpoint.text()}: {what}, since the peer has too much unreceived; let it receive, "
        "or give it a larger max_unexpected_bytes"
    )


cdef str what_of(object tag):
    return "the stream" if tag is None else f"tag {tag}"


cdef str deed_of(int kind):
    return "put" if kind == UCXNB_PUT else "get"


cdef class TagSender(EngineCore):
    """Sends tagged messages."""

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
        data : bytes-like or array
            Any contiguous buffer, of any size, also empty; or an array that gives its memory by
            DLPack or ``__cuda_array_interface__``, also memory of a GPU: what was launched before
            in its stream is waited for. It must not change before this returns.
        timeout : float, optional
            Seconds; None waits for ever.

        Raises
        ------
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        PeerFullError
            The peer received too little of what it has (`WorkerConfig.max_unexpected_bytes`) before
            the time was over. Nothing was sent.
        OperationTimeoutError
            UCX cannot take a send back: the message still goes out, and `data` stays in use (it
            must not change) until it has.
        TagRangeError, TagTypeError, InvalidBufferError, ArgumentError
            Nothing was sent.
        ThreadModeError, WorkerClosedError, FeatureDisabledError
            Nothing was sent.

        Notes
        -----
        ``ucp_tag_send_nbx``. Messages with one endpoint and tag arrive in the order sent. A peer
        that has too much unreceived is waited for; two that only send to each other, and receive
        nothing meanwhile, wait for ever without a `timeout`.
        """
        cdef Endpoint endpoint
        self.enter()
        try:
            endpoint = self.sendable(endpoint_id)
            self.send(endpoint, tag, self.wire_tag(tag) | endpoint.send_prefix, data, timeout,
                      UCXNB_TAGGED)
        finally:
            self.leave()

    @cython.final
    cdef inline int send(self, Endpoint endpoint, object tag, uint64_t wire, object data,
                         object timeout, int kind) except -1:
        """Send and wait; `tag` is for errors."""
        cdef Py_buffer view
        cdef int64_t deadline = deadline_of(timeout)
        cdef size_t length
        cdef ucs_status_t status = UCXNB_WOULD_HOLD
        cdef ucxnb_operation_t *operation
        cdef int due = False
        export_buffer(data, &view, False, self)
        length = view.len
        operation = self.take_operation(endpoint)
        operation.memory_type = type_of(&view)
        if (length <= SMALL and not ucxnb_on_gpu(operation)
                and ucxnb_nobody_drives(&self.engine.driver)):
            if kind == UCXNB_TAGGED:
                status = ucxnb_post_send_with_gil(&endpoint.ucp, view.buf, length, wire, operation,
                                                  &due)
            else:
                due = ucxnb_count_post(&self.engine)
                status = ucxnb_post_stream(&endpoint.ucp, view.buf, length, operation, False)
            if status == UCS_INPROGRESS or due:
                with nogil:
                    if status == UCS_INPROGRESS:
                        self.note_start(operation, length)
                    if due:
                        ucxnb_progress(&self.engine.driver)
                    if status == UCS_INPROGRESS:
                        ucxnb_wait_operation(operation, slice_end(deadline), 1, False)
        if status == UCXNB_WOULD_HOLD:
            with nogil:
                status = self.post(&endpoint.ucp, view.buf, length, wire, operation, kind)
                if status == UCS_INPROGRESS:
                    self.note_start(operation, length)
                    ucxnb_wait_operation(operation, slice_end(deadline), 1, False)
        if status == UCS_INPROGRESS:
            status = self.finish_send(operation, lend(&view, None, endpoint), length, deadline)
        else:
            self.spare_operation(operation)
            PyBuffer_Release(&view)
        if status != UCS_OK:
            raise self.failed_error(endpoint, status, f"sending {what_of(tag)} failed")
        self.count_done(endpoint, kind, length)
        return 0

    @cython.final
    cdef inline ucs_status_t post(self, ucxnb_endpoint_t *endpoint, const void *memory,
                                  size_t length, uint64_t wire, ucxnb_operation_t *operation,
                                  int kind) noexcept nogil:
        cdef ucs_status_t status
        if kind == UCXNB_TAGGED:
            return ucxnb_post_send(endpoint, memory, length, wire, operation)
        status = ucxnb_post_stream(endpoint, memory, length, operation, True)
        if ucxnb_count_post(&self.engine):
            ucxnb_progress(&self.engine.driver)
        return status

    @cython.final
    cdef inline void note_start(self, ucxnb_operation_t *operation, size_t length) noexcept nogil:
        """A send goes on after its call, or its call waits."""
        operation.started_ns = ucxnb_now_ns()
        ucxnb_take_off(operation, length)

    @cython.final
    cdef inline Endpoint sendable(self, object endpoint_id):
        """The endpoint, which is open."""
        cdef Endpoint endpoint
        self.need_tag()
        endpoint = self.find_endpoint(endpoint_id)
        if endpoint.ucp.state != UCXNB_OPEN:
            raise ended_error(endpoint)
        return endpoint

    cdef ucs_status_t finish_send(self, ucxnb_operation_t *operation, Loan loan, size_t length,
                                  int64_t deadline) except *:
        """Wait for a posted send; if the wait ends first, it goes on, and is counted when it ends.

        Its operation belongs to the engine afterwards. One that is still held is not sent at all.
        """
        cdef ucs_status_t status = UCS_INPROGRESS
        cdef bint taken_back = False
        operation.is_send = True
        operation.length = length
        operation.counted = True  # by the caller
        self.keep_operation(operation, loan)
        try:
            if self.await_operation(operation, deadline, False):
                status = operation.status
        finally:
            if operation.state != UCXNB_DONE:
                operation.counted = False
                taken_back = self.take_back(operation)
            self.release_operation(operation)
        if status == UCS_INPROGRESS:
            if self.engine.closing:
                raise self.closed_error()
            if taken_back:
                raise full_error(loan.endpoint, f"{length:,} bytes were not sent")
            raise OperationTimeoutError(
                f"{loan.endpoint.text()}: {length:,} bytes were not moved in time; they cannot be "
                "taken back, so their buffer stays in use until they are"
            )
        return status

    cdef bint take_back(self, ucxnb_operation_t *operation) noexcept:
        """Take back a send that is held; false if it has left."""
        cdef bint taken_back
        with nogil:
            taken_back = ucxnb_take_back(operation)
        return taken_back

    def isend_tag(self, endpoint_id, tag, data):
        """Begin to send one message.

        Parameters
        ----------
        endpoint_id, tag
            As in `send_tag`.
        data : bytes-like or array
            As in `send_tag`. It must not change until the request is done, and is kept alive that
            long, also if you drop the request.

        Returns
        -------
        Request
            Done when `data` may change again. A small message is done at once, unless the peer has
            too much unreceived (`WorkerConfig.max_unexpected_bytes`): then it goes out, in its
            turn, as soon as the peer has received some of that.

        Raises
        ------
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        TagRangeError, TagTypeError, InvalidBufferError, ArgumentError
            Nothing was sent.
        ThreadModeError, WorkerClosedError, FeatureDisabledError
            Nothing was sent.

        Notes
        -----
        ``ucp_tag_send_nbx``. It cannot be cancelled.
        """
        cdef Endpoint endpoint
        cdef Py_buffer view
        cdef uint64_t tag_bits
        self.enter()
        try:
            endpoint = self.sendable(endpoint_id)
            tag_bits = self.wire_tag(tag)
            export_buffer(data, &view, False, self)
            # The request keeps a plain number, not an object of the caller's.
            return self.begin_send(endpoint, tag_bits, tag_bits, &view, None, UCXNB_TAGGED)
        finally:
            self.leave()

    cdef Request begin_send(self, Endpoint endpoint, object tag, uint64_t tag_bits, Py_buffer *view,
                            Loan lender, int kind, size_t parts=0):
        """Post a send of memory that `lender` keeps; if that is None, the view is taken over."""
        cdef Request request = make_request(self, endpoint, tag, True)
        cdef uint64_t wire = tag_bits | endpoint.send_prefix
        cdef const void *memory = view.buf
        cdef size_t length = view.len
        cdef ucs_status_t status = UCXNB_WOULD_HOLD
        cdef int due = False
        cdef ucxnb_operation_t *operation = self.take_operation(endpoint)
        operation.is_send = True
        operation.length = length
        operation.memory_type = type_of(view)
        operation.parts = parts
        operation.request = <void *>request
        if (length <= SMALL and kind == UCXNB_TAGGED and not ucxnb_on_gpu(operation)
                and ucxnb_nobody_drives(&self.engine.driver)):
            status = ucxnb_post_send_with_gil(&endpoint.ucp, memory, length, wire, operation, &due)
            if status == UCS_INPROGRESS:
                self.note_start(operation, length)
                self.keep_operation(operation, borrow(view, lender, endpoint))
                if operation.reaped:  # the garbage collector ran, and somebody's __del__
                    self.settle(operation)
                ucxnb_wake_background(&self.engine.driver)
            if due:
                with nogil:
                    ucxnb_progress(&self.engine.driver)
        if status == UCXNB_WOULD_HOLD:
            self.note_start(operation, length)
            self.keep_operation(operation, borrow(view, lender, endpoint))
            with nogil:
                status = self.post(&endpoint.ucp, memory, length, wire, operation, kind)
                if status == UCS_INPROGRESS:
                    ucxnb_wake_background(&self.engine.driver)
            if status != UCS_INPROGRESS:
                self.unlink_operation(operation)
                self.drop_owner(operation)
                operation.started_ns = operation.ended_ns = 0
        if status == UCS_INPROGRESS:
            request.operation = operation
            return request
        if lender is None and is_exported(view):
            PyBuffer_Release(view)
        operation.is_send = False
        operation.parts = 0
        operation.request = NULL
        self.spare_operation(operation)
        if status == UCS_OK:
            self.count_done(endpoint, kind, length)
            request.message = make_message(endpoint.endpoint_id, number_of(tag), length,
                                           None)
        else:
            request.error = self.failed_error(endpoint, status, f"sending {what_of(tag)} failed")
        return request

    def _isend_parts(self, endpoint_id, tag, parts):
        """Begin to send one message that is gathered from several memoryviews, as `isend_tag`."""
        cdef Endpoint endpoint
        cdef Py_buffer view
        cdef uint64_t tag_bits
        cdef Loan loan
        cdef object table, part
        cdef ucp_dt_iov_t *entry
        cdef size_t length = 0
        self.enter()
        try:
            endpoint = self.sendable(endpoint_id)
            tag_bits = self.wire_tag(tag)
            table = PyBytes_FromStringAndSize(NULL, len(parts) * sizeof(ucp_dt_iov_t))
            entry = <ucp_dt_iov_t *>PyBytes_AS_STRING(table)
            for part in parts:
                entry.buffer = PyMemoryView_GET_BUFFER(part).buf
                entry.length = PyMemoryView_GET_BUFFER(part).len
                length += entry.length
                entry += 1
            loan = lend(NULL, (table, parts), endpoint)
            memset(&view, 0, sizeof(view))
            view.buf = PyBytes_AS_STRING(table)
            view.len = length
            return self.begin_send(endpoint, tag_bits, tag_bits, &view, loan, UCXNB_TAGGED,
                                   len(parts))
        finally:
            self.leave()

    def broadcast_tag(self, tag, data, *, timeout=None):
        """Send one message to every connection.

        It is posted to all of them before the first is waited for: a peer that receives slowly
        holds up the call, and not the other peers.

        Parameters
        ----------
        tag : int
            As in `send_tag`.
        data : bytes-like or array
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
        cdef Request request
        cdef Py_buffer view
        cdef Loan loan
        cdef uint64_t tag_bits
        cdef int64_t deadline
        cdef list requests = []
        cdef list delivered = []
        cdef dict failed = {}
        self.enter()
        try:
            self.need_tag()
            tag_bits = self.wire_tag(tag)
            deadline = deadline_of(timeout)
            export_buffer(data, &view, False, self)
            loan = lend(&view, None, None)
            for endpoint in list(self.open_endpoints.values()):
                requests.append(
                    self.begin_send(endpoint, tag, tag_bits, &loan.view, loan, UCXNB_TAGGED)
                )
            for request in requests:
                endpoint = request.endpoint
                if request.has_ended() or self.await_operation(request.operation, deadline, True):
                    try:
                        request.result()
                        delivered.append(endpoint.endpoint_id)
                    except UcxnbError as error:
                        failed[endpoint.endpoint_id] = error
                else:
                    failed[endpoint.endpoint_id] = (
                        full_error(endpoint, "nothing was sent")
                        if self.take_back(request.operation)
                        else OperationTimeoutError(f"{endpoint.text()}: not fetched in time")
                    )
        finally:
            self.leave()
        if failed:
            if self.closed:
                raise self.closed_error()
            raise BroadcastError(
                f"tag {tag} reached {len(delivered)} of {len(requests)} endpoints: "
                + "; ".join(str(error) for error in failed.values()),
                tuple(delivered), failed,
            )
        return delivered

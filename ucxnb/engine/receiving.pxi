"""Receiving: probe for a message first, then receive the one that matched."""

cdef bint arrives_in(ucxnb_operation_t *operation, Py_buffer *view) noexcept:
    """Whether a message that nobody waits for any more is kept in that memory."""
    return is_exported(view) and ucxnb_kept_in(operation, <char *>view.buf, view.len)


cdef class TagReceiver(TagSender):
    """Receives tagged messages."""

    @cython.final
    cdef inline Endpoint aim(self, ucxnb_match_t *match, object endpoint_id, object tag,
                             object tag_mask):
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

    @cython.final
    cdef inline object delivered(self, uint64_t wire, size_t length, object data, bint describe,
                                 bint counted=False):
        """Count a received message and make the call's result."""
        if not counted:
            self.count_received(wire, length)
        if describe:
            return self.message_of(wire, length, data)
        return length if data is None else data

    @cython.final
    cdef object receive(self, object endpoint_id, object tag, object buffer, object tag_mask,
                        object timeout, bint wait, bint describe):
        cdef Py_buffer view
        cdef object result
        memset(&view, 0, sizeof(view))
        self.enter()
        try:
            self.need_tag()
            if buffer is not None:
                export_buffer(buffer, &view, True, self)
            result = self.receive_into(&view, endpoint_id, tag, tag_mask, timeout, wait, describe)
        finally:
            if is_exported(&view):
                PyBuffer_Release(&view)
            self.leave()
        return result

    @cython.final
    cdef inline object receive_into(self, Py_buffer *view, object endpoint_id, object tag,
                                    object tag_mask, object timeout, bint wait, bint describe):
        cdef ucxnb_match_t match
        cdef int64_t deadline = deadline_of(timeout)
        cdef Endpoint endpoint = self.aim(&match, endpoint_id, tag, tag_mask)
        # A receive that may not wait must not leave a user's buffer half written.
        cdef bint direct = is_exported(view) and (wait or view.len <= SCRATCH_SIZE)
        cdef object memory = None  # bytes of ours, where the message goes if not direct
        cdef char *target
        cdef ucxnb_operation_t *operation
        cdef ucxnb_operation_t *kept
        cdef ucs_status_t status = UCS_OK
        cdef int found, spin = 1
        if self.engine.first_completed != NULL or self.engine.orphans_under_way:
            self.prepare_buffer(&match, view)
        if direct:
            target = <char *>view.buf
            match.capacity = view.len
        else:
            memory = self.take_scratch()
            target = PyBytes_AS_STRING(memory)
            match.capacity = SCRATCH_SIZE
        operation = self.take_operation(endpoint)
        operation.memory_type = type_of(view) if direct else UCS_MEMORY_TYPE_HOST
        try:
            while True:
                found = self.look(&match, target, operation, deadline, wait, spin, &status)
                if found == UCXNB_MATCHED:
                    break
                if found == UCXNB_TOO_SMALL:
                    if is_exported(view) and match.length > <size_t>view.len:
                        raise self.too_small(match.sender_tag, match.length, view.len)
                    memory = PyBytes_FromStringAndSize(NULL, match.length)
                    operation.memory_type = UCS_MEMORY_TYPE_HOST
                    target = PyBytes_AS_STRING(memory)
                    match.capacity = match.length
                    continue
                if found == UCXNB_NO_MATCH and endpoint is None and self.nobody_can_send():
                    found = UCXNB_NO_PEERS
                if found != UCXNB_NO_MATCH:
                    raise self.no_message_error(found, endpoint)
                if not wait:
                    if match.capacity == SCRATCH_SIZE and not direct:
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
            if match.operation != NULL:
                return self.claim(match.operation, view, tag, endpoint, describe)
            if status == UCS_INPROGRESS:
                operation.sender_tag = match.sender_tag
                operation.age = match.age
                operation.length = operation.capacity = match.length
                operation.memory = target
                operation.into_buffer = True
                self.keep_operation(operation, lend(view if direct else NULL, memory, endpoint))
                kept = operation
                operation = NULL
                status = self.finish_receive(kept, tag, deadline, wait)
                if status == UCS_INPROGRESS:
                    return None
            if status != UCS_OK:
                raise self.failed_error(endpoint, status, f"receiving tag {tag} failed")
            if direct:
                return self.delivered(match.sender_tag, match.length, None, describe)
            return self.unload(memory, match.sender_tag, match.length, view, describe)
        finally:
            if operation != NULL:
                self.spare_operation(operation)

    @cython.final
    cdef inline int look(self, ucxnb_match_t *match, char *target, ucxnb_operation_t *operation,
                         int64_t deadline, bint wait, bint spin, ucs_status_t *status) noexcept:
        """Look for a message until a slice of the time is over, and fetch it."""
        cdef int found = UCXNB_NO_MATCH
        cdef bint small
        if ucxnb_nobody_drives(&self.engine.driver):
            if wait and spin:
                found = ucxnb_look_soon(&self.engine.driver, ucxnb_match, match, SOON_NS)
            elif not wait:
                found = ucxnb_match_now(match)
            small = match.length <= SMALL
            if (found == UCXNB_MATCHED and small and match.operation == NULL
                    and not ucxnb_on_gpu(operation)):
                status[0] = ucxnb_fetch(match, target, operation)
                ucxnb_tell_ended(&self.engine.driver)  # a send to oneself may have
                if status[0] == UCS_INPROGRESS:
                    with nogil:
                        self.drive_fetch(operation, deadline, wait)
                return found
            if found == UCXNB_NO_MATCH and not wait and not self.engine.undelivered:
                return found
        with nogil:
            if found == UCXNB_NO_MATCH or found == UCXNB_AGAIN:
                found = self.search(match, deadline, wait, spin)
            if found == UCXNB_MATCHED and match.operation == NULL:
                status[0] = ucxnb_fetch(match, target, operation)
                ucxnb_tell_ended(&self.engine.driver)
                if status[0] == UCS_INPROGRESS:
                    self.drive_fetch(operation, deadline, wait)
        return found

    cdef void drive_fetch(self, ucxnb_operation_t *operation, int64_t deadline,
                          bint wait) noexcept nogil:
        operation.started_ns = ucxnb_now_ns()
        if wait:
            ucxnb_wait_operation(operation, slice_end(deadline), 1, False)
        else:
            ucxnb_progress(&self.engine.driver)

    cdef int search(self, ucxnb_match_t *match, int64_t deadline, bint wait,
                    bint spin) noexcept nogil:
        cdef int64_t flood_end
        cdef int found
        if wait:
            return ucxnb_wait(&self.engine.driver, ucxnb_match, match, slice_end(deadline), spin)
        found = ucxnb_match_now(match)
        if found == UCXNB_AGAIN or found == UCXNB_NO_MATCH and self.engine.undelivered:
            flood_end = ucxnb_now_ns() + FLOOD_NS
            while (found == UCXNB_AGAIN or found == UCXNB_NO_MATCH and self.engine.undelivered):
                if ucxnb_now_ns() >= flood_end:
                    return UCXNB_NO_MATCH
                ucxnb_progress(&self.engine.driver)
                found = ucxnb_match(match)
        return found

    cdef ucs_status_t finish_receive(self, ucxnb_operation_t *operation, object tag,
                                     int64_t deadline, bint wait) except *:
        """Wait for a message that is on its way; another receive gets it if the wait ends first.

        The operation belongs to the engine afterwards.
        """
        cdef bint done = operation.state == UCXNB_DONE
        cdef ucs_status_t status
        try:
            if wait and not done:
                done = self.await_operation(operation, deadline, False)
        except BaseException:
            self.let_go_of_receive(operation)
            raise
        if done:
            status = operation.status
            self.part_with(operation)  # reaping might raise, and the message would be lost
            return status
        length = operation.length
        self.let_go_of_receive(operation)
        if self.engine.closing:
            raise self.closed_error()
        if wait:
            raise OperationTimeoutError(
                f"the message with tag {tag} has {length:,} bytes, and not all came in time; "
                "receive the same tag again to go on"
            )
        return UCS_INPROGRESS

    cdef object claim(self, ucxnb_operation_t *operation, Py_buffer *view, object tag,
                      Endpoint endpoint, bint describe):
        """The message of a receive that was given up."""
        cdef uint64_t wire = operation.sender_tag
        cdef size_t length = operation.length
        cdef bint counted = operation.counted
        cdef ucs_status_t status = operation.status
        cdef object data = None
        cdef char *target = <char *>view.buf
        cdef bint on_gpu = ucxnb_on_gpu(operation) or type_of(view) != UCS_MEMORY_TYPE_HOST
        if status == UCS_OK:
            if not is_exported(view):
                try:
                    data = PyBytes_FromStringAndSize(NULL, length)
                except MemoryError:
                    self.let_go_of_receive(operation)
                    raise
                target = PyBytes_AS_STRING(data)
            # With the GIL: others may bring the message to another place otherwise.
            status = ucxnb_copy(target, operation.memory, length, on_gpu)
        self.part_with(operation)
        if status != UCS_OK:
            raise self.failed_error(endpoint, status, f"receiving tag {tag} failed")
        return self.delivered(wire, length, data, describe, counted)

    cdef object take_scratch(self):
        """Memory for small messages: one piece, used again and again."""
        cdef object scratch = self.scratch
        self.scratch = None
        return PyBytes_FromStringAndSize(NULL, SCRATCH_SIZE) if scratch is None else scratch

    cdef object unload(self, object memory, uint64_t wire, size_t length, Py_buffer *view,
                       bint describe):
        """Bring a message from memory of ours to where the user wants it."""
        cdef char *source = PyBytes_AS_STRING(memory)
        cdef bint on_gpu = type_of(view) != UCS_MEMORY_TYPE_HOST
        cdef ucs_status_t status = UCS_OK
        if is_exported(view):
            with nogil:
                status = ucxnb_copy(view.buf, source, length, on_gpu)
        if status != UCS_OK:
            raise self.failed_error(None, status, "copying a message to the GPU failed")
        if <size_t>len(memory) == SCRATCH_SIZE and self.scratch is None:
            self.scratch = memory  # its bytes are copied, never given away
        elif not is_exported(view) and <size_t>len(memory) == length:
            return self.delivered(wire, length, memory, describe)
        if is_exported(view):
            return self.delivered(wire, length, None, describe)
        return self.delivered(wire, length, PyBytes_FromStringAndSize(source, length), describe)

    cdef int prepare_buffer(self, ucxnb_match_t *match, Py_buffer *view) except -1:
        """Save what was received into that memory for a receive that was given up.

        What still arrives in it can only be what this receive gets next.
        """
        cdef ucxnb_operation_t *operation
        while is_exported(view) and self.engine.orphans_under_way:
            self.reap()
            operation = self.first_operation
            while operation != NULL and not arrives_in(operation, view):
                operation = operation.next
            if operation == NULL:
                return 0
            if operation.state == UCXNB_DONE and not operation.reaped:
                continue  # just now
            if not ucxnb_arrives_next(operation, match.tag, match.mask):
                raise InvalidBufferError(
                    f"a message with tag {operation.sender_tag & self.tag_limit} is still arriving "
                    "in this buffer; receive that one first, or use another buffer"
                )
            return 0
        # Those that were arriving are among those that have ended.
        return self.reap()

    def receive_tag(self, endpoint_id, tag, buffer=None, *, timeout=None, tag_mask=None):
        """Wait for a message and receive it.

        Parameters
        ----------
        endpoint_id : int or None
            Where from; None takes from anyone (the only choice with ``tag_scope="worker"``).
        tag : int
            The tag it was sent with.
        buffer : writable bytes-like or array, optional
            Where the message goes: any contiguous buffer, or memory of a GPU as in `send_tag`, that
            is large enough. Yours again when this returns or raises, with the exception named
            below.
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

    def ireceive_tag(self, endpoint_id, tag, buffer=None, *, tag_mask=None):
        """Begin to receive a message.

        Receives of one tag get the messages in the order in which they were begun, and before any
        `receive_tag`.

        Parameters
        ----------
        endpoint_id, tag, tag_mask
            As in `receive_tag`.
        buffer : writable bytes-like or array, optional
            Where the message goes. Yours again when the request is done. If you drop the request
            while a large message is arriving, that goes on arriving here until the next receive of
            its tag has got it, as after a timeout of `receive_tag`. Without a buffer the bytes come
            in memory of the worker's own, which costs a copy.

        Returns
        -------
        Request
            Done when the message is there, or when it cannot come any more.

        Raises
        ------
        EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        TagRangeError, TagTypeError, InvalidBufferError, ArgumentError
            Nothing was begun.
        ThreadModeError, WorkerClosedError, FeatureDisabledError
            Nothing was begun.

        Notes
        -----
        UCX is given the buffer once the message has come (``ucp_tag_probe_nb``,
        ``ucp_tag_msg_recv_nbx``), by the background thread or whoever makes progress. So a request
        can be withdrawn at any time and loses no message.
        """
        cdef ucxnb_match_t match
        cdef Py_buffer view
        cdef Endpoint endpoint
        cdef Request request
        cdef Loan loan
        cdef ucxnb_operation_t *operation
        memset(&view, 0, sizeof(view))
        self.enter()
        try:
            self.need_tag()
            endpoint = self.aim(&match, endpoint_id, tag, tag_mask)
            if buffer is not None:
                export_buffer(buffer, &view, True, self)
            loan = lend(&view, None, endpoint)
            self.prepare_buffer(&match, &loan.view)
            request = make_request(self, endpoint, match.tag & self.tag_limit, False)
            operation = self.take_operation(endpoint)
            operation.message.entry.tag = match.tag
            operation.mask = match.mask
            operation.memory = <char *>loan.view.buf
            operation.capacity = loan.view.len
            operation.memory_type = type_of(&loan.view)
            operation.into_buffer = is_exported(&loan.view)
            operation.request = <void *>request
            operation.started_ns = ucxnb_now_ns()
            request.operation = operation
            self.keep_operation(operation, loan)
            with nogil:
                ucxnb_post_receive(operation)
            if endpoint is None:
                self.look_for_sources()
        finally:
            self.leave()
        return request

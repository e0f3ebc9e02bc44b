"""Receiving: probe for a message first, then receive the one that matched."""


cdef class TagReceiver(TagSender):
    """Receives tagged messages."""

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
            what = f"receiving tag {tag} failed"
            raise self.failed_error(transfer.endpoint, transfer.status, what)
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

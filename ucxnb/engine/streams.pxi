"""Byte streams: no messages, only bytes in order (``UCP_FEATURE_STREAM``)."""

cdef object torn_error(Endpoint endpoint, size_t came, size_t wanted):
    error = ended_error(endpoint)
    return type(error)(
        f"{error}; only {came:,} of {wanted:,} bytes came: read them with wait_all=False",
        endpoint.endpoint_id,
    )


cdef bint truth(object wait_all) except -1:
    """Whether to wait for all; arrays, for one, are neither true nor false."""
    try:
        return bool(wait_all)
    except Exception:
        raise ArgumentError(f"wait_all={shown(wait_all)}: it takes True or False") from None


cdef class StreamEngine(BatchEngine):
    """Sends and receives bytes that have no tags and no boundaries."""

    @cython.final
    cdef inline Endpoint streaming(self, object endpoint_id):
        """The endpoint, whose stream can be used."""
        cdef Endpoint endpoint
        if not self.stream_enabled:
            raise FeatureDisabledError(
                "streams are switched off; make the worker with enable_stream=True"
            )
        endpoint = self.find_endpoint(endpoint_id)
        if endpoint.closed_by_me:
            raise ended_error(endpoint)
        if not endpoint.has_stream:
            raise FeatureDisabledError(
                f"{endpoint.text()}: streams are switched off there; it needs enable_stream=True"
            )
        return endpoint

    @cython.final
    cdef inline Endpoint writable_stream(self, object endpoint_id):
        cdef Endpoint endpoint = self.streaming(endpoint_id)
        if endpoint.ucp.state != UCXNB_OPEN:
            raise ended_error(endpoint)
        return endpoint

    def _check_stream(self, endpoint_id):
        """Raise unless the connection has a stream that can be used."""
        self.enter()
        try:
            self.streaming(endpoint_id)
        finally:
            self.leave()

    def send_stream(self, endpoint_id, data, *, timeout=None):
        """Send bytes to the peer's stream, and wait until their buffer can be used again.

        That does not prove that the peer's program has read them: only an answer does.

        Parameters
        ----------
        endpoint_id : int
            Where to.
        data : bytes-like or array
            As in `send_tag`, of any size, also empty. It must not change before this returns.
        timeout : float, optional
            Seconds; None waits for ever.

        Raises
        ------
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        PeerFullError
            The peer read too little of what it has (`WorkerConfig.max_unexpected_bytes`) before the
            time was over. Nothing was sent.
        OperationTimeoutError
            Some of the bytes were sent: the rest still goes out, in its turn, and `data` stays in
            use until it has. The same holds for ``KeyboardInterrupt``.
        InvalidBufferError, ArgumentError
            Nothing was sent.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was sent; streams may be switched off here or there.

        Notes
        -----
        ``ucp_stream_send_nbx``, in pieces of 1 MiB at most. The bytes of one call are never mixed
        with those of another, whichever thread makes it. Streams are always eager, so that the
        peer keeps what it has not read in its memory.
        """
        cdef Endpoint endpoint
        self.enter()
        try:
            endpoint = self.writable_stream(endpoint_id)
            self.send(endpoint, None, 0, data, timeout, UCXNB_STREAMED)
        finally:
            self.leave()

    def isend_stream(self, endpoint_id, data):
        """Begin to send bytes to the peer's stream.

        Parameters
        ----------
        endpoint_id : int
            Where to.
        data : bytes-like or array
            As in `send_stream`. It must not change until the request is done, and is kept alive
            that long, also if you drop the request.

        Returns
        -------
        Request
            Done when `data` may change again. It cannot be cancelled.

        Raises
        ------
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        InvalidBufferError, ArgumentError
            Nothing was sent.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was sent.

        Notes
        -----
        ``ucp_stream_send_nbx``.
        """
        cdef Endpoint endpoint
        cdef Py_buffer view
        self.enter()
        try:
            endpoint = self.writable_stream(endpoint_id)
            export_buffer(data, &view, False, self)
            return self.begin_send(endpoint, None, 0, &view, None, UCXNB_STREAMED)
        finally:
            self.leave()

    def receive_stream(self, endpoint_id, buffer, wait_all=False, *, timeout=None):
        """Read bytes that the peer sent to its stream; wait until there are some.

        Parameters
        ----------
        endpoint_id : int
            Where from. Each connection has one stream in each direction.
        buffer : writable bytes-like or array
            Where the bytes go, as in `receive_tag`. Yours again when this returns or raises.
        wait_all : bool
            Whether to wait until the buffer is full. Otherwise one byte is enough.
        timeout : float, optional
            Seconds; None waits for ever.

        Returns
        -------
        int
            How many bytes were read; 0 only if the buffer is empty.

        Raises
        ------
        OperationTimeoutError
            Too few bytes came in time. Nothing is lost: those that came are read by the next call.
            The same holds for ``KeyboardInterrupt``.
        PeerClosedError, EndpointLostError
            The peer is gone and all that arrived from it has been read; with `wait_all`, less than
            the buffer takes is left, and is read by the next call without. Of a peer that died, the
            last bytes may not have arrived.
        EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        InvalidBufferError, ArgumentError
            Nothing was read.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was read.

        Notes
        -----
        ``ucp_stream_recv_data_nb``: UCX is never given your buffer.
        """
        return self.read_stream(endpoint_id, buffer, truth(wait_all), timeout, True)

    def try_receive_stream(self, endpoint_id, buffer):
        """Read bytes of the peer's stream that have arrived; never wait for any.

        Parameters
        ----------
        endpoint_id, buffer
            As in `receive_stream`.

        Returns
        -------
        int or None
            How many bytes were read; None if there are none.

        Raises
        ------
        PeerClosedError, EndpointLostError
            As `receive_stream`, and so all its other errors but the timeout.
        """
        return self.read_stream(endpoint_id, buffer, False, None, False)

    @cython.final
    cdef object read_stream(self, object endpoint_id, object buffer, bint wait_all, object timeout,
                            bint wait):
        cdef Py_buffer view
        cdef Endpoint endpoint
        cdef ucxnb_reader_t reader
        cdef int64_t deadline
        self.enter()
        try:
            endpoint = self.streaming(endpoint_id)
            deadline = deadline_of(timeout)
            export_buffer(buffer, &view, True, self)
            memset(&reader, 0, sizeof(reader))
            reader.endpoint = &endpoint.ucp
            reader.memory = <char *>view.buf
            reader.capacity = view.len
            reader.on_gpu = type_of(&view) != UCS_MEMORY_TYPE_HOST
            reader.wait_all = wait_all
            try:
                if view.len == 0:
                    return 0
                return self.fill(endpoint, &reader, deadline, timeout, wait)
            finally:
                PyBuffer_Release(&view)
        finally:
            self.leave()

    cdef object fill(self, Endpoint endpoint, ucxnb_reader_t *reader, int64_t deadline,
                     object timeout, bint wait):
        cdef int found = UCXNB_NO_MATCH, spin = True
        if (reader.capacity <= SMALL and not reader.on_gpu
                and ucxnb_nobody_drives(&self.engine.driver)):
            found = ucxnb_look_soon(&self.engine.driver, ucxnb_read, reader,
                                    SOON_NS if wait else 0)
        if found == UCXNB_MATCHED:
            self.count_streamed(endpoint, reader.done, False)
            return reader.done
        ucxnb_begin_reading(reader)
        try:
            while found == UCXNB_NO_MATCH:
                with nogil:
                    if wait:
                        found = ucxnb_wait(&self.engine.driver, ucxnb_read, reader,
                                           slice_end(deadline), spin)
                    else:
                        found = self.read_now(reader)
                if found == UCXNB_NO_MATCH:
                    if not wait:
                        return None
                    PyErr_CheckSignals()
                    if ucxnb_now_ns() >= deadline:
                        raise OperationTimeoutError(
                            f"{endpoint.text()}: {reader.done:,} bytes of {reader.capacity:,} came "
                            f"in {timeout} s; they are read by the next call"
                        )
                    spin = False
        finally:
            ucxnb_end_reading(reader)
            if found != UCXNB_MATCHED:
                with nogil:
                    ucxnb_unread(reader)
        if found == UCXNB_PEER_ENDED and reader.done > 0:
            raise torn_error(endpoint, reader.done, reader.capacity)
        if found != UCXNB_MATCHED:
            raise self.no_message_error(found, endpoint)
        self.count_streamed(endpoint, reader.done, False)
        return reader.done

    cdef int read_now(self, ucxnb_reader_t *reader) noexcept nogil:
        """Read what had arrived before the call."""
        cdef int found = ucxnb_read(reader)
        cdef int steps = 0
        while found == UCXNB_NO_MATCH and steps < STEPS_TO_EMPTY:
            if ucxnb_progress(&self.engine.driver) == 0:
                break
            found = ucxnb_read(reader)
            steps += 1
        return found

    def ireceive_stream(self, endpoint_id, buffer, wait_all=False):
        """Begin to read bytes of the peer's stream.

        Reads of one stream get its bytes in the order in which they were begun, and before any
        `receive_stream`.

        Parameters
        ----------
        endpoint_id, wait_all
            As in `receive_stream`.
        buffer : writable bytes-like or array
            Where the bytes go. Yours again when the request is done; until then it must not be
            used.

        Returns
        -------
        Request
            Done when there are bytes (all of them, with `wait_all`), or none can come any more:
            `Message.nbytes` of its result says how many. One that is cancelled or dropped before
            you saw its result leaves its bytes to the next read.

        Raises
        ------
        EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        InvalidBufferError, ArgumentError
            Nothing was begun. An empty buffer is one.
        FeatureDisabledError, ThreadModeError, WorkerClosedError
            Nothing was begun.

        Notes
        -----
        ``ucp_stream_recv_data_nb``, by the background thread or whoever makes progress.
        """
        cdef Py_buffer view
        cdef Endpoint endpoint
        cdef Request request
        cdef Loan loan
        cdef ucxnb_operation_t *operation
        cdef bint all_of_it = truth(wait_all)
        self.enter()
        try:
            endpoint = self.streaming(endpoint_id)
            export_buffer(buffer, &view, True, self)
            loan = lend(&view, None, endpoint)
            if loan.view.len == 0:
                raise InvalidBufferError("buffer is empty: a read needs room for a byte or more")
            request = make_request(self, endpoint, None, False)
            operation = self.take_operation(endpoint)
            operation.kind = UCXNB_STREAMED
            operation.memory = <char *>loan.view.buf
            operation.capacity = loan.view.len
            operation.memory_type = type_of(&loan.view)
            operation.wait_all = all_of_it
            operation.length = 0  # bytes that it has read
            operation.request = <void *>request
            operation.started_ns = ucxnb_now_ns()
            request.operation = operation
            self.keep_operation(operation, loan)
            with nogil:
                ucxnb_post_reader(operation)
        finally:
            self.leave()
        return request

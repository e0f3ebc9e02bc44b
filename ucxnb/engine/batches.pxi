"""Many messages in one call."""


@cython.final
cdef class Batch:
    """The memory of a batch, and what UCX is told about it."""

    cdef size_t count
    cdef uint64_t *tags
    cdef Py_buffer tags_view  # where the tags are the caller's own
    cdef Py_buffer rows
    cdef size_t row_size
    cdef ptrdiff_t row_stride
    cdef Py_buffer *views  # of a list that is sent
    cdef size_t exported
    cdef char **memories
    cdef bint owns_memories
    cdef size_t *lengths
    cdef uint64_t *ages
    cdef char *was_counted
    cdef ucxnb_operation_t **under_way

    def __dealloc__(self):
        cdef size_t i
        if is_exported(&self.tags_view):
            PyBuffer_Release(&self.tags_view)
        else:
            free(self.tags)
        if is_exported(&self.rows):
            PyBuffer_Release(&self.rows)
        for i in range(self.exported):
            PyBuffer_Release(&self.views[i])
        if self.owns_memories:
            for i in range(self.count):
                free(self.memories[i])
        free(self.views)
        free(self.memories)
        free(self.lengths)
        free(self.ages)
        free(self.was_counted)
        free(self.under_way)

    cdef int make_tags(self, size_t count) except -1:
        self.tags = <uint64_t *>allocate(count, sizeof(uint64_t))
        return 0

    cdef int make_list(self, size_t count, bint to_send) except -1:
        """Room for a list of messages, with one tag each."""
        self.count = count
        self.make_tags(count)
        self.memories = <char **>allocate(count, sizeof(char *))
        self.owns_memories = not to_send
        if to_send:
            self.lengths = <size_t *>allocate(count, sizeof(size_t))
            self.views = <Py_buffer *>allocate(count, sizeof(Py_buffer))
        return 0

    cdef int make_receipts(self) except -1:
        """Room for what is known of messages as they come."""
        self.ages = <uint64_t *>allocate(self.count, sizeof(uint64_t))
        self.was_counted = <char *>allocate(self.count, 1)
        self.lengths = <size_t *>allocate(self.count, sizeof(size_t))
        self.under_way = <ucxnb_operation_t **>allocate(self.count, sizeof(void *))
        return 0

    cdef int export_rows(self, object array, bint writable, EngineCore engine) except -1:
        """Borrow an array of rows."""
        cdef int i
        cdef Py_ssize_t inner
        export_buffer(array, &self.rows, writable, engine, PyBUF_STRIDES)
        if self.rows.ndim == 0:
            raise InvalidBufferError("an array with rows is needed, and this has no dimension")
        self.count = self.rows.shape[0]
        inner = self.rows.itemsize
        for i in range(self.rows.ndim - 1, 0, -1):
            if (self.rows.strides != NULL and self.rows.shape[i] > 1
                    and self.rows.strides[i] != inner):
                raise InvalidBufferError(
                    "each row must be contiguous; copy the array first, as in "
                    "numpy.ascontiguousarray(array)"
                )
            inner *= self.rows.shape[i]
        self.row_size = inner
        # ctypes gives no strides.
        self.row_stride = inner if self.rows.strides == NULL else self.rows.strides[0]
        return 0


cdef void *allocate(size_t count, size_t size) except NULL:
    cdef void *memory = calloc(count if count else 1, size)
    if memory == NULL:
        raise MemoryError()
    return memory


cdef size_t bytes_of(const ucxnb_send_batch_t *batch) noexcept:
    cdef size_t i, nbytes = batch.row_size * batch.count
    if batch.rows == NULL:
        for i in range(batch.count):
            nbytes += batch.lengths[i]
    return nbytes


cdef list as_list(object items, str name, str what):
    try:
        return list(items)
    except (TypeError, NotImplementedError):  # a memoryview of two dimensions
        raise ArgumentError(f"{name}={shown(items)}: it takes {what}") from None


cdef class BatchEngine(TagReceiver):
    """Sends and receives many messages, with the GIL released once for all of them."""

    def send_tags(self, endpoint_id, messages, *, timeout=None):
        """Send many messages in one call, and wait until their buffers can be used again.

        Parameters
        ----------
        endpoint_id : int
            Where to.
        messages : iterable of (int, bytes-like)
            Tag and data of each, as in `send_tag`. They arrive in this order, tag by tag.
        timeout : float, optional
            Seconds for all together; None waits for ever.

        Raises
        ------
        OperationTimeoutError
            The text says how many were sent: they go out, and their data stay in use until they
            have. The others were not sent. The same holds for ``KeyboardInterrupt``, and for:
        PeerFullError
            The peer received too little of what it has (`WorkerConfig.max_unexpected_bytes`) before
            the time was over.
        EndpointLostError, EndpointClosedError, UnknownEndpointError
            There is no such connection, or no longer.
        TagRangeError, TagTypeError, InvalidBufferError, ArgumentError
            Nothing was sent.
        ThreadModeError, WorkerClosedError, FeatureDisabledError
            Nothing was sent.

        Notes
        -----
        ``ucp_tag_send_nbx`` for each. UCX holds at most about a thousand that have not left.
        """
        cdef ucxnb_send_batch_t batch
        cdef Endpoint endpoint
        cdef Batch memory
        cdef Py_ssize_t i = 0
        cdef object tag, data
        cdef list pairs
        self.enter()
        try:
            endpoint = self.sendable(endpoint_id)
            pairs = as_list(messages, "messages", "(tag, data) pairs")
            memset(&batch, 0, sizeof(batch))
            memory = Batch.__new__(Batch)
            memory.make_list(len(pairs), True)
            for pair in pairs:
                try:
                    tag, data = pair
                except (TypeError, ValueError):
                    raise ArgumentError(
                        f"messages[{i}] is no pair of a tag and data, as in [(7, b'hello')]"
                    ) from None
                memory.tags[i] = self.wire_tag(tag)
                export_buffer(data, &memory.views[i], False, self)
                memory.exported = i + 1
                if type_of(&memory.views[i]) != UCS_MEMORY_TYPE_HOST:
                    batch.memory_type = UCS_MEMORY_TYPE_UNKNOWN  # UCX looks at each
                memory.memories[i] = <char *>memory.views[i].buf
                memory.lengths[i] = memory.views[i].len
                i += 1
            batch.tags = memory.tags
            batch.memories = <const void **>memory.memories
            batch.lengths = memory.lengths
            batch.count = i
            self.send_batch(&batch, endpoint, lend(NULL, memory, endpoint), timeout)
        finally:
            self.leave()

    def send_rows(self, endpoint_id, tags, array, *, timeout=None):
        """Send each row of an array as a message, at no Python object a message.

        Parameters
        ----------
        endpoint_id : int
            Where to.
        tags : int, or sequence or array of int
            One tag for all, or one for each row.
        array : buffer or array of 1 or more dimensions
            Its first dimension counts the messages; what lies below one index of it is one message,
            and must be contiguous. A one-dimensional array is sent element by element. Memory of a
            GPU as in `send_tag`.
        timeout : float, optional
            Seconds for all together; None waits for ever.

        Raises
        ------
        OperationTimeoutError, EndpointLostError, EndpointClosedError, UnknownEndpointError
            As `send_tags`, and so all its other errors.

        Notes
        -----
        ``ucp_tag_send_nbx`` for each row.
        """
        cdef ucxnb_send_batch_t batch
        cdef Endpoint endpoint
        cdef Batch memory = Batch.__new__(Batch)
        self.enter()
        try:
            endpoint = self.sendable(endpoint_id)
            memset(&batch, 0, sizeof(batch))
            memory.export_rows(array, False, self)
            batch.memory_type = type_of(&memory.rows)
            batch.rows = <const char *>memory.rows.buf
            batch.row_size = memory.row_size
            batch.row_stride = memory.row_stride
            batch.count = memory.count
            batch.one_tag = self.take_tags(memory, tags)
            batch.tags = memory.tags
            self.send_batch(&batch, endpoint, lend(NULL, memory, endpoint), timeout)
        finally:
            self.leave()

    cdef int send_batch(self, ucxnb_send_batch_t *batch, Endpoint endpoint, Loan loan,
                        object timeout) except -1:
        cdef int64_t deadline = deadline_of(timeout)
        cdef ucxnb_operation_t *operation = self.take_operation(endpoint)
        cdef ucs_status_t status
        cdef bint posted, held = False
        batch.endpoint = &endpoint.ucp
        batch.prefix = endpoint.send_prefix
        batch.operation = operation
        operation.memory_type = batch.memory_type
        operation.is_send = True
        operation.counted = True  # by `count_batch`
        ucxnb_take_off(operation, bytes_of(batch))
        self.keep_operation(operation, loan)
        try:
            try:
                posted = self.post_batch(batch, deadline)
                held = batch.held
            finally:
                with nogil:
                    ucxnb_end_send_batch(batch)
                self.count_batch(batch, endpoint)
            if posted:
                self.await_operation(operation, deadline, True)
            status = operation.status if operation.state == UCXNB_DONE else UCS_INPROGRESS
        finally:
            self.release_operation(operation)
        if status == UCS_INPROGRESS or not posted:
            if self.engine.closing:
                raise self.closed_error()
            if held:
                raise full_error(
                    endpoint, f"{batch.done:,} of {batch.count:,} messages were sent and no more"
                )
            raise OperationTimeoutError(
                f"{endpoint.text()}: {batch.done:,} of {batch.count:,} messages were sent, and not "
                "all of them fetched in time; their buffers stay in use until they are"
            )
        if status != UCS_OK:
            raise self.failed_error(endpoint, status, "sending a batch failed")
        return 0

    cdef bint post_batch(self, ucxnb_send_batch_t *batch, int64_t deadline) except *:
        """Post its messages, as fast as those before them leave; false if the time runs out."""
        cdef int posted = 0, spin = 1
        while True:
            with nogil:
                posted = ucxnb_wait(&self.engine.driver, ucxnb_send_batch, batch,
                                    slice_end(deadline), spin)
            if posted:
                return True
            PyErr_CheckSignals()
            if ucxnb_now_ns() >= deadline or self.engine.closing:
                return False
            spin = 0

    cdef void count_batch(self, ucxnb_send_batch_t *batch, Endpoint endpoint) noexcept:
        cdef size_t i, size = batch.row_size * batch.done
        if batch.rows == NULL:
            for i in range(batch.done):
                size += batch.lengths[i]
                self.sizes_sent[ucxnb_size_bucket(batch.lengths[i])] += 1
        else:
            self.sizes_sent[ucxnb_size_bucket(batch.row_size)] += batch.done
        endpoint.messages_sent += batch.done
        endpoint.bytes_sent += size
        self.messages_sent += batch.done
        self.bytes_sent += size

    def receive_tags(self, endpoint_id, tags, *, timeout=None):
        """Receive many messages in one call.

        Parameters
        ----------
        endpoint_id : int or None
            Where from; None, which means anyone, only with ``tag_scope="worker"``.
        tags : iterable of int
            The tag of each. Messages of one tag come in the order they were sent.
        timeout : float, optional
            Seconds for all together; None waits for ever.

        Returns
        -------
        list of bytes
            One for each tag.

        Raises
        ------
        OperationTimeoutError, EndpointLostError, PeerClosedError
            Nothing was received: what had come waits to be received again. The same holds for
            ``KeyboardInterrupt``.
        EndpointClosedError, UnknownEndpointError, NoPeersError
            There is no such connection, or no longer.
        TagRangeError, TagTypeError, ArgumentError
            Nothing was received.
        ThreadModeError, WorkerClosedError, FeatureDisabledError
            Nothing was received.

        Notes
        -----
        ``ucp_tag_probe_nb`` and ``ucp_tag_msg_recv_nbx`` for each.
        """
        cdef ucxnb_receive_batch_t batch
        cdef Endpoint endpoint
        cdef Batch memory = Batch.__new__(Batch)
        cdef list wanted, got = []
        cdef Py_ssize_t i
        self.enter()
        try:
            self.need_tag()
            wanted = as_list(tags, "tags", "integers")
            memset(&batch, 0, sizeof(batch))
            endpoint = self.aim_batch(&batch, endpoint_id)
            memory.make_list(len(wanted), False)
            for i in range(len(wanted)):
                memory.tags[i] = self.wire_tag(wanted[i])
            batch.tags = memory.tags
            batch.memories = memory.memories
            batch.count = len(wanted)
            self.receive_batch(&batch, endpoint, memory, timeout)
            for i in range(len(wanted)):
                got.append(PyBytes_FromStringAndSize(memory.memories[i], memory.lengths[i]))
        finally:
            self.leave()
        return got

    def receive_rows(self, endpoint_id, tags, array, *, timeout=None):
        """Receive a message into each row of an array, at no Python object a message.

        Parameters
        ----------
        endpoint_id : int or None
            As in `receive_tags`.
        tags : int, or sequence or array of int
            One tag for all, or one for each row.
        array : writable buffer or array of 1 or more dimensions
            As in `send_rows`. A message may be smaller than its row: the rest keeps what it had.
        timeout : float, optional
            Seconds for all together; None waits for ever.

        Raises
        ------
        BufferTooSmallError
            A message is larger than a row. It and those before it wait to be received again.
        OperationTimeoutError, EndpointLostError, PeerClosedError
            As `receive_tags`, and so all its other errors. Some rows may have been written to.
        InvalidBufferError
            The array has no rows, or none to write to: nothing was received.

        Notes
        -----
        ``ucp_tag_probe_nb`` and ``ucp_tag_msg_recv_nbx`` for each row.
        """
        cdef ucxnb_receive_batch_t batch
        cdef Endpoint endpoint
        cdef Batch memory = Batch.__new__(Batch)
        self.enter()
        try:
            self.need_tag()
            memset(&batch, 0, sizeof(batch))
            endpoint = self.aim_batch(&batch, endpoint_id)
            memory.export_rows(array, True, self)
            batch.memory_type = type_of(&memory.rows)
            batch.rows = <char *>memory.rows.buf
            batch.row_size = memory.row_size
            batch.row_stride = memory.row_stride
            batch.count = memory.count
            batch.one_tag = self.take_tags(memory, tags)
            batch.tags = memory.tags
            self.receive_batch(&batch, endpoint, memory, timeout)
        finally:
            self.leave()

    cdef int take_tags(self, Batch memory, object tags) except -1:
        """Set the tags of rows; returns whether it is one for all."""
        cdef size_t i
        cdef uint64_t largest = 0
        cdef list numbers
        try:
            operator.index(tags)
        except TypeError:
            if not isinstance(tags, Sized):
                raise TagTypeError(
                    f"tags={shown(tags)}: pass an integer, or a sequence of them"
                ) from None
        else:
            memory.make_tags(1)
            memory.tags[0] = self.wire_tag(tags)
            return True
        if len(tags) != <Py_ssize_t>memory.count:
            raise ArgumentError(
                f"there are {len(tags)} tags for {memory.count} rows: one for each, or one for all"
            )
        try:
            PyObject_GetBuffer(tags, &memory.tags_view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
        except (TypeError, BufferError, ValueError):
            pass
        if is_exported(&memory.tags_view):
            if (memory.tags_view.ndim == 1
                    and memory.tags_view.shape[0] == <Py_ssize_t>memory.count
                    and memory.tags_view.itemsize == sizeof(uint64_t)
                    and memory.tags_view.format in (b"q", b"Q", b"l", b"L")):
                memory.tags = <uint64_t *>memory.tags_view.buf
                for i in range(memory.count):  # a negative one is large here
                    largest = max(largest, memory.tags[i])
                signed = memory.tags_view.format in (b"q", b"l")
                self.wire_tag(<int64_t>largest if signed else largest)
                return False
            PyBuffer_Release(&memory.tags_view)
            memset(&memory.tags_view, 0, sizeof(Py_buffer))
        memory.make_tags(memory.count)
        numbers = as_list(tags, "tags", "an integer, or a sequence of integers")
        if <size_t>len(numbers) != memory.count:
            raise ArgumentError(f"tags={shown(tags)}: its length is not that of its items")
        for i in range(memory.count):
            memory.tags[i] = self.wire_tag(numbers[i])
        return False

    cdef Endpoint aim_batch(self, ucxnb_receive_batch_t *batch, object endpoint_id):
        """Fill in whose messages a batch takes."""
        cdef Endpoint endpoint
        if endpoint_id is None and self.endpoint_scope:
            raise ArgumentError(
                "endpoint_id=None: a batch comes from one endpoint, or nobody could tell whose "
                "message is which; use receive_message for messages from anyone"
            )
        endpoint = self.aim(&batch.match, endpoint_id, 0, None)
        batch.prefix = batch.match.tag
        batch.match.mask = UINT64_MAX
        return endpoint

    cdef int receive_batch(self, ucxnb_receive_batch_t *batch, Endpoint endpoint, Batch memory,
                           object timeout) except -1:
        cdef int64_t deadline = deadline_of(timeout)
        cdef Loan loan = lend(NULL, memory, endpoint)
        cdef ucxnb_operation_t *operation
        cdef size_t i, nbytes = 0
        cdef bint complete = False
        memory.make_receipts()
        batch.ages, batch.under_way = memory.ages, memory.under_way
        batch.was_counted = memory.was_counted
        batch.lengths = batch.missing = memory.lengths
        try:
            self.wait_for_buffer(batch, memory, endpoint, deadline, timeout)
            self.match_batch(batch, endpoint, deadline, timeout)
            for i in range(batch.count if batch.any_under_way else 0):
                operation = memory.under_way[i]
                if operation != NULL:
                    if not self.await_operation(operation, deadline, True):
                        if self.engine.closing:
                            raise self.closed_error()
                        raise self.batch_timeout(batch, endpoint, timeout)
                    if operation.status != UCS_OK:
                        raise self.failed_error(endpoint, operation.status, "a batch failed")
            complete = True
        finally:
            if batch.spare != NULL:
                self.spare_operation(batch.spare)
            if not complete:
                self.give_batch_back(batch, loan)
        if batch.rows == NULL:
            for i in range(batch.count):
                nbytes += batch.lengths[i]
        else:
            nbytes = batch.count * batch.row_size - batch.all_missing
        self.count_sizes_received(batch)
        for i in range(batch.count if batch.any_under_way else 0):
            operation = memory.under_way[i]
            if operation != NULL:
                self.keep_operation(operation, lend(NULL, None, endpoint))
                self.part_with(operation)
        self.messages_received += batch.count - batch.counted
        self.bytes_received += nbytes - batch.counted_bytes
        if endpoint is not None:
            endpoint.messages_received += batch.count - batch.counted
            endpoint.bytes_received += nbytes - batch.counted_bytes
        return 0

    cdef void count_sizes_received(self, ucxnb_receive_batch_t *batch) noexcept:
        """Count the messages of a batch by size, but for those that were counted before."""
        cdef size_t i, length
        if batch.rows != NULL and batch.all_missing == 0 and batch.counted == 0:
            self.sizes_received[ucxnb_size_bucket(batch.row_size)] += batch.count
            return
        for i in range(batch.count):
            if not batch.was_counted[i]:
                length = batch.lengths[i]  # of rows: what they have not
                if batch.rows != NULL:
                    length = batch.row_size - length
                self.sizes_received[ucxnb_size_bucket(length)] += 1

    cdef int wait_for_buffer(self, ucxnb_receive_batch_t *batch, Batch memory, Endpoint endpoint,
                             int64_t deadline, object timeout) except -1:
        """Messages may be arriving in it still, for a receive that was given up."""
        cdef ucxnb_operation_t *operation
        cdef uint64_t steps = 0
        while True:
            self.reap()
            operation = self.first_operation
            while operation != NULL and not arrives_in(operation, &memory.rows):
                operation = operation.next
            if operation == NULL:
                return 0
            PyErr_CheckSignals()
            if self.engine.closing:
                raise self.closed_error()
            if ucxnb_now_ns() >= deadline:
                raise self.batch_timeout(batch, endpoint, timeout)
            with nogil:
                ucxnb_run(&self.engine, min(deadline, ucxnb_now_ns() + LOOK_NS), &steps)

    cdef int match_batch(self, ucxnb_receive_batch_t *batch, Endpoint endpoint, int64_t deadline,
                         object timeout) except -1:
        """Find every message of a batch, and begin to fetch it."""
        cdef int found = 0, spin = 1
        while batch.count > 0:
            with nogil:
                found = ucxnb_wait(&self.engine.driver, ucxnb_receive_batch, batch,
                                   slice_end(deadline), spin)
            if batch.status != UCS_OK:
                raise self.failed_error(endpoint, batch.status, "receiving a batch failed")
            if found == UCXNB_MATCHED:
                break
            if found == UCXNB_TOO_SMALL:
                raise self.too_small(batch.match.sender_tag, batch.match.length, batch.row_size)
            if found == UCXNB_NO_MATCH and endpoint is None and self.nobody_can_send():
                found = UCXNB_NO_PEERS
            if found != UCXNB_NO_MATCH:
                raise self.no_message_error(found, endpoint)
            PyErr_CheckSignals()
            if ucxnb_now_ns() >= deadline:
                raise self.batch_timeout(batch, endpoint, timeout)
            spin = 0
        return 0

    cdef object batch_timeout(self, ucxnb_receive_batch_t *batch, Endpoint endpoint,
                              object timeout):
        source = "anyone" if endpoint is None else endpoint.text()
        return OperationTimeoutError(
            f"{batch.done:,} of {batch.count:,} messages came from {source} in {timeout} s; they "
            "are kept for the next receive of their tags"
        )

    cdef int give_batch_back(self, ucxnb_receive_batch_t *batch, Loan loan) except -1:
        """What had come waits to be received again, in its old order."""
        cdef ucxnb_operation_t *operation
        cdef size_t i
        cdef bint short_of_memory = False
        for i in range(batch.done):
            operation = batch.under_way[i]
            if operation == NULL:
                operation = ucxnb_operation_new(&self.engine, NULL)
                if operation == NULL:
                    short_of_memory = True
                    continue
                operation.state = UCXNB_DONE
                operation.outcome = UCXNB_MATCHED
                operation.reaped = True
            if batch.rows != NULL:
                operation.memory = batch.rows + <ptrdiff_t>i * batch.row_stride
                operation.length = batch.row_size - batch.missing[i]
            else:
                operation.memory = batch.memories[i]
                operation.length = batch.lengths[i]
            operation.memory_type = batch.memory_type
            operation.into_buffer = True
            operation.sender_tag = batch.tags[0 if batch.one_tag else i] | batch.prefix
            operation.age = batch.ages[i]
            operation.counted = batch.was_counted[i]
            self.keep_operation(operation, loan)
            batch.under_way[i] = self.keep_message_of(operation)
        with nogil:
            ucxnb_give_back(&self.engine, batch.under_way, batch.done)
        self.reap()
        if short_of_memory:
            raise MemoryError("there is no memory to keep messages of a batch")
        return 0

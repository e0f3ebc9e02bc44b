"""What sending and receiving have in common."""

cdef class EngineCore:
    """Life, thread mode, endpoints and operations under way."""

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
        if self.endpoint_scope:
            endpoint.send_prefix = <uint64_t>send_prefix << UCXNB_ID_SHIFT
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

    # ---- operations ----

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

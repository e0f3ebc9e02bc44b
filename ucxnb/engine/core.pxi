"""What sending and receiving have in common."""

cdef inline bint is_large(ucxnb_operation_t *operation) noexcept:
    return (operation.length if operation.is_send else operation.capacity) > LARGE


cdef class EngineCore:
    """Life, thread mode, endpoints and operations under way."""

    cdef ucxnb_engine_t engine
    cdef bint started, single, tag_enabled, stream_enabled, endpoint_scope
    cdef object owner_pid
    cdef int inside, user_depth
    cdef ucxnb_thread_t *user_thread
    cdef uint64_t tag_limit
    cdef uint64_t memory_types  # that UCX can reach: a bit for each ucs_memory_type_t
    cdef dict endpoints_by_id
    cdef dict open_endpoints
    cdef Endpoint latest  # endpoint that was looked up
    cdef ucxnb_operation_t *first_operation  # that went on after its call
    cdef ucxnb_operation_t *first_spare
    cdef int spares
    cdef unsigned long long messages_sent, messages_received, bytes_sent, bytes_received, errors
    cdef unsigned long long stream_bytes_sent, stream_bytes_received
    cdef unsigned long long puts, gets, atomics, put_bytes, get_bytes
    cdef uint64_t sizes_sent[UCXNB_SIZES]  # messages by size
    cdef uint64_t sizes_received[UCXNB_SIZES]
    cdef uint64_t latencies[UCXNB_LATENCIES]  # operations by the time they took
    cdef unsigned long long failures  # that `_take_failures` did not tell of yet
    cdef str latest_failure
    cdef int64_t started_ns
    cdef object scratch
    cdef readonly bint closed
    cdef int sources_to_come  # listeners and connects: a receive from anyone may wait for them
    cdef object watches  # of event loops
    cdef int spins_missed, awaits_to_skip, awaits_at_once

    def __cinit__(self, *args, **kwargs):
        self.endpoints_by_id = {}
        self.open_endpoints = {}
        self.watches = {}
        self.latest_failure = ""
        self.closed = True

    def __dealloc__(self):
        cdef ucxnb_operation_t *operation
        while self.first_spare != NULL:
            operation = self.first_spare
            self.first_spare = operation.next
            ucxnb_operation_free(operation)

    # ---- life, for UcxWorker ----

    def _start_engine(self, uintptr_t worker, uintptr_t context, config, bint single):
        """Start the background thread on the handles of a UCP worker and its context."""
        cdef ucp_context_attr_t attributes
        cdef int error
        cdef long interval_us = config.progress_interval_us
        self.endpoint_scope = config.tag_scope == "endpoint"
        self.tag_limit = ENDPOINT_TAGS if self.endpoint_scope else UINT64_MAX
        self.tag_enabled = config.enable_tag
        self.stream_enabled = config.enable_stream
        self.single = single
        attributes.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES
        if ucxnb_ucp.ucp_context_query(<ucp_context_h>context, &attributes) == UCS_OK:
            self.memory_types = attributes.memory_types
        with nogil:
            error = ucxnb_engine_start(&self.engine, <ucp_worker_h>worker, interval_us,
                                       self.endpoint_scope, self.stream_enabled)
        if error:
            raise UcxError(f"the progress thread cannot start: {os.strerror(error)}")
        self.owner_pid = os.getpid()
        self.started_ns = ucxnb_now_ns()
        self.started = True
        self.closed = False

    def _shut_engine(self, bint collected=False):
        """Refuse new calls, and make those that are blocked end soon.

        One that is `collected` as garbage has no calls, whatever this thread is inside of.
        """
        if ucxnb_thread().calls_inside and not collected:
            raise ThreadModeError(
                "close() inside another call of the same thread, as from a signal handler: set a "
                "flag there, and close after that call has returned"
            )
        self.closed = True
        if self.started:
            with nogil:
                ucxnb_engine_shut(&self.engine)

    @property
    def _calls_inside(self):
        """Calls that have not returned yet."""
        return self.inside

    def _stop_engine(self):
        """Stop the background thread; every endpoint must have been ended before."""
        cdef int64_t deadline = ucxnb_now_ns() + 1_000_000_000
        cdef ucxnb_operation_t *operation
        cdef ucxnb_operation_t *following
        cdef object interrupt
        if not self.started:
            return
        self.started = False
        while self.under_way() and ucxnb_now_ns() < deadline:
            with nogil:
                ucxnb_progress(&self.engine.driver)
        with nogil:
            ucxnb_engine_stop(&self.engine)
        interrupt = self.reap_quietly()
        for watch in list(self.watches.values()):
            watch.close()
        self.watches.clear()
        operation = self.first_operation
        while operation != NULL:
            following = operation.next
            if operation.state != UCXNB_DONE:
                # UCX may still write to it and to its memory; leaking both is the safe thing.
                if operation.request != NULL:
                    (<Request>operation.request).end(self.closed_error())
                self.unlink_operation(operation)
            operation = following
        if interrupt is not None:
            raise interrupt

    cdef bint under_way(self):
        """Whether UCX still works on something."""
        cdef ucxnb_operation_t *operation = self.first_operation
        while operation != NULL:
            if operation.state != UCXNB_DONE:
                return True
            operation = operation.next
        return False

    def _abandon_engine(self):
        """In the child of a fork: nothing here works any more."""
        cdef Endpoint endpoint
        self.closed = True
        if self.started:
            self.started = False
            ucxnb_engine_abandon(&self.engine)
            self.open_endpoints.clear()
            for endpoint in self.endpoints_by_id.values():
                endpoint.ucp.state = UCXNB_ENDED  # nobody asks UCX, whose locks may be held

    def _enter_call(self):
        """Begin a call: the worker is open, and its thread mode allows this thread."""
        self.enter()

    def _leave_call(self):
        """End what `_enter_call` began."""
        self.leave()

    @cython.final
    cdef inline int enter(self) except -1:
        cdef ucxnb_thread_t *thread = ucxnb_thread()
        if self.closed:
            raise self.closed_error()
        if self.single and not thread.of_toolkit:
            if self.user_depth and self.user_thread != thread:
                raise ThreadModeError(
                    "another thread is inside this worker; make it with "
                    "thread_mode=ThreadMode.MULTI, or use one thread at a time"
                )
            self.user_thread = thread
            self.user_depth += 1
        self.inside += 1
        thread.calls_inside += 1
        return 0

    @cython.final
    cdef inline void leave(self) noexcept:
        cdef ucxnb_thread_t *thread = ucxnb_thread()
        thread.calls_inside -= 1
        self.inside -= 1
        if self.single and not thread.of_toolkit:
            self.user_depth -= 1

    cdef object closed_error(self):
        if self.owner_pid is not None and self.owner_pid != os.getpid():
            return WorkerClosedError("this worker belongs to the parent process; make a new one")
        return WorkerClosedError("this worker is closed; make a new one")

    # ---- endpoints, for the front door ----

    @property
    def _news_fd(self):
        """Descriptor that is readable when `_news` has something to tell."""
        return self.engine.news_fd

    def _news(self):
        """Open endpoints that UCX reported as failed, and those due for `_renew_window`.

        Clears the descriptor.
        """
        cdef uint64_t count
        cdef Endpoint endpoint
        cdef list failed = [], due = []
        read(self.engine.news_fd, &count, sizeof(count))
        for endpoint in self.open_endpoints.values():
            if endpoint.ucp.failure:
                failed.append(endpoint)
            elif endpoint.ucp.is_due:
                due.append(endpoint)
        return failed, due

    def _open_endpoint(self, endpoint_id, const unsigned char[::1] address, send_prefix,
                       window_there, window_here):
        """Create a UCP endpoint to a worker address (``ucp_ep_create``).

        At first this side may send as much as `window_there`, and the peer `window_here`; None is
        no limit.
        """
        cdef ucxnb_target_t target
        cdef uint64_t there = UINT64_MAX if window_there is None else window_there
        cdef uint64_t here = UINT64_MAX if window_here is None else window_here
        memset(&target, 0, sizeof(target))
        target.worker_address = &address[0]
        return self.open_endpoint(endpoint_id, &target, send_prefix, there, here)

    cdef Endpoint open_endpoint(self, object endpoint_id, ucxnb_target_t *target,
                                object send_prefix, uint64_t there, uint64_t here):
        cdef Endpoint endpoint = Endpoint.__new__(Endpoint)
        cdef uint64_t c_id = endpoint_id
        cdef ucs_status_t status
        endpoint.endpoint_id = endpoint_id
        if self.endpoint_scope:
            endpoint.send_prefix = <uint64_t>send_prefix << UCXNB_ID_SHIFT
        with nogil:
            status = ucxnb_endpoint_open(&self.engine, &endpoint.ucp, c_id, target, there, here)
        if status != UCS_OK:
            raise UcxError(f"UCX cannot reach the peer's worker: {status_text(status)}", status)
        endpoint.started_ns = ucxnb_now_ns()
        self.endpoints_by_id[endpoint.endpoint_id] = endpoint
        return endpoint

    def _add_endpoint(self, Endpoint endpoint):
        """From now on the user sees it."""
        self.open_endpoints[endpoint.endpoint_id] = endpoint
        if endpoint.ucp.failure or endpoint.ucp.is_due:  # already, and `_news` did not look at it
            ucxnb_tell_news(&self.engine)

    def _renew_window(self, Endpoint endpoint, uint64_t window):
        """The peer is about to be allowed `window` more than it returns: what was received."""
        cdef uint64_t taken
        with nogil:
            taken = ucxnb_renew_window(&endpoint.ucp, window)
        return taken

    def _allow(self, Endpoint endpoint, uint64_t limit, uint64_t window):
        """The peer allows sends up to a sum of cost; returns the one that holds from now on."""
        cdef uint64_t allowed
        with nogil:
            allowed = ucxnb_allow(&endpoint.ucp, limit, window)
        return allowed

    def _traffic(self, Endpoint endpoint):
        """Snapshot of an endpoint's counters."""
        cdef int64_t end = endpoint.ended_ns if endpoint.ended_ns else ucxnb_now_ns()
        cdef ucxnb_load_t load = self.unreceived(endpoint)
        return TrafficStats(
            endpoint.messages_sent, endpoint.messages_received, endpoint.bytes_sent,
            endpoint.bytes_received, endpoint.errors, (end - endpoint.started_ns) * 1e-9,
            unreceived_messages=load.messages, unreceived_bytes=load.bytes,
            sends_held=endpoint.ucp.held, sends_in_flight=endpoint.ucp.in_flight.sends,
            bytes_in_flight=endpoint.ucp.in_flight.bytes,
            stream_bytes_sent=endpoint.stream_bytes_sent,
            stream_bytes_received=endpoint.stream_bytes_received,
            puts=endpoint.puts, gets=endpoint.gets, atomics=endpoint.atomics,
            put_bytes=endpoint.put_bytes, get_bytes=endpoint.get_bytes,
        )

    def _cost_unreceived(self, Endpoint endpoint):
        """The cost of what came from it and was not received."""
        return self.unreceived(endpoint).cost

    cdef ucxnb_load_t unreceived(self, Endpoint endpoint):
        """What has arrived and was not received, from one endpoint or from all."""
        cdef ucxnb_load_t load
        cdef uint64_t unread
        cdef const ucxnb_endpoint_t *ucp = NULL if endpoint is None else &endpoint.ucp
        memset(&load, 0, sizeof(load))
        if not self.closed:
            self.inside += 1
            with nogil:
                load = ucxnb_unreceived(&self.engine, ucp)
                unread = ucxnb_unread_bytes(&self.engine, ucp)
            load.bytes += unread
            load.cost += unread
            self.inside -= 1
        return load

    def _begin_close(self, Endpoint endpoint):
        """The user closes it: no new operations from here on."""
        endpoint.closed_by_me = True
        with nogil:
            ucxnb_endpoint_set_state(&endpoint.ucp, UCXNB_CLOSING)

    def _arrived(self, Endpoint endpoint):
        """Messages, and bytes of its stream, that have arrived, received or not."""
        cdef uint64_t messages, stream_bytes
        with nogil:
            messages = ucxnb_harvest(&endpoint.ucp)
            stream_bytes = ucxnb_harvest_stream(&endpoint.ucp)
        return messages, stream_bytes

    def _end_endpoint(self, Endpoint endpoint):
        """Close the UCP endpoint; what has arrived can still be received, unless I closed it."""
        cdef bint was_open
        with nogil:
            ucxnb_harvest(&endpoint.ucp)
            ucxnb_harvest_stream(&endpoint.ucp)
        self.open_endpoints.pop(endpoint.endpoint_id, None)
        if endpoint.ended_ns == 0:
            endpoint.ended_ns = ucxnb_now_ns()
        if endpoint.state is EndpointState.LOST:
            endpoint.errors += 1
            self.errors += 1
        if endpoint.closed_by_me:
            self._forget_endpoint(endpoint)
        was_open = endpoint.ucp.state == UCXNB_OPEN
        if was_open:
            endpoint.ucp.state = UCXNB_ENDED  # under the GIL, for those who send with it
        with nogil:
            if was_open:
                ucxnb_endpoint_set_state(&endpoint.ucp, UCXNB_ENDED)
        self.end_remotes(endpoint)
        with nogil:
            ucxnb_endpoint_close(&endpoint.ucp)
        self.look_for_sources()

    cdef void end_remotes(self, Endpoint endpoint):
        """Its peer's memory cannot be reached any more."""

    def _forget_endpoint(self, Endpoint endpoint):
        """Drop what nobody received of an endpoint that ends, or has ended."""
        with nogil:
            ucxnb_endpoint_forget(&endpoint.ucp)
            ucxnb_drop_stream(&endpoint.ucp)
        self.reap()

    def _remove_endpoint(self, Endpoint endpoint):
        """Forget an ended endpoint and its id altogether."""
        self._forget_endpoint(endpoint)
        self.endpoints_by_id.pop(endpoint.endpoint_id, None)
        self.latest = None

    def _known_endpoints(self):
        """All that are open or ended a short while ago."""
        return [e for e in list(self.endpoints_by_id.values()) if e.state is not None]

    @property
    def _open_count(self):
        return len(self.open_endpoints)

    def _add_source(self):
        """A listener, or a connect under way: somebody may come."""
        self.sources_to_come += 1

    def _drop_source(self):
        """It is no more."""
        self.sources_to_come -= 1
        self.look_for_sources()

    cdef bint nobody_can_send(self):
        return self.sources_to_come == 0 and not self.open_endpoints

    cdef void look_for_sources(self):
        if self.nobody_can_send():
            with nogil:
                ucxnb_end_posted_from_anyone(&self.engine)

    def _flush_endpoint(self, Endpoint endpoint, timeout):
        """Wait until all that was sent has left; whether it has."""
        return self.flush_until(endpoint, deadline_of(timeout), True) == UCS_OK

    cdef ucs_status_t flush_until(self, Endpoint endpoint, int64_t deadline,
                                  bint even_if_shut) except *:
        """Flush (``ucp_ep_flush_nbx``); UCS_INPROGRESS if that did not end in time."""
        cdef ucs_status_t status
        cdef ucxnb_operation_t *operation = self.take_operation(endpoint)
        with nogil:
            status = ucxnb_post_flush(&endpoint.ucp, operation, False)
        if status != UCS_INPROGRESS:
            ucxnb_operation_renew(operation)
            self.spare_operation(operation)
            return status
        self.keep_operation(operation, lend(NULL, None, endpoint))
        try:
            if self.await_operation(operation, deadline, False, even_if_shut):
                status = operation.status
        finally:
            self.release_operation(operation)
        return status

    @cython.final
    cdef inline Endpoint find_endpoint(self, object endpoint_id):
        cdef Endpoint latest = self.latest
        if latest is not None and latest.endpoint_id is endpoint_id:
            return latest
        return self.look_up_endpoint(endpoint_id)

    cdef Endpoint look_up_endpoint(self, object endpoint_id):
        cdef object found
        try:
            found = self.endpoints_by_id.get(endpoint_id)
        except TypeError:
            found = None
        if found is not None:
            self.latest = <Endpoint>found
            return self.latest
        try:
            operator.index(endpoint_id)
        except TypeError:
            raise ArgumentError(
                f"endpoint_id={shown(endpoint_id)}: it takes the integer that connect() returned"
            ) from None
        raise UnknownEndpointError(
            f"there is no endpoint {shown(endpoint_id)}; open are "
            f"{shown(sorted(self.open_endpoints))}"
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

    @cython.final
    cdef inline uint64_t wire_tag(self, object tag) except? 0xdead:
        cdef uint64_t bits
        if type(tag) is int:
            bits = PyLong_AsUnsignedLongLong(tag)
            if bits < self.tag_limit or bits == self.tag_limit and not PyErr_Occurred():
                return bits
            PyErr_Clear()
        return self.unusual_tag(tag)

    cdef uint64_t unusual_tag(self, object tag) except? 0xdead:
        cdef object number = tag
        if type(tag) is not int:
            try:
                # Twice: the first may give an int of a class of its own.
                number = int.__index__(operator.index(tag))
            except TypeError:
                raise TagTypeError(f"tag={shown(tag)}: a tag is an integer") from None
        if number < 0 or number > self.tag_limit:
            bits = UCXNB_ID_SHIFT if self.endpoint_scope else 64
            scope = "endpoint" if self.endpoint_scope else "worker"
            raise TagRangeError(
                f'tag={shown(tag)}: with tag_scope="{scope}" a tag is from 0 to 2**{bits} - 1'
            )
        return number

    @cython.final
    cdef inline int need_tag(self) except -1:
        if not self.tag_enabled:
            raise FeatureDisabledError(
                "tag messages are switched off; make the worker with enable_tag=True"
            )
        return 0

    @cython.final
    cdef inline ucxnb_operation_t *take_operation(self, Endpoint endpoint) except NULL:
        """What UCX may need for a call: given back with `spare_operation` if it does not."""
        cdef ucxnb_operation_t *operation = self.first_spare
        if operation != NULL:
            self.first_spare = operation.next
            self.spares -= 1
        else:
            operation = ucxnb_operation_new(&self.engine, NULL)
            if operation == NULL:
                raise MemoryError()
        operation.endpoint = NULL if endpoint is None else &endpoint.ucp
        return operation

    @cython.final
    cdef inline void spare_operation(self, ucxnb_operation_t *operation) noexcept:
        """It is as good as new."""
        if self.spares < MAX_SPARES:
            operation.next = self.first_spare
            self.first_spare = operation
            self.spares += 1
        else:
            ucxnb_operation_free(operation)

    cdef void keep_operation(self, ucxnb_operation_t *operation, Loan loan):
        """It goes on: from now on the engine looks after it, and what it works on."""
        Py_INCREF(loan)
        operation.owner = <void *>loan
        operation.previous = NULL
        operation.next = self.first_operation
        if self.first_operation != NULL:
            self.first_operation.previous = operation
        self.first_operation = operation

    cdef int release_operation(self, ucxnb_operation_t *operation) except -1:
        """Nobody waits for it any more; it is freed once it has ended."""
        ucxnb_release(operation)
        return self.reap()

    cdef void part_with(self, ucxnb_operation_t *operation) noexcept:
        """`release_operation` of one that has ended, with nothing that might raise."""
        if operation.reaped:  # so nobody else knows it
            self.forget_operation(operation)
        else:
            self.drop_owner(operation)
            ucxnb_release(operation)

    cdef void drop_owner(self, ucxnb_operation_t *operation):
        cdef void *owner = operation.owner
        ucxnb_land(operation)
        operation.owner = NULL
        if owner != NULL:
            Py_DECREF(<object>owner)

    cdef int let_go_of_receive(self, ucxnb_operation_t *operation) except -1:
        """Nobody waits for it any more; if it has a message, another receive will get that."""
        cdef bint withdrawn
        if operation.kind == UCXNB_STREAMED:
            with nogil:
                ucxnb_withdraw_reader(operation)
            return self.release_operation(operation)
        with nogil:
            withdrawn = ucxnb_withdraw(operation)
        if not withdrawn:
            operation = self.keep_message_of(operation)
        if operation != NULL and withdrawn:
            ucxnb_release(operation)
        elif operation != NULL:
            with nogil:
                ucxnb_give_back(&self.engine, &operation, 1)
        return self.reap()

    cdef ucxnb_operation_t *keep_message_of(self, ucxnb_operation_t *operation) noexcept:
        """Before it is given back: save its message, if that is there; NULL if none will be."""
        if operation.state == UCXNB_DONE and (
                operation.outcome != UCXNB_MATCHED or operation.status != UCS_OK):
            ucxnb_release(operation)
            return NULL
        operation.in_backlog = True  # so that its message is kept if it ends just now
        if operation.state == UCXNB_DONE and ucxnb_keep_message(operation):
            self.drop_owner(operation)
        return operation

    @cython.final
    cdef inline int reap(self) except -1:
        """See to what has ended: count it, let go of its memory, wake those who await it."""
        cdef object interrupt
        if self.engine.first_completed != NULL:
            interrupt = self.reap_quietly()
            if interrupt is not None:
                raise interrupt
        return 0

    cdef object reap_quietly(self):
        """`reap`, and return what a signal's handler raised meanwhile."""
        cdef ucxnb_operation_t *operation
        cdef int released = 0
        cdef object interrupt = None
        while True:
            operation = ucxnb_next_completed(&self.engine, &released)
            if operation == NULL:
                return interrupt
            if not operation.reaped:
                operation.reaped = True
                try:
                    self.settle(operation)
                except BaseException as error:  # a signal's, while those who await it were told
                    interrupt = error
            if released:
                self.forget_operation(operation)

    cdef void settle(self, ucxnb_operation_t *operation):
        cdef bint succeeded = operation.outcome == UCXNB_MATCHED and operation.status == UCS_OK
        cdef Request request = None
        if operation.request != NULL:
            # The last reference to it may be in the buffer that is let go of.
            request = <Request>operation.request
        if succeeded and not (operation.in_backlog or operation.taken):
            self.count_latency(operation)
        if operation.is_send:
            if succeeded and not operation.counted and operation.owner != NULL:
                self.count_done((<Loan>operation.owner).endpoint, operation.kind, operation.length)
                operation.counted = True
            self.drop_owner(operation)
        elif operation.kind == UCXNB_STREAMED:
            pass  # counted when somebody has looked at it: until then it may be unread
        elif operation.in_backlog or operation.taken:
            # With the GIL, so that nobody frees it meanwhile.
            if ucxnb_keep_message(operation):
                self.drop_owner(operation)
        elif request is not None and succeeded and not operation.counted:
            self.count_received(operation.sender_tag, operation.length)
            operation.counted = True
        if request is not None:
            request.notify()

    cdef void forget_operation(self, ucxnb_operation_t *operation):
        self.unlink_operation(operation)
        self.drop_owner(operation)
        ucxnb_operation_renew(operation)
        self.spare_operation(operation)

    cdef void unlink_operation(self, ucxnb_operation_t *operation) noexcept:
        if operation.previous != NULL:
            operation.previous.next = operation.next
        elif self.first_operation == operation:
            self.first_operation = operation.next
        if operation.next != NULL:
            operation.next.previous = operation.previous

    cdef bint await_operation(self, ucxnb_operation_t *operation, int64_t deadline, bint spin,
                              bint even_if_shut=False) except *:
        """Wait until it ends, the deadline comes, the worker closes or a signal raises.

        Returns whether it has ended.
        """
        cdef int c_spin = spin
        while operation.state != UCXNB_DONE:
            with nogil:
                ucxnb_wait_operation(operation, slice_end(deadline), c_spin, even_if_shut)
            if operation.state == UCXNB_DONE:
                break
            PyErr_CheckSignals()
            if ucxnb_now_ns() >= deadline or (self.engine.closing and not even_if_shut):
                break
            c_spin = 0
        return operation.state == UCXNB_DONE

    # ---- event loops ----

    @property
    def _completion_fd(self):
        """Descriptor that is readable after a request that somebody awaits has ended."""
        return self.engine.completion_fd

    def _reap(self):
        """See to what has ended."""
        self.reap()

    cdef bint spin_before_sleep(self, ucxnb_operation_t *operation):
        """Whether a request that is awaited ends within moments: sleeping costs more than that.

        The event loop stands still meanwhile. So this is done only if nothing else is awaited, not
        for large messages, and less and less often if it does not help.
        """
        if is_large(operation):
            return False
        if self.engine.listeners > 0 or self.closed:
            return False
        if self.awaits_to_skip > 0:
            self.awaits_to_skip -= 1
            return False
        self.inside += 1
        with nogil:
            ucxnb_wait_operation(operation, ucxnb_now_ns() + AWAIT_SPIN_NS, True, False)
        self.inside -= 1
        if operation.state == UCXNB_DONE:
            self.spins_missed = 0
            return True
        if self.spins_missed < MAX_SPINS_MISSED:
            self.spins_missed += 1
        self.awaits_to_skip = 1 << self.spins_missed
        return False

    cdef object make_future(self):
        """A future of the running loop, which wakes when requests end."""
        loop = asyncio.get_running_loop()
        if loop not in self.watches:
            for old in [old for old in self.watches if old.is_closed()]:
                self.watches.pop(old).close()
            self.watches[loop] = LoopWatch(self, loop)
        return loop.create_future()

    @cython.final
    cdef inline void count_sent(self, Endpoint endpoint, size_t length) noexcept:
        endpoint.messages_sent += 1
        endpoint.bytes_sent += length
        self.messages_sent += 1
        self.bytes_sent += length
        self.sizes_sent[ucxnb_size_bucket(length)] += 1

    @cython.final
    cdef inline void count_streamed(self, Endpoint endpoint, size_t length, bint sent) noexcept:
        if sent:
            endpoint.stream_bytes_sent += length
            endpoint.bytes_sent += length
            self.stream_bytes_sent += length
            self.bytes_sent += length
        else:
            endpoint.stream_bytes_received += length
            endpoint.bytes_received += length
            self.stream_bytes_received += length
            self.bytes_received += length

    @cython.final
    cdef inline void count_accessed(self, Endpoint endpoint, int kind, size_t length) noexcept:
        if kind == UCXNB_PUT:
            endpoint.puts += 1
            endpoint.put_bytes += length
            endpoint.bytes_sent += length
            self.puts += 1
            self.put_bytes += length
            self.bytes_sent += length
        else:
            endpoint.gets += 1
            endpoint.get_bytes += length
            endpoint.bytes_received += length
            self.gets += 1
            self.get_bytes += length
            self.bytes_received += length

    @cython.final
    cdef inline void count_done(self, Endpoint endpoint, int kind, size_t length) noexcept:
        """Count what was sent, or reached the peer's memory."""
        if kind == UCXNB_TAGGED:
            self.count_sent(endpoint, length)
        elif kind == UCXNB_STREAMED:
            self.count_streamed(endpoint, length, True)
        else:
            self.count_accessed(endpoint, kind, length)

    cdef void count_latency(self, ucxnb_operation_t *operation) noexcept:
        cdef int64_t started_ns = operation.started_ns
        # One that ended before it was known to go on has no time of its end.
        if started_ns != 0 and operation.ended_ns >= started_ns:
            self.latencies[ucxnb_latency_bucket(operation.ended_ns - started_ns)] += 1

    @cython.final
    cdef inline void count_received(self, uint64_t wire, size_t length):
        """Count a message, also for the endpoint it came from if that is known."""
        cdef object found
        cdef Endpoint endpoint = self.latest
        self.messages_received += 1
        self.bytes_received += length
        self.sizes_received[ucxnb_size_bucket(length)] += 1
        if not self.endpoint_scope:
            return
        if endpoint is None or endpoint.ucp.id != wire >> UCXNB_ID_SHIFT:
            found = self.endpoints_by_id.get(wire >> UCXNB_ID_SHIFT)
            if found is None:
                return
            endpoint = self.latest = <Endpoint>found
        endpoint.messages_received += 1
        endpoint.bytes_received += length

    cdef object failed_error(self, Endpoint endpoint, ucs_status_t status, str what):
        """Count a failed operation and make its exception."""
        cdef object error = self.error_of(endpoint, status, what)
        if endpoint is not None:
            endpoint.errors += 1
        self._count_error(str(error))
        return error

    def _count_error(self, text):
        """Count what failed, here or outside the engine."""
        self.errors += 1
        self.failures += 1
        self.latest_failure = text

    def _take_failures(self):
        """How many failures were counted since the last call, and what the latest was."""
        count, self.failures = self.failures, 0
        return count, self.latest_failure

    cdef object error_of(self, Endpoint endpoint, ucs_status_t status, str what):
        if endpoint is None:
            return UcxError(f"{what}: {status_text(status)}", status)
        if endpoint.ucp.state != UCXNB_OPEN:
            return ended_error(endpoint)
        if status in _peer_failures:
            return EndpointLostError(
                f"{endpoint.text()}: {what}: {status_text(status)}; connect again",
                endpoint.endpoint_id,
            )
        return UcxError(f"{endpoint.text()}: {what}: {status_text(status)}", status)

    cdef object message_of(self, uint64_t wire, size_t length, object data):
        endpoint_id = wire >> UCXNB_ID_SHIFT if self.endpoint_scope else None
        return make_message(endpoint_id, wire & self.tag_limit, length, data)

    cdef object too_small(self, uint64_t wire, size_t length, size_t capacity):
        source = f" from endpoint {wire >> UCXNB_ID_SHIFT}" if self.endpoint_scope else ""
        return BufferTooSmallError(
            f"the message with tag {wire & self.tag_limit}{source} has {length:,} bytes, the "
            f"buffer {capacity:,}; it is kept: receive it into a larger buffer, or with none",
            length,
        )

    cdef object no_message_error(self, int outcome, Endpoint endpoint):
        """The exception for a receive that ends without a message."""
        if outcome == UCXNB_PEER_ENDED:
            return ended_error(endpoint)
        if outcome == UCXNB_SHUT:
            closed = self.engine.closing or endpoint is None
            return self.closed_error() if closed else ended_error(endpoint)
        if outcome == UCXNB_NO_PEERS:
            return NoPeersError(
                "no endpoint is open and no listener could bring one; connect or listen first"
            )
        return MemoryError("there is no memory for a message; free some, and receive it again")

    cdef object operation_error(self, Request request, ucxnb_operation_t *operation):
        """The exception for a request that failed."""
        if operation.outcome == UCXNB_CANCELED:
            return request.cancelled_error()
        if operation.outcome == UCXNB_PEER_ENDED and operation.length > 0:
            return torn_error(request.endpoint, operation.length, operation.capacity)
        if operation.outcome == UCXNB_TOO_SMALL:
            return self.too_small(operation.sender_tag, operation.length, operation.capacity)
        if operation.outcome != UCXNB_MATCHED:
            return self.no_message_error(operation.outcome, request.endpoint)
        return self.failed_error(request.endpoint, operation.status, f"the {request.what()} failed")

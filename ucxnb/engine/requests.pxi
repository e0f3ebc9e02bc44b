"""Requests: what a caller holds of an operation that goes on."""


@cython.final
cdef class Request:
    """A send or receive that goes on while you do something else.

    Made by `isend_tag`, `ireceive_tag`, `isend_stream`, `ireceive_stream`, `iput` and `iget`. The
    background thread completes it; `wait` for it, look at `done`, or ``await`` it. Dropping it is
    safe at any time: a send, put or get goes on, and keeps its buffer until it has ended; a receive
    is withdrawn, and if it has got a message already, the next receive of that tag, or read of that
    stream, gets it. Cancelling the only task that awaits it (``asyncio.wait_for`` does, when its
    time is over) is like dropping it: a receive ends with `RequestCancelledError`, the others go on
    and can be awaited again.

    With `ThreadMode.MULTI` any thread may use it, several at once too.
    """

    cdef EngineCore worker
    cdef ucxnb_operation_t *operation
    cdef Endpoint endpoint
    cdef readonly bint is_send
    """Whether it is a send, a put or a get: those go on when they are dropped."""
    cdef object tag
    cdef object message, error
    cdef list futures
    cdef int users, awaiters
    cdef object __weakref__

    def __init__(self):
        raise TypeError("requests come from isend_tag() and ireceive_tag()")

    def __del__(self):
        if self.operation != NULL and self.worker.owner_pid == getpid():
            self.let_go()

    def __repr__(self):
        state = "cancelled" if self.cancelled else "done" if self.has_ended() else "under way"
        return f"<Request: {self.what()}, {self.peer()}: {state}>"

    cdef str what(self):
        if type(self.tag) is str:
            return self.tag
        return f"{'send' if self.is_send else 'receive'} of {what_of(self.tag)}"

    cdef bint has_ended(self) noexcept:
        return self.operation == NULL or self.operation.state == UCXNB_DONE

    @property
    def done(self):
        """Whether it has ended, well or not; `wait` then returns or raises at once."""
        cdef EngineCore worker = self.worker
        if not self.has_ended() and not worker.closed:
            worker.inside += 1
            with nogil:
                ucxnb_progress(&worker.engine.driver)
            worker.inside -= 1
        return self.has_ended()

    @property
    def cancelled(self):
        """Whether `cancel` withdrew it, or the task that awaited it was cancelled."""
        return isinstance(self.error, RequestCancelledError)

    def wait(self, timeout=None):
        """Wait until it has ended.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits for ever.

        Returns
        -------
        Message
            Of a receive: who sent it, tag, size, and the bytes if no buffer was given. Of a send:
            where it went, tag and size. The same again when called again.

        Raises
        ------
        OperationTimeoutError
            It goes on; wait again, or `cancel` it. The same holds for ``KeyboardInterrupt``.
        BufferTooSmallError
            The message is kept: receive it with a larger buffer, or with none.
        EndpointLostError, PeerClosedError, EndpointClosedError, NoPeersError
            The peer is gone, or nobody is left who could send.
        RequestCancelledError, WorkerClosedError
            It was cancelled, or its worker closed.
        ThreadModeError, ArgumentError
            It goes on.

        Notes
        -----
        A waiting thread makes progress itself (``ucp_worker_progress``).
        """
        cdef int64_t deadline
        if not self.has_ended():
            deadline = deadline_of(timeout)
            self.worker.enter()
            self.users += 1
            try:
                if not self.worker.await_operation(self.operation, deadline, True):
                    if not self.worker.engine.closing:
                        raise OperationTimeoutError(
                            f"{self!r}: not in {timeout} s; wait again, or cancel() it"
                        )
            finally:
                self.stop_using()
                self.worker.leave()
        return self.result()

    cdef object result(self):
        """What it came to; its operation has ended."""
        if self.operation != NULL:
            if not self.has_ended():
                raise self.worker.closed_error()
            self.worker.reap()
            self.conclude()
        if self.error is not None:
            raise without_traceback(self.error)
        return self.message

    cdef int conclude(self) except -1:
        """Make message or error of the operation, and part with it.

        Other threads may do the same, or wait for it, wherever Python code runs.
        """
        cdef ucxnb_operation_t *operation = self.operation
        cdef object data = None, message = None, error = None
        cdef bint streamed
        if operation == NULL:
            return 0
        self.users += 1
        try:
            if operation.outcome == UCXNB_MATCHED and operation.status == UCS_OK:
                streamed = operation.kind == UCXNB_STREAMED
                if not (self.is_send or streamed or operation.into_buffer):
                    data = PyBytes_FromStringAndSize(operation.memory, operation.length)
                if streamed and not self.is_send and not operation.counted:
                    self.worker.count_streamed(self.endpoint, operation.length, False)
                    operation.counted = True
                if self.is_send or streamed:
                    message = make_message(self.endpoint.endpoint_id,
                                           number_of(self.tag), operation.length,
                                           None)
                else:
                    message = self.worker.message_of(operation.sender_tag, operation.length, data)
            elif self.error is None:
                error = self.worker.operation_error(self, operation)
            if not self.is_concluded():
                self.message, self.error = message, error
        finally:
            self.stop_using()
        return 0

    cdef bint is_concluded(self) noexcept:
        return self.message is not None or self.error is not None

    cdef void stop_using(self) noexcept:
        """A thread is done with its operation; the last one parts with it once it is concluded."""
        cdef ucxnb_operation_t *operation = self.operation
        self.users -= 1
        if self.users == 0 and operation != NULL and self.is_concluded():
            self.operation = NULL
            operation.request = NULL
            self.worker.part_with(operation)

    cdef void end(self, object error):
        """Its operation goes on without it."""
        if not self.is_concluded():
            self.error = error
        self.operation.request = NULL
        self.operation = NULL
        self.notify()

    cdef int let_go(self) except -1:
        cdef ucxnb_operation_t *operation = self.operation
        self.operation = NULL
        operation.request = NULL
        if self.is_send or self.message is not None:
            self.worker.release_operation(operation)
        else:
            self.worker.let_go_of_receive(operation)
        return 0

    def cancel(self):
        """Withdraw a receive that has no message yet.

        Returns
        -------
        bool
            Whether it was withdrawn: `wait` raises `RequestCancelledError` from now on. False if
            it has ended, or its message is on the way: wait for it, or drop the request, and the
            next receive of that tag gets the message. Always False for a send: UCX cannot take one
            back.
        """
        cdef bint withdrawn
        cdef ucxnb_operation_t *operation = self.operation
        if operation == NULL or self.is_send or self.worker.owner_pid != getpid():
            return False
        self.users += 1
        try:
            with nogil:
                if operation.kind == UCXNB_STREAMED:
                    withdrawn = operation.state == UCXNB_POSTED and ucxnb_withdraw_reader(operation)
                else:
                    withdrawn = ucxnb_withdraw(operation)
            if withdrawn:
                self.worker.reap()
                self.conclude()
        finally:
            self.stop_using()
        return withdrawn

    cdef int notify(self) except -1:
        cdef object interrupt = None
        if self.futures is None:
            return 0
        futures, self.futures = self.futures, None
        for future in futures:
            for _ in range(TRIES):
                try:
                    resolve(future)
                    break
                except BaseException as error:  # a signal's: all must be told all the same
                    interrupt = error
        if interrupt is not None:
            raise interrupt
        return 0

    def __await__(self):
        cdef EngineCore worker = self.worker
        if self.has_ended() or worker.closed:
            worker.awaits_at_once += 1
        elif self.spin():
            worker.awaits_at_once += 1
        else:
            worker.awaits_at_once = 0
            yield from self._sleep()
        if worker.awaits_at_once >= AWAITS_IN_A_ROW:
            worker.awaits_at_once = 0
            self.awaiters += 1
            try:
                yield  # others have their turn, however much there is to receive
            except BaseException:
                self.give_up(None)
                raise
            finally:
                self.awaiters -= 1
        return self.result()

    cdef bint spin(self) except *:
        """Wait for a moment; whether it has ended."""
        self.users += 1
        try:
            return self.worker.spin_before_sleep(self.operation)
        finally:
            self.stop_using()

    def _sleep(self):
        """Let the event loop go on until it has ended."""
        future = self.worker.make_future()
        if self.futures is None:
            self.futures = []
        self.futures.append(future)
        self.awaiters += 1
        self.worker.engine.listeners += 1
        try:
            # From here on its end is told; it may have come before.
            if not self.has_ended():
                if is_large(self.operation):
                    ucxnb_hand_over(&self.worker.engine.driver)
                yield from future
        except BaseException:
            self.give_up(future)
            raise
        finally:
            self.awaiters -= 1
            self.worker.engine.listeners -= 1

    cdef int give_up(self, object future) except -1:
        """A task that awaited it was cancelled: what came, or comes, is nobody's.

        A send goes on; its buffer is in use until it has ended.
        """
        if self.futures is not None and future in self.futures:
            self.futures.remove(future)
        if self.operation != NULL and not self.is_send and self.users == 0 and self.awaiters == 1:
            self.error = self.cancelled_error()
            self.let_go()
        return 0

    cdef object cancelled_error(self):
        return RequestCancelledError(
            f"the {self.what()} from {self.peer()} was cancelled; nothing is lost"
        )

    cdef str peer(self):
        return "anyone" if self.endpoint is None else self.endpoint.text()


cdef object number_of(object tag):
    """The tag, 0 where there is none."""
    return 0 if tag is None or type(tag) is str else tag


cdef object without_traceback(object error):
    """The same error again: a traceback would tie the request to the frames of whoever got it."""
    cdef object kind = type(error)
    cdef object same = kind.__new__(kind, *error.args)
    same.args = error.args
    same.__dict__.update(error.__dict__)
    return same


cdef Request make_request(EngineCore worker, Endpoint endpoint, object tag, bint is_send):
    cdef Request request = Request.__new__(Request)
    request.worker = worker
    request.endpoint = endpoint
    request.tag = tag
    request.is_send = is_send
    return request


def wait_for_any(list requests, double seconds):
    """Wait for a while, or until one of several requests of one worker has ended."""
    if not split_ended(requests)[0]:
        wait_for(requests, seconds, False)


def wait_for_all(list requests, double seconds):
    """Wait for a while, or until all of several requests of one worker have ended.

    Returns
    -------
    bool
        Whether they have.
    """
    cdef list pending = split_ended(requests)[1]
    return not pending or wait_for(pending, seconds, True)


cdef bint wait_for(list requests, double seconds, bint for_all) except *:
    """Wait for requests that have not ended; whether they have, if for all of them."""
    cdef Request request = requests[0]
    cdef EngineCore worker = request.worker
    cdef size_t count = 0
    cdef int64_t deadline = ucxnb_now_ns() + <int64_t>(seconds * 1e9)
    cdef bint ended = False
    cdef ucxnb_operation_t **operations
    worker.enter()
    operations = <ucxnb_operation_t **>malloc(len(requests) * sizeof(void *))
    try:
        if operations == NULL:
            raise MemoryError()
        for request in requests:
            request.users += 1
            operations[count] = request.operation
            count += 1
        try:
            with nogil:
                if for_all:
                    ended = ucxnb_wait_all(operations, count, deadline, 1)
                else:
                    ucxnb_wait_any(operations, count, deadline, 1)
        finally:
            for request in requests:
                request.stop_using()
        PyErr_CheckSignals()
    finally:
        free(operations)
        worker.leave()
    return ended


def results_of(list requests):
    """Give what `Request.wait` returns for each of many requests that have ended."""
    cdef Request request
    cdef list results = []
    for request in requests:
        results.append(request.result())
    return results


def split_ended(list requests):
    """Sort requests into those that have ended and those that have not: two lists."""
    cdef Request request
    cdef list ended = [], pending = []
    for request in requests:
        (ended if request.has_ended() else pending).append(request)
    return ended, pending


def group_by_worker(list requests):
    """Sort requests into lists, one for each worker."""
    cdef Request request
    cdef EngineCore latest = None
    cdef dict groups = {}
    cdef list group = []
    for request in requests:
        if request.worker is not latest:
            latest = request.worker
            group = groups.setdefault(id(latest), [])
        group.append(request)
    return list(groups.values())

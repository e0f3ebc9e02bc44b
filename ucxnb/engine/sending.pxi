"""Sending: to one connection, and to all."""


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

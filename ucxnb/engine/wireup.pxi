"""UCX's own client-server wire-up, to talk to programs that know nothing of ucxnb."""


@cython.final
cdef class UcpListener:
    """A listener that UCX opens; everything but the constructor is for the front door's thread."""

    # It does not hold its worker, which nobody could collect otherwise.
    cdef ucxnb_listener_t listener

    def __init__(self, WireupEngine worker, bytes address):
        cdef const char *socket_address = PyBytes_AS_STRING(address)
        cdef size_t length = len(address)
        cdef ucs_status_t status
        with nogil:
            status = ucxnb_listen(&worker.engine, socket_address, length, &self.listener)
        if status != UCS_OK:
            raise UcxError(f"UCX cannot listen there: {status_text(status)}", status)

    @property
    def address(self):
        """The bytes of the ``struct sockaddr`` as really bound."""
        return PyBytes_FromStringAndSize(<char *>&self.listener.address, sizeof(sockaddr_storage))

    def accept(self, WireupEngine worker, next_id):
        """Let in the next one who knocks.

        Parameters
        ----------
        worker : TagEngine
            The one that it was made with.
        next_id : callable
            Gives the new endpoint's id.

        Returns
        -------
        tuple of Endpoint and bytes, or None
            The endpoint, or the error that UCX made of it, and the peer's ``struct sockaddr``.
            None if nobody knocks.
        """
        cdef sockaddr_storage address
        cdef ucxnb_target_t target
        cdef object came_from
        with nogil:
            memset(&target, 0, sizeof(target))
            target.knocking = ucxnb_next_knocking(&self.listener, &address)
        if target.knocking == NULL:
            return None
        came_from = PyBytes_FromStringAndSize(<char *>&address, sizeof(address))
        try:
            return worker.open_endpoint(next_id(), &target, 0, UINT64_MAX, UINT64_MAX), came_from
        except UcxError as error:  # UCX has let go of it
            return error, came_from

    def close(self):
        """Turn away who knocks, and free the port. Twice is fine."""
        with nogil:
            ucxnb_stop_listening(&self.listener)


cdef class WireupEngine(RmaEngine):
    """Connects and listens as UCX itself does."""

    def _dial_ucx(self, endpoint_id, bytes address):
        """Begin to reach a UCX listener (``ucp_ep_create``); `_wireup_status` tells how it went."""
        cdef ucxnb_target_t target
        memset(&target, 0, sizeof(target))
        target.socket_address = PyBytes_AS_STRING(address)
        target.socket_length = len(address)
        return self.open_endpoint(endpoint_id, &target, 0, UINT64_MAX, UINT64_MAX)

    def _wireup_status(self, Endpoint endpoint, timeout):
        """Wait until a new endpoint is connected: 0, what UCX says, or None if it took too long."""
        cdef ucs_status_t status = self.flush_until(endpoint, deadline_of(timeout), False)
        if status == UCS_INPROGRESS:
            if self.engine.closing:
                raise self.closed_error()
            return None
        if status == UCS_OK and endpoint.ucp.failure:
            status = <ucs_status_t>endpoint.ucp.failure
        return status, status_text(status)

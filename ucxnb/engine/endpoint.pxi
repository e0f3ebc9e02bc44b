"""A connection."""


@cython.final
cdef class Endpoint:
    """One connection: the UCP endpoint, its counters, and what is known about the peer."""

    cdef ucxnb_endpoint_t ucp
    cdef readonly object endpoint_id
    cdef uint64_t send_prefix
    cdef unsigned long long messages_sent, messages_received, bytes_sent, bytes_received, errors
    cdef unsigned long long stream_bytes_sent, stream_bytes_received
    cdef unsigned long long puts, gets, atomics, put_bytes, get_bytes
    cdef int64_t started_ns, ended_ns
    cdef public object peer_address, peer_name, direction, state, since, reason
    cdef public object received_there  # messages and bytes, as the peer says
    cdef public bint closed_by_me
    cdef tuple names_of_features
    cdef bint has_stream, has_rma  # as far as is known
    cdef dict remotes  # memory of the peer's, by key

    def __cinit__(self):
        self.features = None
        self.remotes = {}

    def __dealloc__(self):
        ucxnb_free_stream(&self.ucp)

    @property
    def features(self):
        """Names of what the peer has switched on; None as long as that is not known."""
        return self.names_of_features

    @features.setter
    def features(self, names):
        self.names_of_features = names
        self.has_stream = names is None or "stream" in names
        self.has_rma = names is None or "rma" in names

    @property
    def failure(self):
        """What UCX reported about it, or an empty text."""
        if self.ucp.failure == 0:
            return ""
        return ucxnb_ucp.ucs_status_string(self.ucp.failure).decode()

    @property
    def transports(self):
        """What UCX chose: a tuple of ``transport/device``; empty once it has ended."""
        cdef ucp_transport_entry_t entries[MAX_TRANSPORTS]
        cdef unsigned count, i
        with nogil:
            count = ucxnb_endpoint_transports(&self.ucp, entries, MAX_TRANSPORTS)
        names = (
            f"{entries[i].transport_name.decode()}/{entries[i].device_name.decode()}"
            for i in range(count)
        )
        return tuple(dict.fromkeys(names))

    def printed(self):
        """What UCX prints of it and then of its worker."""
        cdef char *text
        with nogil:
            text = ucxnb_print_endpoint(&self.ucp)
        if text == NULL:
            raise ended_error(self)
        try:
            return text.decode(errors="replace")
        finally:
            free(text)

    cdef str text(self):
        name = f" ({self.peer_name})" if self.peer_name else ""
        return f"endpoint {self.endpoint_id}, {self.peer_address}{name}"


cdef object ended_error(Endpoint endpoint):
    """The exception for using an endpoint that has ended."""
    if endpoint.closed_by_me:
        return EndpointClosedError(
            f"{endpoint.text()}: {CLOSED_BY_YOU}; connect again", endpoint.endpoint_id
        )
    kind = PeerClosedError if endpoint.state is EndpointState.CLOSED else EndpointLostError
    reason = endpoint.reason or endpoint.failure or "the connection failed"
    return kind(f"{endpoint.text()}: {reason}; connect again", endpoint.endpoint_id)

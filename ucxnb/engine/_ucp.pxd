from libc.stdint cimport int64_t, uint64_t

cdef extern from "ucp_library.h" nogil:
    ctypedef void *ucp_worker_h
    ctypedef void *ucp_tag_message_h
    ctypedef int ucs_status_t
    ctypedef struct ucp_transport_entry_t:
        const char *transport_name
        const char *device_name
    ctypedef struct ucxnb_ucp_t:
        const char *ucp_get_version_string()
        const char *ucs_status_string(ucs_status_t status)
    enum:
        UCS_OK
        UCS_INPROGRESS
        UCS_ERR_CANCELED
        UCS_ERR_CONNECTION_RESET
        UCS_ERR_ENDPOINT_TIMEOUT
        UCS_ERR_IO_ERROR
        UCS_ERR_NOT_CONNECTED
        UCS_ERR_REJECTED
        UCS_ERR_TIMED_OUT
        UCS_ERR_UNREACHABLE
    ucs_status_t UCS_PTR_STATUS(void *pointer)
    bint UCS_PTR_IS_PTR(void *pointer)
    ucxnb_ucp_t ucxnb_ucp
    const char *ucxnb_load_ucp()

cdef extern from "progress.h" nogil:
    ctypedef struct ucxnb_driver_t:
        pass
    ctypedef int (*ucxnb_ready_t)(void *) noexcept
    unsigned ucxnb_progress(ucxnb_driver_t *driver)
    int ucxnb_wait(ucxnb_driver_t *driver, ucxnb_ready_t ready, void *arg, int64_t deadline_ns,
                   int spin)
    int64_t ucxnb_now_ns()

cdef extern from "endpoint.h" nogil:
    enum:
        UCXNB_ID_SHIFT
        UCXNB_OPEN
        UCXNB_CLOSING
        UCXNB_ENDED
        UCXNB_NO_MATCH
        UCXNB_MATCHED
        UCXNB_TOO_SMALL
        UCXNB_NO_MEMORY
        UCXNB_PEER_ENDED
        UCXNB_SHUT
    ctypedef struct ucxnb_engine_t:
        ucxnb_driver_t driver
        int failure_fd
        int closing
    ctypedef struct ucxnb_endpoint_t:
        int state
        int failure
        uint64_t id
    ctypedef struct ucxnb_match_t:
        ucxnb_engine_t *engine
        ucxnb_endpoint_t *endpoint
        uint64_t tag
        uint64_t mask
        size_t capacity
        ucp_tag_message_h handle
        uint64_t sender_tag
        size_t length
    int ucxnb_engine_start(ucxnb_engine_t *engine, ucp_worker_h worker, long interval_us,
                           int endpoint_scope)
    void ucxnb_engine_shut(ucxnb_engine_t *engine)
    void ucxnb_engine_stop(ucxnb_engine_t *engine)
    void ucxnb_engine_abandon(ucxnb_engine_t *engine)
    ucs_status_t ucxnb_endpoint_open(ucxnb_engine_t *engine, ucxnb_endpoint_t *endpoint,
                                     uint64_t id, const void *address)
    void ucxnb_endpoint_set_state(ucxnb_endpoint_t *endpoint, int state)
    void ucxnb_endpoint_close(ucxnb_endpoint_t *endpoint)
    void ucxnb_endpoint_forget(ucxnb_endpoint_t *endpoint)
    void *ucxnb_post_send(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                          uint64_t tag)
    void *ucxnb_post_flush(ucxnb_endpoint_t *endpoint)
    void *ucxnb_post_receive(ucxnb_engine_t *engine, void *buffer, size_t length,
                             ucp_tag_message_h handle)
    int ucxnb_match(void *match) noexcept
    ucs_status_t ucxnb_wait_request(ucxnb_engine_t *engine, void *request, int64_t deadline_ns,
                                    int spin, int even_if_shut)
    ucs_status_t ucxnb_test_request(void *request)
    void ucxnb_run(ucxnb_engine_t *engine, int64_t deadline_ns, uint64_t *operations)
    uint64_t ucxnb_harvest(ucxnb_endpoint_t *endpoint)
    unsigned ucxnb_endpoint_transports(ucxnb_endpoint_t *endpoint, ucp_transport_entry_t *entries,
                                       unsigned limit)

cdef extern from "thread_state.h" nogil:
    int ucxnb_toolkit_thread
    int ucxnb_calls_inside

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint64_t, uintptr_t

cdef extern from "ucp_library.h" nogil:
    ctypedef void *ucp_worker_h
    ctypedef void *ucp_tag_message_h
    ctypedef void *ucp_context_h
    ctypedef void *ucp_rkey_h
    ctypedef void *ucp_conn_request_h
    ctypedef struct ucp_dt_iov_t:
        void *buffer
        size_t length
    ctypedef int ucs_status_t
    ctypedef struct ucp_transport_entry_t:
        const char *transport_name
        const char *device_name
    ctypedef struct ucp_context_attr_t:
        uint64_t field_mask
        uint64_t memory_types
    ctypedef struct ucxnb_ucp_t:
        const char *ucp_get_version_string()
        const char *ucs_status_string(ucs_status_t status)
        ucs_status_t ucp_context_query(ucp_context_h context, ucp_context_attr_t *attributes)
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
        UCS_MEMORY_TYPE_HOST
        UCS_MEMORY_TYPE_CUDA
        UCS_MEMORY_TYPE_CUDA_MANAGED
        UCS_MEMORY_TYPE_UNKNOWN
        UCP_ATTR_FIELD_MEMORY_TYPES
    ucs_status_t UCS_PTR_STATUS(void *pointer)
    bint UCS_PTR_IS_PTR(void *pointer)
    ucxnb_ucp_t ucxnb_ucp
    const char *ucxnb_load_ucp()

cdef extern from "progress.h" nogil:
    ctypedef struct ucxnb_driver_t:
        pass
    ctypedef int (*ucxnb_ready_t)(void *) noexcept
    unsigned ucxnb_progress(ucxnb_driver_t *driver)
    bint ucxnb_nobody_drives(ucxnb_driver_t *driver)
    int ucxnb_look_soon(ucxnb_driver_t *driver, ucxnb_ready_t ready, void *arg, int64_t patience_ns)
    int ucxnb_wait(ucxnb_driver_t *driver, ucxnb_ready_t ready, void *arg, int64_t deadline_ns,
                   int spin)
    void ucxnb_wake_background(ucxnb_driver_t *driver)
    void ucxnb_hand_over(ucxnb_driver_t *driver)
    void ucxnb_tell_ended(ucxnb_driver_t *driver)
    void ucxnb_ask_in(ucxnb_driver_t *driver)
    void ucxnb_ask_no_more(ucxnb_driver_t *driver)
    int64_t ucxnb_now_ns()
    ctypedef struct ucxnb_health_t:
        int64_t busy_ns
        uint64_t wake_ups
        int64_t longest_gap_ns
    ucxnb_health_t ucxnb_read_health(ucxnb_driver_t *driver)

cdef extern from "engine.h" nogil:
    enum:
        UCXNB_ID_SHIFT
    ctypedef struct ucxnb_load_t:
        uint64_t messages
        uint64_t bytes
        uint64_t cost
    ctypedef struct ucxnb_in_flight_t:
        int64_t sends
        int64_t bytes
    ctypedef struct ucxnb_engine_t:
        ucxnb_driver_t driver
        int held
        ucxnb_in_flight_t in_flight
        int news_fd
        int completion_fd
        int closing
        int orphans_under_way
        void *first_completed
        int undelivered
        int listeners
    int ucxnb_engine_start(ucxnb_engine_t *engine, ucp_worker_h worker, long interval_us,
                           int endpoint_scope, int with_streams)
    void ucxnb_engine_shut(ucxnb_engine_t *engine)
    void ucxnb_engine_stop(ucxnb_engine_t *engine)
    void ucxnb_engine_abandon(ucxnb_engine_t *engine)
    void ucxnb_run(ucxnb_engine_t *engine, int64_t deadline_ns, uint64_t *operations)

cdef extern from "operation.h" nogil:
    enum:
        UCXNB_AGAIN
        UCXNB_NO_MATCH
        UCXNB_MATCHED
        UCXNB_TOO_SMALL
        UCXNB_NO_MEMORY
        UCXNB_PEER_ENDED
        UCXNB_SHUT
        UCXNB_NO_PEERS
        UCXNB_CANCELED
        UCXNB_POSTED
        UCXNB_UNDER_WAY
        UCXNB_DONE
        UCXNB_TAGGED
        UCXNB_STREAMED
        UCXNB_FLUSH
        UCXNB_PUT
        UCXNB_GET
    ctypedef struct ucxnb_entry_t:
        uint64_t tag
    ctypedef struct ucxnb_message_t:
        ucxnb_entry_t entry
    ctypedef struct ucxnb_operation_t:
        ucxnb_message_t message
        ucxnb_engine_t *engine
        ucxnb_endpoint_t *endpoint
        int kind
        size_t parts
        int wait_all
        uint64_t mask
        char *memory
        size_t capacity
        int into_buffer
        int owns_memory
        int memory_type
        int state
        int outcome
        ucs_status_t status
        uint64_t sender_tag
        uint64_t age
        size_t length
        int in_backlog
        int taken
        void *owner
        void *request
        ucxnb_operation_t *previous
        ucxnb_operation_t *next
        int is_send
        int counted
        int reaped
        int64_t started_ns
        int64_t ended_ns
    bint ucxnb_on_gpu(const ucxnb_operation_t *operation)
    ucxnb_operation_t *ucxnb_operation_new(ucxnb_engine_t *engine, ucxnb_endpoint_t *endpoint)
    void ucxnb_operation_renew(ucxnb_operation_t *operation)
    void ucxnb_operation_free(ucxnb_operation_t *operation)
    ucxnb_operation_t *ucxnb_next_completed(ucxnb_engine_t *engine, int *released)
    void ucxnb_take_off(ucxnb_operation_t *operation, size_t nbytes)
    void ucxnb_land(ucxnb_operation_t *operation)
    void ucxnb_release(ucxnb_operation_t *operation)
    int ucxnb_wait_operation(ucxnb_operation_t *operation, int64_t deadline_ns, int spin,
                             int even_if_shut)
    int ucxnb_wait_any(ucxnb_operation_t **operations, size_t count, int64_t deadline_ns, int spin)
    bint ucxnb_wait_all(ucxnb_operation_t **operations, size_t count, int64_t deadline_ns,
                        int spin)

cdef extern from "endpoint.h" nogil:
    enum:
        UCXNB_WOULD_HOLD
        UCXNB_OPEN
        UCXNB_CLOSING
        UCXNB_ENDED
    ctypedef struct ucxnb_endpoint_t "struct ucxnb_endpoint":
        int state
        int failure
        uint64_t id
        int held
        ucxnb_in_flight_t in_flight
        int is_due
    ctypedef struct ucxnb_target_t:
        const void *worker_address
        const void *socket_address
        size_t socket_length
        ucp_conn_request_h knocking
    ucs_status_t ucxnb_endpoint_open(ucxnb_engine_t *engine, ucxnb_endpoint_t *endpoint,
                                     uint64_t id, const ucxnb_target_t *target,
                                     uint64_t window_there, uint64_t window_here)
    void ucxnb_tell_news(ucxnb_engine_t *engine)
    void ucxnb_endpoint_set_state(ucxnb_endpoint_t *endpoint, int state)
    void ucxnb_endpoint_close(ucxnb_endpoint_t *endpoint)
    ucs_status_t ucxnb_post_send(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                                 uint64_t tag, ucxnb_operation_t *operation)
    ucs_status_t ucxnb_post_send_with_gil(ucxnb_endpoint_t *endpoint, const void *buffer,
                                          size_t length, uint64_t tag,
                                          ucxnb_operation_t *operation, int *due)
    int ucxnb_count_post(ucxnb_engine_t *engine)
    char *ucxnb_print_endpoint(ucxnb_endpoint_t *endpoint)
    unsigned ucxnb_endpoint_transports(ucxnb_endpoint_t *endpoint, ucp_transport_entry_t *entries,
                                       unsigned limit)

cdef extern from "allowance.h" nogil:
    ucs_status_t ucxnb_post_stream(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                                   ucxnb_operation_t *operation, int may_wait)
    ucs_status_t ucxnb_post_flush(ucxnb_endpoint_t *endpoint, ucxnb_operation_t *operation,
                                  int at_once)
    int ucxnb_take_back(ucxnb_operation_t *operation)
    uint64_t ucxnb_allow(ucxnb_endpoint_t *endpoint, uint64_t limit, uint64_t window)

cdef extern from "matching.h" nogil:
    ctypedef struct ucxnb_match_t:
        ucxnb_engine_t *engine
        ucxnb_endpoint_t *endpoint
        uint64_t tag
        uint64_t mask
        size_t capacity
        ucp_tag_message_h handle
        ucxnb_operation_t *operation
        uint64_t sender_tag
        uint64_t age
        size_t length
    int ucxnb_match(void *match) noexcept
    int ucxnb_match_now(ucxnb_match_t *match)
    ucs_status_t ucxnb_fetch(const ucxnb_match_t *match, void *memory,
                             ucxnb_operation_t *operation)
    void ucxnb_post_receive(ucxnb_operation_t *operation)
    int ucxnb_withdraw(ucxnb_operation_t *operation)
    void ucxnb_give_back(ucxnb_engine_t *engine, ucxnb_operation_t **operations, size_t count)
    bint ucxnb_arrives_next(ucxnb_operation_t *operation, uint64_t tag, uint64_t mask)
    int ucxnb_keep_message(ucxnb_operation_t *operation)
    int ucxnb_kept_in(const ucxnb_operation_t *operation, const char *memory, size_t size)
    void ucxnb_end_posted_from_anyone(ucxnb_engine_t *engine)
    void ucxnb_endpoint_forget(ucxnb_endpoint_t *endpoint)
    uint64_t ucxnb_harvest(ucxnb_endpoint_t *endpoint)
    ucxnb_load_t ucxnb_unreceived(ucxnb_engine_t *engine, const ucxnb_endpoint_t *endpoint)
    uint64_t ucxnb_renew_window(ucxnb_endpoint_t *endpoint, uint64_t window)

cdef extern from "stream.h" nogil:
    ctypedef struct ucxnb_reader_t:
        ucxnb_endpoint_t *endpoint
        char *memory
        size_t capacity
        int on_gpu
        int wait_all
        size_t done
    int ucxnb_read(void *reader) noexcept
    void ucxnb_begin_reading(ucxnb_reader_t *reader)
    void ucxnb_end_reading(ucxnb_reader_t *reader)
    bint ucxnb_unread(const ucxnb_reader_t *reader)
    void ucxnb_post_reader(ucxnb_operation_t *operation)
    bint ucxnb_withdraw_reader(ucxnb_operation_t *operation)
    uint64_t ucxnb_harvest_stream(ucxnb_endpoint_t *endpoint)
    uint64_t ucxnb_unread_bytes(ucxnb_engine_t *engine, const ucxnb_endpoint_t *endpoint)
    void ucxnb_drop_stream(ucxnb_endpoint_t *endpoint)
    void ucxnb_free_stream(ucxnb_endpoint_t *endpoint)

cdef extern from "rma.h" nogil:
    enum:
        UCXNB_KEY_PADDING
    ctypedef struct ucxnb_memory_t:
        void *address
    ctypedef struct ucxnb_access_t:
        ucxnb_endpoint_t *endpoint
        ucp_rkey_h key
        uint64_t address
        void *buffer
        size_t length
    ucs_status_t ucxnb_map(ucp_context_h context, void *address, size_t length, int memory_type,
                           int writable, ucxnb_memory_t *memory)
    void ucxnb_unmap(ucxnb_memory_t *memory)
    ucs_status_t ucxnb_pack_key(const ucxnb_memory_t *memory, void **key, size_t *length)
    void ucxnb_free_key(void *key)
    ucs_status_t ucxnb_open_key(ucxnb_endpoint_t *endpoint, const void *packed, uint64_t address,
                                ucp_rkey_h *key, void **direct)
    void ucxnb_close_key(ucp_rkey_h key)
    ucs_status_t ucxnb_post_access(const ucxnb_access_t *access, ucxnb_operation_t *operation,
                                   int with_gil)
    ucs_status_t ucxnb_access_mapped(const ucxnb_access_t *access, void *there, int kind,
                                     int on_gpu)
    uint64_t ucxnb_add(void *number, int nbytes, uint64_t value)
    uint64_t ucxnb_compare_swap(void *number, int nbytes, uint64_t expected, uint64_t value)
    ucs_status_t ucxnb_fence(ucxnb_engine_t *engine)

cdef extern from "gpu.h" nogil:
    ctypedef struct ucxnb_gpu_memory_t:
        void *context
        int type
    const char *ucxnb_find_gpu_memory(const void *address, ucxnb_gpu_memory_t *memory)
    const char *ucxnb_await_gpu_stream(void *context, uintptr_t stream)
    const char *ucxnb_waiting_gpu_stream(int device, void **context, uintptr_t *stream)
    ucs_status_t ucxnb_copy(void *target, const void *source, size_t length, int on_gpu)

cdef extern from "wireup.h" nogil:
    ctypedef struct sockaddr_storage "struct sockaddr_storage":
        pass
    ctypedef struct ucxnb_listener_t:
        void *handle
        sockaddr_storage address
    ucs_status_t ucxnb_listen(ucxnb_engine_t *engine, const void *address, size_t length,
                              ucxnb_listener_t *listener)
    ucp_conn_request_h ucxnb_next_knocking(ucxnb_listener_t *listener, sockaddr_storage *address)
    void ucxnb_turn_away(ucxnb_listener_t *listener, ucp_conn_request_h knocking)
    void ucxnb_stop_listening(ucxnb_listener_t *listener)

cdef extern from "batches.h" nogil:
    ctypedef struct ucxnb_send_batch_t:
        ucxnb_endpoint_t *endpoint
        const uint64_t *tags
        int one_tag
        uint64_t prefix
        size_t count
        const char *rows
        size_t row_size
        ptrdiff_t row_stride
        const void **memories
        const size_t *lengths
        int memory_type
        ucxnb_operation_t *operation
        size_t done
        int held
    ctypedef struct ucxnb_receive_batch_t:
        ucxnb_match_t match
        const uint64_t *tags
        int one_tag
        uint64_t prefix
        size_t count
        char *rows
        size_t row_size
        ptrdiff_t row_stride
        int memory_type
        ucxnb_operation_t *spare
        size_t done
        uint64_t *ages
        ucxnb_operation_t **under_way
        int any_under_way
        size_t *missing
        size_t all_missing
        char **memories
        size_t *lengths
        char *was_counted
        size_t counted
        size_t counted_bytes
        ucs_status_t status
    int ucxnb_send_batch(void *batch) noexcept
    void ucxnb_end_send_batch(ucxnb_send_batch_t *batch)
    int ucxnb_receive_batch(void *batch) noexcept

cdef extern from "thread_state.h" nogil:
    ctypedef struct ucxnb_thread_t:
        int of_toolkit
        int calls_inside
    ucxnb_thread_t *ucxnb_thread()

cdef extern from "magnitude.h" nogil:
    enum:
        UCXNB_SIZES
        UCXNB_LATENCIES
    int ucxnb_size_bucket(uint64_t nbytes)
    int ucxnb_latency_bucket(uint64_t ns)

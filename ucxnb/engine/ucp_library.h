/* The UCP functions that the engine calls, looked up in the library that UCXX has loaded. */
#ifndef UCXNB_UCP_LIBRARY_H
#define UCXNB_UCP_LIBRARY_H

#include <ucp/api/ucp.h>

#define UCXNB_UCP_FUNCTIONS(X)                                                                    \
    X(ucp_conn_request_query)                                                                     \
    X(ucp_context_query)                                                                          \
    X(ucp_ep_close_nbx)                                                                           \
    X(ucp_ep_create)                                                                              \
    X(ucp_ep_flush_nbx)                                                                           \
    X(ucp_ep_print_info)                                                                          \
    X(ucp_ep_query)                                                                               \
    X(ucp_ep_rkey_unpack)                                                                         \
    X(ucp_get_nbx)                                                                                \
    X(ucp_get_version)                                                                            \
    X(ucp_get_version_string)                                                                     \
    X(ucp_listener_create)                                                                        \
    X(ucp_listener_destroy)                                                                       \
    X(ucp_listener_query)                                                                         \
    X(ucp_listener_reject)                                                                        \
    X(ucp_mem_map)                                                                                \
    X(ucp_mem_query)                                                                              \
    X(ucp_mem_unmap)                                                                              \
    X(ucp_put_nbx)                                                                                \
    X(ucp_request_check_status)                                                                   \
    X(ucp_request_free)                                                                           \
    X(ucp_rkey_buffer_release)                                                                    \
    X(ucp_rkey_destroy)                                                                           \
    X(ucp_rkey_pack)                                                                              \
    X(ucp_rkey_ptr)                                                                               \
    X(ucp_stream_data_release)                                                                    \
    X(ucp_stream_recv_data_nb)                                                                    \
    X(ucp_stream_send_nbx)                                                                        \
    X(ucp_stream_worker_poll)                                                                     \
    X(ucp_tag_msg_recv_nbx)                                                                       \
    X(ucp_tag_probe_nb)                                                                           \
    X(ucp_tag_send_nbx)                                                                           \
    X(ucp_worker_arm)                                                                             \
    X(ucp_worker_fence)                                                                           \
    X(ucp_worker_get_efd)                                                                         \
    X(ucp_worker_print_info)                                                                      \
    X(ucp_worker_progress)

#define UCXNB_DECLARE(name) __typeof__(name) *name;
typedef struct {
    UCXNB_UCP_FUNCTIONS(UCXNB_DECLARE)
    __typeof__(ucs_status_string) *ucs_status_string;
} ucxnb_ucp_t;
#undef UCXNB_DECLARE

/* Filled by ucxnb_load_ucp(), which must have succeeded before anything else is called. */
extern ucxnb_ucp_t ucxnb_ucp;

/* NULL, or what went wrong. Never loads a library: the one in use is the one UCXX brought. */
const char *ucxnb_load_ucp(void);

#endif

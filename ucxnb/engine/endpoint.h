/* UCP endpoints, and the messages that are sent through them. */
#ifndef UCXNB_ENDPOINT_H
#define UCXNB_ENDPOINT_H

#include "operation.h"

/* A loop of sends that complete at once drives the worker itself, every so often. */
#define UCXNB_POSTS_PER_STEP 64

enum { UCXNB_OPEN, UCXNB_CLOSING, UCXNB_ENDED };

struct ucxnb_endpoint {
    ucxnb_engine_t *engine;
    ucp_ep_h ucp; /* NULL once closed */
    uint64_t id;
    _Atomic int state;
    _Atomic int posting; /* threads inside a UCP call on `ucp` */
    _Atomic int failure; /* the ucs_status_t UCX reported, or 0 */
    uint64_t arrived;    /* messages that came from it; under match_lock */
};

/* Create a UCP endpoint to a worker address, with error handling. */
ucs_status_t ucxnb_endpoint_open(ucxnb_engine_t *engine, ucxnb_endpoint_t *endpoint, uint64_t id,
                                 const void *address);

/* No more sends; receives go on until nothing is left if `state` is UCXNB_ENDED. */
void ucxnb_endpoint_set_state(ucxnb_endpoint_t *endpoint, int state);

/* Close the UCP endpoint at once; operations on it end with an error. Idempotent. Its state must have
 * been changed under the GIL. */
void ucxnb_endpoint_close(ucxnb_endpoint_t *endpoint);

/* UCS_OK, an error (UCS_ERR_CANCELED if the endpoint is not open), or UCS_INPROGRESS: then the
 * operation is under way, and the memory in use. */
ucs_status_t ucxnb_post_send(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                             uint64_t tag, ucxnb_operation_t *operation);

/* The same for one who holds the GIL, which keeps the endpoint from being closed. Every so often `*due`
 * is set: then a step of progress is due. */
ucs_status_t ucxnb_post_send_with_gil(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                                      uint64_t tag, ucxnb_operation_t *operation, int *due);

/* The same for one who has counted himself in `posting` and seen that the endpoint is open. */
ucs_status_t ucxnb_begin_send(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                              uint64_t tag, ucp_send_nbx_callback_t callback,
                              ucxnb_operation_t *operation);

ucs_status_t ucxnb_post_flush(ucxnb_endpoint_t *endpoint, ucxnb_operation_t *operation);

/* Names of the transports in use, at most `limit`; returns how many. */
unsigned ucxnb_endpoint_transports(ucxnb_endpoint_t *endpoint, ucp_transport_entry_t *entries,
                                   unsigned limit);

#endif

/* UCP endpoints, and the messages that are sent through them. */
#ifndef UCXNB_ENDPOINT_H
#define UCXNB_ENDPOINT_H

#include "operation.h"

/* A loop of sends that complete at once drives the worker itself, every so often. */
#define UCXNB_POSTS_PER_STEP 64

/* A peer is told anew what it may send whenever this part of its window has been received. */
#define UCXNB_DUE_PARTS 4

enum { UCXNB_OPEN, UCXNB_CLOSING, UCXNB_ENDED };

typedef struct ucxnb_block ucxnb_block_t;

/* Of what it sent as a stream; under stream_lock. See stream.h. */
typedef struct {
    ucxnb_block_t *first, *last; /* what nobody read and UCX no longer has */
    uint64_t kept;               /* bytes in them */
    uint64_t arrived;            /* bytes that came out of UCX */
    uint64_t position;           /* bytes that were read */
    int64_t untold;              /* of them, that are not in `taken` yet */
    ucxnb_operation_t *first_reader; /* posted, in order */
    _Atomic int readers;             /* those, and threads that wait */
} ucxnb_stream_t;

struct ucxnb_endpoint {
    ucxnb_engine_t *engine;
    ucp_ep_h ucp; /* NULL once closed */
    uint64_t id;
    _Atomic int state;
    _Atomic int posting; /* threads inside a UCP call on `ucp` */
    _Atomic int failure; /* the ucs_status_t UCX reported, or 0 */
    ucxnb_in_flight_t in_flight;

    /* Of what is sent to it, by cost. */
    _Atomic uint64_t spent_with_gil; /* written under the GIL */
    _Atomic uint64_t spent;          /* the rest; the sum is what counts */
    _Atomic uint64_t gate;           /* sends go ahead up to this sum; 0 while others are held */
    _Atomic int held;                /* sends, and batches, that wait for it to receive */
    pthread_mutex_t held_lock;       /* guards what follows, and that `ucp` stays open */
    uint64_t limit, window;          /* the sum that the peer allows, and how much that was ahead */
    ucxnb_operation_t *first_held, *last_held;

    /* Of what it sent; under match_lock. */
    uint64_t arrived;   /* messages */
    uint64_t taken;     /* what was received of them, by cost */
    uint64_t due;       /* when that has come to so much, the peer must be allowed more: */
    _Atomic int is_due; /* it has */
    ucxnb_load_t backlog;

    ucxnb_stream_t stream;
};

/* Whom a UCP endpoint leads to; one of these. */
typedef struct {
    const void *worker_address;
    const void *socket_address; /* of a UCX listener */
    size_t socket_length;
    ucp_conn_request_h knocking; /* at a listener of ours */
} ucxnb_target_t;

/* Create a UCP endpoint, with error handling. At first this side may send as much as `window_there`,
 * and the peer `window_here`; UINT64_MAX is no limit. */
ucs_status_t ucxnb_endpoint_open(ucxnb_engine_t *engine, ucxnb_endpoint_t *endpoint, uint64_t id,
                                 const ucxnb_target_t *target, uint64_t window_there,
                                 uint64_t window_here);

/* No more sends; receives go on until nothing is left if `state` is UCXNB_ENDED. */
void ucxnb_endpoint_set_state(ucxnb_endpoint_t *endpoint, int state);

/* Its engine's `news_fd` becomes readable. Safe inside UCX callbacks. */
void ucxnb_tell_news(ucxnb_engine_t *engine);

/* Close the UCP endpoint at once; operations on it end with an error. Idempotent. Its state must have
 * been changed under the GIL. */
void ucxnb_endpoint_close(ucxnb_endpoint_t *endpoint);

/* UCS_OK, an error (UCS_ERR_CANCELED if the endpoint is not open), or UCS_INPROGRESS: then the
 * operation is under way, and the memory in use. */
ucs_status_t ucxnb_post_send(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                             uint64_t tag, ucxnb_operation_t *operation);

/* What it returns where sending has to wait for the peer to receive. */
#define UCXNB_WOULD_HOLD UCS_ERR_NO_RESOURCE

/* The same for one who holds the GIL, which keeps the endpoint from being closed. Every so often `*due`
 * is set: then a step of progress is due. */
ucs_status_t ucxnb_post_send_with_gil(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                                      uint64_t tag, ucxnb_operation_t *operation, int *due);

/* A loop of posts makes steps of progress in between: whether one is due. */
static inline int ucxnb_count_post(ucxnb_engine_t *engine)
{
    unsigned posts = atomic_load_explicit(&engine->posts, memory_order_relaxed);

    /* Should another thread count at the same moment, one of the two is forgotten. */
    atomic_store_explicit(&engine->posts, posts + 1, memory_order_relaxed);
    return posts % UCXNB_POSTS_PER_STEP == 0;
}

/* The same for one who has counted himself in `posting` and seen that the endpoint is open. */
ucs_status_t ucxnb_begin_send(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                              uint64_t tag, ucp_send_nbx_callback_t callback,
                              ucxnb_operation_t *operation);

/* For one who holds held_lock and has seen that it is not closed: a flush, or a part of a stream. */
ucs_status_t ucxnb_begin_flush(ucxnb_endpoint_t *endpoint, ucxnb_operation_t *operation);
ucs_status_t ucxnb_begin_piece(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                               ucxnb_operation_t *operation);

/* What UCX prints of the endpoint (ucp_ep_print_info) and then of its worker (ucp_worker_print_info):
 * lanes, and the protocols of each operation. To be freed; NULL once it has ended, or without
 * memory. */
char *ucxnb_print_endpoint(ucxnb_endpoint_t *endpoint);

/* Names of the transports in use, at most `limit`; returns how many. */
unsigned ucxnb_endpoint_transports(ucxnb_endpoint_t *endpoint, ucp_transport_entry_t *entries,
                                   unsigned limit);

#endif

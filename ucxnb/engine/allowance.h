/* How much may be sent to a peer before it has received some of it.
 *
 * Both sides count what each message costs the one that keeps it until it is received. The peer says
 * up to which sum sends go ahead; what goes beyond it is held, in order, until the peer says more.
 */
#ifndef UCXNB_ALLOWANCE_H
#define UCXNB_ALLOWANCE_H

#include "endpoint.h"

/* What UCX 1.21 was seen to need for a message that nobody received, and the engine to list it. Up to
 * TINY bytes lie in a small piece of memory; others may take a whole buffer of a transport. From
 * RENDEZVOUS on it stays with its sender, over every transport, and counting it would only make what
 * is sent after it wait. */
#define UCXNB_TINY 56
#define UCXNB_TINY_COST 384
#define UCXNB_BUFFER_COST 8192
#define UCXNB_RENDEZVOUS (1 << 20)

static inline uint64_t ucxnb_cost(size_t length)
{
    if (length <= UCXNB_TINY) {
        return length + UCXNB_TINY_COST;
    }
    return UCXNB_BUFFER_COST + (length < UCXNB_RENDEZVOUS ? length : 0);
}

/* Count a send of that cost; false, and not counted, if it must be held. */
static inline int ucxnb_pay(ucxnb_endpoint_t *endpoint, uint64_t cost)
{
    uint64_t spent = atomic_fetch_add(&endpoint->spent, cost) + cost;

    if (spent + atomic_load_explicit(&endpoint->spent_with_gil, memory_order_relaxed) <=
        atomic_load(&endpoint->gate)) {
        return 1;
    }
    atomic_fetch_sub(&endpoint->spent, cost);
    return 0;
}

/* The same for one who holds the GIL. */
static inline int ucxnb_pay_with_gil(ucxnb_endpoint_t *endpoint, uint64_t cost)
{
    uint64_t spent = atomic_load_explicit(&endpoint->spent_with_gil, memory_order_relaxed) + cost;

    if (spent + atomic_load_explicit(&endpoint->spent, memory_order_relaxed) >
        atomic_load_explicit(&endpoint->gate, memory_order_relaxed)) {
        return 0;
    }
    atomic_store_explicit(&endpoint->spent_with_gil, spent, memory_order_relaxed);
    return 1;
}

/* The same for a message that may be larger than all that is allowed: it goes once half of that is
 * free. */
int ucxnb_pay_for_large(ucxnb_endpoint_t *endpoint, uint64_t cost);

/* Send it as soon as that is allowed, after those that are held already. Always UCS_INPROGRESS: the
 * operation completes, perhaps at once. */
ucs_status_t ucxnb_hold(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length, uint64_t tag,
                        ucxnb_operation_t *operation);

/* Send the bytes of a stream: one after the other, however many threads send. UCS_OK, an error, or
 * UCS_INPROGRESS: then the operation is under way, or held, or partly so. With `may_wait` 0, for those
 * who hold the GIL and have seen that nobody drives, it may also do nothing: UCXNB_WOULD_HOLD. */
ucs_status_t ucxnb_post_stream(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                               ucxnb_operation_t *operation, int may_wait);

/* Flush, after the sends that are held unless `at_once`; UCS_ERR_CANCELED once closed, or UCS_INPROGRESS. */
ucs_status_t ucxnb_post_flush(ucxnb_endpoint_t *endpoint, ucxnb_operation_t *operation,
                              int at_once);

/* Take a send back that is still held, all of it; false if it is not. */
int ucxnb_take_back(ucxnb_operation_t *operation);

/* So many more sends, or batches of them, wait for the peer to receive. */
void ucxnb_count_held(ucxnb_endpoint_t *endpoint, int more);

/* The peer allows sends up to the sum `limit`, which may be less than before, and keeps to a window of
 * that size. Returns the sum that holds from now on: not less than what was sent. */
uint64_t ucxnb_allow(ucxnb_endpoint_t *endpoint, uint64_t limit, uint64_t window);

/* Its UCP endpoint is about to be closed: what is held ends with an error. Returns that endpoint. */
ucp_ep_h ucxnb_end_held(ucxnb_endpoint_t *endpoint);

#endif

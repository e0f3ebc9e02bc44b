#include "allowance.h"

void ucxnb_count_held(ucxnb_endpoint_t *endpoint, int more)
{
    atomic_fetch_add_explicit(&endpoint->held, more, memory_order_relaxed);
    atomic_fetch_add_explicit(&endpoint->engine->held, more, memory_order_relaxed);
}

/* What follows is called under held_lock, up to the functions of the header. */

static uint64_t spent(const ucxnb_endpoint_t *endpoint)
{
    return atomic_load(&endpoint->spent) + atomic_load(&endpoint->spent_with_gil);
}

static int fits(const ucxnb_endpoint_t *endpoint, uint64_t cost)
{
    uint64_t half = endpoint->window / 2;

    return spent(endpoint) + (cost < half ? cost : half) <= endpoint->limit;
}

static void append(ucxnb_endpoint_t *endpoint, ucxnb_operation_t *operation)
{
    operation->held = 1;
    operation->next_held = NULL;
    if (endpoint->first_held == NULL) {
        endpoint->first_held = operation;
    } else {
        endpoint->last_held->next_held = operation;
    }
    endpoint->last_held = operation;
    ucxnb_count_held(endpoint, !operation->is_flush);
}

static ucxnb_operation_t *remove_first(ucxnb_endpoint_t *endpoint)
{
    ucxnb_operation_t *operation = endpoint->first_held;

    endpoint->first_held = operation->next_held;
    operation->held = 0;
    ucxnb_count_held(endpoint, -!operation->is_flush);
    return operation;
}

/* False if it must wait longer. */
static int begin_first(ucxnb_endpoint_t *endpoint)
{
    ucxnb_operation_t *operation = endpoint->first_held;
    uint64_t cost = operation->is_flush ? 0 : ucxnb_cost(operation->capacity);
    ucs_status_t status;

    if (!operation->is_flush && !fits(endpoint, cost)) {
        return 0;
    }
    remove_first(endpoint);
    atomic_fetch_add(&endpoint->spent, cost);
    status = operation->is_flush
                     ? ucxnb_begin_flush(endpoint, operation)
                     : ucxnb_begin_send(endpoint, operation->memory, operation->capacity,
                                        operation->message.entry.tag, ucxnb_on_sent, operation);
    if (status != UCS_INPROGRESS) {
        ucxnb_complete(operation, UCXNB_MATCHED, status);
    }
    return 1;
}

static void begin_held(ucxnb_endpoint_t *endpoint)
{
    while (endpoint->first_held != NULL && endpoint->ucp != NULL && begin_first(endpoint)) {
    }
    /* Nobody overtakes those that are still held. */
    atomic_store(&endpoint->gate, endpoint->first_held != NULL ? 0 : endpoint->limit);
}

/* ---- for all ---- */

static void enter(ucxnb_endpoint_t *endpoint)
{
    ucxnb_ask_in(&endpoint->engine->driver);
    pthread_mutex_lock(&endpoint->held_lock);
}

static void leave(ucxnb_endpoint_t *endpoint)
{
    pthread_mutex_unlock(&endpoint->held_lock);
    ucxnb_ask_no_more(&endpoint->engine->driver);
    ucxnb_tell_ended(&endpoint->engine->driver);
}

int ucxnb_pay_for_large(ucxnb_endpoint_t *endpoint, uint64_t cost)
{
    int paid;

    enter(endpoint);
    begin_held(endpoint); /* what a batch counted for a moment may have kept them */
    paid = endpoint->first_held == NULL && fits(endpoint, cost);
    if (paid) {
        atomic_fetch_add(&endpoint->spent, cost);
    }
    leave(endpoint);
    return paid;
}

ucs_status_t ucxnb_hold(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length, uint64_t tag,
                        ucxnb_operation_t *operation)
{
    operation->memory = (char *)buffer;
    operation->capacity = length;
    operation->message.entry.tag = tag;
    operation->is_flush = 0;
    enter(endpoint);
    append(endpoint, operation);
    begin_held(endpoint);
    leave(endpoint);
    return UCS_INPROGRESS;
}

ucs_status_t ucxnb_post_flush(ucxnb_endpoint_t *endpoint, ucxnb_operation_t *operation)
{
    ucs_status_t status = UCS_ERR_CANCELED;

    operation->is_flush = 1;
    enter(endpoint);
    if (endpoint->ucp != NULL) {
        append(endpoint, operation);
        begin_held(endpoint);
        status = UCS_INPROGRESS;
    }
    leave(endpoint);
    return status;
}

int ucxnb_take_back(ucxnb_operation_t *operation)
{
    ucxnb_endpoint_t *endpoint = operation->endpoint;
    ucxnb_operation_t *before;
    int held;

    enter(endpoint);
    held = operation->held;
    if (held) {
        if (endpoint->first_held == operation) {
            remove_first(endpoint);
        } else {
            before = endpoint->first_held;
            while (before->next_held != operation) {
                before = before->next_held;
            }
            before->next_held = operation->next_held;
            if (endpoint->last_held == operation) {
                endpoint->last_held = before;
            }
            operation->held = 0;
            ucxnb_count_held(endpoint, -1);
        }
        ucxnb_complete(operation, UCXNB_CANCELED, UCS_ERR_CANCELED);
        begin_held(endpoint);
    }
    leave(endpoint);
    return held;
}

uint64_t ucxnb_allow(ucxnb_endpoint_t *endpoint, uint64_t limit, uint64_t window)
{
    uint64_t sent;

    enter(endpoint);
    if (limit < endpoint->limit) {
        atomic_store(&endpoint->gate, 0); /* whoever counts a send from here on sees it */
        sent = spent(endpoint);
        limit = limit > sent ? limit : sent;
    }
    endpoint->limit = limit;
    endpoint->window = window;
    begin_held(endpoint);
    leave(endpoint);
    ucxnb_wake_waiters(&endpoint->engine->driver); /* a batch may be among them */
    ucxnb_wake_background(&endpoint->engine->driver);
    return limit;
}

ucp_ep_h ucxnb_end_held(ucxnb_endpoint_t *endpoint)
{
    ucp_ep_h ucp;

    enter(endpoint);
    ucp = endpoint->ucp;
    endpoint->ucp = NULL;
    while (endpoint->first_held != NULL) {
        ucxnb_complete(remove_first(endpoint), UCXNB_MATCHED, UCS_ERR_CANCELED);
    }
    leave(endpoint);
    return ucp;
}

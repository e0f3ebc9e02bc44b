#include "allowance.h"

/* A stream is sent in pieces of at most this size, so that the peer is never sent more than it allows. */
#define PIECE (1 << 20)

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
    ucxnb_count_held(endpoint, operation->kind != UCXNB_FLUSH);
}

static ucxnb_operation_t *remove_first(ucxnb_endpoint_t *endpoint)
{
    ucxnb_operation_t *operation = endpoint->first_held;

    endpoint->first_held = operation->next_held;
    operation->held = 0;
    ucxnb_count_held(endpoint, -(operation->kind != UCXNB_FLUSH));
    return operation;
}

/* Post what may be sent of a stream's operation now; false if there is more. */
static int begin_pieces(ucxnb_endpoint_t *endpoint, ucxnb_operation_t *operation)
{
    const uint64_t half = endpoint->window / 2;
    const size_t most = half >= PIECE ? PIECE : half > 0 ? half : 1;
    ucs_status_t status;
    size_t length;

    while (operation->begun < operation->capacity) {
        length = operation->capacity - operation->begun;
        length = length < most ? length : most;
        if (!fits(endpoint, length)) {
            return 0;
        }
        atomic_fetch_add(&endpoint->spent, length);
        status = ucxnb_begin_piece(endpoint, operation->memory + operation->begun, length, operation);
        operation->begun += length;
        if (status == UCS_INPROGRESS) {
            operation->pieces++;
        } else if (status != UCS_OK) {
            operation->status = status;
            break;
        }
    }
    return 1;
}

/* No more of it is posted; true if all that were are over. */
static int end_pieces(ucxnb_operation_t *operation)
{
    return atomic_fetch_add(&operation->balance, operation->pieces) + operation->pieces == 0;
}

/* False if it must wait longer. */
static int begin_first(ucxnb_endpoint_t *endpoint)
{
    ucxnb_operation_t *operation = endpoint->first_held;
    uint64_t cost = operation->kind == UCXNB_TAGGED ? ucxnb_cost(operation->capacity) : 0;
    ucs_status_t status;

    if (operation->kind == UCXNB_STREAMED) {
        if (!begin_pieces(endpoint, operation)) {
            return 0;
        }
        remove_first(endpoint);
        if (end_pieces(operation)) {
            ucxnb_complete(operation, UCXNB_MATCHED, operation->status);
        }
        return 1;
    }
    if (operation->kind == UCXNB_TAGGED && !fits(endpoint, cost)) {
        return 0;
    }
    remove_first(endpoint);
    atomic_fetch_add(&endpoint->spent, cost);
    status = operation->kind == UCXNB_FLUSH
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
    operation->kind = UCXNB_TAGGED;
    enter(endpoint);
    append(endpoint, operation);
    begin_held(endpoint);
    leave(endpoint);
    return UCS_INPROGRESS;
}

ucs_status_t ucxnb_post_stream(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                               ucxnb_operation_t *operation, int may_wait)
{
    ucs_status_t status = UCS_ERR_CANCELED;

    operation->kind = UCXNB_STREAMED;
    operation->memory = (char *)buffer;
    operation->capacity = length;
    if (may_wait) {
        enter(endpoint);
    } else if (pthread_mutex_trylock(&endpoint->held_lock) != 0) {
        return UCXNB_WOULD_HOLD;
    }
    if (endpoint->ucp != NULL && atomic_load(&endpoint->state) == UCXNB_OPEN) {
        status = UCS_INPROGRESS;
        if (endpoint->first_held != NULL || !begin_pieces(endpoint, operation)) {
            append(endpoint, operation);
            begin_held(endpoint);
        } else if (operation->pieces == 0 || end_pieces(operation)) {
            status = operation->status;
        }
    }
    if (status != UCS_INPROGRESS) { /* as good as new */
        operation->kind = UCXNB_TAGGED;
        operation->memory = NULL;
        operation->capacity = operation->begun = 0;
        operation->pieces = 0;
        operation->status = UCS_OK;
        atomic_store_explicit(&operation->balance, 0, memory_order_relaxed);
    }
    if (may_wait) {
        leave(endpoint);
    } else {
        pthread_mutex_unlock(&endpoint->held_lock);
    }
    return status;
}

ucs_status_t ucxnb_post_flush(ucxnb_endpoint_t *endpoint, ucxnb_operation_t *operation,
                              int at_once)
{
    ucs_status_t status = UCS_ERR_CANCELED;

    operation->kind = UCXNB_FLUSH;
    enter(endpoint);
    if (endpoint->ucp != NULL && at_once) {
        status = ucxnb_begin_flush(endpoint, operation);
        if (status != UCS_INPROGRESS) {
            ucxnb_complete(operation, UCXNB_MATCHED, status);
            status = UCS_INPROGRESS;
        }
    } else if (endpoint->ucp != NULL) {
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
    held = operation->held && operation->begun == 0; /* no stream is torn */
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
    ucxnb_operation_t *operation;
    ucp_ep_h ucp;

    enter(endpoint);
    ucp = endpoint->ucp;
    endpoint->ucp = NULL;
    while (endpoint->first_held != NULL) {
        operation = remove_first(endpoint);
        operation->status = UCS_ERR_CANCELED;
        if (operation->kind != UCXNB_STREAMED || end_pieces(operation)) {
            ucxnb_complete(operation, UCXNB_MATCHED, UCS_ERR_CANCELED);
        }
    }
    leave(endpoint);
    return ucp;
}

#include "operation.h"

#include "endpoint.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void set_up(ucxnb_operation_t *operation, ucxnb_engine_t *engine)
{
    memset(operation, 0, sizeof *operation);
    operation->engine = engine;
    operation->state = UCXNB_UNDER_WAY;
    operation->message.operation = operation;
}

ucxnb_operation_t *ucxnb_operation_new(ucxnb_engine_t *engine, ucxnb_endpoint_t *endpoint)
{
    ucxnb_operation_t *operation = malloc(sizeof *operation);

    if (operation != NULL) {
        set_up(operation, engine);
        operation->endpoint = endpoint;
    }
    return operation;
}

void ucxnb_operation_renew(ucxnb_operation_t *operation)
{
    if (operation->owns_memory) {
        free(operation->memory);
    }
    set_up(operation, operation->engine);
}

void ucxnb_operation_free(ucxnb_operation_t *operation)
{
    if (operation->owns_memory) {
        free(operation->memory);
    }
    free(operation);
}

static void count_in_flight(ucxnb_in_flight_t *in_flight, int64_t sends, int64_t nbytes)
{
    atomic_fetch_add_explicit(&in_flight->sends, sends, memory_order_relaxed);
    atomic_fetch_add_explicit(&in_flight->bytes, nbytes, memory_order_relaxed);
}

void ucxnb_take_off(ucxnb_operation_t *operation, size_t nbytes)
{
    operation->in_flight = 1;
    operation->bytes_in_flight = nbytes;
    count_in_flight(&operation->endpoint->in_flight, 1, (int64_t)nbytes);
    count_in_flight(&operation->engine->in_flight, 1, (int64_t)nbytes);
}

void ucxnb_land(ucxnb_operation_t *operation)
{
    int64_t nbytes = (int64_t)operation->bytes_in_flight;

    if (operation->in_flight) {
        operation->in_flight = 0;
        count_in_flight(&operation->endpoint->in_flight, -1, -nbytes);
        count_in_flight(&operation->engine->in_flight, -1, -nbytes);
    }
}

/* Under completion_lock. */
static void queue_completed(ucxnb_operation_t *operation)
{
    ucxnb_engine_t *engine = operation->engine;

    if (operation->queued) {
        return;
    }
    operation->queued = 1;
    operation->next_completed = NULL;
    if (atomic_load(&engine->first_completed) == NULL) {
        atomic_store(&engine->first_completed, operation);
    } else {
        engine->last_completed->next_completed = operation;
    }
    engine->last_completed = operation;
}

void ucxnb_tell_completed(ucxnb_driver_t *driver)
{
    ucxnb_engine_t *engine = (ucxnb_engine_t *)driver; /* its first member */
    uint64_t one = 1;

    if (atomic_load(&engine->listeners) > 0 &&
        write(engine->completion_fd, &one, sizeof one) < 0) {
        /* its counter is full, so it is readable already */
    }
}

static void complete_quietly(ucxnb_operation_t *operation, int outcome, ucs_status_t status)
{
    ucxnb_engine_t *engine = operation->engine;

    if (atomic_load_explicit(&operation->started_ns, memory_order_relaxed) != 0) {
        operation->ended_ns = ucxnb_now_ns();
    }
    pthread_mutex_lock(&engine->completion_lock);
    operation->outcome = outcome;
    operation->status = status;
    queue_completed(operation);
    /* In this order: whoever sees no orphans sees that there is something to match, and that this
     * one's message can be had. */
    atomic_store(&operation->state, UCXNB_DONE);
    if (operation->orphan) {
        atomic_store(&engine->match_again, 1);
        atomic_fetch_sub(&engine->orphans_under_way, 1);
    }
    pthread_mutex_unlock(&engine->completion_lock);
}

void ucxnb_complete(ucxnb_operation_t *operation, int outcome, ucs_status_t status)
{
    ucxnb_driver_t *driver = &operation->engine->driver;

    complete_quietly(operation, outcome, status);
    ucxnb_tell_completed(driver);
    ucxnb_wake_waiters(driver);
}

static void complete_in_callback(ucxnb_operation_t *operation, ucs_status_t status)
{
    ucxnb_driver_t *driver = &operation->engine->driver;

    complete_quietly(operation, UCXNB_MATCHED, status);
    ucxnb_note_ended(driver);
}

ucxnb_operation_t *ucxnb_next_completed(ucxnb_engine_t *engine, int *released)
{
    ucxnb_operation_t *operation;

    if (atomic_load_explicit(&engine->first_completed, memory_order_acquire) == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&engine->completion_lock);
    operation = atomic_load(&engine->first_completed);
    if (operation != NULL) {
        atomic_store(&engine->first_completed, operation->next_completed);
        operation->queued = 0;
        *released = operation->released;
    }
    pthread_mutex_unlock(&engine->completion_lock);
    return operation;
}

void ucxnb_release(ucxnb_operation_t *operation)
{
    ucxnb_engine_t *engine = operation->engine;

    atomic_store(&operation->taken, 0);
    pthread_mutex_lock(&engine->completion_lock);
    operation->released = 1;
    if (atomic_load(&operation->state) == UCXNB_DONE) {
        queue_completed(operation);
    }
    pthread_mutex_unlock(&engine->completion_lock);
}

void ucxnb_on_sent(void *request, ucs_status_t status, void *operation)
{
    ucxnb_ucp.ucp_request_free(request);
    complete_in_callback(operation, status);
}

void ucxnb_on_part_sent(void *request, ucs_status_t status, void *arg)
{
    ucxnb_operation_t *operation = arg;

    ucxnb_ucp.ucp_request_free(request);
    if (status != UCS_OK) {
        operation->status = status;
    }
    if (atomic_fetch_sub(&operation->balance, 1) == 1) {
        complete_in_callback(operation, operation->status);
    }
}

void ucxnb_on_received(void *request, ucs_status_t status, const ucp_tag_recv_info_t *info,
                       void *operation)
{
    (void)info;
    ucxnb_ucp.ucp_request_free(request);
    complete_in_callback(operation, status);
}

typedef struct {
    ucxnb_operation_t **operations;
    size_t count;
    int even_if_shut;
} waited_t;

static int any_done(void *arg)
{
    const waited_t *waited = arg;
    size_t i;

    for (i = 0; i < waited->count; i++) {
        if (atomic_load_explicit(&waited->operations[i]->state, memory_order_acquire) ==
            UCXNB_DONE) {
            return 1;
        }
    }
    return !waited->even_if_shut &&
           atomic_load_explicit(&waited->operations[0]->engine->closing, memory_order_relaxed);
}

int ucxnb_wait_operation(ucxnb_operation_t *operation, int64_t deadline_ns, int spin,
                         int even_if_shut)
{
    waited_t waited = {&operation, 1, even_if_shut};

    ucxnb_wait(&operation->engine->driver, any_done, &waited, deadline_ns, spin);
    return atomic_load(&operation->state) == UCXNB_DONE;
}

static int all_done(void *arg)
{
    waited_t *waited = arg;

    while (waited->count > 0 && atomic_load_explicit(&waited->operations[0]->state,
                                                     memory_order_acquire) == UCXNB_DONE) {
        waited->operations++;
        waited->count--;
    }
    return waited->count == 0 ||
           atomic_load_explicit(&waited->operations[0]->engine->closing, memory_order_relaxed);
}

int ucxnb_wait_all(ucxnb_operation_t **operations, size_t count, int64_t deadline_ns, int spin)
{
    waited_t waited = {operations, count, 0};

    ucxnb_wait(&operations[0]->engine->driver, all_done, &waited, deadline_ns, spin);
    return waited.count == 0;
}

int ucxnb_wait_any(ucxnb_operation_t **operations, size_t count, int64_t deadline_ns, int spin)
{
    waited_t waited = {operations, count, 0};

    return ucxnb_wait(&operations[0]->engine->driver, any_done, &waited, deadline_ns, spin);
}

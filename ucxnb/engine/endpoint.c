#include "endpoint.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A loop of sends that complete at once drives the worker itself, every so often. */
#define POSTS_PER_STEP 64
#define CLOSE_PATIENCE_NS 1000000000
#define HARVEST_NS 50000000

/* ---- engine ---- */

int ucxnb_engine_start(ucxnb_engine_t *engine, ucp_worker_h worker, long interval_us,
                       int endpoint_scope)
{
    int error;

    memset(engine, 0, sizeof *engine);
    engine->endpoint_scope = endpoint_scope;
    engine->failure_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (engine->failure_fd < 0) {
        return errno;
    }
    pthread_mutex_init(&engine->match_lock, NULL);
    error = ucxnb_driver_start(&engine->driver, worker, interval_us);
    if (error != 0) {
        close(engine->failure_fd);
        pthread_mutex_destroy(&engine->match_lock);
    }
    return error;
}

void ucxnb_engine_shut(ucxnb_engine_t *engine)
{
    atomic_store(&engine->closing, 1);
    ucxnb_wake_waiters(&engine->driver);
}

static void free_request(void *request, ucs_status_t status, const ucp_tag_recv_info_t *info,
                         void *user_data)
{
    (void)status, (void)info, (void)user_data;
    ucxnb_ucp.ucp_request_free(request);
}

/* A message's memory is returned by receiving it; into nothing, for one that nobody wants. */
static void drop_message(ucxnb_engine_t *engine, ucp_tag_message_h handle)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK, .cb.recv = free_request};

    ucxnb_ucp.ucp_tag_msg_recv_nbx(engine->driver.worker, NULL, 0, handle, &param);
}

/* Under match_lock. NULL for a stranger, and always with worker-scoped tags. */
static ucxnb_endpoint_t *endpoint_of(const ucxnb_engine_t *engine, uint64_t tag)
{
    uint64_t id = tag >> UCXNB_ID_SHIFT;

    return engine->endpoint_scope && id < engine->endpoint_capacity ? engine->endpoints[id] : NULL;
}

/* Under match_lock. */
static void take_from_backlog(ucxnb_engine_t *engine, ucxnb_message_t *message)
{
    ucxnb_endpoint_t *endpoint = endpoint_of(engine, message->tag);

    if (endpoint != NULL) {
        endpoint->waiting--;
    }
    ucxnb_backlog_remove(&engine->backlog, message);
}

/* Under match_lock. False if there is no memory for it. */
static int put_into_backlog(ucxnb_engine_t *engine, ucp_tag_message_h handle,
                            const ucp_tag_recv_info_t *info)
{
    ucxnb_endpoint_t *endpoint = endpoint_of(engine, info->sender_tag);

    if (ucxnb_backlog_append(&engine->backlog, handle, info->sender_tag, info->length) == NULL) {
        drop_message(engine, handle);
        return 0;
    }
    if (endpoint != NULL) {
        endpoint->waiting++;
    }
    return 1;
}

void ucxnb_engine_stop(ucxnb_engine_t *engine)
{
    int64_t deadline = ucxnb_now_ns() + CLOSE_PATIENCE_NS;
    ucxnb_message_t *message;

    while ((message = engine->backlog.oldest) != NULL) {
        ucp_tag_message_h handle = message->handle;
        take_from_backlog(engine, message);
        drop_message(engine, handle);
    }
    while (atomic_load(&engine->pending_closes) > 0 && ucxnb_now_ns() < deadline) {
        ucxnb_progress(&engine->driver);
    }
    ucxnb_driver_stop(&engine->driver);
    close(engine->failure_fd);
    ucxnb_backlog_free(&engine->backlog);
    free(engine->endpoints);
    engine->endpoints = NULL;
    pthread_mutex_destroy(&engine->match_lock);
}

void ucxnb_engine_abandon(ucxnb_engine_t *engine)
{
    atomic_store(&engine->closing, 1);
    ucxnb_driver_abandon(&engine->driver);
    close(engine->failure_fd);
}

/* ---- endpoints ---- */

static int register_endpoint(ucxnb_engine_t *engine, ucxnb_endpoint_t *endpoint)
{
    uint64_t capacity = engine->endpoint_capacity ? engine->endpoint_capacity : 16;
    ucxnb_endpoint_t **endpoints;

    while (capacity <= endpoint->id) {
        capacity *= 2;
    }
    if (capacity != engine->endpoint_capacity) {
        endpoints = realloc(engine->endpoints, capacity * sizeof *endpoints);
        if (endpoints == NULL) {
            return 0;
        }
        memset(endpoints + engine->endpoint_capacity, 0,
               (capacity - engine->endpoint_capacity) * sizeof *endpoints);
        engine->endpoints = endpoints;
        engine->endpoint_capacity = capacity;
    }
    engine->endpoints[endpoint->id] = endpoint;
    return 1;
}

static void on_failure(void *arg, ucp_ep_h ucp, ucs_status_t status)
{
    ucxnb_endpoint_t *endpoint = arg;
    uint64_t one = 1;

    (void)ucp;
    atomic_store(&endpoint->failure, status);
    if (write(endpoint->engine->failure_fd, &one, sizeof one) < 0) {
        return; /* full, so readable already */
    }
}

ucs_status_t ucxnb_endpoint_open(ucxnb_engine_t *engine, ucxnb_endpoint_t *endpoint, uint64_t id,
                                 const void *address)
{
    ucp_ep_params_t params = {
            .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                          UCP_EP_PARAM_FIELD_ERR_HANDLER,
            .address = address,
            .err_mode = UCP_ERR_HANDLING_MODE_PEER,
            .err_handler = {.cb = on_failure, .arg = endpoint},
    };
    ucs_status_t status = UCS_ERR_NO_MEMORY;
    int registered;

    memset(endpoint, 0, sizeof *endpoint);
    endpoint->engine = engine;
    endpoint->id = id;
    atomic_store(&endpoint->state, UCXNB_ENDED);
    pthread_mutex_lock(&engine->match_lock);
    registered = register_endpoint(engine, endpoint);
    pthread_mutex_unlock(&engine->match_lock);
    if (registered) {
        status = ucxnb_ucp.ucp_ep_create(engine->driver.worker, &params, &endpoint->ucp);
    }
    if (status != UCS_OK) {
        endpoint->ucp = NULL;
        ucxnb_endpoint_forget(endpoint);
        return status;
    }
    atomic_store(&endpoint->state, UCXNB_OPEN);
    ucxnb_wake_background(&engine->driver);
    return UCS_OK;
}

void ucxnb_endpoint_set_state(ucxnb_endpoint_t *endpoint, int state)
{
    atomic_store(&endpoint->state, state);
    ucxnb_wake_waiters(&endpoint->engine->driver);
}

static void on_closed(void *request, ucs_status_t status, void *user_data)
{
    ucxnb_engine_t *engine = user_data;

    (void)status;
    ucxnb_ucp.ucp_request_free(request);
    atomic_fetch_sub(&engine->pending_closes, 1);
}

void ucxnb_endpoint_close(ucxnb_endpoint_t *endpoint)
{
    ucxnb_engine_t *engine = endpoint->engine;
    ucp_request_param_t param = {
            .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                            UCP_OP_ATTR_FIELD_FLAGS,
            .flags = UCP_EP_CLOSE_FLAG_FORCE,
            .cb.send = on_closed,
            .user_data = engine,
    };
    ucp_ep_h ucp = endpoint->ucp;
    void *request;

    if (atomic_load(&endpoint->state) == UCXNB_OPEN) {
        atomic_store(&endpoint->state, UCXNB_CLOSING);
    }
    while (atomic_load(&endpoint->posting) > 0) {
        sched_yield(); /* such a call never waits */
    }
    endpoint->ucp = NULL;
    if (ucp == NULL) {
        return;
    }
    atomic_fetch_add(&engine->pending_closes, 1);
    request = ucxnb_ucp.ucp_ep_close_nbx(ucp, &param);
    if (request == NULL || UCS_PTR_IS_ERR(request)) {
        atomic_fetch_sub(&engine->pending_closes, 1);
    }
    ucxnb_wake_waiters(&engine->driver); /* their requests may have just ended */
    ucxnb_wake_background(&engine->driver);
}

static void move_arrivals(ucxnb_engine_t *engine)
{
    ucp_tag_recv_info_t info;
    ucp_tag_message_h handle;

    while ((handle = ucxnb_ucp.ucp_tag_probe_nb(engine->driver.worker, 0, 0, 1, &info)) != NULL) {
        if (engine->endpoint_scope && endpoint_of(engine, info.sender_tag) == NULL) {
            drop_message(engine, handle); /* nobody could ever name it */
        } else if (!put_into_backlog(engine, handle, &info)) {
            return;
        }
    }
}

void ucxnb_endpoint_forget(ucxnb_endpoint_t *endpoint)
{
    ucxnb_engine_t *engine = endpoint->engine;
    ucxnb_message_t *message, *newer;

    pthread_mutex_lock(&engine->match_lock);
    if (endpoint->id < engine->endpoint_capacity && engine->endpoints[endpoint->id] == endpoint) {
        if (engine->endpoint_scope) {
            move_arrivals(engine);
            for (message = engine->backlog.oldest; message && endpoint->waiting; message = newer) {
                newer = message->newer;
                if (message->tag >> UCXNB_ID_SHIFT == endpoint->id) {
                    ucp_tag_message_h handle = message->handle;
                    take_from_backlog(engine, message);
                    drop_message(engine, handle);
                }
            }
        }
        engine->endpoints[endpoint->id] = NULL;
    }
    pthread_mutex_unlock(&engine->match_lock);
}

uint64_t ucxnb_harvest(ucxnb_endpoint_t *endpoint)
{
    ucxnb_engine_t *engine = endpoint->engine;
    const int64_t deadline_ns = ucxnb_now_ns() + HARVEST_NS;
    uint64_t waiting;

    /* A wire whose other end is gone may report progress without end. */
    while (ucxnb_progress(&engine->driver) != 0 && ucxnb_now_ns() < deadline_ns) {
    }
    pthread_mutex_lock(&engine->match_lock);
    move_arrivals(engine);
    waiting = endpoint->waiting;
    pthread_mutex_unlock(&engine->match_lock);
    return waiting;
}

unsigned ucxnb_endpoint_transports(ucxnb_endpoint_t *endpoint, ucp_transport_entry_t *entries,
                                   unsigned limit)
{
    ucp_ep_attr_t attributes = {
            .field_mask = UCP_EP_ATTR_FIELD_TRANSPORTS,
            .transports = {.entries = entries, .num_entries = limit,
                           .entry_size = sizeof *entries},
    };
    ucs_status_t status = UCS_ERR_CANCELED;

    atomic_fetch_add(&endpoint->posting, 1);
    if (atomic_load(&endpoint->state) == UCXNB_OPEN && endpoint->ucp != NULL) {
        status = ucxnb_ucp.ucp_ep_query(endpoint->ucp, &attributes);
    }
    atomic_fetch_sub(&endpoint->posting, 1);
    return status == UCS_OK ? attributes.transports.num_entries : 0;
}

/* ---- messages ---- */

void *ucxnb_post_send(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length, uint64_t tag)
{
    ucxnb_engine_t *engine = endpoint->engine;
    ucp_request_param_t param;
    void *request = UCS_STATUS_PTR(UCS_ERR_CANCELED);

    param.op_attr_mask = UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    param.memory_type = UCS_MEMORY_TYPE_HOST;
    atomic_fetch_add(&endpoint->posting, 1);
    if (atomic_load(&endpoint->state) == UCXNB_OPEN) {
        request = ucxnb_ucp.ucp_tag_send_nbx(endpoint->ucp, buffer, length, tag, &param);
    }
    atomic_fetch_sub(&endpoint->posting, 1);
    if (atomic_fetch_add_explicit(&engine->posts, 1, memory_order_relaxed) % POSTS_PER_STEP == 0) {
        ucxnb_progress(&engine->driver);
    }
    return request;
}

void *ucxnb_post_flush(ucxnb_endpoint_t *endpoint)
{
    ucp_request_param_t param = {.op_attr_mask = 0};
    void *request = UCS_STATUS_PTR(UCS_ERR_CANCELED);

    atomic_fetch_add(&endpoint->posting, 1);
    if (atomic_load(&endpoint->state) != UCXNB_ENDED && endpoint->ucp != NULL) {
        request = ucxnb_ucp.ucp_ep_flush_nbx(endpoint->ucp, &param);
    }
    atomic_fetch_sub(&endpoint->posting, 1);
    return request;
}

void *ucxnb_post_receive(ucxnb_engine_t *engine, void *buffer, size_t length,
                         ucp_tag_message_h handle)
{
    ucp_request_param_t param;

    param.op_attr_mask = UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    param.memory_type = UCS_MEMORY_TYPE_HOST;
    return ucxnb_ucp.ucp_tag_msg_recv_nbx(engine->driver.worker, buffer, length, handle, &param);
}

static int look(ucxnb_match_t *match)
{
    ucxnb_engine_t *engine = match->engine;
    ucxnb_message_t *message;
    ucp_tag_recv_info_t info;

    message = ucxnb_backlog_find(&engine->backlog, match->tag, match->mask);
    if (message != NULL) {
        match->sender_tag = message->tag;
        match->length = message->length;
        if (message->length > match->capacity) {
            return UCXNB_TOO_SMALL;
        }
        match->handle = message->handle;
        take_from_backlog(engine, message);
        return UCXNB_MATCHED;
    }
    match->handle = ucxnb_ucp.ucp_tag_probe_nb(engine->driver.worker, match->tag, match->mask, 1,
                                               &info);
    if (match->handle == NULL) {
        return UCXNB_NO_MATCH;
    }
    match->sender_tag = info.sender_tag;
    match->length = info.length;
    if (info.length <= match->capacity) {
        return UCXNB_MATCHED;
    }
    return put_into_backlog(engine, match->handle, &info) ? UCXNB_TOO_SMALL : UCXNB_NO_MEMORY;
}

int ucxnb_match(void *arg)
{
    ucxnb_match_t *match = arg;
    ucxnb_engine_t *engine = match->engine;
    /* Read before looking: what came before the end is found after it. */
    int state = match->endpoint ? atomic_load(&match->endpoint->state) : UCXNB_OPEN;
    int result;

    if (state == UCXNB_CLOSING || atomic_load_explicit(&engine->closing, memory_order_relaxed)) {
        return UCXNB_SHUT;
    }
    pthread_mutex_lock(&engine->match_lock);
    result = look(match);
    pthread_mutex_unlock(&engine->match_lock);
    return result == UCXNB_NO_MATCH && state == UCXNB_ENDED ? UCXNB_PEER_ENDED : result;
}

/* ---- requests ---- */

typedef struct {
    ucxnb_engine_t *engine;
    void *request;
    int even_if_shut;
} waited_request_t;

static int request_ready(void *arg)
{
    waited_request_t *waited = arg;

    return ucxnb_ucp.ucp_request_check_status(waited->request) != UCS_INPROGRESS ||
           (!waited->even_if_shut &&
            atomic_load_explicit(&waited->engine->closing, memory_order_relaxed));
}

ucs_status_t ucxnb_test_request(void *request)
{
    ucs_status_t status = ucxnb_ucp.ucp_request_check_status(request);

    if (status != UCS_INPROGRESS) {
        ucxnb_ucp.ucp_request_free(request);
    }
    return status;
}

ucs_status_t ucxnb_wait_request(ucxnb_engine_t *engine, void *request, int64_t deadline_ns,
                                int spin, int even_if_shut)
{
    waited_request_t waited = {engine, request, even_if_shut};

    ucxnb_wait(&engine->driver, request_ready, &waited, deadline_ns, spin);
    return ucxnb_test_request(request);
}

static int is_shut(void *arg)
{
    ucxnb_engine_t *engine = arg;

    return atomic_load_explicit(&engine->closing, memory_order_relaxed);
}

void ucxnb_run(ucxnb_engine_t *engine, int64_t deadline_ns, uint64_t *operations)
{
    ucxnb_wait_counting(&engine->driver, is_shut, engine, deadline_ns, 1, operations);
}

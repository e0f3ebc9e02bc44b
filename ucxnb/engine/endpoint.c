#include "endpoint.h"

#include "allowance.h"
#include "matching.h"
#include "stream.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


/* ---- life ---- */

/* Under match_lock. */
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

void ucxnb_tell_news(ucxnb_engine_t *engine)
{
    uint64_t one = 1;

    if (write(engine->news_fd, &one, sizeof one) < 0) {
        return; /* full, so readable already */
    }
}

static void on_failure(void *arg, ucp_ep_h ucp, ucs_status_t status)
{
    ucxnb_endpoint_t *endpoint = arg;

    (void)ucp;
    atomic_store(&endpoint->failure, status);
    ucxnb_tell_news(endpoint->engine);
}

ucs_status_t ucxnb_endpoint_open(ucxnb_engine_t *engine, ucxnb_endpoint_t *endpoint, uint64_t id,
                                 const ucxnb_target_t *target, uint64_t window_there,
                                 uint64_t window_here)
{
    ucp_ep_params_t params = {
            .field_mask = UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER |
                          UCP_EP_PARAM_FIELD_USER_DATA,
            .address = target->worker_address,
            .sockaddr = {.addr = target->socket_address,
                         .addrlen = (socklen_t)target->socket_length},
            .conn_request = target->knocking,
            .err_mode = UCP_ERR_HANDLING_MODE_PEER,
            .err_handler = {.cb = on_failure, .arg = endpoint},
            .user_data = endpoint,
    };
    ucs_status_t status = UCS_ERR_NO_MEMORY;
    int registered;

    if (target->worker_address != NULL) {
        params.field_mask |= UCP_EP_PARAM_FIELD_REMOTE_ADDRESS;
    } else if (target->knocking != NULL) {
        params.field_mask |= UCP_EP_PARAM_FIELD_CONN_REQUEST;
    } else {
        params.field_mask |= UCP_EP_PARAM_FIELD_SOCK_ADDR | UCP_EP_PARAM_FIELD_FLAGS;
        params.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER;
    }
    memset(endpoint, 0, sizeof *endpoint);
    endpoint->engine = engine;
    endpoint->id = id;
    endpoint->gate = endpoint->limit = endpoint->window = window_there;
    endpoint->due = window_here == UINT64_MAX ? UINT64_MAX : window_here / UCXNB_DUE_PARTS;
    pthread_mutex_init(&endpoint->held_lock, NULL);
    atomic_store(&endpoint->state, UCXNB_ENDED);
    pthread_mutex_lock(&engine->match_lock);
    registered = register_endpoint(engine, endpoint);
    pthread_mutex_unlock(&engine->match_lock);
    if (registered) {
        ucxnb_ask_in(&engine->driver);
        status = ucxnb_ucp.ucp_ep_create(engine->driver.worker, &params, &endpoint->ucp);
        ucxnb_ask_no_more(&engine->driver);
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
    ucxnb_endpoint_changed(endpoint);
    ucxnb_stream_changed(endpoint);
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
    ucp_ep_h ucp;
    void *request;

    if (atomic_load(&endpoint->state) == UCXNB_OPEN) {
        atomic_store(&endpoint->state, UCXNB_CLOSING);
    }
    while (atomic_load(&endpoint->posting) > 0) {
        sched_yield(); /* such a call never waits */
    }
    ucp = ucxnb_end_held(endpoint);
    if (ucp == NULL) {
        return;
    }
    atomic_fetch_add(&engine->pending_closes, 1);
    ucxnb_ask_in(&engine->driver);
    request = ucxnb_ucp.ucp_ep_close_nbx(ucp, &param);
    ucxnb_ask_no_more(&engine->driver);
    if (request == NULL || UCS_PTR_IS_ERR(request)) {
        atomic_fetch_sub(&engine->pending_closes, 1);
    }
    ucxnb_tell_ended(&engine->driver);
    ucxnb_wake_background(&engine->driver);
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
        ucxnb_ask_in(&endpoint->engine->driver);
        status = ucxnb_ucp.ucp_ep_query(endpoint->ucp, &attributes);
        ucxnb_ask_no_more(&endpoint->engine->driver);
    }
    atomic_fetch_sub(&endpoint->posting, 1);
    return status == UCS_OK ? attributes.transports.num_entries : 0;
}

char *ucxnb_print_endpoint(ucxnb_endpoint_t *endpoint)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    int printed = 0;

    if (stream == NULL) {
        return NULL;
    }
    atomic_fetch_add(&endpoint->posting, 1);
    if (atomic_load(&endpoint->state) == UCXNB_OPEN && endpoint->ucp != NULL) {
        ucxnb_ask_in(&endpoint->engine->driver);
        ucxnb_ucp.ucp_ep_print_info(endpoint->ucp, stream);
        ucxnb_ucp.ucp_worker_print_info(endpoint->engine->driver.worker, stream);
        ucxnb_ask_no_more(&endpoint->engine->driver);
        printed = 1;
    }
    atomic_fetch_sub(&endpoint->posting, 1);
    if (fclose(stream) != 0 || !printed) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- sends ---- */

static ucs_status_t status_of(void *request)
{
    return UCS_PTR_IS_PTR(request) ? UCS_INPROGRESS : UCS_PTR_STATUS(request);
}

ucs_status_t ucxnb_begin_send(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                              uint64_t tag, ucp_send_nbx_callback_t callback,
                              ucxnb_operation_t *operation)
{
    ucp_request_param_t param;

    param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                         UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    param.cb.send = callback;
    param.user_data = operation;
    param.memory_type = operation->memory_type;
    if (operation->parts > 0) {
        param.op_attr_mask |= UCP_OP_ATTR_FIELD_DATATYPE;
        param.datatype = ucp_dt_make_iov();
        length = operation->parts;
    }
    return status_of(
            ucxnb_ucp.ucp_tag_send_nbx(endpoint->ucp, buffer, length, tag, &param));
}

ucs_status_t ucxnb_post_send(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                             uint64_t tag, ucxnb_operation_t *operation)
{
    ucxnb_engine_t *engine = endpoint->engine;
    ucs_status_t status = UCS_ERR_CANCELED;

    atomic_fetch_add(&endpoint->posting, 1);
    if (atomic_load(&endpoint->state) == UCXNB_OPEN) {
        if (ucxnb_pay(endpoint, ucxnb_cost(length))) {
            ucxnb_ask_in(&engine->driver);
            status = ucxnb_begin_send(endpoint, buffer, length, tag, ucxnb_on_sent, operation);
            ucxnb_ask_no_more(&engine->driver);
        } else {
            status = ucxnb_hold(endpoint, buffer, length, tag, operation);
        }
    }
    atomic_fetch_sub(&endpoint->posting, 1);
    if (ucxnb_count_post(engine)) {
        ucxnb_progress(&engine->driver);
    }
    return status;
}

ucs_status_t ucxnb_post_send_with_gil(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                                      uint64_t tag, ucxnb_operation_t *operation, int *due)
{
    ucxnb_engine_t *engine = endpoint->engine;
    *due = ucxnb_count_post(engine);
    if (atomic_load(&endpoint->state) != UCXNB_OPEN) {
        return UCS_ERR_CANCELED;
    }
    if (!ucxnb_pay_with_gil(endpoint, ucxnb_cost(length))) {
        return UCXNB_WOULD_HOLD;
    }
    return ucxnb_begin_send(endpoint, buffer, length, tag, ucxnb_on_sent, operation);
}

ucs_status_t ucxnb_begin_piece(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length,
                               ucxnb_operation_t *operation)
{
    ucp_request_param_t param;

    param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                         UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    param.cb.send = ucxnb_on_part_sent;
    param.user_data = operation;
    param.memory_type = operation->memory_type;
    return status_of(ucxnb_ucp.ucp_stream_send_nbx(endpoint->ucp, buffer, length, &param));
}

ucs_status_t ucxnb_begin_flush(ucxnb_endpoint_t *endpoint, ucxnb_operation_t *operation)
{
    ucp_request_param_t param = {
            .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
            .cb.send = ucxnb_on_sent,
            .user_data = operation,
    };

    return status_of(ucxnb_ucp.ucp_ep_flush_nbx(endpoint->ucp, &param));
}

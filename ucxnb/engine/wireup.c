#include "wireup.h"

#include <string.h>

static void on_knock(ucp_conn_request_h knocking, void *arg)
{
    ucxnb_listener_t *listener = arg;
    int room;

    pthread_mutex_lock(&listener->lock);
    room = listener->count < UCXNB_KNOCKERS;
    if (room) {
        listener->knocking[listener->count++] = knocking;
    }
    pthread_mutex_unlock(&listener->lock);
    if (room) {
        ucxnb_tell_news(listener->engine);
    } else {
        ucxnb_ucp.ucp_listener_reject(listener->handle, knocking);
    }
}

ucs_status_t ucxnb_listen(ucxnb_engine_t *engine, const void *address, size_t length,
                          ucxnb_listener_t *listener)
{
    ucp_listener_params_t params = {
            .field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
            .sockaddr = {.addr = address, .addrlen = (socklen_t)length},
            .conn_handler = {.cb = on_knock, .arg = listener},
    };
    ucp_listener_attr_t attributes = {.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR};
    ucs_status_t status;

    memset(listener, 0, sizeof *listener);
    listener->engine = engine;
    pthread_mutex_init(&listener->lock, NULL);
    ucxnb_ask_in(&engine->driver);
    status = ucxnb_ucp.ucp_listener_create(engine->driver.worker, &params, &listener->handle);
    if (status == UCS_OK) {
        status = ucxnb_ucp.ucp_listener_query(listener->handle, &attributes);
        listener->address = attributes.sockaddr;
    } else {
        listener->handle = NULL;
    }
    ucxnb_ask_no_more(&engine->driver);
    if (status != UCS_OK) {
        ucxnb_stop_listening(listener);
    } else {
        ucxnb_wake_background(&engine->driver);
    }
    return status;
}

ucp_conn_request_h ucxnb_next_knocking(ucxnb_listener_t *listener,
                                       struct sockaddr_storage *address)
{
    ucp_conn_request_attr_t attributes = {.field_mask = UCP_CONN_REQUEST_ATTR_FIELD_CLIENT_ADDR};
    ucp_conn_request_h knocking = NULL;

    pthread_mutex_lock(&listener->lock);
    if (listener->count > 0) {
        knocking = listener->knocking[0];
        listener->count--;
        memmove(listener->knocking, listener->knocking + 1,
                listener->count * sizeof *listener->knocking);
    }
    pthread_mutex_unlock(&listener->lock);
    memset(address, 0, sizeof *address);
    if (knocking != NULL &&
        ucxnb_ucp.ucp_conn_request_query(knocking, &attributes) == UCS_OK) {
        *address = attributes.client_address;
    }
    return knocking;
}

void ucxnb_turn_away(ucxnb_listener_t *listener, ucp_conn_request_h knocking)
{
    ucxnb_driver_t *driver = &listener->engine->driver;

    ucxnb_ask_in(driver);
    ucxnb_ucp.ucp_listener_reject(listener->handle, knocking);
    ucxnb_ask_no_more(driver);
}

void ucxnb_stop_listening(ucxnb_listener_t *listener)
{
    ucxnb_driver_t *driver = &listener->engine->driver;
    struct sockaddr_storage address;
    ucp_conn_request_h knocking;

    if (listener->handle != NULL) {
        while ((knocking = ucxnb_next_knocking(listener, &address)) != NULL) {
            ucxnb_turn_away(listener, knocking);
        }
        ucxnb_ask_in(driver);
        ucxnb_ucp.ucp_listener_destroy(listener->handle);
        ucxnb_ask_no_more(driver);
        listener->handle = NULL;
    }
}

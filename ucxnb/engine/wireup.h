/* UCX's own client-server wire-up: listeners that UCX opens, and who knocks at them. */
#ifndef UCXNB_WIREUP_H
#define UCXNB_WIREUP_H

#include "endpoint.h"

#include <sys/socket.h>

/* Those who knock and were not let in yet; more are turned away. */
#define UCXNB_KNOCKERS 64

typedef struct {
    ucxnb_engine_t *engine;
    ucp_listener_h handle; /* NULL once closed */
    struct sockaddr_storage address; /* as really bound */
    pthread_mutex_t lock;  /* guards what follows; taken inside UCX callbacks */
    ucp_conn_request_h knocking[UCXNB_KNOCKERS];
    int count;
} ucxnb_listener_t;

/* Listen at an address. Whoever comes makes the engine's `news_fd` readable. */
ucs_status_t ucxnb_listen(ucxnb_engine_t *engine, const void *address, size_t length,
                          ucxnb_listener_t *listener);

/* Take the next one who knocks, and its address; NULL if there is none. */
ucp_conn_request_h ucxnb_next_knocking(ucxnb_listener_t *listener,
                                       struct sockaddr_storage *address);

/* Turn one away. */
void ucxnb_turn_away(ucxnb_listener_t *listener, ucp_conn_request_h knocking);

/* Turn all away, and free the port. Idempotent. */
void ucxnb_stop_listening(ucxnb_listener_t *listener);

#endif

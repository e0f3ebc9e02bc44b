/* UCP endpoints and the tagged messages that go through them. */
#ifndef UCXNB_ENDPOINT_H
#define UCXNB_ENDPOINT_H

#include "backlog.h"
#include "progress.h"

/* With endpoint-scoped tags the high 24 bits of a wire tag name the receiver's endpoint. */
#define UCXNB_ID_SHIFT 40

typedef struct ucxnb_endpoint ucxnb_endpoint_t;

typedef struct {
    ucxnb_driver_t driver;
    int failure_fd; /* eventfd: readable after UCX reported an endpoint as failed */
    int endpoint_scope;
    _Atomic int closing;
    _Atomic int pending_closes;
    _Atomic unsigned posts;

    pthread_mutex_t match_lock; /* guards what follows */
    ucxnb_backlog_t backlog;
    ucxnb_endpoint_t **endpoints; /* by id; NULL where there is none */
    uint64_t endpoint_capacity;
} ucxnb_engine_t;

enum { UCXNB_OPEN, UCXNB_CLOSING, UCXNB_ENDED };

struct ucxnb_endpoint {
    ucxnb_engine_t *engine;
    ucp_ep_h ucp; /* NULL once closed */
    uint64_t id;
    _Atomic int state;
    _Atomic int posting; /* threads inside a UCP call on `ucp` */
    _Atomic int failure; /* the ucs_status_t UCX reported, or 0 */
    uint64_t waiting;    /* its messages in the backlog; under match_lock */
};

/* A receive in search of its message. */
typedef struct {
    ucxnb_engine_t *engine;
    ucxnb_endpoint_t *endpoint; /* NULL: from anyone */
    uint64_t tag, mask;
    size_t capacity;
    /* out */
    ucp_tag_message_h handle;
    uint64_t sender_tag;
    size_t length;
} ucxnb_match_t;

enum {
    UCXNB_NO_MATCH,
    UCXNB_MATCHED,    /* handle, sender_tag and length are set; the message is the caller's */
    UCXNB_TOO_SMALL,  /* sender_tag and length are set; the message waits in the backlog */
    UCXNB_NO_MEMORY,  /* to remember a message that is too large; it is lost */
    UCXNB_PEER_ENDED, /* nothing is left, and nothing will come */
    UCXNB_SHUT        /* the engine, or the endpoint, is being closed on this side */
};

/* 0, or an errno. */
int ucxnb_engine_start(ucxnb_engine_t *engine, ucp_worker_h worker, long interval_us,
                       int endpoint_scope);

/* Blocking calls end, and no new one begins to wait. */
void ucxnb_engine_shut(ucxnb_engine_t *engine);

/* Every endpoint must be closed, and no thread inside any other call. */
void ucxnb_engine_stop(ucxnb_engine_t *engine);

/* In the child of a fork: forget thread, descriptors and memory that are the parent's. */
void ucxnb_engine_abandon(ucxnb_engine_t *engine);

/* Create a UCP endpoint to a worker address, with error handling. */
ucs_status_t ucxnb_endpoint_open(ucxnb_engine_t *engine, ucxnb_endpoint_t *endpoint, uint64_t id,
                                 const void *address);

/* No more sends; receives go on until nothing is left if `state` is UCXNB_ENDED. */
void ucxnb_endpoint_set_state(ucxnb_endpoint_t *endpoint, int state);

/* Close the UCP endpoint at once; operations on it end with an error. Idempotent. */
void ucxnb_endpoint_close(ucxnb_endpoint_t *endpoint);

/* Its id means nothing from now on; messages of it that nobody received are dropped. */
void ucxnb_endpoint_forget(ucxnb_endpoint_t *endpoint);

/* NULL (done), an error or a request, as UCX gives it. UCS_ERR_CANCELED if it is not open. */
void *ucxnb_post_send(ucxnb_endpoint_t *endpoint, const void *buffer, size_t length, uint64_t tag);
void *ucxnb_post_flush(ucxnb_endpoint_t *endpoint);
void *ucxnb_post_receive(ucxnb_engine_t *engine, void *buffer, size_t length,
                         ucp_tag_message_h handle);

/* Look for the message once; usable as ucxnb_ready_t on a ucxnb_match_t. */
int ucxnb_match(void *match);

/* Status of a request after waiting until the deadline at most, or (unless `even_if_shut`) until
 * the engine is shut; UCS_INPROGRESS if it is still under way, else the request has been freed. */
ucs_status_t ucxnb_wait_request(ucxnb_engine_t *engine, void *request, int64_t deadline_ns,
                                int spin, int even_if_shut);

/* Its status now, without progress; the request is freed unless UCS_INPROGRESS is returned. */
ucs_status_t ucxnb_test_request(void *request);

/* Drive the worker until the deadline, or until the engine is shut. */
void ucxnb_run(ucxnb_engine_t *engine, int64_t deadline_ns, uint64_t *operations);

/* Move all that has arrived into the backlog; returns how many wait for this endpoint. */
uint64_t ucxnb_harvest(ucxnb_endpoint_t *endpoint);

/* Names of the transports in use, at most `limit`; returns how many. */
unsigned ucxnb_endpoint_transports(ucxnb_endpoint_t *endpoint, ucp_transport_entry_t *entries,
                                   unsigned limit);

#endif

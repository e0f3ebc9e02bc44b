/* Operations: sends and receives that go on after the call that began them. */
#ifndef UCXNB_OPERATION_H
#define UCXNB_OPERATION_H

#include "engine.h"

/* How a search for a message ends, and with it a receive. */
enum {
    UCXNB_NO_MATCH,
    UCXNB_MATCHED,
    UCXNB_TOO_SMALL,  /* the message waits in the backlog */
    UCXNB_NO_MEMORY,  /* for the message, which waits in the backlog */
    UCXNB_PEER_ENDED, /* nothing is left, and nothing will come */
    UCXNB_SHUT,       /* the engine, or the endpoint, is being closed on this side */
    UCXNB_NO_PEERS,   /* nobody is left who could send it */
    UCXNB_CANCELED    /* the receive was withdrawn before there was a message */
};

/* A message in the backlog: in UCX's hands, or in those of an operation that nobody waits for. */
typedef struct {
    ucxnb_entry_t entry; /* first: one is the other */
    ucp_tag_message_h handle;
    ucxnb_operation_t *operation; /* or NULL */
    size_t length;
} ucxnb_message_t;

enum { UCXNB_POSTED, UCXNB_UNDER_WAY, UCXNB_DONE };

/* What it moves. */
enum { UCXNB_TAGGED, UCXNB_STREAMED, UCXNB_FLUSH, UCXNB_PUT, UCXNB_GET };

struct ucxnb_operation {
    ucxnb_message_t message; /* as a posted receive, and as a message that was given back */
    ucxnb_engine_t *engine;
    ucxnb_endpoint_t *endpoint; /* NULL: a receive from anyone */
    int kind;
    uint64_t mask;
    char *memory;
    size_t capacity;
    int into_buffer;  /* of the caller's; else the engine allocates memory for the message */
    int owns_memory;  /* `memory` was allocated here */
    int memory_type;  /* ucs_memory_type_t: of what is sent, or of `memory` */
    _Atomic int state;
    int outcome;      /* once done */
    ucs_status_t status;
    uint64_t sender_tag, age; /* of the message, as is length */
    size_t length;
    _Atomic int64_t balance;   /* of several sends: less one for each that is over; when all have been
                                * posted, more by their number: so 0 at the end */
    _Atomic int in_backlog;    /* written under match_lock */
    _Atomic int taken;         /* out of the backlog, by a receive that has yet to copy the message */
    int orphan;                /* under completion_lock: nobody waits, and it is under way */
    int queued, released;      /* under completion_lock */
    int held;                  /* under the endpoint's held_lock, as are: */
    size_t parts;              /* it sends so many parts, of a ucp_dt_iov_t array; or 0 */
    size_t begun;              /* of a stream's: bytes that were posted */
    int pieces;                /* in so many parts */
    ucxnb_operation_t *next_held;
    int wait_all;              /* of a read of a stream; under stream_lock, as is: */
    ucxnb_operation_t *next_reader;
    ucxnb_operation_t *next_completed;

    /* for Cython, under the GIL */
    void *owner;   /* of the memory */
    void *request; /* what the caller holds, or NULL */
    ucxnb_operation_t *previous, *next;
    int is_send, counted, reaped;
    int in_flight;      /* it took off, with so much: */
    size_t bytes_in_flight;
    _Atomic int64_t started_ns; /* 0: nobody asks how long it takes */
    int64_t ended_ns;           /* if somebody does */
};

/* Whether no processor may touch what it sends, or its `memory`. */
static inline int ucxnb_on_gpu(const ucxnb_operation_t *operation)
{
    return operation->memory_type != UCS_MEMORY_TYPE_HOST;
}

/* A fresh operation, under way; NULL if there is no memory. */
ucxnb_operation_t *ucxnb_operation_new(ucxnb_engine_t *engine, ucxnb_endpoint_t *endpoint);

/* Make one that has ended, and that nobody else knows any more, as good as new. */
void ucxnb_operation_renew(ucxnb_operation_t *operation);

void ucxnb_operation_free(ucxnb_operation_t *operation);

/* For the driver: make the descriptor readable that tells event loops of completions. */
void ucxnb_tell_completed(ucxnb_driver_t *driver);

/* It is over: tell everyone who waits. */
void ucxnb_complete(ucxnb_operation_t *operation, int outcome, ucs_status_t status);

/* Take the oldest operation that completed, or that was released after that; or NULL. If it was
 * released nobody else knows it any more. */
ucxnb_operation_t *ucxnb_next_completed(ucxnb_engine_t *engine, int *released);

/* Count a send of `nbytes` among those in flight, of its endpoint and the engine; and no longer. The
 * second may come for any operation. Under the GIL, or by the one who has just posted it. */
void ucxnb_take_off(ucxnb_operation_t *operation, size_t nbytes);
void ucxnb_land(ucxnb_operation_t *operation);

/* Nobody will look at it again. */
void ucxnb_release(ucxnb_operation_t *operation);

/* For ucp_request_param_t, with the operation as user data. */
void ucxnb_on_sent(void *request, ucs_status_t status, void *operation);
void ucxnb_on_part_sent(void *request, ucs_status_t status, void *operation);
void ucxnb_on_received(void *request, ucs_status_t status, const ucp_tag_recv_info_t *info,
                       void *operation);

/* Wait until it is done (then true), the deadline, or (unless `even_if_shut`) the engine's end. */
int ucxnb_wait_operation(ucxnb_operation_t *operation, int64_t deadline_ns, int spin,
                         int even_if_shut);

/* Wait until one of them is done, or all. All belong to one engine. */
int ucxnb_wait_any(ucxnb_operation_t **operations, size_t count, int64_t deadline_ns, int spin);
int ucxnb_wait_all(ucxnb_operation_t **operations, size_t count, int64_t deadline_ns, int spin);

#endif

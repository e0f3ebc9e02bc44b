/* The parts of an engine, and what they share. */
#ifndef UCXNB_ENGINE_H
#define UCXNB_ENGINE_H

#include "progress.h"
#include "tag_table.h"

/* Receives by what they take: one wire tag; one tag, from any endpoint; several tags. */
enum { UCXNB_POSTED_EXACT, UCXNB_POSTED_ANYONE, UCXNB_POSTED_MASKED, UCXNB_POSTED_KINDS };

typedef struct ucxnb_endpoint ucxnb_endpoint_t;
typedef struct ucxnb_operation ucxnb_operation_t;

/* Messages that nobody received yet. */
typedef struct {
    uint64_t messages, bytes;
    uint64_t cost; /* see allowance.h */
} ucxnb_load_t;

/* Sends that UCX, or the queue of those that are held, has and has not completed. */
typedef struct {
    _Atomic int64_t sends, bytes;
} ucxnb_in_flight_t;

typedef struct ucxnb_engine {
    ucxnb_driver_t driver;
    int news_fd; /* eventfd: readable after UCX reported an endpoint as failed, or one became due */
    int endpoint_scope;
    _Atomic int closing;
    _Atomic int pending_closes;
    _Atomic unsigned posts;
    _Atomic int held; /* sends that wait for their peers to receive */
    ucxnb_in_flight_t in_flight;

    pthread_mutex_t match_lock; /* guards what follows */
    ucxnb_tag_table_t backlog;  /* messages that nobody received yet */
    ucxnb_load_t load;          /* of the backlog */
    ucxnb_tag_table_t posted[UCXNB_POSTED_KINDS]; /* receives without a message yet */
    size_t posted_count;                          /* in all of them */
    uint64_t age;
    ucxnb_endpoint_t **endpoints; /* by id; NULL where there is none */
    uint64_t endpoint_capacity;

    pthread_mutex_t stream_lock;  /* guards the streams of all endpoints; taken before match_lock */
    uint64_t unread;              /* bytes that are kept for readers, in all of them */
    _Atomic int posted_readers;

    pthread_mutex_t completion_lock; /* guards what follows; taken inside the other, and last */
    ucxnb_operation_t *_Atomic first_completed;
    ucxnb_operation_t *last_completed;
    _Atomic int orphans_under_way; /* messages in the backlog whose bytes are still on their way */
    _Atomic int undelivered;       /* arrivals were left with UCX, to be delivered soon */
    _Atomic int match_again;       /* the backlog changed in a way that a posted receive waits for */
    int completion_fd;             /* eventfd: readable after an operation completed */
    _Atomic int listeners;         /* those who watch that descriptor */
} ucxnb_engine_t;

/* 0, or an errno. */
int ucxnb_engine_start(ucxnb_engine_t *engine, ucp_worker_h worker, long interval_us,
                       int endpoint_scope, int with_streams);

/* Blocking calls and posted receives end, and no new one begins to wait. */
void ucxnb_engine_shut(ucxnb_engine_t *engine);

/* Every endpoint must be closed, and no thread inside any other call. */
void ucxnb_engine_stop(ucxnb_engine_t *engine);

/* In the child of a fork: forget thread, descriptors and memory that are the parent's. */
void ucxnb_engine_abandon(ucxnb_engine_t *engine);

/* Drive the worker until the deadline, or until the engine is shut. */
void ucxnb_run(ucxnb_engine_t *engine, int64_t deadline_ns, uint64_t *operations);

#endif

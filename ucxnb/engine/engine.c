#include "matching.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CLOSE_PATIENCE_NS 1000000000

static void close_descriptors(ucxnb_engine_t *engine)
{
    if (engine->news_fd >= 0) {
        close(engine->news_fd);
    }
    if (engine->completion_fd >= 0) {
        close(engine->completion_fd);
    }
    /* UCX may still report something while its worker is destroyed. */
    engine->news_fd = engine->completion_fd = -1;
}

int ucxnb_engine_start(ucxnb_engine_t *engine, ucp_worker_h worker, long interval_us,
                       int endpoint_scope, int with_streams)
{
    int error;

    memset(engine, 0, sizeof *engine);
    engine->endpoint_scope = endpoint_scope;
    engine->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    engine->completion_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (engine->news_fd < 0 || engine->completion_fd < 0) {
        error = errno;
        close_descriptors(engine);
        return error;
    }
    error = ucxnb_driver_start(&engine->driver, worker, interval_us);
    if (error != 0) {
        close_descriptors(engine);
        return error;
    }
    pthread_mutex_init(&engine->completion_lock, NULL);
    ucxnb_matching_start(engine);
    ucxnb_streams_start(engine, with_streams);
    return 0;
}

void ucxnb_engine_shut(ucxnb_engine_t *engine)
{
    atomic_store(&engine->closing, 1);
    ucxnb_end_posted(engine);
    ucxnb_end_readers(engine);
    ucxnb_wake_waiters(&engine->driver);
}

void ucxnb_engine_stop(ucxnb_engine_t *engine)
{
    int64_t deadline = ucxnb_now_ns() + CLOSE_PATIENCE_NS;
    int kind;

    ucxnb_matching_stop(engine);
    while (atomic_load(&engine->pending_closes) > 0 && ucxnb_now_ns() < deadline) {
        ucxnb_progress(&engine->driver);
    }
    ucxnb_driver_stop(&engine->driver);
    close_descriptors(engine);
    ucxnb_table_free(&engine->backlog);
    for (kind = 0; kind < UCXNB_POSTED_KINDS; kind++) {
        ucxnb_table_free(&engine->posted[kind]);
    }
    free(engine->endpoints);
    engine->endpoints = NULL;
    engine->endpoint_capacity = 0;
}

void ucxnb_engine_abandon(ucxnb_engine_t *engine)
{
    atomic_store(&engine->closing, 1);
    ucxnb_driver_abandon(&engine->driver);
    close_descriptors(engine);
    /* A thread of the parent's may have held them. */
    pthread_mutex_init(&engine->completion_lock, NULL);
    pthread_mutex_init(&engine->match_lock, NULL);
    pthread_mutex_init(&engine->stream_lock, NULL);
    atomic_store(&engine->first_completed, NULL);
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

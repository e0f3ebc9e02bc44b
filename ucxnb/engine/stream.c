#include "stream.h"

#include "gpu.h"
#include "matching.h"

#include <stdlib.h>
#include <string.h>

/* What is unread is kept in blocks of at least this size. */
#define BLOCK_SIZE 65536
/* Endpoints that UCX names at once, of those that have something to read. */
#define POLLED 16

struct ucxnb_block {
    ucxnb_block_t *next;
    size_t start, end, size;
    char bytes[];
};

/* Bytes that were read before the endpoint is told, in whose window much more must fit. */
#define UNTOLD 1024

/* What follows is called under stream_lock, up to the functions of the header. */

static void weigh(ucxnb_endpoint_t *endpoint, int64_t nbytes)
{
    endpoint->stream.kept += nbytes;
    endpoint->engine->unread += nbytes;
}

/* So much was read; less if it was unread. */
static void count_read(ucxnb_endpoint_t *endpoint, int64_t nbytes)
{
    ucxnb_stream_t *stream = &endpoint->stream;

    stream->position += nbytes;
    stream->untold += nbytes;
    if (stream->untold >= UNTOLD || stream->untold < 0) {
        ucxnb_count_read(endpoint, stream->untold);
        stream->untold = 0;
    }
}

static ucxnb_block_t *new_block(size_t size)
{
    ucxnb_block_t *block = malloc(sizeof *block + size);

    if (block != NULL) {
        *block = (ucxnb_block_t){.size = size};
    }
    return block;
}

/* A stream with a gap is of no use: the connection is lost. */
static void lose(ucxnb_endpoint_t *endpoint)
{
    atomic_store(&endpoint->failure, UCS_ERR_NO_MEMORY);
    ucxnb_tell_news(endpoint->engine);
}

static void copy_to_reader(ucxnb_reader_t *reader, const char *bytes, size_t length)
{
    if (ucxnb_copy(reader->memory + reader->done, bytes, length, reader->on_gpu) != UCS_OK) {
        lose(reader->endpoint);
    }
    reader->done += length;
}

static void keep(ucxnb_endpoint_t *endpoint, const char *bytes, size_t length)
{
    ucxnb_stream_t *stream = &endpoint->stream;
    ucxnb_block_t *last = stream->last;

    if (atomic_load(&endpoint->failure) == UCS_ERR_NO_MEMORY) {
        return;
    }
    if (last == NULL || last->size - last->end < length) {
        last = new_block(length < BLOCK_SIZE ? BLOCK_SIZE : length);
        if (last == NULL) {
            lose(endpoint);
            return;
        }
        if (stream->last != NULL) {
            stream->last->next = last;
        } else {
            stream->first = last;
        }
        stream->last = last;
    }
    memcpy(last->bytes + last->end, bytes, length);
    last->end += length;
    weigh(endpoint, (int64_t)length);
}

static size_t room_for(const ucxnb_reader_t *reader, size_t length)
{
    size_t room = reader->capacity - reader->done;

    return length < room ? length : room;
}

static void read_kept(ucxnb_reader_t *reader)
{
    ucxnb_stream_t *stream = &reader->endpoint->stream;
    ucxnb_block_t *block;
    size_t length;

    while (reader->done < reader->capacity && (block = stream->first) != NULL) {
        length = room_for(reader, block->end - block->start);
        copy_to_reader(reader, block->bytes + block->start, length);
        weigh(reader->endpoint, -(int64_t)length);
        block->start += length;
        if (block->start == block->end) {
            stream->first = block->next;
            if (block->next == NULL) {
                stream->last = NULL;
            }
            free(block);
        }
    }
}

/* Copy what UCX has into a reader's memory, and the rest of the last piece, or all there is if
 * `all`, into blocks. For one who keeps the UCP endpoint from being closed. */
static void read_pieces(ucxnb_reader_t *reader, int all)
{
    ucxnb_endpoint_t *endpoint = reader->endpoint;
    size_t length, wanted;
    ucs_status_ptr_t piece;

    while (reader->done < reader->capacity || all) {
        piece = ucxnb_ucp.ucp_stream_recv_data_nb(endpoint->ucp, &length);
        if (!UCS_PTR_IS_PTR(piece)) {
            break; /* of an error UCX tells elsewhere */
        }
        wanted = room_for(reader, length);
        copy_to_reader(reader, piece, wanted);
        if (wanted < length) {
            keep(endpoint, (char *)piece + wanted, length - wanted);
        }
        endpoint->stream.arrived += length;
        ucxnb_ucp.ucp_stream_data_release(endpoint->ucp, piece);
    }
}

/* Whether its UCP endpoint can be used, and stays so until `leave_ucp`. */
static int enter_ucp(ucxnb_endpoint_t *endpoint)
{
    atomic_fetch_add(&endpoint->posting, 1);
    if (atomic_load(&endpoint->state) == UCXNB_OPEN && endpoint->ucp != NULL) {
        return 1;
    }
    atomic_fetch_sub(&endpoint->posting, 1);
    return 0;
}

static void leave_ucp(ucxnb_endpoint_t *endpoint)
{
    atomic_fetch_sub(&endpoint->posting, 1);
}

static void harvest(ucxnb_endpoint_t *endpoint)
{
    ucxnb_reader_t nobody = {.endpoint = endpoint};

    if (enter_ucp(endpoint)) {
        read_pieces(&nobody, 1);
        leave_ucp(endpoint);
    }
}

static int look(ucxnb_reader_t *reader)
{
    ucxnb_endpoint_t *endpoint = reader->endpoint;
    /* Read before looking: what came before the end is found after it. */
    int state = atomic_load(&endpoint->state);
    size_t before = reader->done;

    if (state == UCXNB_CLOSING ||
        atomic_load_explicit(&endpoint->engine->closing, memory_order_relaxed)) {
        return UCXNB_SHUT;
    }
    if (endpoint->stream.first != NULL) {
        read_kept(reader);
    }
    if (reader->done < reader->capacity && enter_ucp(endpoint)) {
        read_pieces(reader, 0);
        leave_ucp(endpoint);
    }
    if (reader->done > before) {
        count_read(endpoint, (int64_t)(reader->done - before));
    }
    reader->position = endpoint->stream.position;
    if (reader->done == reader->capacity || (reader->done > 0 && !reader->wait_all)) {
        return UCXNB_MATCHED;
    }
    return state == UCXNB_ENDED ? UCXNB_PEER_ENDED : UCXNB_NO_MATCH;
}

static int unread(const ucxnb_reader_t *reader)
{
    ucxnb_endpoint_t *endpoint = reader->endpoint;
    ucxnb_stream_t *stream = &endpoint->stream;
    ucxnb_block_t *block;

    if (reader->done == 0) {
        return 1;
    }
    if (reader->position != stream->position || (block = new_block(reader->done)) == NULL) {
        return 0;
    }
    if (ucxnb_copy(block->bytes, reader->memory, reader->done, reader->on_gpu) != UCS_OK) {
        lose(endpoint);
    }
    block->end = reader->done;
    block->next = stream->first;
    stream->first = block;
    if (stream->last == NULL) {
        stream->last = block;
    }
    weigh(endpoint, (int64_t)reader->done);
    count_read(endpoint, -(int64_t)reader->done);
    return 1;
}

/* ---- those that were posted ---- */

static ucxnb_reader_t reader_of(const ucxnb_operation_t *operation)
{
    return (ucxnb_reader_t){
            .endpoint = operation->endpoint,
            .memory = operation->memory,
            .capacity = operation->capacity,
            .on_gpu = ucxnb_on_gpu(operation),
            .wait_all = operation->wait_all,
            .done = operation->length,
            .position = operation->age,
    };
}

static void unpost(ucxnb_operation_t *operation)
{
    ucxnb_stream_t *stream = &operation->endpoint->stream;
    ucxnb_operation_t **place = &stream->first_reader;

    while (*place != operation) {
        place = &(*place)->next_reader;
    }
    *place = operation->next_reader;
    atomic_fetch_sub(&stream->readers, 1);
    atomic_fetch_sub(&operation->engine->posted_readers, 1);
    atomic_fetch_sub(&operation->engine->driver.posted, 1);
}

/* Whether it has ended, and is no longer among them. */
static int serve(ucxnb_operation_t *operation)
{
    ucxnb_reader_t reader = reader_of(operation);
    int result = look(&reader);

    operation->length = reader.done;
    operation->age = reader.position;
    if (result == UCXNB_NO_MATCH) {
        return 0;
    }
    if (result != UCXNB_MATCHED) {
        unread(&reader);
    }
    unpost(operation);
    ucxnb_complete(operation, result, UCS_OK);
    return 1;
}

static void serve_all_of(ucxnb_endpoint_t *endpoint)
{
    while (endpoint->stream.first_reader != NULL && serve(endpoint->stream.first_reader)) {
    }
}

/* Give what has come to those that were posted; what nobody reads is moved into blocks. */
static void deliver(ucxnb_engine_t *engine)
{
    ucp_stream_poll_ep_t polled[POLLED];
    ucxnb_endpoint_t *endpoint;
    ssize_t count, i;

    do {
        count = ucxnb_ucp.ucp_stream_worker_poll(engine->driver.worker, polled, POLLED, 0);
        for (i = 0; i < count; i++) {
            endpoint = polled[i].user_data;
            serve_all_of(endpoint);
            if (atomic_load(&endpoint->stream.readers) == 0) {
                harvest(endpoint);
            }
        }
    } while (count == POLLED);
}

/* Whoever progressed the worker calls this every so many steps. */
static void in_passing(ucxnb_driver_t *driver)
{
    ucxnb_engine_t *engine = (ucxnb_engine_t *)driver; /* its first member */

    if (pthread_mutex_trylock(&engine->stream_lock) == 0) {
        deliver(engine);
        pthread_mutex_unlock(&engine->stream_lock);
    }
}

/* ---- for all ---- */

static void enter(ucxnb_engine_t *engine)
{
    ucxnb_ask_in(&engine->driver);
    pthread_mutex_lock(&engine->stream_lock);
}

static void leave(ucxnb_engine_t *engine)
{
    pthread_mutex_unlock(&engine->stream_lock);
    ucxnb_ask_no_more(&engine->driver);
    ucxnb_tell_ended(&engine->driver);
}

void ucxnb_streams_start(ucxnb_engine_t *engine, int enabled)
{
    pthread_mutex_init(&engine->stream_lock, NULL);
    if (enabled) {
        engine->driver.in_passing = in_passing;
    }
}

int ucxnb_read(void *arg)
{
    ucxnb_reader_t *reader = arg;
    ucxnb_engine_t *engine = reader->endpoint->engine;
    int result = UCXNB_NO_MATCH;

    pthread_mutex_lock(&engine->stream_lock);
    if (reader->endpoint->stream.first_reader == NULL) {
        result = look(reader);
    }
    pthread_mutex_unlock(&engine->stream_lock);
    return result;
}

void ucxnb_begin_reading(ucxnb_reader_t *reader)
{
    atomic_fetch_add(&reader->endpoint->stream.readers, 1);
}

void ucxnb_end_reading(ucxnb_reader_t *reader)
{
    atomic_fetch_sub(&reader->endpoint->stream.readers, 1);
}

int ucxnb_unread(const ucxnb_reader_t *reader)
{
    ucxnb_engine_t *engine = reader->endpoint->engine;
    int done;

    enter(engine);
    done = unread(reader);
    leave(engine);
    return done;
}

void ucxnb_post_reader(ucxnb_operation_t *operation)
{
    ucxnb_engine_t *engine = operation->engine;
    ucxnb_operation_t **place = &operation->endpoint->stream.first_reader;

    atomic_store(&operation->state, UCXNB_POSTED);
    operation->next_reader = NULL;
    enter(engine);
    while (*place != NULL) {
        place = &(*place)->next_reader;
    }
    *place = operation;
    atomic_fetch_add(&operation->endpoint->stream.readers, 1);
    atomic_fetch_add(&engine->posted_readers, 1);
    atomic_fetch_add(&engine->driver.posted, 1);
    serve_all_of(operation->endpoint);
    leave(engine);
    ucxnb_wake_background(&engine->driver);
}

int ucxnb_withdraw_reader(ucxnb_operation_t *operation)
{
    ucxnb_engine_t *engine = operation->engine;
    ucxnb_reader_t reader;
    int posted;

    enter(engine);
    posted = atomic_load(&operation->state) == UCXNB_POSTED;
    if (posted || operation->outcome == UCXNB_MATCHED) {
        reader = reader_of(operation);
        unread(&reader);
        operation->length = 0;
    }
    if (posted) {
        unpost(operation);
        ucxnb_complete(operation, UCXNB_CANCELED, UCS_OK);
    }
    serve_all_of(operation->endpoint); /* the next ones get what was unread */
    leave(engine);
    ucxnb_wake_waiters(&engine->driver);
    return posted;
}

void ucxnb_deliver_streams(ucxnb_engine_t *engine)
{
    pthread_mutex_lock(&engine->stream_lock);
    deliver(engine);
    pthread_mutex_unlock(&engine->stream_lock);
}

void ucxnb_stream_changed(ucxnb_endpoint_t *endpoint)
{
    enter(endpoint->engine);
    serve_all_of(endpoint);
    leave(endpoint->engine);
}

void ucxnb_end_readers(ucxnb_engine_t *engine)
{
    ucxnb_endpoint_t *endpoint = NULL;
    uint64_t id = 0;

    enter(engine);
    /* One that is forgotten meanwhile lives until `ucxnb_drop_stream` has had the lock. */
    while (ucxnb_next_endpoint(engine, &id, &endpoint)) {
        serve_all_of(endpoint);
    }
    leave(engine);
}

uint64_t ucxnb_harvest_stream(ucxnb_endpoint_t *endpoint)
{
    uint64_t arrived;

    enter(endpoint->engine);
    harvest(endpoint);
    arrived = endpoint->stream.arrived;
    leave(endpoint->engine);
    return arrived;
}

uint64_t ucxnb_unread_bytes(ucxnb_engine_t *engine, const ucxnb_endpoint_t *endpoint)
{
    uint64_t unread;

    enter(engine);
    if (engine->driver.in_passing != NULL) {
        deliver(engine);
    }
    unread = endpoint != NULL ? endpoint->stream.kept : engine->unread;
    leave(engine);
    return unread;
}

void ucxnb_free_stream(ucxnb_endpoint_t *endpoint)
{
    ucxnb_stream_t *stream = &endpoint->stream;
    ucxnb_block_t *block;

    while ((block = stream->first) != NULL) {
        stream->first = block->next;
        free(block);
    }
    stream->last = NULL;
}

void ucxnb_drop_stream(ucxnb_endpoint_t *endpoint)
{
    enter(endpoint->engine);
    weigh(endpoint, -(int64_t)endpoint->stream.kept);
    ucxnb_free_stream(endpoint);
    leave(endpoint->engine);
}

#include "batches.h"

#include "allowance.h"
#include "gpu.h"

#include <stdlib.h>

/* Sends that UCX may hold at once: each costs it a request. */
#define WINDOW 1024
/* Steps of posting before whoever waits looks at the clock, and for Ctrl-C. */
#define STEPS_PER_LOOK 16
/* Messages that are taken before others get the lock. */
#define TAKEN_PER_LOOK 256

static size_t length_of(const ucxnb_send_batch_t *batch, size_t i)
{
    return batch->rows ? batch->row_size : batch->lengths[i];
}

static void set_held(ucxnb_send_batch_t *batch, int held)
{
    if (batch->held != held) {
        batch->held = held;
        ucxnb_count_held(batch->endpoint, held ? 1 : -1);
    }
}

/* Where the messages end that may be sent now. */
static size_t pay_for_some(ucxnb_send_batch_t *batch)
{
    size_t i, end = batch->done + UCXNB_POSTS_PER_STEP;
    uint64_t cost = 0;

    if (end > batch->count) {
        end = batch->count;
    }
    if (batch->rows != NULL) {
        cost = (end - batch->done) * ucxnb_cost(batch->row_size);
    } else {
        for (i = batch->done; i < end; i++) {
            cost += ucxnb_cost(batch->lengths[i]);
        }
    }
    if (!ucxnb_pay(batch->endpoint, cost)) {
        for (i = batch->done; i < end; i++) {
            cost = ucxnb_cost(length_of(batch, i));
            if (!ucxnb_pay(batch->endpoint, cost) && !ucxnb_pay_for_large(batch->endpoint, cost)) {
                break;
            }
        }
        end = i;
    }
    set_held(batch, end == batch->done);
    return end;
}

/* Up to UCXNB_POSTS_PER_STEP of them; false if one failed. */
static int send_some(ucxnb_send_batch_t *batch)
{
    ucxnb_endpoint_t *endpoint = batch->endpoint;
    size_t i, end;
    ucs_status_t status = UCS_ERR_CANCELED;

    atomic_fetch_add(&endpoint->posting, 1);
    if (atomic_load(&endpoint->state) == UCXNB_OPEN) {
        status = UCS_OK;
        end = pay_for_some(batch);
        for (i = batch->done; i < end; i++) {
            const void *memory = batch->rows ? batch->rows + (ptrdiff_t)i * batch->row_stride
                                             : batch->memories[i];
            size_t length = length_of(batch, i);
            uint64_t tag = batch->tags[batch->one_tag ? 0 : i] | batch->prefix;

            status = ucxnb_begin_send(endpoint, memory, length, tag, ucxnb_on_part_sent,
                                      batch->operation);
            if (status == UCS_INPROGRESS) {
                batch->outstanding++;
            } else if (status != UCS_OK) {
                break;
            }
            batch->done++;
        }
    }
    atomic_fetch_sub(&endpoint->posting, 1);
    if (status != UCS_OK && status != UCS_INPROGRESS) {
        batch->operation->status = status;
        return 0;
    }
    return 1;
}

int ucxnb_send_batch(void *arg)
{
    ucxnb_send_batch_t *batch = arg;
    ucxnb_engine_t *engine = batch->endpoint->engine;
    int steps;

    for (steps = 0; batch->done < batch->count; steps++) {
        if (steps == STEPS_PER_LOOK) {
            return UCXNB_AGAIN;
        }
        if (batch->outstanding + atomic_load(&batch->operation->balance) >= WINDOW &&
            !atomic_load_explicit(&engine->closing, memory_order_relaxed)) {
            return 0;
        }
        if (!send_some(batch)) {
            return 1;
        }
        if (batch->held) {
            return 0;
        }
        ucxnb_progress(&engine->driver);
    }
    return 1;
}

void ucxnb_end_send_batch(ucxnb_send_batch_t *batch)
{
    ucxnb_operation_t *operation = batch->operation;

    set_held(batch, 0);
    if (atomic_fetch_add(&operation->balance, batch->outstanding) + batch->outstanding == 0) {
        ucxnb_complete(operation, UCXNB_MATCHED, operation->status);
    }
}

/* Under match_lock. */
static int take_next(ucxnb_receive_batch_t *batch)
{
    ucxnb_match_t *match = &batch->match;
    size_t i = batch->done;
    char *memory = NULL;
    ucs_status_t status = UCS_OK;
    int result;

    match->tag = batch->tags[batch->one_tag ? 0 : i] | batch->prefix;
    match->capacity = batch->rows ? batch->row_size : SIZE_MAX;
    if (batch->spare == NULL &&
        (batch->spare = ucxnb_operation_new(match->engine, match->endpoint)) == NULL) {
        return UCXNB_NO_MEMORY;
    }
    batch->spare->memory_type = batch->memory_type;
    result = ucxnb_look(match);
    if (result != UCXNB_MATCHED) {
        return result;
    }
    if (batch->rows != NULL) {
        memory = batch->rows + (ptrdiff_t)i * batch->row_stride;
    } else if ((memory = malloc(match->length ? match->length : 1)) == NULL) {
        ucxnb_put_back(match);
        return UCXNB_NO_MEMORY;
    }
    if (match->operation != NULL) {
        status = match->operation->status;
        if (status == UCS_OK) {
            status = ucxnb_copy(memory, match->operation->memory, match->length,
                                batch->memory_type != UCS_MEMORY_TYPE_HOST ||
                                        ucxnb_on_gpu(match->operation));
        }
        if (match->operation->counted) {
            batch->was_counted[i] = 1;
            batch->counted++;
            batch->counted_bytes += match->length;
        }
        ucxnb_release(match->operation);
    } else if ((status = ucxnb_fetch(match, memory, batch->spare)) == UCS_INPROGRESS) {
        batch->under_way[i] = batch->spare;
        batch->any_under_way = 1;
        batch->spare = NULL;
        status = UCS_OK;
    }
    if (status != UCS_OK) {
        if (batch->rows == NULL) {
            free(memory);
        }
        batch->status = status;
        return UCXNB_MATCHED;
    }
    batch->ages[i] = match->age;
    if (batch->rows == NULL) {
        batch->memories[i] = memory;
        batch->lengths[i] = match->length;
    } else if (match->length != batch->row_size) {
        batch->missing[i] = batch->row_size - match->length;
        batch->all_missing += batch->missing[i];
    }
    batch->done++;
    return UCXNB_MATCHED;
}

int ucxnb_receive_batch(void *arg)
{
    ucxnb_receive_batch_t *batch = arg;
    ucxnb_engine_t *engine = batch->match.engine;
    int result = UCXNB_MATCHED, left = TAKEN_PER_LOOK;

    pthread_mutex_lock(&engine->match_lock);
    while (result == UCXNB_MATCHED && batch->done < batch->count && batch->status == UCS_OK &&
           left-- > 0) {
        result = take_next(batch);
    }
    pthread_mutex_unlock(&engine->match_lock);
    return result == UCXNB_MATCHED && left < 0 ? UCXNB_AGAIN : result;
}

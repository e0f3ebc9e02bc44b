#include "matching.h"

#include "allowance.h"
#include "gpu.h"
#include "stream.h"

#include <stdlib.h>

#define HARVEST_NS 50000000
/* A look at what has arrived, for those who count it, takes no longer than this under a flood. */
#define GLANCE_NS 2000000
/* Steps of progress after which nothing is left in shared memory of what was there before them. */
#define STEPS_TO_EMPTY 64
/* Messages that are delivered before others get a turn. */
#define DELIVERIES 1024
/* Kept out of the way of each receive. */
#define RARE __attribute__((noinline))

/* What follows is called under match_lock, up to the functions of the header. */

static void free_request(void *request, ucs_status_t status, const ucp_tag_recv_info_t *info,
                         void *user_data)
{
    (void)status, (void)info, (void)user_data;
    ucxnb_ucp.ucp_request_free(request);
}

/* A message's memory is returned by receiving it; into nothing, for one that nobody wants. */
static void drop_handle(ucxnb_engine_t *engine, ucp_tag_message_h handle)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK, .cb.recv = free_request};

    ucxnb_ucp.ucp_tag_msg_recv_nbx(engine->driver.worker, NULL, 0, handle, &param);
}

/* NULL for a stranger, and always with worker-scoped tags. */
static ucxnb_endpoint_t *endpoint_of(const ucxnb_engine_t *engine, uint64_t tag)
{
    uint64_t id = tag >> UCXNB_ID_SHIFT;

    return engine->endpoint_scope && id < engine->endpoint_capacity ? engine->endpoints[id] : NULL;
}

static int is_strangers(const ucxnb_engine_t *engine, uint64_t tag)
{
    return engine->endpoint_scope && endpoint_of(engine, tag) == NULL;
}

/* ---- what the sender may still send ---- */

RARE static void tell_due(ucxnb_endpoint_t *endpoint)
{
    endpoint->due = UINT64_MAX;
    atomic_store(&endpoint->is_due, 1);
    ucxnb_tell_news(endpoint->engine);
}

/* A message is on its way to a receive. */
static inline void count_taken(const ucxnb_engine_t *engine, uint64_t tag, size_t length)
{
    ucxnb_endpoint_t *endpoint = endpoint_of(engine, tag);

    if (endpoint != NULL) {
        endpoint->taken += ucxnb_cost(length);
        if (endpoint->taken >= endpoint->due) {
            tell_due(endpoint);
        }
    }
}

/* The receive did not get it. */
static void count_untaken(const ucxnb_engine_t *engine, uint64_t tag, size_t length)
{
    ucxnb_endpoint_t *endpoint = endpoint_of(engine, tag);

    if (endpoint != NULL) {
        endpoint->taken -= ucxnb_cost(length);
    }
}

/* ---- the backlog ---- */

static void weigh(ucxnb_load_t *load, size_t length, int sign)
{
    load->messages += sign;
    load->bytes += sign * length;
    load->cost += sign * ucxnb_cost(length);
}

static void weigh_backlog(ucxnb_engine_t *engine, const ucxnb_message_t *message, int sign)
{
    ucxnb_endpoint_t *endpoint = endpoint_of(engine, message->entry.tag);

    weigh(&engine->load, message->length, sign);
    if (endpoint != NULL) {
        weigh(&endpoint->backlog, message->length, sign);
    }
}

/* False if there is no memory. */
RARE static int insert_message(ucxnb_engine_t *engine, ucxnb_message_t *message)
{
    int inserted = ucxnb_table_insert(&engine->backlog, &message->entry);

    if (inserted) {
        weigh_backlog(engine, message, 1);
    }
    return inserted;
}

RARE static void unlist_message(ucxnb_engine_t *engine, ucxnb_message_t *message)
{
    ucxnb_table_remove(&engine->backlog, &message->entry);
    weigh_backlog(engine, message, -1);
}

static void remove_message(ucxnb_engine_t *engine, ucxnb_message_t *message)
{
    unlist_message(engine, message);
    if (message->operation != NULL) {
        message->operation->in_backlog = 0;
    } else {
        free(message);
    }
}

static void drop_message(ucxnb_engine_t *engine, ucxnb_message_t *message)
{
    ucp_tag_message_h handle = message->handle;
    ucxnb_operation_t *operation = message->operation;

    remove_message(engine, message);
    if (operation != NULL) {
        ucxnb_release(operation);
    } else {
        drop_handle(engine, handle);
    }
}

/* False if there is no memory to remember it with; it is lost then. */
static int remember(ucxnb_engine_t *engine, ucp_tag_message_h handle, uint64_t tag, uint64_t age,
                    size_t length)
{
    ucxnb_message_t *message = malloc(sizeof *message);

    if (message != NULL) {
        *message = (ucxnb_message_t){.entry = {.tag = tag, .age = age}, .handle = handle,
                                     .length = length};
        if (insert_message(engine, message)) {
            return 1;
        }
        free(message);
    }
    drop_handle(engine, handle);
    count_taken(engine, tag, length);
    return 0;
}

static ucp_tag_message_h probe(ucxnb_engine_t *engine, uint64_t tag, uint64_t mask,
                               ucp_tag_recv_info_t *info)
{
    ucp_tag_message_h handle =
            ucxnb_ucp.ucp_tag_probe_nb(engine->driver.worker, tag, mask, 1, info);
    ucxnb_endpoint_t *endpoint;

    if (handle != NULL) {
        engine->age++;
        endpoint = endpoint_of(engine, info->sender_tag);
        if (endpoint != NULL) {
            endpoint->arrived++;
        }
    }
    return handle;
}

/* Whether somebody will yet take the message out of the operation's memory. */
static int needs_memory(const ucxnb_operation_t *operation)
{
    return atomic_load(&operation->in_backlog) || atomic_load(&operation->taken);
}

/* A message that is there leaves the caller's memory; false if there is none for it, or it cannot be
 * copied. */
static int own_memory(ucxnb_operation_t *operation)
{
    char *memory;

    if (!operation->owns_memory) {
        memory = malloc(operation->length ? operation->length : 1);
        if (memory == NULL) {
            return 0;
        }
        if (ucxnb_copy(memory, operation->memory, operation->length,
                       ucxnb_on_gpu(operation)) != UCS_OK) {
            free(memory);
            return 0;
        }
        operation->memory = memory;
        operation->memory_type = UCS_MEMORY_TYPE_HOST;
        operation->owns_memory = 1;
    }
    return 1;
}

/* UCXNB_NO_MATCH and `*blocked` if the message is there, but not all of its bytes. */
static int look_into_backlog(ucxnb_match_t *match, int *blocked)
{
    ucxnb_engine_t *engine = match->engine;
    ucxnb_message_t *message =
            (ucxnb_message_t *)ucxnb_table_find(&engine->backlog, match->tag, match->mask);

    if (message == NULL) {
        return UCXNB_NO_MATCH;
    }
    match->operation = message->operation;
    match->sender_tag = message->entry.tag;
    match->age = message->entry.age;
    match->length = message->length;
    if (message->length > match->capacity) {
        return UCXNB_TOO_SMALL;
    }
    if (message->operation != NULL && atomic_load(&message->operation->state) != UCXNB_DONE) {
        *blocked = 1;
        return UCXNB_NO_MATCH;
    }
    match->handle = message->handle;
    if (message->operation != NULL) {
        atomic_store(&message->operation->taken, 1); /* first, so that it is never neither */
    }
    remove_message(engine, message);
    count_taken(engine, match->sender_tag, match->length);
    return UCXNB_MATCHED;
}

static int state_of(const ucxnb_endpoint_t *endpoint)
{
    return endpoint ? atomic_load(&endpoint->state) : UCXNB_OPEN;
}

static int deliver_arrivals(ucxnb_engine_t *engine);

/* Take an arrival from UCX; UCXNB_NO_MATCH if there is none, UCXNB_AGAIN if there are too many. */
static int look_at_arrivals(ucxnb_match_t *match)
{
    ucxnb_engine_t *engine = match->engine;
    /* UCX finds a whole tag at once, and for a part of one looks through all there are, every time.
     * So those in the way are moved to the backlog, which finds parts of tags too. */
    int exact = match->mask == UINT64_MAX, left = DELIVERIES, wanted, kept;
    ucp_tag_recv_info_t info;

    while ((match->handle = probe(engine, exact ? match->tag : 0, exact ? match->mask : 0, &info))) {
        wanted = exact || ((info.sender_tag ^ match->tag) & match->mask) == 0;
        match->operation = NULL;
        match->sender_tag = info.sender_tag;
        match->age = engine->age;
        match->length = info.length;
        if (is_strangers(engine, info.sender_tag)) {
            drop_handle(engine, match->handle);
        } else if (wanted && info.length <= match->capacity) {
            count_taken(engine, info.sender_tag, info.length);
            return UCXNB_MATCHED;
        } else {
            kept = remember(engine, match->handle, info.sender_tag, match->age, info.length);
            if (wanted) {
                return kept ? UCXNB_TOO_SMALL : UCXNB_NO_MEMORY;
            }
            if (--left == 0) {
                return UCXNB_AGAIN;
            }
        }
    }
    return UCXNB_NO_MATCH;
}

int ucxnb_look(ucxnb_match_t *match)
{
    ucxnb_engine_t *engine = match->engine;
    /* Read before looking: what came before the end is found after it. */
    int state = state_of(match->endpoint), blocked = 0, result;
    int posted = engine->posted_count > 0;

    if (state == UCXNB_CLOSING || atomic_load_explicit(&engine->closing, memory_order_relaxed)) {
        return UCXNB_SHUT;
    }
    if (posted) {
        deliver_arrivals(engine);
    }
    result = look_into_backlog(match, &blocked);
    /* With receives posted, what has come since is for them first. */
    if (result == UCXNB_NO_MATCH && !blocked && (!posted || state == UCXNB_ENDED)) {
        result = look_at_arrivals(match);
    }
    return result == UCXNB_NO_MATCH && !blocked && state == UCXNB_ENDED ? UCXNB_PEER_ENDED : result;
}

/* A match that no receive got is one of the backlog. */
static void keep(const ucxnb_match_t *match)
{
    if (match->operation == NULL) {
        remember(match->engine, match->handle, match->sender_tag, match->age, match->length);
    } else if (insert_message(match->engine, &match->operation->message)) {
        match->operation->in_backlog = 1;
    } else {
        ucxnb_release(match->operation);
    }
}

void ucxnb_put_back(const ucxnb_match_t *match)
{
    count_untaken(match->engine, match->sender_tag, match->length);
    keep(match);
}

/* ---- posted receives ---- */

static int kind_of(const ucxnb_operation_t *operation)
{
    if (operation->mask == UINT64_MAX) {
        return UCXNB_POSTED_EXACT;
    }
    return operation->engine->endpoint_scope && operation->mask == UCXNB_USER_TAG_MASK
                   ? UCXNB_POSTED_ANYONE
                   : UCXNB_POSTED_MASKED;
}

static void unpost(ucxnb_operation_t *operation)
{
    ucxnb_engine_t *engine = operation->engine;

    ucxnb_table_remove(&engine->posted[kind_of(operation)], &operation->message.entry);
    engine->posted_count--;
    atomic_fetch_sub(&engine->driver.posted, 1);
}

/* The operation of an entry: its first member is the message, and that one's the entry. */
static ucxnb_operation_t *operation_of(ucxnb_entry_t *entry)
{
    return (ucxnb_operation_t *)entry;
}

static int oldest_of(ucxnb_entry_t *const entries[UCXNB_POSTED_KINDS])
{
    int kind, oldest = 0;

    for (kind = 1; kind < UCXNB_POSTED_KINDS; kind++) {
        if (entries[kind] != NULL &&
            (entries[oldest] == NULL || entries[kind]->age < entries[oldest]->age)) {
            oldest = kind;
        }
    }
    return oldest;
}

/* The oldest receive that takes a message with this tag. */
static ucxnb_operation_t *find_posted(ucxnb_engine_t *engine, uint64_t tag)
{
    ucxnb_entry_t *masked = engine->posted[UCXNB_POSTED_MASKED].all.oldest;
    ucxnb_entry_t *found[UCXNB_POSTED_KINDS];

    while (masked != NULL && ((masked->tag ^ tag) & operation_of(masked)->mask) != 0) {
        masked = masked->newer[UCXNB_ALL];
    }
    found[UCXNB_POSTED_EXACT] =
            ucxnb_table_find(&engine->posted[UCXNB_POSTED_EXACT], tag, UINT64_MAX);
    found[UCXNB_POSTED_ANYONE] = ucxnb_table_find(&engine->posted[UCXNB_POSTED_ANYONE],
                                                  tag & UCXNB_USER_TAG_MASK, UINT64_MAX);
    found[UCXNB_POSTED_MASKED] = masked;
    return operation_of(found[oldest_of(found)]);
}

/* All posted receives, oldest first; each may be unposted meanwhile. */
typedef struct {
    ucxnb_entry_t *next[UCXNB_POSTED_KINDS];
} cursor_t;

static cursor_t first_posted(const ucxnb_engine_t *engine)
{
    cursor_t cursor;
    int kind;

    for (kind = 0; kind < UCXNB_POSTED_KINDS; kind++) {
        cursor.next[kind] = engine->posted[kind].all.oldest;
    }
    return cursor;
}

static ucxnb_operation_t *next_posted(cursor_t *cursor)
{
    int kind = oldest_of(cursor->next);
    ucxnb_entry_t *entry = cursor->next[kind];

    if (entry != NULL) {
        cursor->next[kind] = entry->newer[UCXNB_ALL];
    }
    return operation_of(entry);
}

static int make_memory(ucxnb_operation_t *operation, size_t length)
{
    if (!operation->into_buffer) {
        operation->memory = malloc(length ? length : 1);
        operation->owns_memory = operation->memory != NULL;
        return operation->owns_memory;
    }
    return 1;
}

/* A message that another receive began; false if there is no memory for it. */
static int adopt(ucxnb_operation_t *operation, ucxnb_operation_t *orphan)
{
    ucs_status_t status = orphan->status;

    if (status == UCS_OK) {
        if (!operation->into_buffer && orphan->owns_memory) {
            operation->memory = orphan->memory;
            operation->owns_memory = 1;
            orphan->owns_memory = 0;
        } else if (make_memory(operation, orphan->length)) {
            status = ucxnb_copy(operation->memory, orphan->memory, orphan->length,
                                ucxnb_on_gpu(operation) || ucxnb_on_gpu(orphan));
        } else {
            return 0;
        }
    }
    operation->counted = orphan->counted;
    ucxnb_complete(operation, UCXNB_MATCHED, status);
    orphan->in_backlog = 0;
    ucxnb_release(orphan);
    return 1;
}

ucs_status_t ucxnb_fetch(const ucxnb_match_t *match, void *memory, ucxnb_operation_t *operation)
{
    ucp_request_param_t param;
    void *request;

    param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                         UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    param.cb.recv = ucxnb_on_received;
    param.user_data = operation;
    param.memory_type = operation->memory_type;
    request = ucxnb_ucp.ucp_tag_msg_recv_nbx(match->engine->driver.worker, memory, match->length,
                                             match->handle, &param);
    return UCS_PTR_IS_PTR(request) ? UCS_INPROGRESS : UCS_PTR_STATUS(request);
}

/* End a posted receive, or begin to fetch its message. */
static void settle(ucxnb_operation_t *operation, const ucxnb_match_t *match, int result)
{
    ucs_status_t status;

    if (result == UCXNB_MATCHED || result == UCXNB_TOO_SMALL) {
        operation->sender_tag = match->sender_tag;
        operation->age = match->age;
        operation->length = match->length;
    }
    if (result == UCXNB_MATCHED && match->operation != NULL &&
        adopt(operation, match->operation)) {
        return;
    }
    if (result == UCXNB_MATCHED &&
        (match->operation != NULL || !make_memory(operation, match->length))) {
        ucxnb_put_back(match);
        result = UCXNB_NO_MEMORY;
    }
    if (result != UCXNB_MATCHED) {
        ucxnb_complete(operation, result, UCS_OK);
        return;
    }
    atomic_store(&operation->state, UCXNB_UNDER_WAY);
    status = ucxnb_fetch(match, operation->memory, operation);
    if (status != UCS_INPROGRESS) {
        ucxnb_complete(operation, UCXNB_MATCHED, status);
    }
}

static ucxnb_match_t match_of(const ucxnb_operation_t *operation)
{
    return (ucxnb_match_t){
            .engine = operation->engine,
            .endpoint = operation->endpoint,
            .tag = operation->message.entry.tag,
            .mask = operation->mask,
            .capacity = operation->into_buffer ? operation->capacity : SIZE_MAX,
    };
}

/* Give a message to the oldest receive that wants it and is large enough; false if there is none.
 * Those that are too small for it end. */
static int offer(ucxnb_match_t *match)
{
    ucxnb_engine_t *engine = match->engine;
    ucxnb_operation_t *operation;

    while ((operation = find_posted(engine, match->sender_tag)) != NULL) {
        /* An older message that it could have, whose bytes are still on their way, comes first. */
        if (ucxnb_table_find(&engine->backlog, operation->message.entry.tag, operation->mask)) {
            atomic_store(&engine->match_again, 1);
            return 0;
        }
        unpost(operation);
        if (!operation->into_buffer || match->length <= operation->capacity) {
            count_taken(engine, match->sender_tag, match->length);
            settle(operation, match, UCXNB_MATCHED);
            return 1;
        }
        settle(operation, match, UCXNB_TOO_SMALL);
    }
    return 0;
}

/* A message in the backlog can be had again. */
static void match_message(ucxnb_message_t *message)
{
    ucxnb_operation_t *operation = message->operation;
    ucxnb_engine_t *engine = operation->engine;
    ucxnb_match_t match = {.engine = engine,
                           .operation = operation,
                           .sender_tag = message->entry.tag,
                           .age = message->entry.age,
                           .length = message->length};

    if (atomic_load(&operation->state) == UCXNB_DONE && engine->posted_count > 0) {
        /* It stays marked as one of the backlog: nobody may look after its memory otherwise. */
        unlist_message(engine, message);
        if (!offer(&match)) {
            keep(&match);
        }
    }
}

/* Each posted receive, or each of one endpoint, oldest first, looks at what there is. */
static void match_backlog(ucxnb_engine_t *engine, const ucxnb_endpoint_t *endpoint)
{
    cursor_t cursor = first_posted(engine);
    ucxnb_operation_t *operation;
    ucxnb_match_t match;
    int blocked, state, result;

    while ((operation = next_posted(&cursor)) != NULL) {
        if (endpoint != NULL && operation->endpoint != endpoint) {
            continue;
        }
        state = state_of(operation->endpoint);
        blocked = 0;
        match = match_of(operation);
        result = state == UCXNB_CLOSING ? UCXNB_SHUT : look_into_backlog(&match, &blocked);
        if (result == UCXNB_NO_MATCH && state == UCXNB_ENDED && !blocked) {
            do { /* a flood may have kept it from being delivered */
                result = look_at_arrivals(&match);
            } while (result == UCXNB_AGAIN);
            result = result == UCXNB_NO_MATCH ? UCXNB_PEER_ENDED : result;
        }
        if (result != UCXNB_NO_MATCH) {
            unpost(operation);
            settle(operation, &match, result);
        }
    }
}

/* Give what has come to those that wait, and the rest to the backlog: only so much at once, so that
 * a flood holds nobody up. False if there is more. */
static int deliver_arrivals(ucxnb_engine_t *engine)
{
    ucp_tag_recv_info_t info;
    ucp_tag_message_h handle;
    int left = DELIVERIES;

    while (left-- > 0 && (handle = probe(engine, 0, 0, &info)) != NULL) {
        ucxnb_match_t match = {.engine = engine,
                               .handle = handle,
                               .sender_tag = info.sender_tag,
                               .age = engine->age,
                               .length = info.length};

        if (is_strangers(engine, info.sender_tag)) {
            drop_handle(engine, handle);
        } else if (!offer(&match)) {
            keep(&match);
        }
    }
    while (atomic_exchange(&engine->match_again, 0)) {
        match_backlog(engine, NULL);
    }
    atomic_store_explicit(&engine->undelivered, left < 0, memory_order_relaxed);
    return left >= 0;
}

static void deliver_for_a_while(ucxnb_engine_t *engine)
{
    const int64_t deadline_ns = ucxnb_now_ns() + HARVEST_NS;

    while (!deliver_arrivals(engine) && ucxnb_now_ns() < deadline_ns) {
    }
}

static void end_posted(ucxnb_engine_t *engine, int result)
{
    cursor_t cursor = first_posted(engine);
    ucxnb_operation_t *operation;

    while ((operation = next_posted(&cursor)) != NULL) {
        if (result != UCXNB_NO_PEERS || operation->endpoint == NULL) {
            unpost(operation);
            ucxnb_complete(operation, result, UCS_OK);
        }
    }
}

/* Whoever progressed the worker calls this while receives are posted. */
static int after_step(ucxnb_driver_t *driver, unsigned count)
{
    ucxnb_engine_t *engine = (ucxnb_engine_t *)driver; /* its first member */
    int delivered = 1;

    if (count != 0 && atomic_load_explicit(&engine->posted_readers, memory_order_relaxed) > 0) {
        ucxnb_deliver_streams(engine);
    }
    if (count != 0 || atomic_load_explicit(&engine->undelivered, memory_order_relaxed) ||
        atomic_load_explicit(&engine->match_again, memory_order_relaxed)) {
        pthread_mutex_lock(&engine->match_lock);
        delivered = deliver_arrivals(engine);
        pthread_mutex_unlock(&engine->match_lock);
    }
    return !delivered;
}

/* ---- for all ---- */

/* For more than a look or two: to be done soon even while messages arrive without end. */
static void enter(ucxnb_engine_t *engine)
{
    ucxnb_ask_in(&engine->driver);
    pthread_mutex_lock(&engine->match_lock);
}

static void leave(ucxnb_engine_t *engine)
{
    pthread_mutex_unlock(&engine->match_lock);
    ucxnb_ask_no_more(&engine->driver);
    ucxnb_tell_ended(&engine->driver);
}

void ucxnb_matching_start(ucxnb_engine_t *engine)
{
    int kind;

    pthread_mutex_init(&engine->match_lock, NULL);
    engine->driver.after_step = after_step;
    engine->driver.tell_ended = ucxnb_tell_completed;
    for (kind = 0; kind < UCXNB_POSTED_KINDS; kind++) {
        engine->posted[kind].whole_tags_only = 1;
    }
}

void ucxnb_matching_stop(ucxnb_engine_t *engine)
{
    enter(engine);
    while (engine->backlog.all.oldest != NULL) {
        drop_message(engine, (ucxnb_message_t *)engine->backlog.all.oldest);
    }
    leave(engine);
}

int ucxnb_match(void *arg)
{
    ucxnb_match_t *match = arg;
    int result;

    pthread_mutex_lock(&match->engine->match_lock);
    result = ucxnb_look(match);
    pthread_mutex_unlock(&match->engine->match_lock);
    return result;
}

int ucxnb_match_now(ucxnb_match_t *match)
{
    ucxnb_driver_t *driver = &match->engine->driver;
    int result = ucxnb_match(match);
    unsigned steps = 0, count = 1;

    while (result == UCXNB_NO_MATCH && count != 0 && steps++ < STEPS_TO_EMPTY) {
        count = ucxnb_progress(driver);
        result = ucxnb_match(match);
    }
    return result;
}

void ucxnb_post_receive(ucxnb_operation_t *operation)
{
    ucxnb_engine_t *engine = operation->engine;
    ucxnb_match_t match = match_of(operation);
    int result;

    atomic_store(&operation->state, UCXNB_POSTED);
    enter(engine);
    /* Before the look: whoever makes progress after it then delivers what comes. */
    atomic_fetch_add(&engine->driver.posted, 1);
    do {
        result = ucxnb_look(&match);
    } while (result == UCXNB_AGAIN);
    if (result == UCXNB_NO_MATCH) {
        operation->message.entry.age = ++engine->age;
        if (ucxnb_table_insert(&engine->posted[kind_of(operation)], &operation->message.entry)) {
            engine->posted_count++;
        } else {
            result = UCXNB_NO_MEMORY;
        }
    }
    if (result != UCXNB_NO_MATCH) {
        atomic_fetch_sub(&engine->driver.posted, 1);
        settle(operation, &match, result);
    }
    leave(engine);
    ucxnb_wake_background(&engine->driver);
}

int ucxnb_withdraw(ucxnb_operation_t *operation)
{
    ucxnb_engine_t *engine = operation->engine;
    int posted;

    pthread_mutex_lock(&engine->match_lock);
    posted = atomic_load(&operation->state) == UCXNB_POSTED;
    if (posted) {
        unpost(operation);
        ucxnb_complete(operation, UCXNB_CANCELED, UCS_OK);
    }
    pthread_mutex_unlock(&engine->match_lock);
    return posted;
}

/* Under match_lock; false if it went nowhere, and may be gone already. */
static int give_back(ucxnb_operation_t *operation)
{
    ucxnb_engine_t *engine = operation->engine;

    operation->message.entry.tag = operation->sender_tag;
    operation->message.entry.age = operation->age;
    operation->message.length = operation->length;
    operation->in_backlog = 1;
    count_untaken(engine, operation->sender_tag, operation->length);
    if (atomic_load(&engine->closing) || is_strangers(engine, operation->sender_tag) ||
        !insert_message(engine, &operation->message)) {
        operation->in_backlog = 0;
        ucxnb_release(operation);
        return 0;
    }
    pthread_mutex_lock(&engine->completion_lock);
    if (atomic_load(&operation->state) != UCXNB_DONE) {
        operation->orphan = 1;
        atomic_fetch_add(&engine->orphans_under_way, 1);
    }
    pthread_mutex_unlock(&engine->completion_lock);
    return 1;
}

void ucxnb_give_back(ucxnb_engine_t *engine, ucxnb_operation_t *const *operations, size_t count)
{
    size_t i = count, kept = 0;

    enter(engine);
    while (i-- > 0) { /* each finds its place beside the one before */
        kept += operations[i] != NULL && give_back(operations[i]);
    }
    if (kept == 1 && count == 1) {
        match_message(&operations[0]->message);
    } else if (kept > 0) {
        match_backlog(engine, NULL);
    }
    leave(engine);
    ucxnb_wake_waiters(&engine->driver);
    ucxnb_wake_background(&engine->driver);
}

int ucxnb_arrives_next(const ucxnb_operation_t *operation, uint64_t tag, uint64_t mask)
{
    ucxnb_engine_t *engine = operation->engine;
    int next;

    pthread_mutex_lock(&engine->match_lock);
    next = ucxnb_table_find(&engine->backlog, tag, mask) == &operation->message.entry;
    pthread_mutex_unlock(&engine->match_lock);
    return next;
}

int ucxnb_keep_message(ucxnb_operation_t *operation)
{
    ucxnb_engine_t *engine = operation->engine;
    int kept;

    pthread_mutex_lock(&engine->match_lock);
    kept = !needs_memory(operation) || own_memory(operation);
    pthread_mutex_unlock(&engine->match_lock);
    return kept;
}

int ucxnb_kept_in(const ucxnb_operation_t *operation, const char *memory, size_t size)
{
    ucxnb_engine_t *engine = operation->engine;
    int kept_there = 0;

    if (needs_memory(operation)) {
        pthread_mutex_lock(&engine->match_lock);
        kept_there = needs_memory(operation) && !operation->owns_memory &&
                     memory < operation->memory + operation->length &&
                     operation->memory < memory + size;
        pthread_mutex_unlock(&engine->match_lock);
    }
    return kept_there;
}

void ucxnb_endpoint_changed(ucxnb_endpoint_t *endpoint)
{
    ucxnb_engine_t *engine = endpoint->engine;

    enter(engine);
    if (engine->posted_count > 0) {
        deliver_for_a_while(engine);
        match_backlog(engine, endpoint);
    }
    leave(engine);
}

void ucxnb_end_posted_from_anyone(ucxnb_engine_t *engine)
{
    enter(engine);
    if (engine->posted_count > 0) {
        deliver_for_a_while(engine);
        end_posted(engine, UCXNB_NO_PEERS);
    }
    leave(engine);
}

void ucxnb_end_posted(ucxnb_engine_t *engine)
{
    pthread_mutex_lock(&engine->match_lock);
    end_posted(engine, UCXNB_SHUT);
    pthread_mutex_unlock(&engine->match_lock);
}

void ucxnb_endpoint_forget(ucxnb_endpoint_t *endpoint)
{
    ucxnb_engine_t *engine = endpoint->engine;
    ucxnb_entry_t *entry;

    enter(engine);
    if (endpoint->id < engine->endpoint_capacity && engine->endpoints[endpoint->id] == endpoint) {
        deliver_for_a_while(engine);
        if (engine->endpoint_scope) {
            while ((entry = ucxnb_table_find(&engine->backlog, endpoint->id << UCXNB_ID_SHIFT,
                                             ~UCXNB_USER_TAG_MASK)) != NULL) {
                drop_message(engine, (ucxnb_message_t *)entry);
            }
        }
        engine->endpoints[endpoint->id] = NULL;
    }
    leave(engine);
}

uint64_t ucxnb_harvest(ucxnb_endpoint_t *endpoint)
{
    ucxnb_engine_t *engine = endpoint->engine;
    const int64_t deadline_ns = ucxnb_now_ns() + HARVEST_NS;
    uint64_t arrived;

    /* A wire whose other end is gone may report progress without end. */
    ucxnb_ask_in(&engine->driver);
    while (ucxnb_progress(&engine->driver) != 0 && ucxnb_now_ns() < deadline_ns) {
    }
    ucxnb_ask_no_more(&engine->driver);
    enter(engine);
    deliver_for_a_while(engine);
    arrived = endpoint->arrived;
    leave(engine);
    return arrived;
}

ucxnb_load_t ucxnb_unreceived(ucxnb_engine_t *engine, const ucxnb_endpoint_t *endpoint)
{
    const int64_t deadline_ns = ucxnb_now_ns() + GLANCE_NS;
    ucxnb_load_t load;

    enter(engine);
    while (!deliver_arrivals(engine) && ucxnb_now_ns() < deadline_ns) {
    }
    if (engine->posted_count == 0) { /* then receives look at what is left themselves */
        atomic_store_explicit(&engine->undelivered, 0, memory_order_relaxed);
    }
    load = endpoint != NULL ? endpoint->backlog : engine->load;
    leave(engine);
    return load;
}

void ucxnb_count_read(ucxnb_endpoint_t *endpoint, int64_t nbytes)
{
    ucxnb_engine_t *engine = endpoint->engine;

    pthread_mutex_lock(&engine->match_lock);
    endpoint->taken += nbytes;
    if (endpoint->taken >= endpoint->due) {
        tell_due(endpoint);
    }
    pthread_mutex_unlock(&engine->match_lock);
}

int ucxnb_next_endpoint(ucxnb_engine_t *engine, uint64_t *id, ucxnb_endpoint_t **endpoint)
{
    *endpoint = NULL;
    pthread_mutex_lock(&engine->match_lock);
    while (*endpoint == NULL && *id < engine->endpoint_capacity) {
        *endpoint = engine->endpoints[(*id)++];
    }
    pthread_mutex_unlock(&engine->match_lock);
    return *endpoint != NULL;
}

uint64_t ucxnb_renew_window(ucxnb_endpoint_t *endpoint, uint64_t window)
{
    ucxnb_engine_t *engine = endpoint->engine;
    uint64_t taken;

    pthread_mutex_lock(&engine->match_lock);
    taken = endpoint->taken;
    endpoint->due = taken + window / UCXNB_DUE_PARTS;
    atomic_store(&endpoint->is_due, 0);
    pthread_mutex_unlock(&engine->match_lock);
    return taken;
}

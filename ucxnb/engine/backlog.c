#include "backlog.h"

#include <stdlib.h>

#define FIRST_BUCKET_COUNT 64

static ucxnb_bucket_t *bucket_of(const ucxnb_backlog_t *backlog, uint64_t tag)
{
    uint64_t hash = tag * 0x9E3779B97F4A7C15u; /* 2**64 over the golden ratio: mixes all bits up */

    return &backlog->buckets[(hash >> 32) & (backlog->bucket_count - 1)];
}

static void bucket_append(ucxnb_backlog_t *backlog, ucxnb_message_t *message)
{
    ucxnb_bucket_t *bucket = bucket_of(backlog, message->tag);

    message->bucket_older = bucket->newest;
    message->bucket_newer = NULL;
    if (bucket->newest != NULL) {
        bucket->newest->bucket_newer = message;
    } else {
        bucket->oldest = message;
    }
    bucket->newest = message;
}

/* Failing to grow is no error while there are buckets at all. */
static int make_room(ucxnb_backlog_t *backlog)
{
    size_t bucket_count = backlog->bucket_count ? backlog->bucket_count * 2 : FIRST_BUCKET_COUNT;
    ucxnb_bucket_t *buckets;
    ucxnb_message_t *message;

    if (backlog->count < backlog->bucket_count) {
        return 1;
    }
    buckets = calloc(bucket_count, sizeof *buckets);
    if (buckets == NULL) {
        return backlog->bucket_count > 0;
    }
    free(backlog->buckets);
    backlog->buckets = buckets;
    backlog->bucket_count = bucket_count;
    for (message = backlog->oldest; message != NULL; message = message->newer) {
        bucket_append(backlog, message);
    }
    return 1;
}

ucxnb_message_t *ucxnb_backlog_append(ucxnb_backlog_t *backlog, ucp_tag_message_h handle,
                                      uint64_t tag, size_t length)
{
    ucxnb_message_t *message = make_room(backlog) ? malloc(sizeof *message) : NULL;

    if (message == NULL) {
        return NULL;
    }
    message->handle = handle;
    message->tag = tag;
    message->length = length;
    message->older = backlog->newest;
    message->newer = NULL;
    if (backlog->newest != NULL) {
        backlog->newest->newer = message;
    } else {
        backlog->oldest = message;
    }
    backlog->newest = message;
    bucket_append(backlog, message);
    backlog->count++;
    return message;
}

ucxnb_message_t *ucxnb_backlog_find(const ucxnb_backlog_t *backlog, uint64_t tag, uint64_t mask)
{
    ucxnb_message_t *message;

    if (backlog->count == 0) {
        return NULL;
    }
    if (mask == UINT64_MAX) {
        message = bucket_of(backlog, tag)->oldest;
        while (message != NULL && message->tag != tag) {
            message = message->bucket_newer;
        }
        return message;
    }
    message = backlog->oldest;
    while (message != NULL && ((message->tag ^ tag) & mask) != 0) {
        message = message->newer;
    }
    return message;
}

void ucxnb_backlog_remove(ucxnb_backlog_t *backlog, ucxnb_message_t *message)
{
    ucxnb_bucket_t *bucket = bucket_of(backlog, message->tag);

    *(message->bucket_older ? &message->bucket_older->bucket_newer : &bucket->oldest) =
            message->bucket_newer;
    *(message->bucket_newer ? &message->bucket_newer->bucket_older : &bucket->newest) =
            message->bucket_older;
    *(message->older ? &message->older->newer : &backlog->oldest) = message->newer;
    *(message->newer ? &message->newer->older : &backlog->newest) = message->older;
    backlog->count--;
    free(message);
}

void ucxnb_backlog_free(ucxnb_backlog_t *backlog)
{
    free(backlog->buckets);
    backlog->buckets = NULL;
    backlog->bucket_count = 0;
}

/* Messages that UCX has handed over and that nobody has received yet.
 *
 * ucp_tag_probe_nb(remove=1) gives a handle without the bytes; handles wait here, in order of
 * arrival, until a receive takes them. Not locked: the caller is.
 */
#ifndef UCXNB_BACKLOG_H
#define UCXNB_BACKLOG_H

#include <stddef.h>
#include <stdint.h>

#include "ucp_library.h"

typedef struct ucxnb_message {
    ucp_tag_message_h handle;
    uint64_t tag;
    size_t length;
    struct ucxnb_message *older, *newer;                 /* of all */
    struct ucxnb_message *bucket_older, *bucket_newer;   /* of those with the same hash */
} ucxnb_message_t;

typedef struct {
    ucxnb_message_t *oldest, *newest;
} ucxnb_bucket_t;

typedef struct {
    ucxnb_message_t *oldest, *newest;
    ucxnb_bucket_t *buckets;
    size_t bucket_count; /* 0, or a power of two */
    size_t count;
} ucxnb_backlog_t;

/* NULL if there is no memory for it. */
ucxnb_message_t *ucxnb_backlog_append(ucxnb_backlog_t *backlog, ucp_tag_message_h handle,
                                      uint64_t tag, size_t length);

/* The oldest message whose tag equals `tag` in the bits of `mask`, or NULL. */
ucxnb_message_t *ucxnb_backlog_find(const ucxnb_backlog_t *backlog, uint64_t tag, uint64_t mask);

/* Take a message out and free its entry; its handle is the caller's. */
void ucxnb_backlog_remove(ucxnb_backlog_t *backlog, ucxnb_message_t *message);

/* Free the table, which must be empty. */
void ucxnb_backlog_free(ucxnb_backlog_t *backlog);

#endif

/* Many messages in one call. */
#ifndef UCXNB_BATCHES_H
#define UCXNB_BATCHES_H

#include "matching.h"

/* Send many, in order: each with memory of its own, or the rows of one array. */
typedef struct {
    ucxnb_endpoint_t *endpoint;
    const uint64_t *tags; /* one, or one for each message */
    int one_tag;
    uint64_t prefix; /* of the wire tags */
    size_t count;
    const char *rows; /* or NULL */
    size_t row_size;
    ptrdiff_t row_stride;
    const void *const *memories; /* with no rows */
    const size_t *lengths;
    int memory_type; /* ucs_memory_type_t, of all; unknown if they differ */
    ucxnb_operation_t *operation; /* done when all that were posted are */
    /* out */
    size_t done; /* messages that were posted */
    int held;    /* the next one must wait for the peer to receive */
    int64_t outstanding;
} ucxnb_send_batch_t;

/* Post what there is room for; 0 or UCXNB_AGAIN to go on, 1 when all are posted, or none can be any more:
 * then the operation's status says why. A ucxnb_ready_t. */
int ucxnb_send_batch(void *batch);

/* No more are posted: the operation completes when those that were have. */
void ucxnb_end_send_batch(ucxnb_send_batch_t *batch);

/* Receive many, in order: into the rows of one array, or into memory that is allocated as they come. */
typedef struct {
    ucxnb_match_t match;   /* engine, endpoint and mask are set */
    const uint64_t *tags;  /* one, or one for each message */
    int one_tag;
    uint64_t prefix;       /* of the wire tags */
    size_t count;
    char *rows; /* or NULL */
    size_t row_size;
    ptrdiff_t row_stride;
    int memory_type; /* ucs_memory_type_t, of the rows */
    ucxnb_operation_t *spare; /* or NULL */
    /* out */
    size_t done;                   /* messages that are here, or under way */
    uint64_t *ages;                /* of each */
    ucxnb_operation_t **under_way; /* what fetches it, or NULL; zeroed before, and so is: */
    size_t *missing, all_missing;  /* with rows: what a message is smaller than its row */
    int any_under_way;
    char **memories;               /* with no rows: allocated */
    size_t *lengths;               /* likewise */
    char *was_counted;             /* of each: a receive had it before */
    size_t counted, counted_bytes; /* their sum */
    ucs_status_t status;           /* of the message that failed */
} ucxnb_receive_batch_t;

/* Take what is there; 0 or UCXNB_AGAIN to go on, UCXNB_MATCHED when all have come. A ucxnb_ready_t. */
int ucxnb_receive_batch(void *batch);

#endif

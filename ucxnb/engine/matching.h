/* Which receive gets which message.
 *
 * Receives that were posted come first, in the order they were posted; what is left waits in the
 * backlog, in the order it arrived. A message that a receive got and did not deliver, because it was
 * given up, goes back to its old place there.
 */
#ifndef UCXNB_MATCHING_H
#define UCXNB_MATCHING_H

#include "endpoint.h"

/* A receive in search of its message. */
typedef struct {
    ucxnb_engine_t *engine;
    ucxnb_endpoint_t *endpoint; /* NULL: from anyone */
    uint64_t tag, mask;
    size_t capacity;
    /* out */
    ucp_tag_message_h handle;     /* of the message, to be received, or NULL: */
    ucxnb_operation_t *operation; /* what holds it already; to be released by the caller */
    uint64_t sender_tag, age;
    size_t length;
} ucxnb_match_t;

/* Look for the message once, or UCXNB_AGAIN; usable as ucxnb_ready_t on a ucxnb_match_t. */
int ucxnb_match(void *match);

/* The same, with steps of progress until nothing is left of what had arrived. */
int ucxnb_match_now(ucxnb_match_t *match);

/* The bytes of a matched message, into memory of its size. Like ucp_tag_msg_recv_nbx: UCS_OK, an
 * error, or UCS_INPROGRESS: then the operation is under way. */
ucs_status_t ucxnb_fetch(const ucxnb_match_t *match, void *memory, ucxnb_operation_t *operation);

/* Post a receive: tag, mask, endpoint, and memory if it has any, are set. */
void ucxnb_post_receive(ucxnb_operation_t *operation);

/* Withdraw a posted receive; false if it got a message, or an error, before. */
int ucxnb_withdraw(ucxnb_operation_t *operation);

/* The messages of receives are nobody's: the next receives of their tags get them. In the order of
 * their age; some may be NULL. */
void ucxnb_give_back(ucxnb_engine_t *engine, ucxnb_operation_t *const *operations, size_t count);

/* Whether a message that was given back is what a receive gets next. */
int ucxnb_arrives_next(const ucxnb_operation_t *operation, uint64_t tag, uint64_t mask);

/* Copy such a message, once it is there, out of memory of the caller's, unless somebody has; false
 * without memory. */
int ucxnb_keep_message(ucxnb_operation_t *operation);

/* Whether such a message, or what has come of it, is in that memory of the caller's. */
int ucxnb_kept_in(const ucxnb_operation_t *operation, const char *memory, size_t size);

/* Its state is another one: end the receives from it that wait in vain. */
void ucxnb_endpoint_changed(ucxnb_endpoint_t *endpoint);

/* End posted receives: all (UCXNB_SHUT), or those from anyone (UCXNB_NO_PEERS). */
void ucxnb_end_posted(ucxnb_engine_t *engine);
void ucxnb_end_posted_from_anyone(ucxnb_engine_t *engine);

/* Its id means nothing from now on; messages of it that nobody received are dropped. */
void ucxnb_endpoint_forget(ucxnb_endpoint_t *endpoint);

/* Move all that has arrived to receives and into the backlog; returns how many came so far. */
uint64_t ucxnb_harvest(ucxnb_endpoint_t *endpoint);

/* What of it, or of all if it is NULL, has arrived and was not received. Under a flood it is less than
 * there is: look again. */
ucxnb_load_t ucxnb_unreceived(ucxnb_engine_t *engine, const ucxnb_endpoint_t *endpoint);

/* The peer is about to be allowed so much more than what was received of it, which is returned. It is
 * due again when a part of that has been received too. */
uint64_t ucxnb_renew_window(ucxnb_endpoint_t *endpoint, uint64_t window);

/* So much of what it sent as a stream was read; negative if it was unread. */
void ucxnb_count_read(ucxnb_endpoint_t *endpoint, int64_t nbytes);

/* Go through all endpoints, from `*id` 0; false at the end. */
int ucxnb_next_endpoint(ucxnb_engine_t *engine, uint64_t *id, ucxnb_endpoint_t **endpoint);

/* For those who hold match_lock: */

int ucxnb_look(ucxnb_match_t *match); /* as ucxnb_match */

/* Return a message that was matched, and for which there is no memory. */
void ucxnb_put_back(const ucxnb_match_t *match);

/* For the engine: */
void ucxnb_matching_start(ucxnb_engine_t *engine);
void ucxnb_matching_stop(ucxnb_engine_t *engine);

#endif

/* Byte streams: what has come from a peer, in order, and who reads it.
 *
 * What arrives waits in UCX, in pieces of its transports' memory; a reader copies from there into his
 * own. What nobody reads is moved into blocks of the engine's now and then, since a piece of a few
 * bytes may take a whole buffer of a transport. Nothing is ever posted into a reader's memory: UCX
 * cannot take such a receive back.
 */
#ifndef UCXNB_STREAM_H
#define UCXNB_STREAM_H

#include "endpoint.h"

/* A read in search of bytes. */
typedef struct {
    ucxnb_endpoint_t *endpoint;
    char *memory;
    size_t capacity;
    int on_gpu;        /* no processor may touch the memory */
    int wait_all;      /* not done before `capacity` bytes have come */
    size_t done;       /* out: bytes that were read */
    uint64_t position; /* out: of the stream, after them */
} ucxnb_reader_t;

/* Read what is there: UCXNB_NO_MATCH to wait for more, UCXNB_MATCHED, or why there will be no more:
 * UCXNB_PEER_ENDED, UCXNB_SHUT. A ucxnb_ready_t on a ucxnb_reader_t. */
int ucxnb_read(void *reader);

/* Somebody is about to read again and again: nothing is moved into blocks meanwhile; and no longer. */
void ucxnb_begin_reading(ucxnb_reader_t *reader);
void ucxnb_end_reading(ucxnb_reader_t *reader);

/* What was read is read again by the next one; false, and nothing changes, if others have read since,
 * or there is no memory. */
int ucxnb_unread(const ucxnb_reader_t *reader);

/* Begin a read that goes on after its call: endpoint, memory and capacity are set. Those of an endpoint
 * are served in order, and before any ucxnb_read(). */
void ucxnb_post_reader(ucxnb_operation_t *operation);

/* Withdraw one, or take back one that is done and whose bytes nobody wants; what it read is unread.
 * False if it had ended before. */
int ucxnb_withdraw_reader(ucxnb_operation_t *operation);

/* Give what has come to those that were posted. */
void ucxnb_deliver_streams(ucxnb_engine_t *engine);

/* Its state is another one: end the reads from it that wait in vain. */
void ucxnb_stream_changed(ucxnb_endpoint_t *endpoint);

/* The engine is shut: end all that were posted. */
void ucxnb_end_readers(ucxnb_engine_t *engine);

/* Move all that has come from it into blocks; returns how many bytes came so far. */
uint64_t ucxnb_harvest_stream(ucxnb_endpoint_t *endpoint);

/* Bytes that have come and were not read: from one endpoint, or from all if it is NULL. */
uint64_t ucxnb_unread_bytes(ucxnb_engine_t *engine, const ucxnb_endpoint_t *endpoint);

/* Drop what nobody read, of an endpoint that is forgotten. */
void ucxnb_drop_stream(ucxnb_endpoint_t *endpoint);

/* Free its memory; nobody else knows the endpoint any more. */
void ucxnb_free_stream(ucxnb_endpoint_t *endpoint);

/* For the engine: */
void ucxnb_streams_start(ucxnb_engine_t *engine, int enabled);

#endif

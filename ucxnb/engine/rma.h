/* One-sided access to memory: what others may reach here, and what this side may reach elsewhere. */
#ifndef UCXNB_RMA_H
#define UCXNB_RMA_H

#include "endpoint.h"

/* Memory that is registered with UCX. */
typedef struct {
    ucp_context_h context;
    ucp_mem_h handle; /* NULL once unmapped */
    void *address;
    size_t length;
} ucxnb_memory_t;

/* Register memory at `address`, or let UCX allocate it if that is NULL. */
ucs_status_t ucxnb_map(ucp_context_h context, void *address, size_t length, int memory_type,
                       int writable, ucxnb_memory_t *memory);

/* No peer may use its keys any more. Idempotent. */
void ucxnb_unmap(ucxnb_memory_t *memory);

/* What a peer's UCX needs to reach it; to be freed with ucxnb_free_key(). */
ucs_status_t ucxnb_pack_key(const ucxnb_memory_t *memory, void **key, size_t *length);
void ucxnb_free_key(void *key);

/* Unpack a peer's key; where its memory is mapped into this process, `*direct` is that place, or NULL. What
 * follows the key in memory must be readable for UCXNB_KEY_PADDING bytes: UCX believes the sizes in it. */
#define UCXNB_KEY_PADDING 32768
ucs_status_t ucxnb_open_key(ucxnb_endpoint_t *endpoint, const void *packed, uint64_t address,
                            ucp_rkey_h *key, void **direct);
void ucxnb_close_key(ucp_rkey_h key);

/* One access, of `length` bytes to or from `buffer`. */
typedef struct {
    ucxnb_endpoint_t *endpoint;
    ucp_rkey_h key;
    uint64_t address; /* there */
    void *buffer;
    size_t length;
} ucxnb_access_t;

/* UCS_OK, an error (UCS_ERR_CANCELED if the endpoint is not open), or UCS_INPROGRESS: then the
 * operation, whose kind is set, is under way. With the GIL nobody can close the endpoint meanwhile. */
ucs_status_t ucxnb_post_access(const ucxnb_access_t *access, ucxnb_operation_t *operation,
                               int with_gil);

/* The same where the memory is mapped, at `there`: it is done at once. */
ucs_status_t ucxnb_access_mapped(const ucxnb_access_t *access, void *there, int kind, int on_gpu);

/* Of a number of 4 or 8 bytes, as one step; what it was before. UCX has no atomics for endpoints that
 * notice a dead peer, but by hardware, which would not be atomic with these. */
uint64_t ucxnb_add(void *number, int nbytes, uint64_t value);
uint64_t ucxnb_compare_swap(void *number, int nbytes, uint64_t expected, uint64_t value);

/* What is posted after it is done after what was posted before it. */
ucs_status_t ucxnb_fence(ucxnb_engine_t *engine);

#endif

/* Memory of GPUs: what the CUDA driver knows of it, and copies, since no processor may touch it.
 *
 * The driver is loaded with the first such memory, and never otherwise. No thread needs a context of
 * its own: whoever makes progress, UCX itself makes that of the memory's device current.
 */
#ifndef UCXNB_GPU_H
#define UCXNB_GPU_H

#include <stddef.h>
#include <stdint.h>
#include <ucp/api/ucp.h>

/* Whose memory it is. */
typedef struct {
    void *context; /* a CUcontext; its device's primary one for memory that has none of its own */
    ucs_memory_type_t type;
} ucxnb_gpu_memory_t;

/* All return NULL, or what went wrong. */

const char *ucxnb_find_gpu_memory(const void *address, ucxnb_gpu_memory_t *memory);

/* Wait until a stream of that context has done what was launched in it before. 1 is the legacy
 * default stream, 2 the one of this thread. */
const char *ucxnb_await_gpu_stream(void *context, uintptr_t stream);

/* A stream of a device that nothing is launched in: others can make it wait for theirs. */
const char *ucxnb_waiting_gpu_stream(int device, void **context, uintptr_t *stream);

/* Copy `length` bytes, which may overlap. `on_gpu`: one end, or both, may be memory of a GPU; what is
 * launched in anybody's streams is not waited for. UCS_ERR_INVALID_ADDR if the driver refuses: no
 * fault of a peer's, as an I/O error would say. */
ucs_status_t ucxnb_copy(void *target, const void *source, size_t length, int on_gpu);

#endif

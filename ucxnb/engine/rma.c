#include "rma.h"

#include "gpu.h"

ucs_status_t ucxnb_map(ucp_context_h context, void *address, size_t length, int memory_type,
                       int writable, ucxnb_memory_t *memory)
{
    ucp_mem_map_params_t params = {
            .field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
                          UCP_MEM_MAP_PARAM_FIELD_FLAGS | UCP_MEM_MAP_PARAM_FIELD_PROT |
                          UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE,
            .address = address,
            .length = length,
            .flags = address == NULL ? UCP_MEM_MAP_ALLOCATE : 0,
            .memory_type = memory_type,
            .prot = UCP_MEM_MAP_PROT_LOCAL_READ | UCP_MEM_MAP_PROT_REMOTE_READ |
                    (writable ? UCP_MEM_MAP_PROT_LOCAL_WRITE | UCP_MEM_MAP_PROT_REMOTE_WRITE : 0),
    };
    ucp_mem_attr_t attributes = {.field_mask = UCP_MEM_ATTR_FIELD_ADDRESS};
    ucs_status_t status = ucxnb_ucp.ucp_mem_map(context, &params, &memory->handle);

    memory->context = context;
    memory->length = length;
    if (status != UCS_OK) {
        memory->handle = NULL;
        return status;
    }
    status = ucxnb_ucp.ucp_mem_query(memory->handle, &attributes);
    memory->address = attributes.address;
    if (status != UCS_OK) {
        ucxnb_unmap(memory);
    }
    return status;
}

void ucxnb_unmap(ucxnb_memory_t *memory)
{
    if (memory->handle != NULL) {
        ucxnb_ucp.ucp_mem_unmap(memory->context, memory->handle);
        memory->handle = NULL;
    }
}

ucs_status_t ucxnb_pack_key(const ucxnb_memory_t *memory, void **key, size_t *length)
{
    return ucxnb_ucp.ucp_rkey_pack(memory->context, memory->handle, key, length);
}

void ucxnb_free_key(void *key)
{
    ucxnb_ucp.ucp_rkey_buffer_release(key);
}

ucs_status_t ucxnb_open_key(ucxnb_endpoint_t *endpoint, const void *packed, uint64_t address,
                            ucp_rkey_h *key, void **direct)
{
    ucs_status_t status = UCS_ERR_CANCELED;

    atomic_fetch_add(&endpoint->posting, 1);
    if (atomic_load(&endpoint->state) == UCXNB_OPEN) {
        ucxnb_ask_in(&endpoint->engine->driver);
        status = ucxnb_ucp.ucp_ep_rkey_unpack(endpoint->ucp, packed, key);
        if (status != UCS_OK || ucxnb_ucp.ucp_rkey_ptr(*key, address, direct) != UCS_OK) {
            *direct = NULL;
        }
        ucxnb_ask_no_more(&endpoint->engine->driver);
    }
    atomic_fetch_sub(&endpoint->posting, 1);
    return status;
}

void ucxnb_close_key(ucp_rkey_h key)
{
    ucxnb_ucp.ucp_rkey_destroy(key);
}

static ucs_status_t begin(const ucxnb_access_t *access, ucxnb_operation_t *operation)
{
    ucp_ep_h ucp = access->endpoint->ucp;
    ucp_request_param_t param;
    void *request;

    param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                         UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    param.cb.send = ucxnb_on_sent;
    param.user_data = operation;
    param.memory_type = operation->memory_type;
    request = operation->kind == UCXNB_PUT
                      ? ucxnb_ucp.ucp_put_nbx(ucp, access->buffer, access->length,
                                              access->address, access->key, &param)
                      : ucxnb_ucp.ucp_get_nbx(ucp, access->buffer, access->length,
                                              access->address, access->key, &param);
    return UCS_PTR_IS_PTR(request) ? UCS_INPROGRESS : UCS_PTR_STATUS(request);
}

ucs_status_t ucxnb_post_access(const ucxnb_access_t *access, ucxnb_operation_t *operation,
                               int with_gil)
{
    ucxnb_endpoint_t *endpoint = access->endpoint;
    ucxnb_driver_t *driver = &endpoint->engine->driver;
    ucs_status_t status = UCS_ERR_CANCELED;

    if (with_gil) {
        return atomic_load(&endpoint->state) == UCXNB_OPEN ? begin(access, operation) : status;
    }
    atomic_fetch_add(&endpoint->posting, 1);
    if (atomic_load(&endpoint->state) == UCXNB_OPEN) {
        ucxnb_ask_in(driver);
        status = begin(access, operation);
        ucxnb_ask_no_more(driver);
    }
    atomic_fetch_sub(&endpoint->posting, 1);
    return status;
}

ucs_status_t ucxnb_access_mapped(const ucxnb_access_t *access, void *there, int kind, int on_gpu)
{
    ucs_status_t status;

    if (kind == UCXNB_PUT) {
        status = ucxnb_copy(there, access->buffer, access->length, on_gpu);
        atomic_thread_fence(memory_order_release);
    } else {
        atomic_thread_fence(memory_order_acquire);
        status = ucxnb_copy(access->buffer, there, access->length, on_gpu);
    }
    return status;
}

uint64_t ucxnb_add(void *number, int nbytes, uint64_t value)
{
    return nbytes == 4 ? atomic_fetch_add((_Atomic uint32_t *)number, (uint32_t)value)
                       : atomic_fetch_add((_Atomic uint64_t *)number, value);
}

uint64_t ucxnb_compare_swap(void *number, int nbytes, uint64_t expected, uint64_t value)
{
    uint32_t expected_word = (uint32_t)expected;

    if (nbytes == 4) {
        atomic_compare_exchange_strong((_Atomic uint32_t *)number, &expected_word, (uint32_t)value);
        return expected_word;
    }
    atomic_compare_exchange_strong((_Atomic uint64_t *)number, &expected, value);
    return expected;
}

ucs_status_t ucxnb_fence(ucxnb_engine_t *engine)
{
    ucs_status_t status;

    ucxnb_ask_in(&engine->driver);
    status = ucxnb_ucp.ucp_worker_fence(engine->driver.worker);
    ucxnb_ask_no_more(&engine->driver);
    return status;
}

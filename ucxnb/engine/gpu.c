#include "gpu.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* As in cuda.h, which is not needed to build this. */
typedef int result_t; /* CUresult */
typedef void *stream_t;
typedef unsigned long long address_t; /* CUdeviceptr */
enum { POINTER_CONTEXT = 1, POINTER_MEMORY_TYPE = 2, POINTER_IS_MANAGED = 8, POINTER_DEVICE = 9 };
enum { MEMORY_HOST = 1, MEMORY_DEVICE = 2 };
enum { STREAM_NON_BLOCKING = 1 };

#define DRIVER_FUNCTIONS(X)                                                                       \
    X(cuInit, "cuInit", (unsigned flags))                                                         \
    X(cuGetErrorString, "cuGetErrorString", (result_t result, const char **text))                 \
    X(cuDeviceGet, "cuDeviceGet", (int *device, int ordinal))                                     \
    X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (void **context, int device))         \
    X(cuCtxPushCurrent, "cuCtxPushCurrent_v2", (void *context))                                   \
    X(cuCtxPopCurrent, "cuCtxPopCurrent_v2", (void **context))                                    \
    X(cuPointerGetAttribute, "cuPointerGetAttribute", (void *value, int attribute, address_t at)) \
    X(cuStreamCreate, "cuStreamCreate", (stream_t *stream, unsigned flags))                       \
    X(cuStreamSynchronize, "cuStreamSynchronize", (stream_t stream))                              \
    X(cuMemcpyAsync, "cuMemcpyAsync",                                                             \
      (address_t target, address_t source, size_t length, stream_t stream))

#define DECLARE(name, symbol, parameters) result_t(*name) parameters;
static struct {
    DRIVER_FUNCTIONS(DECLARE)
} driver;
#undef DECLARE

enum { MAX_CONTEXTS = 64 };

/* Streams of ours: copies must not wait for what others launch, nor for those who wait. */
typedef struct {
    void *context;
    stream_t copying, waiting;
} streams_t;

static streams_t streams[MAX_CONTEXTS];
static void *primary[MAX_CONTEXTS]; /* contexts, by device */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char *text_of(result_t result)
{
    const char *text = NULL;

    driver.cuGetErrorString(result, &text);
    return text != NULL ? text : "the CUDA driver gives no reason";
}

static const char *load(void)
{
    static const char *problem = "";
    void *library;
    result_t result;

    pthread_mutex_lock(&lock);
    if (problem != NULL) {
        library = dlopen("libcuda.so.1", RTLD_NOW);
        problem = library == NULL ? "the NVIDIA driver (libcuda.so.1) is not installed" : NULL;
#define LOOK_UP(name, symbol, parameters)                                                         \
    if (problem == NULL) {                                                                        \
        driver.name = (__typeof__(driver.name))dlsym(library, symbol);                            \
        problem = driver.name == NULL ? "libcuda.so.1 has no " symbol : NULL;                     \
    }
        DRIVER_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
        if (problem == NULL && (result = driver.cuInit(0)) != 0) {
            problem = text_of(result);
        }
    }
    pthread_mutex_unlock(&lock);
    return problem;
}

/* Retained for as long as the process lives, so that UCX finds it active. */
static const char *primary_context(int device, void **context)
{
    result_t result = 0;
    int handle;

    if (device < 0 || device >= MAX_CONTEXTS) {
        return "there is no such device";
    }
    pthread_mutex_lock(&lock);
    if (primary[device] == NULL && (result = driver.cuDeviceGet(&handle, device)) == 0) {
        result = driver.cuDevicePrimaryCtxRetain(&primary[device], handle);
    }
    *context = primary[device];
    pthread_mutex_unlock(&lock);
    return result == 0 ? NULL : text_of(result);
}

/* For one who has made the context current. */
static result_t find_streams(void *context, streams_t *found)
{
    streams_t *at = streams, *end = streams + MAX_CONTEXTS - 1; /* the last is for all the others */
    result_t result = 0;

    pthread_mutex_lock(&lock);
    while (at < end && at->context != NULL && at->context != context) {
        at++;
    }
    if (at->context != context) {
        result = driver.cuStreamCreate(&at->copying, STREAM_NON_BLOCKING);
        result = result != 0 ? result : driver.cuStreamCreate(&at->waiting, STREAM_NON_BLOCKING);
        if (result == 0) {
            at->context = context;
        }
    }
    *found = *at;
    pthread_mutex_unlock(&lock);
    return result;
}

const char *ucxnb_find_gpu_memory(const void *address, ucxnb_gpu_memory_t *memory)
{
    const char *problem = load();
    unsigned type = 0, is_managed = 0;
    int device = 0;
    result_t result;
    void *own = NULL;

    if (problem != NULL) {
        return problem;
    }
    result = driver.cuPointerGetAttribute(&type, POINTER_MEMORY_TYPE, (address_t)address);
    if (result == 0 && type != MEMORY_HOST && type != MEMORY_DEVICE) {
        return "it is no linear memory";
    }
    if (result == 0) {
        result = driver.cuPointerGetAttribute(&device, POINTER_DEVICE, (address_t)address);
    }
    if (result != 0) {
        return text_of(result);
    }
    if (driver.cuPointerGetAttribute(&is_managed, POINTER_IS_MANAGED, (address_t)address) != 0) {
        is_managed = 0;
    }
    memory->type = is_managed ? UCS_MEMORY_TYPE_CUDA_MANAGED
                   : type == MEMORY_DEVICE ? UCS_MEMORY_TYPE_CUDA
                                           : UCS_MEMORY_TYPE_HOST;
    if (driver.cuPointerGetAttribute(&own, POINTER_CONTEXT, (address_t)address) == 0 &&
        own != NULL) {
        memory->context = own;
        return NULL;
    }
    return primary_context(device, &memory->context);
}

const char *ucxnb_await_gpu_stream(void *context, uintptr_t stream)
{
    result_t result = driver.cuCtxPushCurrent(context);
    void *popped;

    if (result == 0) {
        result = driver.cuStreamSynchronize((stream_t)stream);
        driver.cuCtxPopCurrent(&popped);
    }
    return result == 0 ? NULL : text_of(result);
}

const char *ucxnb_waiting_gpu_stream(int device, void **context, uintptr_t *stream)
{
    const char *problem = load();
    streams_t found;
    result_t result;
    void *popped;

    if (problem != NULL || (problem = primary_context(device, context)) != NULL) {
        return problem;
    }
    result = driver.cuCtxPushCurrent(*context);
    if (result == 0) {
        result = find_streams(*context, &found);
        driver.cuCtxPopCurrent(&popped);
    }
    if (result != 0) {
        return text_of(result);
    }
    *stream = (uintptr_t)found.waiting;
    return NULL;
}

static result_t copy_in(void *context, void *target, const void *source, size_t length)
{
    result_t result = driver.cuCtxPushCurrent(context);
    streams_t found;
    void *popped;

    if (result != 0) {
        return result;
    }
    result = find_streams(context, &found);
    if (result == 0) {
        result = driver.cuMemcpyAsync((address_t)target, (address_t)source, length, found.copying);
    }
    if (result == 0) {
        result = driver.cuStreamSynchronize(found.copying);
    }
    driver.cuCtxPopCurrent(&popped);
    return result;
}

static ucs_status_t copy_on_gpu(char *target, const char *source, size_t length)
{
    ucxnb_gpu_memory_t memory;
    result_t result;
    char *between;

    if (ucxnb_find_gpu_memory(target, &memory) != NULL &&
        ucxnb_find_gpu_memory(source, &memory) != NULL) {
        return UCS_ERR_INVALID_ADDR;
    }
    if (target >= source + length || source >= target + length) {
        return copy_in(memory.context, target, source, length) == 0 ? UCS_OK : UCS_ERR_INVALID_ADDR;
    }
    between = malloc(length);
    if (between == NULL) {
        return UCS_ERR_NO_MEMORY;
    }
    result = copy_in(memory.context, between, source, length);
    result = result != 0 ? result : copy_in(memory.context, target, between, length);
    free(between);
    return result == 0 ? UCS_OK : UCS_ERR_INVALID_ADDR;
}

ucs_status_t ucxnb_copy(void *target, const void *source, size_t length, int on_gpu)
{
    /* The source of nothing may be NULL. */
    if (length == 0 || target == source) {
        return UCS_OK;
    }
    if (on_gpu) {
        return copy_on_gpu(target, source, length);
    }
    memmove(target, source, length);
    return UCS_OK;
}

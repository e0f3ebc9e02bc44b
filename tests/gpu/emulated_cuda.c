/* A CUDA driver without a GPU: the part of libcuda.so.1 that UCX and the tests call.
 *
 * Its device memory cannot be touched by the processor (PROT_NONE): only the copies in here reach it,
 * through a second mapping. Its streams run beside each other, in a thread each. What a real driver
 * refuses, such as a copy without a current context, it refuses too.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101,
       INVALID_CONTEXT = 201, NOT_FOUND = 500, NOT_READY = 600, NOT_SUPPORTED = 801 };
enum { DEVICES = 2, DEPTH = 16 };

typedef int result_t;
typedef unsigned long long address_t;

/* ---- contexts ---- */

typedef struct stream stream_t;

typedef struct {
    int device, retained;
    stream_t *streams[3]; /* the legacy default, and each thread's own, which are one here */
} context_t;

static int initialized;
static context_t contexts[DEVICES] = {{.device = 0}, {.device = 1}};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local context_t *stack[DEPTH];
static _Thread_local int depth;

static context_t *current(void)
{
    return depth > 0 && stack[depth - 1] != NULL && stack[depth - 1]->retained ? stack[depth - 1]
                                                                               : NULL;
}

result_t cuInit(unsigned flags)
{
    initialized = 1;
    return flags == 0 ? SUCCESS : INVALID_VALUE;
}

result_t cuDriverGetVersion(int *version)
{
    *version = 13000;
    return SUCCESS;
}

result_t cuGetErrorString(result_t result, const char **text)
{
    switch (result) {
    case SUCCESS: *text = "no error"; break;
    case INVALID_VALUE: *text = "invalid argument"; break;
    case OUT_OF_MEMORY: *text = "out of memory"; break;
    case NOT_INITIALIZED: *text = "initialization error"; break;
    case INVALID_CONTEXT: *text = "invalid device context"; break;
    case NOT_READY: *text = "device not ready"; break;
    default: *text = "not in this emulation";
    }
    return SUCCESS;
}

result_t cuGetErrorName(result_t result, const char **text)
{
    return cuGetErrorString(result, text);
}

result_t cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, void *found)
{
    (void)name, (void)version, (void)flags, (void)found;
    *function = NULL;
    return NOT_FOUND;
}

result_t cuDeviceGetCount(int *count)
{
    *count = DEVICES;
    return initialized ? SUCCESS : NOT_INITIALIZED;
}

result_t cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return !initialized ? NOT_INITIALIZED : ordinal < DEVICES ? SUCCESS : INVALID_DEVICE;
}

result_t cuDeviceGetName(char *name, int size, int device)
{
    snprintf(name, size, "emulated %d", device);
    return SUCCESS;
}

result_t cuDeviceGetUuid_v2(char *uuid, int device)
{
    memset(uuid, device + 1, 16);
    return SUCCESS;
}

result_t cuDeviceTotalMem_v2(size_t *nbytes, int device)
{
    (void)device;
    *nbytes = (size_t)1 << 32;
    return SUCCESS;
}

result_t cuDeviceGetAttribute(int *value, int attribute, int device)
{
    enum { PCI_BUS_ID = 33, UNIFIED_ADDRESSING = 41 };

    *value = attribute == PCI_BUS_ID ? device + 1 : attribute == UNIFIED_ADDRESSING;
    return SUCCESS;
}

result_t cuDevicePrimaryCtxRetain(context_t **context, int device)
{
    pthread_mutex_lock(&lock);
    contexts[device].retained++;
    pthread_mutex_unlock(&lock);
    *context = &contexts[device];
    return SUCCESS;
}

result_t cuDevicePrimaryCtxRelease_v2(int device)
{
    pthread_mutex_lock(&lock);
    contexts[device].retained--;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

result_t cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    *flags = 0;
    *active = contexts[device].retained > 0;
    return SUCCESS;
}

result_t cuCtxPushCurrent_v2(context_t *context)
{
    if (depth == DEPTH) {
        return OUT_OF_MEMORY;
    }
    stack[depth++] = context;
    return SUCCESS;
}

result_t cuCtxPopCurrent_v2(context_t **context)
{
    if (depth == 0) {
        return INVALID_CONTEXT;
    }
    depth--;
    if (context != NULL) {
        *context = stack[depth];
    }
    return SUCCESS;
}

result_t cuCtxSetCurrent(context_t *context)
{
    depth = depth > 0 ? depth : 1;
    stack[depth - 1] = context;
    return SUCCESS;
}

result_t cuCtxGetCurrent(context_t **context)
{
    *context = current();
    return SUCCESS;
}

result_t cuCtxGetDevice(int *device)
{
    if (current() == NULL) {
        return INVALID_CONTEXT;
    }
    *device = current()->device;
    return SUCCESS;
}

result_t cuCtxGetId(context_t *context, unsigned long long *id)
{
    context = context != NULL ? context : current();
    if (context == NULL) {
        return INVALID_CONTEXT;
    }
    *id = context->device + 1;
    return SUCCESS;
}

/* ---- memory ---- */

typedef struct {
    char *address, *reachable;
    size_t length;
    context_t *context;
    int managed;
} allocation_t;

static allocation_t allocations[4096];
static int allocation_count;

/* NULL for memory of the host. */
static allocation_t *find(address_t address)
{
    allocation_t *found = NULL;
    int i;

    pthread_mutex_lock(&lock);
    for (i = 0; i < allocation_count && found == NULL; i++) {
        if ((char *)address >= allocations[i].address &&
            (char *)address < allocations[i].address + allocations[i].length) {
            found = &allocations[i];
        }
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static char *reach(address_t address)
{
    allocation_t *found = find(address);

    return found == NULL ? (char *)address : found->reachable + ((char *)address - found->address);
}

static result_t allocate(address_t *address, size_t length, int managed)
{
    int file = memfd_create("device", 0);
    allocation_t made = {.length = length, .context = current(), .managed = managed};

    if (made.context == NULL) {
        close(file);
        return INVALID_CONTEXT;
    }
    if (length == 0 || file < 0 || ftruncate(file, (off_t)length) != 0) {
        close(file);
        return INVALID_VALUE;
    }
    made.address = mmap(NULL, length, managed ? PROT_READ | PROT_WRITE : PROT_NONE, MAP_SHARED, file, 0);
    made.reachable = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    pthread_mutex_lock(&lock);
    allocations[allocation_count++] = made;
    pthread_mutex_unlock(&lock);
    *address = (address_t)made.address;
    return SUCCESS;
}

result_t cuMemAlloc_v2(address_t *address, size_t length)
{
    return allocate(address, length, 0);
}

result_t cuMemAllocManaged(address_t *address, size_t length, unsigned flags)
{
    (void)flags;
    return allocate(address, length, 1);
}

result_t cuMemFree_v2(address_t address)
{
    allocation_t *found = find(address);

    if (found == NULL || (char *)address != found->address) {
        return INVALID_VALUE;
    }
    munmap(found->address, found->length);
    munmap(found->reachable, found->length);
    pthread_mutex_lock(&lock);
    *found = allocations[--allocation_count];
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

result_t cuMemGetAddressRange_v2(address_t *base, size_t *length, address_t address)
{
    allocation_t *found = find(address);

    if (found == NULL) {
        return NOT_FOUND;
    }
    *base = (address_t)found->address;
    *length = found->length;
    return SUCCESS;
}

/* False for one that is not known here. */
static int tell(int attribute, const allocation_t *of, void *value)
{
    switch (attribute) {
    case 1: *(void **)value = of->context; return 1;
    case 2: *(unsigned *)value = 2; return 1; /* CU_MEMORYTYPE_DEVICE */
    case 7: *(unsigned long long *)value = (address_t)of->address; return 1;
    case 8: *(unsigned *)value = of->managed; return 1;
    case 9: *(int *)value = of->context->device; return 1;
    case 11: *(void **)value = of->address; return 1;
    case 12: *(size_t *)value = of->length; return 1;
    case 14: *(uint64_t *)value = 0; return 1;
    default: return 0;
    }
}

result_t cuPointerGetAttribute(void *value, int attribute, address_t address)
{
    allocation_t *found = find(address);

    return found != NULL && tell(attribute, found, value) ? SUCCESS : INVALID_VALUE;
}

result_t cuPointerGetAttributes(unsigned count, int *attributes, void **values, address_t address)
{
    allocation_t *found = find(address), nothing = {.context = NULL};
    unsigned i;

    for (i = 0; i < count; i++) {
        if (found != NULL) {
            tell(attributes[i], found, values[i]);
        } else if (attributes[i] == 2 || attributes[i] == 8 || attributes[i] == 9) {
            *(int *)values[i] = attributes[i] == 9 ? -2 : 0;
        } else {
            tell(attributes[i], &nothing, values[i]);
        }
    }
    return SUCCESS;
}

result_t cuPointerSetAttribute(const void *value, int attribute, address_t address)
{
    (void)value, (void)attribute;
    return find(address) != NULL ? SUCCESS : INVALID_VALUE;
}

result_t cuMemHostRegister_v2(void *address, size_t length, unsigned flags)
{
    (void)address, (void)length, (void)flags;
    return SUCCESS;
}

result_t cuMemHostUnregister(void *address)
{
    (void)address;
    return SUCCESS;
}

/* ---- streams ---- */

typedef struct {
    uint64_t recorded, reached;
} event_t;

typedef struct work {
    struct work *next;
    enum { COPY, SET, CALL_BACK, CALL, REACH, AWAIT } kind;
    char *target;
    const char *source;
    size_t length;
    int value;
    void (*call_back)(stream_t *stream, result_t status, void *data);
    void (*call)(void *data);
    void *data;
    event_t *event;
    uint64_t mark;
} work_t;

struct stream {
    pthread_t thread;
    work_t *first, *last;
    int pending;
};

static pthread_mutex_t stream_lock = PTHREAD_MUTEX_INITIALIZER; /* of all streams and events */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void do_work(stream_t *stream, const work_t *work)
{
    switch (work->kind) {
    case COPY: memmove(work->target, work->source, work->length); break;
    case SET: memset(work->target, work->value, work->length); break;
    case CALL_BACK: work->call_back(stream, SUCCESS, work->data); break;
    case CALL: work->call(work->data); break;
    default: break;
    }
}

static void *run(void *arg)
{
    stream_t *stream = arg;
    work_t *work;

    pthread_mutex_lock(&stream_lock);
    for (;;) {
        while ((work = stream->first) == NULL) {
            pthread_cond_wait(&changed, &stream_lock);
        }
        while (work->kind == AWAIT && work->event->reached < work->mark) {
            pthread_cond_wait(&changed, &stream_lock);
        }
        if (work->kind == REACH) {
            work->event->reached = work->mark;
        }
        pthread_mutex_unlock(&stream_lock);
        do_work(stream, work);
        pthread_mutex_lock(&stream_lock);
        stream->first = work->next;
        stream->pending--;
        pthread_cond_broadcast(&changed);
        free(work);
    }
    return NULL;
}

static stream_t *new_stream(void)
{
    stream_t *stream = calloc(1, sizeof *stream);

    pthread_create(&stream->thread, NULL, run, stream);
    pthread_setname_np(stream->thread, "cuda-stream");
    return stream;
}

/* Of the current context; NULL without one. */
static stream_t *stream_of(void *handle)
{
    context_t *context = current();
    stream_t **place;

    if (context == NULL || (uintptr_t)handle > 2) {
        return context == NULL ? NULL : handle;
    }
    place = &context->streams[(uintptr_t)handle == 2 ? 2 : 1];
    pthread_mutex_lock(&lock);
    if (*place == NULL) {
        *place = new_stream();
    }
    pthread_mutex_unlock(&lock);
    return *place;
}

static result_t launch(void *handle, work_t work)
{
    stream_t *stream = stream_of(handle);
    work_t *queued;

    if (stream == NULL) {
        return INVALID_CONTEXT;
    }
    queued = malloc(sizeof *queued);
    pthread_mutex_lock(&stream_lock);
    if (work.kind == REACH) {
        work.mark = ++work.event->recorded;
    } else if (work.kind == AWAIT) {
        work.mark = work.event->recorded;
    }
    *queued = work;
    if (stream->first != NULL) {
        stream->last->next = queued;
    } else {
        stream->first = queued;
    }
    stream->last = queued;
    stream->pending++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&stream_lock);
    return SUCCESS;
}

result_t cuStreamCreate(void **stream, unsigned flags)
{
    (void)flags;
    if (current() == NULL) {
        return INVALID_CONTEXT;
    }
    *stream = new_stream();
    return SUCCESS;
}

result_t cuStreamDestroy_v2(void *stream)
{
    (void)stream; /* its thread may still use it */
    return SUCCESS;
}

result_t cuStreamSynchronize(void *handle)
{
    stream_t *stream = stream_of(handle);

    if (stream == NULL) {
        return INVALID_CONTEXT;
    }
    pthread_mutex_lock(&stream_lock);
    while (stream->pending > 0) {
        pthread_cond_wait(&changed, &stream_lock);
    }
    pthread_mutex_unlock(&stream_lock);
    return SUCCESS;
}

result_t cuStreamAddCallback(void *stream, void (*call_back)(stream_t *, result_t, void *), void *data,
                             unsigned flags)
{
    (void)flags;
    return launch(stream, (work_t){.kind = CALL_BACK, .call_back = call_back, .data = data});
}

result_t cuLaunchHostFunc(void *stream, void (*call)(void *), void *data)
{
    return launch(stream, (work_t){.kind = CALL, .call = call, .data = data});
}

result_t cuEventCreate(event_t **event, unsigned flags)
{
    (void)flags;
    *event = calloc(1, sizeof **event);
    return SUCCESS;
}

result_t cuEventDestroy_v2(event_t *event)
{
    (void)event; /* a stream may still reach it */
    return SUCCESS;
}

result_t cuEventRecord(event_t *event, void *stream)
{
    return launch(stream, (work_t){.kind = REACH, .event = event});
}

result_t cuEventQuery(event_t *event)
{
    result_t result;

    pthread_mutex_lock(&stream_lock);
    result = event->reached == event->recorded ? SUCCESS : NOT_READY;
    pthread_mutex_unlock(&stream_lock);
    return result;
}

result_t cuStreamWaitEvent(void *stream, event_t *event, unsigned flags)
{
    (void)flags;
    return launch(stream, (work_t){.kind = AWAIT, .event = event});
}

result_t cuMemcpyAsync(address_t target, address_t source, size_t length, void *stream)
{
    if (target < source + length && source < target + length) {
        return INVALID_VALUE; /* a real one makes something of it, and does not say what */
    }
    return launch(stream, (work_t){.kind = COPY, .target = reach(target), .source = reach(source),
                                   .length = length});
}

result_t cuMemcpyDtoDAsync_v2(address_t target, address_t source, size_t length, void *stream)
{
    return cuMemcpyAsync(target, source, length, stream);
}

result_t cuMemsetD8Async(address_t target, unsigned char value, size_t length, void *stream)
{
    return launch(stream,
                  (work_t){.kind = SET, .target = reach(target), .value = value, .length = length});
}

result_t cuMemcpyHtoD_v2(address_t target, const void *source, size_t length)
{
    result_t result = cuMemcpyAsync(target, (address_t)source, length, NULL);

    return result == SUCCESS ? cuStreamSynchronize(NULL) : result;
}

result_t cuMemcpyDtoH_v2(void *target, address_t source, size_t length)
{
    return cuMemcpyHtoD_v2((address_t)target, (const void *)source, length);
}

/* ---- what this driver has not ---- */

#define MISSING(name)                                                                             \
    result_t name(void)                                                                           \
    {                                                                                             \
        return NOT_SUPPORTED;                                                                     \
    }
MISSING(cuIpcCloseMemHandle)
MISSING(cuIpcGetMemHandle)
MISSING(cuIpcOpenMemHandle_v2)
MISSING(cuMemAddressFree)
MISSING(cuMemAddressReserve)
MISSING(cuMemCreate)
MISSING(cuMemExportToShareableHandle)
MISSING(cuMemGetAllocationGranularity)
MISSING(cuMemGetAllocationPropertiesFromHandle)
MISSING(cuMemImportFromShareableHandle)
MISSING(cuMemMap)
MISSING(cuMemPoolDestroy)
MISSING(cuMemPoolExportPointer)
MISSING(cuMemPoolExportToShareableHandle)
MISSING(cuMemPoolImportFromShareableHandle)
MISSING(cuMemPoolImportPointer)
MISSING(cuMemPoolSetAccess)
MISSING(cuMemRangeGetAttribute)
MISSING(cuMemRelease)
MISSING(cuMemRetainAllocationHandle)
MISSING(cuMemSetAccess)
MISSING(cuMemUnmap)

/* As libnvidia-ml.so.1, which UCX links to, and UCXX calls: its driver is not loaded. */
#define NOT_LOADED(name)                                                                          \
    int name(void)                                                                                \
    {                                                                                             \
        return 9;                                                                                 \
    }
NOT_LOADED(nvmlDeviceGetFieldValues)
NOT_LOADED(nvmlDeviceGetGpuFabricInfo)
NOT_LOADED(nvmlDeviceGetHandleByIndex_v2)
NOT_LOADED(nvmlDeviceGetNvLinkRemotePciInfo_v2)
NOT_LOADED(nvmlInitWithFlags)
NOT_LOADED(nvmlInit_v2)
NOT_LOADED(nvmlShutdown)

const char *nvmlErrorString(int result)
{
    return result == 9 ? "the driver is not loaded" : "not in this emulation";
}

"""Memory of arrays that are no Python buffers: DLPack, and CUDA's array interface."""

cdef extern from *:
    """
    /* As in dlpack.h. */
    typedef struct {
        void *data;
        int32_t device_type, device_id;
        int32_t ndim;
        uint8_t code, bits;
        uint16_t lanes;
        int64_t *shape, *strides;
        uint64_t byte_offset;
    } ucxnb_dl_tensor_t;
    typedef struct {
        uint32_t major, minor;
        void *context;
        void (*deleter)(void *self);
        uint64_t flags;
        ucxnb_dl_tensor_t tensor;
    } ucxnb_dl_versioned_t;
    """
    ctypedef struct ucxnb_dl_tensor_t:
        void *data
        int ndim
        int bits
        int lanes
        int64_t *shape
        int64_t *strides
        uint64_t byte_offset
    ctypedef struct ucxnb_dl_versioned_t:
        unsigned major
        uint64_t flags
        ucxnb_dl_tensor_t tensor

cdef enum:
    DL_CPU = 1
    DL_CUDA = 2
    DL_CUDA_HOST = 3
    DL_CUDA_MANAGED = 13
    DL_READ_ONLY = 1
    LEGACY_STREAM = 1

COPY_FIRST = "copy it to the host first, as in array.get() or tensor.cpu().numpy()"


@cython.final
cdef class ArrayMemory:
    """What lends memory that is no Python buffer, for as long as a view of it lives."""

    cdef object lender
    cdef int type  # ucs_memory_type_t
    cdef Py_ssize_t *extents  # shape and strides
    cdef object address, shape, strides, itemsize, readonly  # strides: bytes, or None: contiguous

    def __dealloc__(self):
        free(self.extents)

    cdef int read_dlpack(self, object capsule) except -1:
        """Take what a DLPack capsule says; the capsule, which is kept, frees it in the end."""
        cdef ucxnb_dl_tensor_t *tensor
        cdef ucxnb_dl_versioned_t *versioned
        cdef int i
        self.lender = capsule
        self.readonly = False
        if PyCapsule_IsValid(capsule, "dltensor_versioned"):
            versioned = <ucxnb_dl_versioned_t *>PyCapsule_GetPointer(capsule, "dltensor_versioned")
            if versioned.major != 1:
                raise InvalidBufferError(f"DLPack {versioned.major} is not known here, only 1")
            self.readonly = bool(versioned.flags & DL_READ_ONLY)
            tensor = &versioned.tensor
        else:
            tensor = <ucxnb_dl_tensor_t *>PyCapsule_GetPointer(capsule, "dltensor")
        if tensor.bits * tensor.lanes % 8:
            raise InvalidBufferError(f"its items have {tensor.bits * tensor.lanes} bits: not bytes")
        self.address = <uintptr_t>tensor.data + tensor.byte_offset
        self.itemsize = tensor.bits * tensor.lanes // 8
        self.shape = [tensor.shape[i] for i in range(tensor.ndim)]
        if tensor.strides != NULL:
            self.strides = [tensor.strides[i] * self.itemsize for i in range(tensor.ndim)]
        return 0

    def read_interface(self, array, interface):
        """Take what ``__cuda_array_interface__`` says."""
        self.lender = array
        self.address, self.readonly = interface["data"]
        self.itemsize = int(re.sub("[^0-9]", "", interface["typestr"]))
        self.shape = [operator.index(extent) for extent in interface["shape"]]
        strides = interface.get("strides")
        self.strides = None if strides is None else [operator.index(step) for step in strides]
        if interface.get("mask") is not None:
            raise InvalidBufferError("an array with a mask has no bytes of its own")

    cdef bint is_contiguous(self):
        cdef object inner = self.itemsize
        if self.strides is None or 0 in self.shape:
            return True
        for extent, step in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if extent != 1 and step != inner:
                return False
            inner *= extent
        return True

    cdef int fill(self, Py_buffer *view, bint writable, bint strided) except -1:
        cdef object inner = self.itemsize
        cdef Py_ssize_t i, ndim = len(self.shape)
        if any(extent < 0 for extent in self.shape):
            raise InvalidBufferError(f"its shape is {self.shape}: no extent is below 0")
        if writable and self.readonly:
            raise InvalidBufferError("a writable array is needed, and this is read-only")
        if not strided and not self.is_contiguous():
            raise InvalidBufferError("a contiguous array is needed; copy it first")
        self.extents = <Py_ssize_t *>calloc(2 * ndim + 1, sizeof(Py_ssize_t))
        if self.extents == NULL:
            raise MemoryError()
        for i in range(ndim - 1, -1, -1):
            self.extents[i] = self.shape[i]
            self.extents[ndim + i] = inner if self.strides is None else self.strides[i]
            inner *= self.shape[i]
        view.buf = <void *><uintptr_t>self.address
        view.len = inner
        view.itemsize = self.itemsize
        view.readonly = self.readonly
        view.ndim = ndim
        view.shape = self.extents
        view.strides = self.extents + ndim
        ucxnb_set_owner(view, self)
        return 0


cdef inline int type_of(Py_buffer *view) noexcept:
    """What kind of memory it is (``ucs_memory_type_t``)."""
    if is_exported(view) and type(<object>view.obj) is ArrayMemory:
        return (<ArrayMemory>view.obj).type
    return UCS_MEMORY_TYPE_HOST


cdef int export_array(object array, Py_buffer *view, bint writable, bint strided,
                      EngineCore engine) except -1:
    """Borrow the memory of an object that is no Python buffer."""
    cdef ArrayMemory memory = ArrayMemory.__new__(ArrayMemory)
    try:
        fill_from_array(memory, array, view, writable, strided, engine)
    except (UcxnbError, MemoryError):
        raise
    except Exception as error:  # of whatever the array does when it is asked
        raise InvalidBufferError(
            f"{type(array).__name__} does not give its memory: {error}"
        ) from error
    return 0


cdef int fill_from_array(ArrayMemory memory, object array, Py_buffer *view, bint writable,
                         bint strided, EngineCore engine) except -1:
    cdef ucxnb_gpu_memory_t found
    cdef void *context
    cdef uintptr_t stream = 0
    cdef const char *problem
    cdef int device_type, device
    memset(view, 0, sizeof(Py_buffer))
    if hasattr(array, "__dlpack_device__"):
        device_type, device = array.__dlpack_device__()
        if device_type == DL_CPU or device_type == DL_CUDA_HOST:
            memory.read_dlpack(dlpack_of(array, None))
            return memory.fill(view, writable, strided)
        if device_type != DL_CUDA and device_type != DL_CUDA_MANAGED:
            raise GpuMemoryError(
                f"the memory of {type(array).__name__} is on a device of DLPack's type "
                f"{device_type}, and only CUDA's are reached: {COPY_FIRST}"
            )
        check_reachable(array, UCS_MEMORY_TYPE_CUDA, engine)
        problem = ucxnb_waiting_gpu_stream(device, &context, &stream)
        if problem != NULL:
            raise unreachable_error(array, problem.decode())
        # What it launched to make its values is waited for in a stream of ours.
        memory.read_dlpack(dlpack_of(array, <object>stream))
    elif hasattr(array, "__cuda_array_interface__"):
        check_reachable(array, UCS_MEMORY_TYPE_CUDA, engine)
        interface = array.__cuda_array_interface__
        memory.read_interface(array, interface)
        stream = interface.get("stream") or 0
        if interface["version"] < 3:
            stream = LEGACY_STREAM  # it cannot say
    else:
        raise InvalidBufferError(
            f"{type(array).__name__} has no buffer; pass bytes, bytearray, memoryview or an array"
        )
    if 0 not in memory.shape:
        problem = ucxnb_find_gpu_memory(<void *><uintptr_t>memory.address, &found)
        if problem != NULL:
            raise unreachable_error(array, problem.decode())
        memory.type = found.type
        check_reachable(array, found.type, engine)
        if stream != 0:
            context = found.context
            with nogil:
                problem = ucxnb_await_gpu_stream(context, stream)
            if problem != NULL:
                raise unreachable_error(array, problem.decode())
    return memory.fill(view, writable, strided)


cdef object dlpack_of(object array, object stream):
    try:
        return array.__dlpack__(stream=stream, max_version=(1, 0), copy=False)
    except TypeError:  # before DLPack 1
        return array.__dlpack__(stream=stream)


cdef object unreachable_error(object array, str problem):
    return GpuMemoryError(
        f"the memory of {type(array).__name__} is on a GPU, and cannot be reached: {problem}; "
        f"{COPY_FIRST}"
    )


cdef int check_reachable(object array, int memory_type, EngineCore engine) except -1:
    if not engine.memory_types >> memory_type & 1:
        raise unreachable_error(
            array, "UCX has no CUDA support here (it needs the NVIDIA driver, a build with CUDA, "
            "and cuda_copy among the transports that UCX_TLS allows)"
        )
    return 0

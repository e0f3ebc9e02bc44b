"""Arrays on a GPU, made with nothing but the CUDA driver: a real one, or the emulated one."""

import ctypes

_driver = ctypes.CDLL("libcuda.so.1")
_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def call(name, *arguments):
    """Call a function of the driver, with the GIL released."""
    result = getattr(_driver, name)(*arguments)
    if result != 0:
        text = ctypes.c_char_p()
        _driver.cuGetErrorString(result, ctypes.byref(text))
        raise RuntimeError(f"{name}: {text.value.decode()}")


call("cuInit", 0)


class InContext:
    """Make a device's primary context current in this thread, and no longer."""

    def __init__(self, device=0):
        self.context = ctypes.c_void_p()
        call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), device)

    def __enter__(self):
        call("cuCtxPushCurrent_v2", self.context)

    def __exit__(self, *exception):
        call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


def device_count():
    """How many GPUs there are."""
    count = ctypes.c_int()
    call("cuDeviceGetCount", ctypes.byref(count))
    return count.value


class GpuArray:
    """Bytes on a GPU, with ``__cuda_array_interface__``."""

    def __init__(
        self, content, *, device=0, managed=False, shape=None, strides=None, readonly=False
    ):
        self.device = device
        self.nbytes = len(content)
        self.address = ctypes.c_uint64()
        self.stream = None
        self.shape = (self.nbytes,) if shape is None else shape
        self.strides = strides
        self.readonly = readonly
        self.in_context = InContext(device)
        with self.in_context:
            if managed:
                call(
                    "cuMemAllocManaged",
                    ctypes.byref(self.address),
                    ctypes.c_size_t(self.nbytes),
                    1,
                )
            else:
                call("cuMemAlloc_v2", ctypes.byref(self.address), ctypes.c_size_t(self.nbytes))
            source = bytes(content)
            call("cuMemcpyHtoD_v2", self.address, source, ctypes.c_size_t(self.nbytes))

    @property
    def __cuda_array_interface__(self):
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": "|u1",
            "data": (self.address.value, self.readonly),
            "strides": self.strides,
            "stream": None if self.stream is None else self.stream.value,
        }

    def part(self, start, nbytes):
        """A part of the same memory, as another array."""
        whole = self.__cuda_array_interface__
        interface = {**whole, "shape": (nbytes,), "data": (self.address.value + start, False)}
        return type("Part", (), {"__cuda_array_interface__": interface})()

    def read(self):
        """Copy it to the host."""
        content = ctypes.create_string_buffer(self.nbytes)
        with self.in_context:
            call("cuMemcpyDtoH_v2", content, self.address, ctypes.c_size_t(self.nbytes))
        return content.raw

    def fill_after(self, wait, value):
        """Launch work in a stream of its own: ``wait()``, which needs the GIL, and then a fill."""
        self.stream = ctypes.c_void_p()
        self._wait = _HOST_FUNCTION(lambda _: wait())
        with self.in_context:
            call("cuStreamCreate", ctypes.byref(self.stream), 1)
            call("cuLaunchHostFunc", self.stream, self._wait, None)
            call(
                "cuMemsetD8Async",
                self.address,
                ctypes.c_ubyte(value),
                ctypes.c_size_t(self.nbytes),
                self.stream,
            )

    def free(self):
        """Give the memory back."""
        with self.in_context:
            if self.stream is not None:
                call("cuStreamSynchronize", self.stream)
            call("cuMemFree_v2", self.address)


class _Tensor(ctypes.Structure):
    """``DLManagedTensorVersioned`` of dlpack.h."""

    _fields_ = [
        ("version", ctypes.c_uint32 * 2),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_NAME = b"dltensor_versioned"
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class DlpackArray:
    """The same array, but with DLPack only."""

    def __init__(self, array, device_type=2):
        self.array = array
        self.device_type = device_type
        self.asked_for = []

    def __dlpack_device__(self):
        return self.device_type, self.array.device

    def __dlpack__(self, *, stream=None, max_version=None, copy=None):
        array = self.array
        self.asked_for.append(stream)
        if array.stream is not None:
            event = ctypes.c_void_p()
            with array.in_context:
                call("cuEventCreate", ctypes.byref(event), 2)
                call("cuEventRecord", event, array.stream)
                call("cuStreamWaitEvent", ctypes.c_void_p(stream), event, 0)
        self._shape = (ctypes.c_int64 * 1)(array.nbytes)
        self._tensor = _Tensor(
            version=(ctypes.c_uint32 * 2)(1, 0),
            flags=int(array.readonly),
            data=array.address.value,
            device=(ctypes.c_int32 * 2)(self.device_type, array.device),
            ndim=1,
            code=1,
            bits=8,
            lanes=1,
            shape=self._shape,
        )
        return _new_capsule(ctypes.addressof(self._tensor), _NAME, None)

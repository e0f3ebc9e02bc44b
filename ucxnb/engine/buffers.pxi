"""Memory of the user's, borrowed for as long as UCX may touch it."""

cdef int export_buffer(object data, Py_buffer *view, bint writable) except -1:
    """Borrow the memory of `data`; the caller releases it."""
    try:
        PyObject_GetBuffer(data, view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
    except TypeError:
        raise InvalidBufferError(
            f"{type(data).__name__} has no buffer; pass bytes, bytearray, memoryview or an array"
        ) from None
    except (BufferError, ValueError) as error:
        kind = "writable, contiguous" if writable else "contiguous"
        raise InvalidBufferError(
            f"a {kind} buffer is needed: {error}; copy it first, as in bytearray(data) or "
            "numpy.ascontiguousarray(array)"
        ) from None
    if type(data) is not bytes and type(data) is not bytearray and view.itemsize >= 8:
        if getattr(getattr(data, "dtype", None), "hasobject", False):
            PyBuffer_Release(view)
            raise InvalidBufferError("an array of Python objects has no bytes of its own to send")
    return 0


cdef inline bint is_exported(Py_buffer *view) noexcept:
    return <PyObject *>view.obj != NULL


@cython.final
cdef class View:
    """Keeps somebody's buffer exported for as long as UCX may touch it."""

    cdef Py_buffer view

    def __dealloc__(self):
        if is_exported(&self.view):
            PyBuffer_Release(&self.view)


cdef View keep_view(Py_buffer *view):
    """Take over an exported buffer; `view` is empty afterwards."""
    cdef View kept = View.__new__(View)
    memcpy(&kept.view, view, sizeof(Py_buffer))
    memset(view, 0, sizeof(Py_buffer))
    return kept

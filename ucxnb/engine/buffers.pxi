"""Memory of the user's, borrowed for as long as UCX may touch it."""

cdef extern from *:
    """
    /* Of a view that has no owner; Cython would let go of the one before. */
    static inline void ucxnb_set_owner(Py_buffer *view, PyObject *owner)
    {
        Py_INCREF(owner);
        view->obj = owner;
    }
    /* What is needed of PyObject_GetBuffer for bytes. */
    static inline void ucxnb_view_bytes(PyObject *data, Py_buffer *view)
    {
        view->buf = PyBytes_AS_STRING(data);
        view->len = PyBytes_GET_SIZE(data);
        ucxnb_set_owner(view, data);
    }
    """
    void ucxnb_view_bytes(object data, Py_buffer *view) noexcept
    void ucxnb_set_owner(Py_buffer *view, object owner) noexcept


cdef inline int export_buffer(object data, Py_buffer *view, bint writable, EngineCore engine,
                              int shape=0) except -1:
    """Borrow the memory of `data`; the caller releases it. `type_of` tells whose memory it is."""
    cdef bint is_buffer = True
    if type(data) is bytes and not writable and shape == PyBUF_SIMPLE:
        ucxnb_view_bytes(data, view)
        return 0
    try:
        PyObject_GetBuffer(data, view, shape | (PyBUF_WRITABLE if writable else PyBUF_SIMPLE))
    except TypeError:
        is_buffer = False
    except (BufferError, ValueError) as error:
        kind = "writable, contiguous" if writable else "contiguous"
        raise InvalidBufferError(
            f"a {kind} buffer is needed: {error}; copy it first, as in bytearray(data) or "
            "numpy.ascontiguousarray(array)"
        ) from None
    if not is_buffer:
        return export_array(data, view, writable, shape != PyBUF_SIMPLE, engine)
    if type(data) is not bytes and type(data) is not bytearray and view.itemsize >= 8:
        try:
            if holds_objects(data):
                raise InvalidBufferError(
                    "an array of Python objects has no bytes of its own; send each of them pickled"
                )
        except BaseException:
            PyBuffer_Release(view)
            raise
    return 0


cdef bint holds_objects(object data) except -1:
    """Whether its items are references to Python objects."""
    cdef object kind = getattr(data, "dtype", None)
    if kind is not None:
        return getattr(kind, "hasobject", False)
    try:
        kind = memoryview(data).format
    except (TypeError, BufferError, ValueError):
        return False
    return "O" in kind and "O" in re.sub(":[^:]*:", "", kind)  # without the names of fields


cdef inline bint is_exported(Py_buffer *view) noexcept:
    return <PyObject *>view.obj != NULL


@cython.final
@cython.freelist(64)
cdef class Loan:
    """Keeps alive what UCX may touch: somebody's buffer, and an endpoint."""

    cdef Py_buffer view
    cdef object memory
    cdef Endpoint endpoint
    cdef RemoteMemory remote

    def __dealloc__(self):
        if self.remote is not None:
            self.remote.end_use()
        if is_exported(&self.view):
            PyBuffer_Release(&self.view)


cdef Loan lend(Py_buffer *view, object memory, Endpoint endpoint):
    """Take over an exported buffer, if there is one; `view` is empty afterwards."""
    cdef Loan loan = Loan.__new__(Loan)
    loan.memory = memory
    loan.endpoint = endpoint
    if view != NULL:
        memcpy(&loan.view, view, sizeof(Py_buffer))
        memset(view, 0, sizeof(Py_buffer))
    return loan


cdef inline Loan borrow(Py_buffer *view, Loan lender, Endpoint endpoint):
    """Keep the memory of a view: with its lender, or by taking the view over."""
    return lend(view if lender is None else NULL, lender, endpoint)

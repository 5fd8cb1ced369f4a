"""Validators: what a payload must be before it is written, or after it was read."""

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from libc.stdint cimport uint8_t

from flatstream._core.buffers cimport acquire, master_view, subview
from flatstream._core.wire cimport MAX_PAYLOAD_LEN

from flatstream.errors import ValidationFailedError


cdef class Validator:
    """A rule that payloads must keep; subclass it and give ``validate``.

    Attributes
    ----------
    name : str
        What ValidationFailedError calls it; the class's name unless given.

    Examples
    --------
    >>> class NotEmpty(Validator):
    ...     def validate(self, payload):
    ...         if not len(payload):
    ...             raise ValidationFailedError(validator=self.name, reason="empty")
    >>> CompositeValidator(SizeValidator(0, 8), NotEmpty()).validate(b"abc")
    """

    def __cinit__(self, *args, **kwargs):
        cdef object cls = type(self)
        self.in_python = True
        for base in cls.__mro__:
            if base in (NoValidator, SizeValidator, CompositeValidator):
                self.in_python = cls.validate is not base.validate
                break

    @property
    def name(self):
        """What error messages call this validator."""
        return type(self).__name__

    def validate(self, payload):
        """Returns None if `payload` is good.

        Parameters
        ----------
        payload : bytes-like
            From a framer or deframer, a memoryview.

        Raises
        ------
        ValidationFailedError
            It is not.
        """
        cdef Py_buffer view
        if not isinstance(self, (NoValidator, SizeValidator, CompositeValidator)):
            raise TypeError(f"{type(self).__name__} must define validate(payload)")
        master = master_view(payload, "payload")
        acquire(master, &view, "payload")
        try:
            self.inspect_natively(master, <const uint8_t*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def __repr__(self):
        return f"{type(self).__name__}()"

    cdef int needs_view(self) except -1:
        """Whether inspect() wants a memoryview, or can do with None."""
        return self.in_python

    cdef int inspect(self, object master, const uint8_t* data, Py_ssize_t length) except -1:
        """Refuses the `length` bytes at `data` (inside the memoryview `master`) by raising."""
        if not self.in_python:
            return self.inspect_natively(master, data, length)
        outcome = self.validate(subview(master, data, length))
        if outcome is not None:
            raise TypeError(
                f"{type(self).__name__}.validate must return None or raise ValidationFailedError, got {outcome!r:.100}"
            )
        return 0

    cdef int inspect_natively(self, object master, const uint8_t* data, Py_ssize_t length) except -1:
        return 0


cdef class NoValidator(Validator):
    """Accepts every payload."""


cdef class SizeValidator(Validator):
    """Accepts payloads of `min_size` to `max_size` bytes, both included.

    Raises
    ------
    ValueError
        A size is negative, or `min_size` over `max_size`, or over what a frame can hold (2**32 - 1).
    TypeError
        A size is no int.
    """

    cdef readonly Py_ssize_t min_size
    """The smallest size accepted, in bytes."""
    cdef readonly Py_ssize_t max_size
    """The largest size accepted, in bytes."""

    def __init__(self, min_size, max_size):
        for size in (min_size, max_size):
            if not isinstance(size, int) or isinstance(size, bool):
                raise TypeError(f"sizes must be ints, got {type(size).__name__}: {size!r:.100}")
        if not 0 <= min_size <= max_size or min_size > MAX_PAYLOAD_LEN:
            raise ValueError(
                f"sizes must be 0 <= min_size <= max_size and min_size <= {MAX_PAYLOAD_LEN}, "
                f"got {min_size} and {max_size}"
            )
        self.min_size = min_size
        self.max_size = min(max_size, MAX_PAYLOAD_LEN)

    cdef int inspect_natively(self, object master, const uint8_t* data, Py_ssize_t length) except -1:
        if length < self.min_size:
            raise ValidationFailedError(
                validator=self.name, reason=f"{length} bytes are fewer than the {self.min_size} required"
            )
        if length > self.max_size:
            raise ValidationFailedError(
                validator=self.name, reason=f"{length} bytes are more than the {self.max_size} allowed"
            )
        return 0

    def __repr__(self):
        return f"{type(self).__name__}({self.min_size}, {self.max_size})"


cdef class CompositeValidator(Validator):
    """Accepts what all of `validators` accept; they are asked in order, and the first refusal is the answer.

    Raises
    ------
    TypeError
        An argument is not a Validator.
    """

    cdef readonly tuple validators
    """The validators, in the order in which they are asked."""

    def __init__(self, *validators):
        for validator in validators:
            if not isinstance(validator, Validator):
                raise TypeError(f"expected instances of Validator, got {validator!r:.100}")
        if self.validators is not None:
            raise TypeError("a CompositeValidator's __init__ must not be called twice")
        # Each stands inside the other, and the stack is finite.
        self.depth = 1 + max([(<Validator>validator).depth for validator in validators], default=0)
        if self.depth > 1000:
            raise RecursionError("no more than 1000 validators may stand inside one another")
        self.validators = validators

    def add(self, Validator validator not None):
        """A new CompositeValidator that asks `validator` after all others."""
        return CompositeValidator(*self.validators, validator)

    cdef int needs_view(self) except -1:
        return self.in_python or any([(<Validator>validator).needs_view() for validator in self.validators])

    cdef int inspect_natively(self, object master, const uint8_t* data, Py_ssize_t length) except -1:
        for validator in self.validators:
            (<Validator>validator).inspect(master, data, length)
        return 0

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(map(repr, self.validators))})"

"""Validators: what a payload must be before it is written, or after it was read."""

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from libc.stdint cimport int32_t, uint8_t

from flatstream._core.base.buffers cimport acquire, owner_view_of, slice_view
from flatstream._core.flatbuf.verifier cimport Limits, Types, check_limits, check_root, verify_object, verify_table_root
from flatstream._core.framing.wire cimport MAX_PAYLOAD_LEN

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
            if base in (NoValidator, SizeValidator, TableRootValidator, TypedValidator, CompositeValidator):
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
        if not isinstance(self, (NoValidator, SizeValidator, TableRootValidator, TypedValidator, CompositeValidator)):
            raise TypeError(f"{type(self).__name__} must define validate(payload)")
        owner_view = owner_view_of(payload, "payload")
        acquire(owner_view, &view, "payload")
        try:
            self.inspect_natively(owner_view, <const uint8_t*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def __repr__(self):
        return f"{type(self).__name__}()"

    cdef int needs_view(self) except -1:
        """Whether inspect() wants a memoryview, or can do with None."""
        return self.in_python

    cdef int inspect(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        """Refuses the `length` bytes at `data` (inside the memoryview `owner_view`) by raising."""
        if not self.in_python:
            return self.inspect_natively(owner_view, data, length)
        outcome = self.validate(slice_view(owner_view, data, length))
        if outcome is not None:
            raise TypeError(
                f"{type(self).__name__}.validate must return None or raise ValidationFailedError, got {outcome!r:.100}"
            )
        return 0

    cdef int inspect_natively(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
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

    cdef int inspect_natively(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
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


cdef class TableRootValidator(Validator):
    """Accepts payloads that begin with the offset of a table whose vtable is sound. No schema is needed.

    What the table holds is not looked at: `TypedValidator` does that.

    Parameters
    ----------
    max_depth, max_tables : int
        As in the Rust crate, which gives them to its verifier; a root is one table at depth one.

    Raises
    ------
    TypeError, ValueError
        A limit is no int, or negative, or `max_depth` over 1,000.
    """

    cdef Limits limits

    def __init__(self, max_depth=64, max_tables=1_000_000):
        check_limits(max_depth, max_tables, 2**31, &self.limits)

    @property
    def max_depth(self):
        """How deep tables may be nested."""
        return self.limits.max_depth

    @property
    def max_tables(self):
        """How many tables there may be."""
        return self.limits.max_tables

    cdef int inspect_natively(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        reason = verify_table_root(data, length, &self.limits)
        if reason is not None:
            raise ValidationFailedError(validator=self.name, reason=reason)
        return 0

    def __repr__(self):
        return f"{type(self).__name__}(max_depth={self.max_depth}, max_tables={self.max_tables})"


cdef class TypedValidator(Validator):
    """Accepts payloads that are messages of one type, from the first byte to the last that can be reached.

    Made by `for_type` or `from_verify`.

    Examples
    --------
    >>> from flatstream import Schema
    >>> schema = Schema.from_file("examples/telemetry.bfbs")
    >>> TypedValidator.for_type(schema, "telemetry.Event").validate(b"\\x04\\0\\0\\0")
    Traceback (most recent call last):
    ...
    flatstream.errors.ValidationFailedError: telemetry.Event refused the payload: event: the offset of a vtable at \
byte 4 needs 4 bytes, but the message ends at 4
    """

    cdef str label
    cdef Types types
    cdef int32_t root
    cdef Limits limits
    cdef object function

    def __init__(self, *args, **kwargs):
        raise TypeError("a TypedValidator is made by for_type(schema, name) or from_verify(name, function)")

    @classmethod
    def for_type(cls, schema, name=None, *, max_depth=64, max_tables=1_000_000, max_apparent_size=2**31):
        """A validator for one table of a schema, compiled from end to end.

        Parameters
        ----------
        schema : Schema
            The schema.
        name : str, optional
            The full name of the table, with its namespace; the schema's root unless given.
        max_depth, max_tables : int
            How deep tables may be nested (at most 1,000), and how many there may be.
        max_apparent_size : int
            How many bytes the message may have if what is referred to twice is counted twice.

        Raises
        ------
        KeyError
            The schema has no such table.
        TypeError, ValueError
            `schema` is no Schema, has no root, or a limit is not what it should be.
        """
        cdef TypedValidator validator
        cdef Limits limits
        cdef int32_t root
        check_limits(max_depth, max_tables, max_apparent_size, &limits)
        if not hasattr(schema, "table") or not hasattr(schema, "root"):
            raise TypeError(f"schema must be a Schema, got {type(schema).__name__}")
        table = schema.root if name is None else schema.table(name)
        if table is None:
            raise ValueError("this schema names no root: say which table is meant")
        types = table.types
        root = check_root(types, table.number)
        validator = cls.__new__(cls)
        validator.label = table.name
        validator.types = types
        validator.root = root
        validator.limits = limits
        return validator

    @classmethod
    def from_verify(cls, name, function):
        """A validator that calls ``function(payload)``.

        Parameters
        ----------
        name : str
            What errors call the validator.
        function : callable
            Takes a memoryview. Returns None or True if the payload is good; returns False or raises if it is not.

        Raises
        ------
        TypeError
            `name` is no str, or `function` not callable.
        """
        cdef TypedValidator validator
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, got {type(name).__name__}: {name!r:.100}")
        if not callable(function):
            raise TypeError(f"function must be callable, got {type(function).__name__}: {function!r:.100}")
        validator = cls.__new__(cls)
        validator.label = name
        validator.function = function
        return validator

    @property
    def name(self):
        """What error messages call this validator: the type's full name."""
        return self.label

    cdef int needs_view(self) except -1:
        return self.in_python or self.function is not None

    cdef int inspect_natively(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        if self.types is not None:
            refusal = verify_object(self.types, self.root, data, length, &self.limits)
            if refusal is not None:
                raise ValidationFailedError(validator=self.name, path=refusal[0], reason=refusal[1])
            return 0
        if self.function is None:
            raise TypeError(f"{type(self).__name__} is made by for_type or from_verify")
        try:
            outcome = self.function(slice_view(owner_view, data, length))
        except ValidationFailedError:
            raise
        except Exception as error:
            # Generated code that reads nonsense raises nearly anything.
            raise ValidationFailedError(validator=self.name, reason=f"{type(error).__name__}: {error}") from error
        if outcome is False:
            raise ValidationFailedError(validator=self.name, reason="the function returned False")
        if outcome is not None and outcome is not True:
            raise TypeError(
                f"the function of validator {self.name!r} must return None, True or False, or raise, got "
                f"{outcome!r:.100}"
            )
        return 0

    def __repr__(self):
        how = "for_type" if self.types is not None else "from_verify"
        return f"<{type(self).__name__}.{how}({self.label!r})>"


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

    cdef int inspect_natively(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        for validator in self.validators:
            (<Validator>validator).inspect(owner_view, data, length)
        return 0

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(map(repr, self.validators))})"

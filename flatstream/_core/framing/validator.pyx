"""Validators: rules for payloads, checked before a payload is written or after it is read."""

import functools

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from libc.stdint cimport int32_t, uint8_t, uint64_t

from flatstream._core.base.buffers cimport acquire, owner_view_of, slice_view
from flatstream._core.base.checks cimport exact_str, index_of
from flatstream._core.base.pickling cimport reduced
from flatstream._core.flatbuf.layout cimport Layout, identifier_of
from flatstream._core.flatbuf.message cimport is_other
from flatstream._core.flatbuf.message_builder cimport check_no_prefix
from flatstream._core.flatbuf.verifier cimport Limits, Types, check_limits, check_root, verify_object, verify_table_root
from flatstream._core.framing.wire cimport MAX_PAYLOAD_LEN

from flatstream.errors import ValidationFailedError

cdef enum:
    MAX_VALIDATOR_DEPTH = 1000


cdef class Validator:
    """A rule for payloads; a subclass defines ``validate``.

    Attributes
    ----------
    name : str
        The name of the validator in ValidationFailedError; by default the name of the class.

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
        """The name of this validator in error messages."""
        return type(self).__name__

    def validate(self, payload):
        """Returns None if `payload` is valid.

        Parameters
        ----------
        payload : bytes-like
            A framer or deframer passes a memoryview.

        Raises
        ------
        ValidationFailedError
            `payload` is not valid.
        """
        cdef Py_buffer view
        if not isinstance(self, (NoValidator, SizeValidator, TableRootValidator, TypedValidator, CompositeValidator)):
            raise TypeError(f"{type(self).__name__} must define validate(payload)")
        check_no_prefix(payload)
        owner_view = owner_view_of(payload, "payload")
        acquire(owner_view, &view, "payload")
        try:
            self.inspect_natively(owner_view, <const uint8_t*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def __repr__(self):
        return f"{type(self).__name__}()"

    def __reduce__(self):
        return reduced(self, Validator, (), {})

    cdef int needs_view(self) except -1:
        """Whether inspect() needs a memoryview. If not, it accepts None."""
        return self.in_python

    cdef int inspect(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        """Raises ValidationFailedError if the `length` bytes at `data`, a part of `owner_view`, are not valid."""
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
        A size is negative, or `min_size` is larger than `max_size` or than the largest payload of a frame (2**32 - 1).
    TypeError
        A size is not an int.
    """

    cdef readonly Py_ssize_t min_size
    """The smallest size accepted, in bytes."""
    cdef readonly Py_ssize_t max_size
    """The largest size accepted, in bytes."""

    def __init__(self, min_size, max_size):
        sizes = index_of(min_size), index_of(max_size)
        for size, given in zip(sizes, (min_size, max_size)):
            if size is None:
                raise TypeError(f"sizes must be ints, got {type(given).__name__}: {given!r:.100}")
        min_size, max_size = sizes
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

    def __reduce__(self):
        return reduced(self, SizeValidator, (self.min_size, self.max_size), {})


cdef class TableRootValidator(Validator):
    """Accepts payloads that begin with the offset of a table with a valid vtable. It needs no schema.

    The fields of the table are not checked; `TypedValidator` checks them.

    Parameters
    ----------
    max_depth, max_tables : int
        The limits of the verifier, as in the Rust crate. The root counts as one table at depth 1.

    Raises
    ------
    TypeError, ValueError
        A limit is not an int, or is negative, or `max_depth` is larger than 1,000.
    """

    cdef Limits limits

    def __init__(self, max_depth=64, max_tables=1_000_000):
        check_limits(max_depth, max_tables, 2**31, &self.limits)

    @property
    def max_depth(self):
        """The largest nesting depth of tables."""
        return self.limits.max_depth

    @property
    def max_tables(self):
        """The largest number of tables."""
        return self.limits.max_tables

    cdef int inspect_natively(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        reason = verify_table_root(data, length, &self.limits)
        if reason is not None:
            raise ValidationFailedError(validator=self.name, reason=reason)
        return 0

    def __repr__(self):
        return f"{type(self).__name__}(max_depth={self.max_depth}, max_tables={self.max_tables})"

    def __reduce__(self):
        return reduced(self, TableRootValidator, (self.max_depth, self.max_tables), {})


cdef class TypedValidator(Validator):
    """Accepts payloads that are messages of one type. All data that can be reached from the root is verified.

    `for_type` and `from_verify` make one; the class itself cannot be called.

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
    # If file identifiers are compared; else None.
    cdef Layout layout
    cdef int32_t root
    cdef Limits limits
    cdef object function
    # What made it, for pickling: the function and its arguments.
    cdef object made_by

    def __init__(self, *args, **kwargs):
        raise TypeError("a TypedValidator is made by for_type(schema, name) or from_verify(name, function)")

    @classmethod
    def for_type(
        cls, schema, name=None, *, max_depth=64, max_tables=1_000_000, max_apparent_size=2**31, identifier=False
    ):
        """A validator for one table of a schema. It runs no Python code.

        Parameters
        ----------
        schema : Schema
            The schema.
        name : str, optional
            The full name of the table, with its namespace; by default the root of the schema.
        max_depth, max_tables : int
            The largest nesting depth of tables (at most 1,000), and the largest number of tables.
        max_apparent_size : int
            The largest size of the message in bytes, where shared bytes are counted at each use.
        identifier : bool
            Whether a message that carries a file identifier must carry that of the schema, whose root the table is.

        Raises
        ------
        KeyError
            The schema has no table of this name.
        TypeError, ValueError
            `schema` is not a Schema, or has no root and `name` is missing; a limit has the wrong type or range;
            `identifier` is true, and the table has no file identifier.
        """
        cdef TypedValidator validator
        cdef Limits limits
        cdef int32_t root
        check_limits(max_depth, max_tables, max_apparent_size, &limits)
        if not hasattr(schema, "table") or not hasattr(schema, "root"):
            raise TypeError(f"schema must be a Schema, got {type(schema).__name__}")
        table = schema.root if name is None else schema.table(name)
        if table is None:
            raise ValueError("this schema has no root table: pass the name of a table")
        types = table.types
        root = check_root(types, table.number)
        validator = cls.__new__(cls)
        validator.label = table.name
        validator.types = types
        validator.root = root
        validator.limits = limits
        if identifier:
            validator.layout = table.layout
            if not identifier_of(validator.layout, root):
                raise ValueError(f"{table.name} has no file identifier: it is that of a schema's root table")
        options = {
            "max_depth": max_depth, "max_tables": max_tables, "max_apparent_size": max_apparent_size,
            "identifier": bool(identifier),
        }
        validator.made_by = functools.partial(cls.for_type, schema, table.name, **options)
        return validator

    @classmethod
    def from_verify(cls, name, function):
        """A validator that calls ``function(payload)``.

        Parameters
        ----------
        name : str
            The name of the validator in errors.
        function : callable
            Takes a memoryview. Returns None or True if the payload is valid; returns False or raises if it is not.

        Raises
        ------
        TypeError
            `name` is not a str, or `function` is not callable.
        """
        cdef TypedValidator validator
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, got {type(name).__name__}: {name!r:.100}")
        if not callable(function):
            raise TypeError(f"function must be callable, got {type(function).__name__}: {function!r:.100}")
        validator = cls.__new__(cls)
        validator.label = exact_str(name)
        validator.function = function
        validator.made_by = functools.partial(cls.from_verify, name, function)
        return validator

    @property
    def name(self):
        """The name of this validator in error messages: the full name of the type."""
        return self.label

    cdef int needs_view(self) except -1:
        return self.in_python or self.function is not None

    cdef int inspect_natively(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        if self.layout is not None and is_other(data, <uint64_t>length, identifier_of(self.layout, self.root)):
            raise ValidationFailedError(validator=self.name, reason=self.layout.reason_of_other(self.root, data))
        if self.types is not None:
            fault = verify_object(self.types, self.root, data, length, &self.limits)
            if fault is not None:
                raise ValidationFailedError(validator=self.name, path=fault[0], reason=fault[1])
            return 0
        if self.function is None:
            raise TypeError(f"{type(self).__name__} is made by for_type or from_verify")
        try:
            outcome = self.function(slice_view(owner_view, data, length))
        except ValidationFailedError:
            raise
        except Exception as error:
            # Generated code that reads an invalid message can raise any exception.
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
        constructor = "for_type" if self.types is not None else "from_verify"
        return f"<{type(self).__name__}.{constructor}({self.label!r})>"

    def __reduce__(self):
        if self.made_by is None:
            raise TypeError(f"{type(self).__name__} is made by for_type or from_verify")
        return self.made_by, (), self.__getstate__()


cdef class CompositeValidator(Validator):
    """Accepts the payloads that all of `validators` accept. They are called in order, up to the first that raises.

    Raises
    ------
    TypeError
        An argument is not a Validator.
    """

    cdef readonly tuple validators
    """The validators, in the order in which they are called."""

    def __init__(self, *validators):
        for validator in validators:
            if not isinstance(validator, Validator):
                raise TypeError(f"expected instances of Validator, got {validator!r:.100}")
        if self.validators is not None:
            raise TypeError("a CompositeValidator's __init__ must not be called twice")
        # Nested validators call one another recursively, which takes stack.
        self.depth = 1 + max([(<Validator>validator).depth for validator in validators], default=0)
        if self.depth > MAX_VALIDATOR_DEPTH:
            raise RecursionError(f"validators must not be nested deeper than {MAX_VALIDATOR_DEPTH}")
        self.validators = validators

    def add(self, Validator validator not None):
        """A new CompositeValidator that calls `validator` after all others."""
        return CompositeValidator(*self.validators, validator)

    cdef int needs_view(self) except -1:
        return self.in_python or any([(<Validator>validator).needs_view() for validator in self.validators])

    cdef int inspect_natively(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        for validator in self.validators:
            (<Validator>validator).inspect(owner_view, data, length)
        return 0

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(map(repr, self.validators))})"

    def __reduce__(self):
        return reduced(self, CompositeValidator, self.validators or (), {})

"""Checks of arguments, and lists of names in error messages."""


cdef extern from "Python.h":
    bint PyBool_Check(object value)
    bint PyIndex_Check(object value)
    bint PyLong_CheckExact(object value)
    bint PyUnicode_CheckExact(object value)
    object PyNumber_Index(object value)
    object PyUnicode_FromObject(object value)

# Longer lists are cut off: a schema can have any number of names.
cdef Py_ssize_t MAX_LISTED_NAMES = 40


cdef object index_of(object value):
    if PyLong_CheckExact(value):
        return value
    if PyBool_Check(value) or not PyIndex_Check(value):
        return None
    try:
        return PyNumber_Index(value)
    except TypeError:
        # NumPy's bools and arrays have an __index__ that always raises it.
        return None


cdef object exact_int(str name, object value):
    number = index_of(value)
    if number is None:
        raise TypeError(f"{name} must be an int, got {type(value).__name__}: {value!r:.100}")
    return number


cdef str exact_str(object value):
    if PyUnicode_CheckExact(value):
        return value
    return PyUnicode_FromObject(value)


cdef Py_ssize_t checked_int(str name, object value, Py_ssize_t least, Py_ssize_t most) except -1:
    """Returns `value`, the argument `name`, if it is an int from `least` to `most`."""
    value = exact_int(name, value)
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, got {value}")
    return value


def int_argument(str name not None, value, Py_ssize_t least, Py_ssize_t most):
    """Returns `value`, the argument `name`, if it is an int from `least` to `most`: `checked_int` for Python modules.

    Raises
    ------
    TypeError, ValueError
        It is no int, or outside of the range.
    """
    return checked_int(name, value, least, most)


def index_argument(str name not None, value):
    """Returns `value`, the argument `name`, as an exact int: `exact_int` for Python modules.

    Raises
    ------
    TypeError
        It is a bool, or has no ``__index__``.
    """
    return exact_int(name, value)


cdef object checked_minimum(str name, object value, object least):
    """Returns `value`, the argument `name`, as an exact int, if it is at least `least`."""
    value = exact_int(name, value)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


cdef str listed(object names):
    """Joins the names with commas, the first 40 of them; "none" if there are none."""
    cdef list known = list(names)
    if len(known) > MAX_LISTED_NAMES:
        return ", ".join(known[:MAX_LISTED_NAMES]) + f" and {len(known) - MAX_LISTED_NAMES} more"
    return ", ".join(known) or "none"

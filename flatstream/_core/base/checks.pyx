"""Checks of arguments, and lists of names in error messages."""

# Longer lists are cut off: a schema can have any number of names.
cdef Py_ssize_t MAX_LISTED_NAMES = 40


cdef int check_int(str name, object value) except -1:
    """Raises TypeError unless `value`, the argument `name`, is an int and no bool."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}: {value!r:.100}")
    return 0


cdef Py_ssize_t checked_int(str name, object value, Py_ssize_t least, Py_ssize_t most) except -1:
    """Returns `value`, the argument `name`, if it is an int from `least` to `most`."""
    check_int(name, value)
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


cdef object checked_minimum(str name, object value, object least):
    """Returns `value`, the argument `name`, if it is an int of at least `least`."""
    check_int(name, value)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


cdef str listed(object names):
    """Joins the names with commas, the first 40 of them; "none" if there are none."""
    cdef list known = list(names)
    if len(known) > MAX_LISTED_NAMES:
        return ", ".join(known[:MAX_LISTED_NAMES]) + f" and {len(known) - MAX_LISTED_NAMES} more"
    return ", ".join(known) or "none"

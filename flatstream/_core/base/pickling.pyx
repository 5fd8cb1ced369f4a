"""How objects of compiled classes are pickled and copied: they are made again by their own checked constructors.

Cython's automatic pickling is off (setup.py): what it generates sets members unchecked. Python itself refuses to pickle
a compiled class that has members and no `__reduce__`.
"""


def rebuild(cls, base, args, kwargs):
    """An instance of `cls`, initialized by `base`, the built-in class that it is or inherits from.

    The constructor of a subclass may take other arguments than `base`, so it is not called; pickle sets the attributes
    that it had set.

    Raises
    ------
    TypeError
        `cls` is not `base` and does not inherit from it.
    TypeError, ValueError, ...
        What the constructor of `base` raises for these arguments.
    """
    if not (isinstance(cls, type) and isinstance(base, type) and issubclass(cls, base)):
        raise TypeError(f"expected a class that inherits from {base!r:.100}, got {cls!r:.100}")
    made = cls.__new__(cls)
    base.__init__(made, *args, **kwargs)
    return made


cdef tuple reduced(object instance, object base, tuple args, dict kwargs):
    """The result of a `__reduce__`: `rebuild` with these arguments, and the attributes set in Python."""
    return rebuild, (type(instance), base, args, kwargs), instance.__getstate__()


def fail_to_pickle(instance):
    """`refuse_pickling` for classes in Python."""
    refuse_pickling(instance, "it belongs to this process")


cdef int refuse_pickling(object instance, str reason) except -1:
    """Raises the error for an object that cannot be pickled or copied."""
    raise TypeError(f"a {type(instance).__name__} can be neither pickled nor copied: {reason}")

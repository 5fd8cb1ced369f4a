"""Transforms: adapters between which the payload is another one (compressed, encrypted).

A chain of adapters looks like this. What stands outside of a transform sees the payloads of messages; what stands
inside sees the bytes that are stored, and frames them.

    bounds, observers, validators      plain payloads
    a transform, or several
    bounds, observers                  stored bytes
    a framer with its checksum         stored bytes

A transform may keep a state from frame to frame. Then it belongs to one stream: a writer or reader asks the chain for
its own copy (`start`). A reader sometimes goes back to an earlier frame, and then goes back to the state before it.
"""

from libc.stdint cimport uint8_t

from flatstream._core.base.buffers cimport owner_view_of, slice_view
from flatstream._core.framing.deframer cimport Deframer, DeframerAdapter, Span, ValidatingDeframer
from flatstream._core.framing.framer cimport (
    Framer, FramerAdapter, ValidatingFramer, collect_frame, copied_attributes,
)


cdef list framers_of(Framer framer):
    """All framers of a chain, the innermost first."""
    cdef list found = [framer]
    while isinstance(framer, FramerAdapter) and (<FramerAdapter>framer)._inner is not None:
        framer = (<FramerAdapter>framer)._inner
        found.append(framer)
    found.reverse()
    return found


cdef list deframers_of(Deframer deframer):
    """All deframers of a chain, the innermost first."""
    cdef list found = [deframer]
    while isinstance(deframer, DeframerAdapter) and (<DeframerAdapter>deframer)._inner is not None:
        deframer = (<DeframerAdapter>deframer)._inner
        found.append(deframer)
    found.reverse()
    return found


cdef bint defines(object link, str name) except -1:
    """Whether a framer has a method of its own in place of that of Framer or FramerAdapter."""
    if getattr(type(link), name) not in (getattr(Framer, name), getattr(FramerAdapter, name)):
        return True
    return name in getattr(link, "__dict__", ())


cdef list accepters_of(Framer framer):
    """The framers of a chain that are to be told when a frame is accepted; None if there are none."""
    if not framer.has_transform:
        return None
    return [link for link in framers_of(framer) if defines(link, "accepted")] or None


cdef bint has_own_frames(Framer framer) except -1:
    """Whether a framer of the chain may have frames of its own, before or behind the messages."""
    for link in framers_of(framer):
        if defines(link, "begin") or defines(link, "finish"):
            return True
    return False


def restores_payloads(Deframer deframer not None):
    """Whether a deframer, or one inside of it, gives something else than the stored payloads."""
    return bool(deframer.has_transform)


cdef int check_no_validator(list links, object kind, object transform) except -1:
    """Raises TypeError if a validator stands inside of a transform."""
    for link in links:
        if isinstance(link, kind):
            raise TypeError(
                f"a validator inside of a {type(transform).__name__} would see stored bytes and no messages: put it "
                f"around, as in {type(transform).__name__}(...).with_validator(validator)"
            )
    return 0


cdef class TransformFramer(FramerAdapter):
    """Frames something else than the payload: a subclass defines ``transform``, and `inner` frames what it returns.

    Adapters around it see the payloads of messages; what is inside sees the bytes that are stored.

    Parameters
    ----------
    inner : Framer
        Frames the bytes that are stored. A subclass with a constructor of its own calls this one.

    Raises
    ------
    TypeError
        `inner` is not a Framer, or has a validator, which would see stored bytes.

    Examples
    --------
    >>> import io, zlib
    >>> from flatstream import StreamReader, StreamWriter
    >>> class ZlibFramer(TransformFramer):
    ...     def transform(self, payload):
    ...         return zlib.compress(payload)
    >>> class ZlibDeframer(TransformDeframer):
    ...     def restore(self, payload):
    ...         return zlib.decompress(payload)
    >>> sink = io.BytesIO()
    >>> with StreamWriter(sink, ZlibFramer(DefaultFramer())) as writer:
    ...     writer.write_payload(b"a" * 1000)
    >>> len(sink.getvalue())
    21
    >>> with StreamReader(sink.getvalue(), ZlibDeframer(DefaultDeframer())) as reader:
    ...     [len(payload) for payload in reader]
    [1000]
    """

    def __cinit__(self, *args, **kwargs):
        self.in_python = type(self).frame_and_write is not TransformFramer.frame_and_write
        self.needs_view = True
        self.has_transform = True

    def __init__(self, inner):
        self.adapt(inner)
        self.has_transform = True
        check_no_validator(framers_of(inner), ValidatingFramer, self)

    def transform(self, payload):
        """The bytes that are stored for a payload.

        If it raises, nothing is written. What it returns need not be accepted by the writer: see `accepted`.

        Parameters
        ----------
        payload : memoryview
            Read-only, valid only during the call.

        Returns
        -------
        bytes-like
            It must not change before the next call.
        """
        raise TypeError(f"{type(self).__name__} must define transform(payload)")

    def with_inner(self, inner):
        """A transform like this one around another framer.

        By default an object of the same class with the same attributes, for which only the constructor of
        TransformFramer is called. A subclass with a state gives the copy a new one.
        """
        return copied_attributes(self, TransformFramer, (inner,))

    def inner_frame(self, payload):
        """The whole frame (bytes) that `inner` makes of `payload`: for the results of ``begin`` and ``finish``.

        Such a frame counts as accepted, so it must be written.
        """
        self.check_inner()
        frame = collect_frame(self._inner, owner_view_of(payload, "payload"))
        for link in accepters_of(self._inner) or ():
            link.accepted()
        return frame

    @property
    def described(self):
        """What a description says of this transform: (name, ((key, value), ...), data); None, the default: nothing."""
        return None

    @property
    def transforms(self):
        """What a description says of this transform, and of those inside."""
        self.check_inner()
        described = self.described
        return (() if described is None else (described,)) + self._inner.transforms

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r})"

    def __reduce__(self):
        from flatstream._core.base.pickling import rebuild

        return rebuild, (type(self), TransformFramer, (self._inner,), {}), self.__getstate__()

    cdef object around(self, object inner):
        made = self.with_inner(inner)
        if not isinstance(made, TransformFramer):
            raise TypeError(f"{type(self).__name__}.with_inner must return a TransformFramer, got {made!r:.100}")
        return made

    cdef object converted(self, object owner_view):
        self.check_inner()
        return owner_view_of(self.transform(owner_view), f"what {type(self).__name__}.transform returned")


cdef class TransformDeframer(DeframerAdapter):
    """Gives something else than the stored payload: a subclass defines ``restore``, `inner` finds and checks frames.

    The counterpart of `TransformFramer`, with an example there. The payloads that a reader gives are then views of what
    ``restore`` returned. A frame that it refuses is consumed: the next read gives the frame after it.

    Parameters
    ----------
    inner : Deframer
        Finds frames, and checks what is stored in them. A subclass with a constructor of its own calls this one.

    Raises
    ------
    TypeError
        `inner` is not a Deframer, or has a validator, which would see stored bytes.
    """

    def __cinit__(self, *args, **kwargs):
        cdef object cls = type(self)
        self.locates_in_python = cls.locate is not TransformDeframer.locate
        self.checks_in_python = cls.check is not TransformDeframer.check
        self.has_state = cls.state is not TransformDeframer.state
        self.has_transform = True

    def __init__(self, inner):
        self.adapt(inner)
        self.has_transform = True
        self.check_is_native = self._inner.check_is_native
        check_no_validator(deframers_of(inner), ValidatingDeframer, self)

    def restore(self, payload):
        """The payload of a message, from what is stored in a frame that `inner` has accepted.

        Parameters
        ----------
        payload : memoryview
            The stored bytes. Read-only, and unchanged for as long as it is held.

        Returns
        -------
        bytes-like or None
            Memory that does not change any more: the reader gives views of it. Also `payload` or a part of it. None if
            the frame is no message: it is taken off, and not counted.

        Raises
        ------
        FlatStreamError
            The frame is refused: a DecompressionError, a DecryptionError or another ValidationFailedError. The state
            is as before.
        """
        raise TypeError(f"{type(self).__name__} must define restore(payload)")

    def probe(self, payload):
        """Raises if `payload`, a memoryview, cannot be something stored by this transform.

        A search for intact frames behind damage calls it, in any order, with bytes that mostly are no frame. It must
        not change the state. By default everything can be. Only the innermost transform of a chain is asked.
        """

    @property
    def state(self):
        """An immutable object for what `restore` depends on besides the payload; None, the default, for nothing.

        A reader reads it before each frame. Two states that compare equal are the same state.
        """
        return None

    def rewind(self, state):
        """Goes back to a `state` that this object had: the next payload is the one that it got then. Must not raise."""

    def passed_over(self):
        """Is called when a frame, or a range of the stream in which frames may have been, is left behind unrestored.

        `inner` or `restore` refused it, or a search behind damage went past it: the caller was told by an error, or
        will be by the reader's lost ranges. So the next payload may be a later one. By default it does nothing.
        """

    def tolerate(self, gaps):
        """Is called when the operation that begins treats damage in another way than the last one.

        Parameters
        ----------
        gaps : bool
            Whether frames behind damage are given (on_error "skip" and "resync"), or it raises or stops. At first it
            is False.
        """

    def with_inner(self, inner):
        """A transform like this one around another deframer; see `TransformFramer.with_inner`."""
        return copied_attributes(self, TransformDeframer, (inner,))

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r})"

    def __reduce__(self):
        from flatstream._core.base.pickling import rebuild

        return rebuild, (type(self), TransformDeframer, (self._inner,), {}), self.__getstate__()

    cdef object around(self, object inner):
        made = self.with_inner(inner)
        if not isinstance(made, TransformDeframer):
            raise TypeError(f"{type(self).__name__}.with_inner must return a TransformDeframer, got {made!r:.100}")
        return made

    cdef object unpack(self, object owner_view, const uint8_t* frame, const Span* span):
        if self._inner is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        try:
            stored = self._inner.unpack(owner_view, frame, span)
            if stored is None:
                return None
            result = self.restore(stored)
            payload = None
            if result is not None:
                payload = owner_view_of(result, f"what {type(self).__name__}.restore returned")
        except Exception:
            self.passed_over()
            raise
        if payload is not None and self.checks_in_python:
            self.check_in_python(owner_view, frame, span, payload)
        return payload

    cdef int examine_natively(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1:
        DeframerAdapter.examine_natively(self, owner_view, frame, span, probe)
        if self._inner.has_transform:
            # What is stored for this one is not known: it takes a state to restore it.
            return 0
        outcome = self.probe(
            slice_view(owner_view, frame + span.payload_start, span.payload_end - span.payload_start)
        )
        if outcome is not None:
            raise TypeError(f"{type(self).__name__}.probe must return None or raise, got {outcome!r:.100}")
        return 0

"""TypedValidator and StructuralValidator: how they are made, what their refusals say, and where they stand in a stream.

What the verifier itself accepts is shown by ``test_verifier.py``. Here a message is good or bad, and what counts is
that every way through a reader or writer says the same of it, with the frame and the offset; that nothing refused is
written; that no Python is run for a message where all parts are compiled; and that the same validator written in Python
behaves the same.
"""

from __future__ import annotations

import functools
import io
import struct
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import flatbuffers
import pytest

import flatstream
from flatstream import (
    BoundedFramer,
    CompositeValidator,
    DefaultDeframer,
    DefaultFramer,
    NoValidator,
    Schema,
    SizeValidator,
    StreamReader,
    StreamWriter,
    StructuralValidator,
    TableRootValidator,
    TypedValidator,
    ValidatingDeframer,
    ValidatingFramer,
    ValidationFailedError,
    Validator,
)
from reference import framing as reference
from support.extent import in_one_test
from support.modes import Mode, every_mode
from support.processes import survives
from support.schemas import SCHEMAS
from support.sinks import PlainSink
from support.sources import CutSource

# A message of the type shapes.Named: the vtable at 4 with `name` at 4, the table at 12, the string "ok" at 20.
GOOD = struct.pack("<I4HiII4s", 12, 6, 8, 4, 0, 8, 4, 2, b"ok")
# The same with a string that is not UTF-8, and with a vtable of an odd size.
BAD = GOOD.replace(b"ok", b"o\xff")
BROKEN = GOOD[:4] + b"\x05" + GOOD[5:]
NOT_UTF8 = "the string at byte 20 is not UTF-8: see its byte 1"
ODD = "the end of a vtable at byte 9 is not aligned to 2 bytes"


@functools.cache
def shapes() -> Schema:
    return Schema.from_file(SCHEMAS / "shapes.bfbs")


def named(**limits: Any) -> TypedValidator:
    return TypedValidator.for_type(shapes(), "shapes.Named", **limits)


def refused(call: Callable[[], object]) -> ValidationFailedError:
    with pytest.raises(ValidationFailedError) as caught:
        call()
    return caught.value


# for_type


def test_for_type_with_a_full_name_accepts_messages_of_that_type():
    validator = named()
    assert validator.name == "shapes.Named"
    assert repr(validator) == "<TypedValidator.for_type('shapes.Named')>"
    assert validator.validate(GOOD) is None  # type: ignore[func-returns-value]
    error = refused(lambda: validator.validate(BAD))
    assert (error.validator, error.path, error.reason) == ("shapes.Named", "named.name", NOT_UTF8)
    assert (error.offset, error.frame) == (None, None)
    assert str(error) == f"shapes.Named refused the payload: named.name: {NOT_UTF8}"


def test_for_type_without_a_name_takes_the_root_of_the_schema():
    validator = TypedValidator.for_type(shapes())
    assert validator.name == "shapes.Shape"
    assert TypedValidator.for_type(shapes(), None).name == "shapes.Shape"


def test_for_type_of_a_schema_without_a_root_needs_a_name():
    # The same schema with its root taken away: the entry of `root_table` in the vtable of the schema.
    data = bytearray((SCHEMAS / "tiny.bfbs").read_bytes())
    (root,) = struct.unpack_from("<I", data)
    (distance,) = struct.unpack_from("<i", data, root)
    entry = root - distance + 4 + 2 * 4
    assert struct.unpack_from("<H", data, entry)[0] != 0
    struct.pack_into("<H", data, entry, 0)
    schema = Schema.from_bytes(data)
    assert schema.root is None
    assert repr(schema) == "<Schema of 1 tables>"
    with pytest.raises(ValueError, match="this schema has no root table: pass the name of a table"):
        TypedValidator.for_type(schema)
    assert TypedValidator.for_type(schema, "T").name == "T"


@in_one_test
@pytest.mark.parametrize("name", ["Named", "shapes.Nameless", "", "shapes.Named.name", "shapes.Color"])
def test_for_type_of_an_unknown_table_is_a_key_error(name):
    with pytest.raises(KeyError, match="no table"):
        TypedValidator.for_type(shapes(), name)


def test_for_type_of_a_struct_is_a_key_error():
    with pytest.raises(KeyError, match=r"'shapes\.Point' is a struct in this schema, not a table"):
        TypedValidator.for_type(shapes(), "shapes.Point")


@in_one_test
@pytest.mark.parametrize("schema", [None, 5, "shapes.bfbs", b"BFBS", object(), Schema])
def test_for_type_of_what_is_no_schema_is_a_type_error(schema):
    with pytest.raises(TypeError):
        TypedValidator.for_type(schema, "shapes.Named")


def test_for_type_takes_its_limits_by_name_only():
    with pytest.raises(TypeError):
        TypedValidator.for_type(shapes(), "shapes.Named", 64)  # type: ignore[call-arg]
    assert refused(lambda: named(max_depth=0).validate(GOOD)).reason == "tables are nested deeper than the limit of 0"


def test_typed_validator_is_made_by_its_class_methods_only():
    for arguments in ((), (shapes(),), (shapes(), "shapes.Named")):
        with pytest.raises(TypeError):
            TypedValidator(*arguments)
    with pytest.raises(TypeError, match=r"made by for_type\(schema, name\) or from_verify\(name, function\)"):
        TypedValidator()


def test_validator_is_a_validator_and_structural_is_another_name_for_table_root():
    assert StructuralValidator is TableRootValidator
    assert flatstream.StructuralValidator is flatstream.TableRootValidator
    for validator in (named(), TypedValidator.from_verify("v", len), TableRootValidator()):
        assert isinstance(validator, Validator)
    validator = StructuralValidator(max_depth=3, max_tables=5)
    assert (validator.max_depth, validator.max_tables, validator.name) == (3, 5, "TableRootValidator")
    assert repr(validator) == "TableRootValidator(max_depth=3, max_tables=5)"
    assert (TableRootValidator().max_depth, TableRootValidator().max_tables) == (64, 1_000_000)


def test_limits_of_a_validator_cannot_be_changed():
    validator: Any = TableRootValidator()
    for name in ("max_depth", "max_tables", "name"):
        with pytest.raises(AttributeError):
            setattr(validator, name, 1)


# from_verify


def raising(error: BaseException) -> Callable[[Any], Any]:
    def verify(payload: Any) -> Any:
        raise error

    return verify


@pytest.mark.parametrize("outcome", [None, True])
def test_from_verify_accepts_when_the_function_says_so(outcome):
    seen = []

    def verify(payload):
        seen.append((type(payload), payload.format, payload.readonly, bytes(payload)))
        return outcome

    validator = TypedValidator.from_verify("by hand", verify)
    assert validator.name == "by hand"
    assert repr(validator) == "<TypedValidator.from_verify('by hand')>"
    for payload in (b"", b"abc", bytearray(b"xyz")):
        assert validator.validate(payload) is None  # type: ignore[func-returns-value]
    assert seen == [(memoryview, "B", True, payload) for payload in (b"", b"abc", b"xyz")]


def test_from_verify_refuses_when_the_function_returns_false():
    error = refused(lambda: TypedValidator.from_verify("by hand", lambda payload: False).validate(b"abc"))
    assert (error.validator, error.reason, error.path) == ("by hand", "the function returned False", "")
    assert error.__cause__ is None


@in_one_test
@pytest.mark.parametrize(
    "cause",
    [
        struct.error("unpack_from requires a buffer"),
        ValueError("bad"),
        KeyError("k"),
        RecursionError("deep"),
        OSError(5, "io"),
    ],
)
def test_from_verify_refuses_when_the_function_raises_and_keeps_the_cause(cause):
    error = refused(lambda: TypedValidator.from_verify("by hand", raising(cause)).validate(b"abc"))
    assert (error.validator, error.reason) == ("by hand", f"{type(cause).__name__}: {cause}")
    assert error.__cause__ is cause


def test_from_verify_lets_a_refusal_of_the_function_through():
    own = ValidationFailedError(validator="inner", reason="own words", path="a.b")
    error = refused(lambda: TypedValidator.from_verify("outer", raising(own)).validate(b"abc"))
    assert error is own
    assert (error.validator, error.reason, error.path) == ("inner", "own words", "a.b")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_from_verify_lets_through_what_is_no_exception_of_the_payload(error):
    with pytest.raises(type(error)) as caught:
        TypedValidator.from_verify("by hand", raising(error)).validate(b"abc")
    assert caught.value is error


@in_one_test
@pytest.mark.parametrize("outcome", [0, 1, "", "yes", [], object(), 1.5])
def test_from_verify_with_any_other_result_is_a_type_error(outcome):
    with pytest.raises(TypeError) as caught:
        TypedValidator.from_verify("by hand", lambda payload: outcome).validate(b"abc")
    assert str(caught.value) == (
        f"the function of validator 'by hand' must return None, True or False, or raise, got {outcome!r:.100}"
    )


@in_one_test
@pytest.mark.parametrize("name", [None, 5, b"bytes", ("a",)])
def test_from_verify_with_a_name_that_is_no_string_is_a_type_error(name):
    with pytest.raises(TypeError, match=f"name must be a str, got {type(name).__name__}"):
        TypedValidator.from_verify(name, len)


@pytest.mark.parametrize("function", [None, 5, "len"])
def test_from_verify_with_what_cannot_be_called_is_a_type_error(function):
    with pytest.raises(TypeError, match=f"function must be callable, got {type(function).__name__}"):
        TypedValidator.from_verify("by hand", function)


def test_from_verify_with_generated_code_refuses_what_it_stumbles_over():
    sys.path.insert(0, str(SCHEMAS))
    try:
        from shapes.Named import Named
    finally:
        sys.path.remove(str(SCHEMAS))

    def verify(payload):
        Named.GetRootAs(payload).Name().decode()

    validator = TypedValidator.from_verify("shapes.Named", verify)
    validator.validate(GOOD)
    error = refused(lambda: validator.validate(BAD))
    assert error.reason.startswith("UnicodeDecodeError: ")
    assert isinstance(error.__cause__, UnicodeDecodeError)


def test_view_kept_by_the_function_of_from_verify_stays_as_it_was():
    kept = []  # type: ignore[var-annotated]
    validator = TypedValidator.from_verify("keeper", kept.append)
    payloads = [bytes([number]) * 100 for number in range(50)]
    source = io.BytesIO(reference.encode(payloads, "none"))
    with StreamReader(source, DefaultDeframer().with_validator(validator), capacity=256) as reader:
        for _ in reader:
            pass
    assert [bytes(view) for view in kept] == payloads


# In streams


class InPython(Validator):
    """The same as the validator given, as a subclass in Python."""

    def __init__(self, inner: Validator) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        return self.inner.name

    def validate(self, payload: Any) -> None:
        self.inner.validate(bytes(payload))  # type: ignore[arg-type]


class Overriding(TypedValidator):
    """Overrides `validate` and asks its base class."""

    def validate(self, payload: Any) -> None:
        super().validate(payload)


class OverridingRoot(TableRootValidator):
    def validate(self, payload: Any) -> None:
        super().validate(payload)


VARIANTS = {
    "compiled": named,
    "in python": lambda: InPython(named()),
    "subclass": lambda: Overriding.for_type(shapes(), "shapes.Named"),
    "alone in a composite": lambda: CompositeValidator(named()),
    "last in a composite": lambda: CompositeValidator(
        SizeValidator(0, 1000), TableRootValidator(), NoValidator(), named()
    ),
    "composite with python": lambda: CompositeValidator(InPython(TableRootValidator()), CompositeValidator(named())),
    "from_verify": lambda: TypedValidator.from_verify("outer", named().validate),
}
EVERY_VARIANT = pytest.mark.parametrize("make", list(VARIANTS.values()), ids=list(VARIANTS))


@in_one_test
@EVERY_VARIANT
@every_mode
def test_refusal_when_reading_says_where_and_the_next_frame_follows(mode: Mode, make):
    payloads = [GOOD, BAD, GOOD, BAD, BAD, GOOD]
    frame = 4 + mode.size + len(GOOD)
    stream = reference.encode(payloads, mode.name)

    def refusal_of(number: int) -> Any:
        offset = number * frame
        text = f"shapes.Named refused the payload: named.name: {NOT_UTF8} (frame {number}, stream offset {offset})"
        return number, offset, "shapes.Named", "named.name", NOT_UTF8, text

    for source in (stream, io.BytesIO(stream), CutSource(stream, range(len(stream)))):
        for deframer in (mode.deframer().with_validator(make()), ValidatingDeframer(mode.deframer(), make())):
            if hasattr(source, "seek"):
                source.seek(0)
            if isinstance(source, CutSource):
                source.position = 0
            read: list[Any] = []
            with StreamReader(source, deframer) as reader:
                while True:
                    try:
                        payload = reader.read_message()
                    except ValidationFailedError as error:
                        read.append((error.frame, error.offset, error.validator, error.path, error.reason, str(error)))
                        continue
                    if payload is None:
                        break
                    read.append(bytes(payload))
            assert read == [GOOD, refusal_of(1), GOOD, refusal_of(3), refusal_of(4), GOOD]


@in_one_test
@EVERY_VARIANT
@every_mode
@pytest.mark.parametrize("buffer_size", [0, 65536])
def test_refusal_when_writing_says_where_and_nothing_of_it_is_written(mode: Mode, make, buffer_size):
    frame = 4 + mode.size + len(GOOD)
    for framer in (mode.framer().with_validator(make()), ValidatingFramer(mode.framer(), make())):
        sink = PlainSink()
        with StreamWriter(sink, framer, buffer_size=buffer_size) as writer:
            for number in range(3):
                writer.write_payload(GOOD)
                error = refused(lambda: writer.write_payload(BAD))
                assert (error.validator, error.path, error.reason) == ("shapes.Named", "named.name", NOT_UTF8)
                assert (error.frame, error.offset) == (number + 1, frame * (number + 1))
                assert (writer.frames_written, writer.bytes_written) == (number + 1, frame * (number + 1))
        assert sink.arrived() == reference.encode([GOOD] * 3, mode.name)


def finished(payload_is_good: bool) -> flatbuffers.Builder:
    """A builder with a message of the type shapes.Named, with a name or without the one it must have."""
    builder = flatbuffers.Builder(64)
    name = builder.CreateString("ok")
    builder.StartObject(3)
    if payload_is_good:
        builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.Finish(builder.EndObject())
    return builder


class Item:
    def __init__(self, good: bool) -> None:
        self.good = good

    def serialize(self, builder: Any) -> None:
        name = builder.CreateString("ok")
        builder.StartObject(3)
        if self.good:
            builder.PrependUOffsetTRelativeSlot(0, name, 0)
        builder.Finish(builder.EndObject())


@in_one_test
@pytest.mark.parametrize(
    "write",
    [
        lambda writer, good: writer.write(Item(good)),
        lambda writer, good: writer.write_batch([Item(good)]),
        lambda writer, good: writer.write_finished(finished(good)),
        lambda writer, good: writer.write_message(finished(good)),
        lambda writer, good: writer.write_payload(finished(good).Output()),
        lambda writer, good: writer.write_payloads([bytes(finished(good).Output())]),
    ],
    ids=["write", "write_batch", "write_finished", "write_message", "write_payload", "write_payloads"],
)
def test_every_way_of_writing_asks_the_typed_validator(write):
    sink = PlainSink()
    with StreamWriter(sink, DefaultFramer().with_validator(named())) as writer:
        write(writer, True)
        error = refused(lambda: write(writer, False))
        assert (error.path, error.frame) == ("named.name", 1)
        assert error.reason.startswith("a required field is missing from the table at byte ")
        write(writer, True)
        assert writer.frames_written == 2
    good = bytes(finished(True).Output())
    assert sink.arrived() == reference.encode([good, good], "none")


@in_one_test
@pytest.mark.parametrize(
    "read",
    [
        lambda reader: list(reader),
        lambda reader: list(reader.messages()),
        lambda reader: reader.process_all(len),
        lambda reader: reader.read_batch(),
        lambda reader: list(reader.batches()),
        lambda reader: [reader.read_message() for _ in range(3)],
    ],
    ids=["for", "messages", "process_all", "read_batch", "batches", "read_message"],
)
def test_every_way_of_reading_asks_the_typed_validator(read):
    stream = reference.encode([GOOD, GOOD, BAD, GOOD], "none")
    frame = 4 + len(GOOD)
    with StreamReader(io.BytesIO(stream), DefaultDeframer().with_validator(named())) as reader:
        errors = []
        # A batch may give the frames before the refused one first.
        for _ in range(3):
            try:
                read(reader)
            except ValidationFailedError as error:
                errors.append((error.frame, error.offset, error.validator, error.path, error.reason))
        assert errors == [(2, 2 * frame, "shapes.Named", "named.name", NOT_UTF8)]
        assert (reader.read_message(), reader.offset) == (None, 4 * frame)


def test_recovery_asks_the_typed_validator():
    stream = reference.encode([GOOD, GOOD], "none")
    deframer = DefaultDeframer().with_validator(named())
    assert flatstream.recover(stream + stream[:10], deframer).frames == 2
    error = refused(lambda: flatstream.recover(stream + reference.encode([BAD], "none"), deframer))
    assert (error.frame, error.offset, error.path) == (2, len(stream), "named.name")


@in_one_test
@pytest.mark.parametrize(
    ("order", "validator", "reason"),
    [
        (lambda: CompositeValidator(named(), TableRootValidator()), "shapes.Named", ODD),
        (lambda: CompositeValidator(TableRootValidator(), named()), "TableRootValidator", ODD),
        (
            lambda: CompositeValidator(SizeValidator(0, 10), named()),
            "SizeValidator",
            f"{len(BROKEN)} bytes are more than the 10 allowed",
        ),
        (lambda: CompositeValidator(named(), SizeValidator(0, 10)), "shapes.Named", ODD),
        (lambda: CompositeValidator(TypedValidator.from_verify("f", len), named()), TypeError, "must return"),
    ],
)
def test_first_refusal_of_a_composite_is_the_answer(order, validator, reason):
    if validator is TypeError:
        with pytest.raises(TypeError, match=reason):
            order().validate(BROKEN)
        return
    error = refused(lambda: order().validate(BROKEN))
    assert (error.validator, error.reason) == (validator, reason)


def test_bound_is_asked_before_or_after_the_validator_as_they_stand():
    inside = BoundedFramer(ValidatingFramer(DefaultFramer(), named()), 10)
    outside = ValidatingFramer(BoundedFramer(DefaultFramer(), 10), named())
    with pytest.raises(flatstream.InvalidFrameError):
        StreamWriter(io.BytesIO(), inside).write_payload(BAD)
    with pytest.raises(ValidationFailedError):
        StreamWriter(io.BytesIO(), outside).write_payload(BAD)


def test_subclass_that_overrides_validate_is_asked_instead_of_the_compiled_one():
    class Lenient(TypedValidator):
        asked = 0

        def validate(self, payload):
            type(self).asked += 1

    class Strict(TableRootValidator):
        def validate(self, payload):
            raise ValidationFailedError(validator=self.name, reason="never")

    lenient = Lenient.for_type(shapes(), "shapes.Named")
    assert isinstance(lenient, Lenient)
    stream = reference.encode([GOOD, BAD], "none")
    with StreamReader(stream, DefaultDeframer().with_validator(CompositeValidator(lenient))) as reader:
        assert list(reader) == [GOOD, BAD]
    assert Lenient.asked == 2
    with StreamReader(stream, DefaultDeframer().with_validator(Strict())) as reader:
        error = refused(reader.read_message)
    assert (error.validator, error.reason) == ("Strict", "never")


def test_subclass_may_have_another_name():
    class Renamed(TypedValidator):
        @property
        def name(self):
            return "renamed"

    class RenamedRoot(TableRootValidator):
        name = "root of all"

    assert refused(lambda: Renamed.for_type(shapes(), "shapes.Named").validate(BAD)).validator == "renamed"
    assert refused(lambda: RenamedRoot().validate(BROKEN)).validator == "root of all"


def test_validate_of_a_subclass_that_returns_something_is_a_type_error():
    class Wrong(TypedValidator):
        def validate(self, payload):
            return True

    wrong = Wrong.for_type(shapes(), "shapes.Named")
    with (
        StreamReader(reference.encode([GOOD], "none"), DefaultDeframer().with_validator(wrong)) as reader,
        pytest.raises(TypeError, match=r"Wrong\.validate must return None or raise ValidationFailedError, got True"),
    ):
        reader.read_message()


# Twins: the same in Python

PAYLOADS = [GOOD, BAD, BROKEN, b"", b"\0" * 8, GOOD[:20], GOOD + bytes(8), b"\xff" * 40]


@in_one_test
@pytest.mark.parametrize(
    ("compiled", "twin"),
    [
        (named, lambda: InPython(named())),
        (named, lambda: Overriding.for_type(shapes(), "shapes.Named")),
        (TableRootValidator, lambda: InPython(TableRootValidator())),
        (TableRootValidator, OverridingRoot),
        (
            lambda: CompositeValidator(TableRootValidator(), named()),
            lambda: InPython(CompositeValidator(TableRootValidator(), named())),
        ),
    ],
)
def test_twin_in_python_accepts_and_refuses_the_same(compiled, twin):
    def facts(call: Callable[[], Any]) -> Any:
        try:
            return bytes(call() or b"")
        except ValidationFailedError as error:
            # A subclass without a name of its own is called by its class.
            name = error.validator.replace("OverridingRoot", "TableRootValidator")
            return type(error), name, error.path, error.reason, error.frame, error.offset

    def both(validator: Validator) -> list[Any]:
        alone = [facts(lambda payload=payload: validator.validate(payload)) for payload in PAYLOADS]  # type: ignore[misc]
        stream = reference.encode(PAYLOADS, "none")
        with StreamReader(stream, DefaultDeframer().with_validator(validator)) as reader:
            read = [facts(reader.read_message) for _ in range(len(PAYLOADS) + 1)]
        sink = PlainSink()
        with StreamWriter(sink, DefaultFramer().with_validator(validator)) as writer:
            written = [facts(lambda payload=payload: writer.write_payload(payload)) for payload in PAYLOADS]  # type: ignore[misc]
        return [alone, read, written, sink.arrived()]

    expected = both(compiled())
    assert both(twin()) == expected
    # Something is refused and something is not, so that there is something to compare.
    assert expected[0][0] == b""
    assert sum(isinstance(fact, tuple) for fact in expected[0]) >= 3


# Compiled from end to end


def python_calls(work: Callable[[], object]) -> list[str]:
    """The Python functions that are called while `work` runs, itself excepted."""
    calls: list[str] = []

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            calls.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return [name for name in calls if name != getattr(work, "__name__", "")]


COMPILED = {
    "typed": named,
    "root": TableRootValidator,
    "composite": lambda: CompositeValidator(NoValidator(), SizeValidator(1, 99), TableRootValidator(), named()),
    "nested": lambda: CompositeValidator(CompositeValidator(named()), CompositeValidator()),
}
EVERY_COMPILED = pytest.mark.parametrize("make", list(COMPILED.values()), ids=list(COMPILED))


@in_one_test
@EVERY_COMPILED
def test_reading_through_compiled_validators_calls_no_python_for_a_message(make):
    def calls(count: int) -> list[str]:
        reader = StreamReader(reference.encode([GOOD], "none") * count, DefaultDeframer().with_validator(make()))

        def work() -> None:
            for _ in reader:
                pass

        with reader:
            found = python_calls(work)
            assert reader.frames_read == count
        return found

    assert calls(1000) == calls(10)


@in_one_test
@EVERY_COMPILED
def test_writing_through_compiled_validators_calls_no_python_for_a_message(make):
    def calls(count: int) -> list[str]:
        writer = StreamWriter(io.BytesIO(), DefaultFramer().with_validator(make()))

        def work() -> None:
            for _ in range(count):
                writer.write_payload(GOOD)

        with writer:
            found = python_calls(work)
            assert writer.frames_written == count
        return found

    assert calls(1000) == calls(10)


def test_calls_of_a_validator_in_python_would_be_seen():
    """The two tests above can fail."""
    reader = StreamReader(reference.encode([GOOD] * 10, "none"), DefaultDeframer().with_validator(InPython(named())))
    with reader:
        found = python_calls(lambda: list(reader))
    assert found.count("validate") == 10


@EVERY_COMPILED
def test_validation_of_good_messages_allocates_nothing_for_each(make):
    def peak(count: int) -> tuple[int, int]:
        # From memory that is there beforehand, so that only what validation takes is counted.
        reader = StreamReader(reference.encode([GOOD], "none") * count, DefaultDeframer().with_validator(make()))
        with reader:
            for _ in range(10):
                next(reader)
            tracemalloc.start()
            try:
                for _ in reader:
                    pass
                return tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()

    (few_kept, few_peak), (many_kept, many_peak) = peak(100), peak(10_000)
    assert many_kept <= few_kept + 2048
    assert many_peak <= few_peak + 2048


def test_batches_through_compiled_validators_call_no_python_for_a_message():
    def calls(count: int) -> int:
        reader = StreamReader(reference.encode([GOOD], "none") * count, DefaultDeframer().with_validator(named()))
        with reader:
            return len(python_calls(reader.read_batch))

    assert calls(1000) == calls(10)


def test_one_validator_in_many_threads_gives_each_its_own_verdict():
    validator = CompositeValidator(TableRootValidator(), named())
    wrong: list[Any] = []
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        # Each thread has damage of its own, so that a verdict of another thread would show.
        mine = GOOD.replace(b"ok", bytes([0x80 + number, 0xFF]) if number % 2 else bytes([0x61, 0x80 + number]))
        expected = f"the string at byte 20 is not UTF-8: see its byte {0 if number % 2 else 1}"
        barrier.wait(30)
        for _ in range(2000):
            validator.validate(GOOD)
            try:
                validator.validate(mine)
            except ValidationFailedError as error:
                if error.reason != expected:
                    wrong.append(error.reason)
            else:
                wrong.append("accepted")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []


# Half-made objects, copies


def test_validators_that_were_not_made_refuse_everything_and_survive():
    code = """
for cls in (TypedValidator, TableRootValidator):
    validator = cls.__new__(cls)
    repr(validator), validator.name
    for payload in (b"", bytes(8), bytes(100)):
        attempt(validator.validate, payload)
    attempt(StreamReader(TWO_FRAMES, DefaultDeframer().with_validator(validator)).read_message)
    writer = StreamWriter(io.BytesIO(), DefaultFramer().with_validator(CompositeValidator(validator)))
    attempt(writer.write_payload, b"abc")
"""
    lines = survives(code)
    assert lines[:5] == ["TypeError TypedValidator is made by for_type or from_verify"] * 5
    # All its limits are 0.
    assert len(lines) == 10
    assert all(line.startswith("ValidationFailedError ") for line in lines[5:])


def test_types_whose_init_was_not_called_or_failed_refuse_everything():
    code = """
import struct
from flatstream._core.flatbuf.verifier import Types
message = struct.pack("<I4HiI", 12, 6, 8, 4, 0, 8, 0)
wrong = [("t", False, 0, [("f", 4, 15, 0, 99_999_999, 0, False, False)])]
attempt(Types.__new__(Types).verify, 0, message)
half = Types.__new__(Types)
attempt(half.__init__, wrong, [])
attempt(half.verify, 0, message)
"""
    assert survives(code) == [
        "ValueError these types were never completed",
        "ValueError object 99999999 is outside the list of 1 objects",
        "ValueError these types were never completed",
    ]


@in_one_test
@pytest.mark.parametrize("number", ["10**6", "-1", "2**31 - 1", "10**30", "None", "'0'"])
def test_schema_of_ones_own_with_a_wrong_number_is_refused(number):
    code = f"""
schema = Schema.from_file({str(SCHEMAS / "shapes.bfbs")!r})
class OwnTable:
    name, types, number = "own", schema.root.types, {number}
class Own:
    root = OwnTable()
    def table(self, name): return self.root
attempt(lambda: TypedValidator.for_type(Own()).validate(bytes(64)))
"""
    (line,) = survives(code)
    assert line.split()[0] in ("TypeError", "ValueError", "OverflowError", "KeyError", "IndexError")


def test_struct_is_no_root_even_of_a_table_made_by_hand():
    from flatstream.schema import Table

    schema = shapes()

    class Own:
        root = Table(schema, schema.numbers["shapes.Point"])

        def table(self, name: str) -> Any:
            return self.root

    with pytest.raises((TypeError, ValueError, KeyError)):
        TypedValidator.for_type(Own())


def test_copies_and_pickles_of_validators_and_schemas_work():
    code = f"""
import copy, pickle
schema = Schema.from_file({str(SCHEMAS / "shapes.bfbs")!r})
good = {GOOD!r}
bad = {BAD!r}
things = [named := TypedValidator.for_type(schema, "shapes.Named"), TableRootValidator()]
things.append(TypedValidator.from_verify("bool", bool))
for thing in things + [CompositeValidator(*things), schema, schema.root, schema.root.types]:
    for make in (copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        try:
            copied = make(thing)
        except TypeError:
            print("refused")
            continue
        repr(copied)
        print("copied", type(copied).__name__)
        if isinstance(copied, Schema):
            copied = TypedValidator.for_type(copied, "shapes.Named")
        if isinstance(copied, Validator):
            copied.validate(good)
            try:
                copied.validate(bad)
            except ValidationFailedError:
                pass
"""
    validators = ["TypedValidator", "TableRootValidator", "TypedValidator", "CompositeValidator"]
    copied = [f"copied {name}" for name in [*validators, "Schema", "Table"] for _ in range(3)]
    # `Types` is no public class.
    assert survives(code) == [*copied, "refused", "refused", "refused"]


def test_adapter_keeps_its_validator_and_the_validator_its_types():
    import gc

    deframer = DefaultDeframer().with_validator(
        TypedValidator.for_type(Schema.from_file(SCHEMAS / "shapes.bfbs"), "shapes.Named")
    )
    gc.collect()
    with StreamReader(reference.encode([GOOD, BAD], "none"), deframer) as reader:
        assert reader.read_message() == GOOD  # type: ignore[comparison-overlap]
        assert refused(reader.read_message).path == "named.name"

"""Verifying: checking that bytes are a valid FlatBuffer, without a schema and with one.

V1 of the performance goals. The monster is flatc's test message of 344 bytes, which uses most of its schema.
"""

from __future__ import annotations

import io
from pathlib import Path

import flatstream

from .common import Benchmark
from .telemetry_event import EXAMPLES, make_payloads

VECTORS = Path(__file__).resolve().parent.parent / "tests" / "data" / "vectors" / "verifier"


class Verify(Benchmark):
    """One message, `count` times."""

    param_names = ("message", "count")
    params = (["monster", "telemetry event"], [200, 10_000])

    def setup(self, message: str, count: int) -> None:
        if message == "monster":
            schema = flatstream.Schema.from_file(VECTORS / "monster_test.bfbs")
            self.payload = (VECTORS / "monsterdata_python_wire.mon").read_bytes()
        else:
            schema = flatstream.Schema.from_file(EXAMPLES / "telemetry.bfbs")
            self.payload = bytes(make_payloads(1)[0])
        self.typed = flatstream.TypedValidator.for_type(schema)
        self.root = flatstream.TableRootValidator()
        # A verifier that accepts everything would be fast too: check that both refuse a truncated message.
        for validator in (self.typed, self.root):
            try:
                validator.validate(self.payload[:4])
            except flatstream.ValidationFailedError:
                continue
            raise AssertionError(f"{validator} accepts a truncated message")
        stream = io.BytesIO()
        with flatstream.StreamWriter(stream) as writer:
            writer.write_payloads([self.payload] * count)
        self.stream = stream.getvalue()

    def units(self, message: str, count: int) -> int:
        """The number of messages per sample."""
        return count

    def repeat_validation(self, validator: flatstream.Validator, count: int) -> None:
        """Calls `validate`, which raises an error if it refuses the payload."""
        validate, payload = validator.validate, memoryview(self.payload)
        for _ in range(count):
            validate(payload)

    def time_typed(self, message: str, count: int) -> None:
        self.repeat_validation(self.typed, count)

    def time_table_root(self, message: str, count: int) -> None:
        self.repeat_validation(self.root, count)

    def time_read_validated(self, message: str, count: int) -> None:
        """Each message of a stream is verified while it is read."""
        deframer = flatstream.DefaultDeframer().with_validator(self.typed)
        with flatstream.StreamReader(self.stream, deframer) as reader:
            assert sum(1 for _ in reader) == count

    def time_read_unvalidated(self, message: str, count: int) -> None:
        """The same without verifying, for the difference."""
        with flatstream.StreamReader(self.stream) as reader:
            assert sum(1 for _ in reader) == count


class WriteValidated(Benchmark):
    """Payloads written with a validating framer."""

    param_names = ("validator",)
    params = (["none", "size", "typed"],)
    count = 10_000

    def setup(self, validator: str) -> None:
        schema = flatstream.Schema.from_file(VECTORS / "monster_test.bfbs")
        framer: flatstream.Framer = flatstream.DefaultFramer()
        if validator == "size":
            framer = framer.with_validator(flatstream.SizeValidator(0, 1000))
        elif validator == "typed":
            framer = framer.with_validator(flatstream.TypedValidator.for_type(schema))
        self.framer = framer
        self.payloads = [(VECTORS / "monsterdata_python_wire.mon").read_bytes()] * self.count

    def units(self, validator: str) -> int:
        """The number of payloads per sample."""
        return self.count

    def time_write_payloads(self, validator: str) -> None:
        sink = io.BytesIO()
        with flatstream.StreamWriter(sink, self.framer) as writer:
            writer.write_payloads(self.payloads)
        assert sink.tell() == self.count * 348

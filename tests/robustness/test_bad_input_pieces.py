"""Bad arguments of the methods that a FrameParser and a FrameSerializer have of their own.

Each is refused with an error that says what was expected and what came. Afterwards the object works as before.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from flatstream import FrameParser, FrameSerializer
from reference import framing as reference
from support.bad_input import NO_INTS, TWO_FRAMES, Case, Refused, counts, no_bytes, refusals, table
from support.extent import in_one_test

# The argument's type is not in these messages, only its repr.
NO_SIZES = [value for value, _ in NO_INTS]


def sizes(argument: str, *outside: Refused) -> list[Refused]:
    return [(value, TypeError, re.escape(f"{argument} must be an int, got {value!r}")) for value in NO_SIZES] + [
        *outside
    ]


def with_buffer(parser: FrameParser, nbytes: Any) -> None:
    """As `buffer_updated` with a buffer out, which is given back afterwards."""
    parser.get_buffer()
    try:
        parser.buffer_updated(nbytes)
    finally:
        parser.buffer_updated(0)


PARSER_CASES = [
    *refusals("feed", lambda parser, data: parser.feed(data), *no_bytes("data")),
    *refusals("get_buffer", lambda parser, hint: parser.get_buffer(hint), *sizes("size_hint")),
    *refusals(
        "buffer_updated",
        lambda parser, nbytes: parser.buffer_updated(nbytes),
        *sizes("nbytes"),
        *[(value, ValueError, r"no buffer is out: call get_buffer\(\) before") for value in (-1, 0, 1, 2**70)],
    ),
    *refusals(
        "buffer_updated with a buffer",
        with_buffer,
        *sizes("nbytes"),
        *[
            (value, ValueError, f"nbytes must be from 0 to [0-9]+, the size of the buffer, got {value}")
            for value in (-1, 2**20, 2**70)
        ],
    ),
]

SERIALIZER_CASES = [
    *counts("take", "max_bytes", lambda serializer, value: serializer.take(value), but_none=True),
    *counts(
        "pending_buffers", "max_buffers", lambda serializer, value: serializer.pending_buffers(value), but_none=True
    ),
    *refusals(
        "mark_sent",
        lambda serializer, nbytes: serializer.mark_sent(nbytes),
        *sizes("nbytes"),
        *[
            (value, ValueError, f"nbytes must be from 0 to 7, the bytes pending, got {value}")
            for value in (-1, 8, 2**70)
        ],
    ),
]


@in_one_test
@table(*PARSER_CASES)
def test_bad_argument_of_a_parsers_method_is_refused_and_the_parser_goes_on(case: Case) -> None:
    parser = FrameParser()
    parser.feed(TWO_FRAMES[:9])
    assert bytes(next(parser)) == b"abc"
    assert parser.read_message() is None
    case.check(parser)
    assert (parser.frames_read, parser.buffered, parser.needed) == (1, 2, 2)
    parser.feed(TWO_FRAMES[9:])
    parser.feed_eof()
    assert list(parser) == [b"de"]


@in_one_test
@table(*SERIALIZER_CASES)
def test_bad_argument_of_a_serializers_method_is_refused_and_the_serializer_goes_on(case: Case) -> None:
    serializer = FrameSerializer()
    serializer.write_payload(b"abc")
    case.check(serializer)
    assert serializer.pending_bytes == 7
    serializer.write_payload(b"de")
    serializer.finish()
    assert serializer.take() == reference.encode([b"abc", b"de"], "none")


# No method is left out


@pytest.mark.parametrize(
    ("cls", "inherited", "cases", "take_nothing"),
    [
        # What a parser shares with StreamReader, and a serializer with StreamWriter, is in test_bad_input_methods.py.
        (FrameParser, "MessageReader Decoder", PARSER_CASES, {"detach", "feed_eof", "read_message"}),
        (FrameSerializer, "MessageWriter Encoder", SERIALIZER_CASES, {"finish"}),
    ],
    ids=["FrameParser", "FrameSerializer"],
)
def test_every_method_of_their_own_has_its_bad_input(
    cls: type, inherited: str, cases: list[Case], take_nothing: set[str]
) -> None:
    bases = [base for base in cls.__mro__ if base.__module__.startswith("flatstream")]
    shared = {name for base in bases if base.__name__ in inherited.split() for name in vars(base)}
    own = {
        name
        for base in bases
        if base.__name__ not in inherited.split()
        for name, value in vars(base).items()
        if not name.startswith("_") and callable(value)
    }
    assert own - shared | {"read_message"} & own == {re.split(r"[( ]", case.name)[0] for case in cases} | take_nothing

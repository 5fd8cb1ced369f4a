"""What a sink gets that keeps the memory it is given: bytes that never change, copied only if they could."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flatstream import StreamWriter
from support.extent import in_one_test

SIZE = 200_000


class KeepingSink:
    def __init__(self) -> None:
        self.pieces: list[memoryview] = []

    def write(self, data: memoryview) -> None:
        self.pieces.append(data)


def written(payload: Any) -> list[memoryview]:
    sink = KeepingSink()
    with StreamWriter(sink, "crc32") as writer:
        writer.write_payload(payload)
    return sink.pieces


def test_large_bytes_object_is_handed_over_without_a_copy() -> None:
    payload = b"x" * SIZE
    pieces = written(payload)
    assert pieces[-1].obj is payload
    assert pieces[-1].readonly
    assert b"".join(pieces)[8:] == payload


@in_one_test
@pytest.mark.parametrize("make", [bytearray, lambda data: memoryview(bytearray(data))], ids=["bytearray", "memoryview"])
def test_large_payload_that_can_change_is_copied(make: Callable[[bytes], Any]) -> None:
    payload = make(b"x" * SIZE)
    pieces = written(payload)
    payload[:] = b"y" * SIZE
    assert b"".join(pieces)[8:] == b"x" * SIZE

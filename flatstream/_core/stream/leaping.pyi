from collections.abc import Callable
from typing import NamedTuple

from typing_extensions import Buffer

from flatstream._core.framing.deframer import Deframer

class Leap(NamedTuple):
    end: int
    frames: int
    needed: int
    invalid: bool

def leap(
    data: Buffer, deframer: Deframer, begin: int = 0, *, stop: int | None = None, max_frames: int | None = None
) -> Leap | None: ...
def boundaries(
    read_at: Callable[[int, int], Buffer],
    size: int,
    deframer: Deframer,
    begin: int = 0,
    every: int = 4194304,
    *,
    window: int = 262144,
) -> list[tuple[int, int]] | None: ...

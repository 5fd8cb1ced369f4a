from collections.abc import Iterable

from typing_extensions import Buffer

def crcs_of_ranges(data: Buffer, name: str, ranges: Iterable[tuple[int, int]]) -> list[int]: ...

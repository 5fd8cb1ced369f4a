from typing_extensions import disjoint_base

NAMES: dict[str, int]

@disjoint_base
class Losses:
    @property
    def skipped(self) -> int: ...
    @property
    def lost_bytes(self) -> int: ...

from typing_extensions import disjoint_base

from flatstream._core.flatbuf.kinds import KIND_NAMES as KIND_NAMES

@disjoint_base
class WritePlan: ...

from typing_extensions import disjoint_base

from flatstream._core.stream.resync import ResyncBuffer

@disjoint_base
class FollowingBuffer(ResyncBuffer): ...

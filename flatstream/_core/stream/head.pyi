from typing import Any

from typing_extensions import disjoint_base

from flatstream._core.stream.following import FollowingBuffer

@disjoint_base
class HeadBuffer(FollowingBuffer):
    @property
    def _description(self) -> Any: ...
    @property
    def _description_size(self) -> int: ...
    @property
    def _is_in_description(self) -> bool: ...
    def _deliver_description(self) -> None: ...

from typing import NoReturn

from typing_extensions import disjoint_base

@disjoint_base
class FrameWatcher:
    @property
    def sees_stored(self) -> bool: ...
    def __reduce__(self) -> NoReturn: ...

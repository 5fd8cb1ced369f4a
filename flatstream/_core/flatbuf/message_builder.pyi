from typing_extensions import disjoint_base

NUMBER_FLAGS: dict[int, str]

@disjoint_base
class MessageBuilder:
    def __init__(self, capacity: int = 1024) -> None: ...

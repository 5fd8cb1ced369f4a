from typing_extensions import disjoint_base

@disjoint_base
class MessageBuilder:
    def __init__(self, capacity: int = 1024) -> None: ...

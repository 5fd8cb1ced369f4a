from typing_extensions import disjoint_base

KIND_NAMES: tuple[str, ...]

@disjoint_base
class WritePlan: ...

from typing_extensions import disjoint_base

from flatstream._core.column_writer.plan import WritePlan

NUMBER_NAMES: dict[int, str]
NUMBER_RANGES: dict[int, str]

@disjoint_base
class RowBuilder(WritePlan): ...

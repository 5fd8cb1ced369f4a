from typing_extensions import disjoint_base

from flatstream._core.column_writer.plan import WritePlan

@disjoint_base
class RowBuilder(WritePlan): ...

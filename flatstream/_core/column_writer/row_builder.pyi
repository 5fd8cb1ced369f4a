from typing_extensions import disjoint_base

from flatstream._core.column_writer.plan import WritePlan
from flatstream._core.flatbuf.kinds import NUMBER_NAMES as NUMBER_NAMES
from flatstream._core.flatbuf.kinds import NUMBER_RANGES as NUMBER_RANGES

@disjoint_base
class RowBuilder(WritePlan): ...

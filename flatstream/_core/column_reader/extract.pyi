from typing_extensions import Buffer

from flatstream._core.arrow.exporter import ColumnData
from flatstream._core.column_reader.plan import ReadPlan

def read_messages(plan: ReadPlan, data: Buffer, offsets: Buffer, lengths: Buffer) -> ColumnData: ...

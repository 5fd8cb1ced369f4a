"""What the engines have in common: the dataset that is asked for, and Arrow types that an engine can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flatstream.datasets import Dataset, dataset

if TYPE_CHECKING:
    import pyarrow as pa

    from flatstream.datasets.splits import SplitSource

__all__ = ["as_dataset", "cast_batch", "changed_schema", "plain_type", "projected", "without_unsigned"]


def as_dataset(source: Any, options: dict[str, Any]) -> Dataset:
    """The dataset that a `read` function was given, or that of the paths that it was given."""
    if not isinstance(source, Dataset):
        return dataset(source, **options)
    if options:
        raise TypeError(f"the dataset is made already, so that {', '.join(sorted(options))} cannot be said of it")
    return source


def projected(dataset: Dataset | SplitSource, columns: Iterable[str] | None) -> pa.Schema:
    """The schema of the columns that are asked for, in this order: names, or paths of fields inside of them.

    Raises
    ------
    KeyError
        There is no such column.
    """
    if columns is None:
        return dataset.arrow_schema
    if isinstance(columns, str):
        raise TypeError(f"columns must be several names, as [{columns!r:.100}], got a str")
    return dataset._schema(tuple(columns))


def changed_schema(
    schema: pa.Schema, change: Callable[[pa.DataType], pa.DataType], *, nullable: bool = False
) -> pa.Schema:
    """The schema with the types of all fields changed, at every depth; and with all fields nullable, if that is said.

    Engines join tables whose fields differ in that, and some cannot.
    """
    import pyarrow as pa

    return pa.schema([_changed_field(field, change, nullable) for field in schema])


def _changed_field(field: pa.Field, change: Callable[[pa.DataType], pa.DataType], nullable: bool) -> pa.Field:
    return field.with_type(_changed(field.type, change, nullable)).with_nullable(nullable or field.nullable)


def _changed(of: pa.DataType, change: Callable[[pa.DataType], pa.DataType], nullable: bool) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_struct(of):
        return pa.struct([_changed_field(of.field(index), change, nullable) for index in range(of.num_fields)])
    if pa.types.is_list(of) or pa.types.is_fixed_size_list(of) or pa.types.is_large_list(of):
        # Every engine has lists of this kind only.
        return pa.list_(_changed_field(of.value_field, change, nullable))
    return change(of)


def plain_type(of: pa.DataType) -> pa.DataType:
    """Enums as the names of their values: the dictionaries of two batches may differ, which no engine expects."""
    import pyarrow as pa

    if pa.types.is_dictionary(of):
        of = of.value_type
    if pa.types.is_large_string(of) or pa.types.is_string_view(of):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(of) or pa.types.is_binary_view(of) else of


def without_unsigned(of: pa.DataType) -> pa.DataType:
    """The smallest signed type that holds all values of an unsigned one."""
    import pyarrow as pa

    wider = {
        pa.uint8(): pa.int16(),
        pa.uint16(): pa.int32(),
        pa.uint32(): pa.int64(),
        # 20 digits.
        pa.uint64(): pa.decimal128(20, 0),
    }
    return wider.get(plain_type(of), plain_type(of))


def cast_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the types of a schema. Times that lose digits are rounded down.

    Raises
    ------
    pyarrow.ArrowInvalid
        A value does not fit. The message names the column and its type.
    """
    import pyarrow as pa

    if batch.schema.equals(schema):
        return batch
    if not len(schema):
        return batch
    arrays = []
    for column, field in zip(batch.columns, schema, strict=True):
        try:
            arrays.append(_cast(column, field.type))
        except pa.ArrowInvalid as error:
            raise pa.ArrowInvalid(f"the column {field.name!r} as {field.type}: {error}") from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _cast(array: pa.Array, to: pa.DataType) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if array.type == to:
        return array
    if pa.types.is_timestamp(array.type) and pa.types.is_timestamp(to):
        units = {"s": "second", "ms": "millisecond", "us": "microsecond", "ns": "nanosecond"}
        lowest = pc.min(array.cast(pa.int64())).as_py()
        if lowest is not None and lowest < 0:
            # The cast rounds towards zero.
            array = pc.floor_temporal(array, 1, units[to.unit])
        return array.cast(to, safe=False)
    if pa.types.is_struct(to):
        # The cast of a struct refuses times that lose digits.
        children = [_cast(child, field.type) for child, field in zip(_children(array), to, strict=True)]
        return pa.StructArray.from_arrays(children, fields=list(to), mask=array.is_null() if array.null_count else None)
    return array.cast(to)


def _children(array: pa.StructArray) -> Iterator[pa.Array]:
    for index in range(array.type.num_fields):
        yield array.field(index)

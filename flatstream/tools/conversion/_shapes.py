"""Arrow arrays rebuilt for formats that cannot hold them: fixed arrays in Parquet, dictionaries in IPC files."""

from __future__ import annotations

from typing import Any

__all__ = ["OneDictionary", "Reshaping", "VariableLists"]


class Reshaping:
    """Walks through the types and arrays of a batch. What does not change is passed on without a copy."""

    def __init__(self, pyarrow: Any) -> None:
        self.pa = pyarrow

    def schema(self, schema: Any) -> Any:
        """The schema of the batches that `batch` returns."""
        return self.pa.schema([field.with_type(self.type(field.type)) for field in schema], schema.metadata)

    def type(self, kind: Any) -> Any:
        """The type that arrays of a type get."""
        types = self.pa.types
        if types.is_struct(kind):
            return self.pa.struct([field.with_type(self.type(field.type)) for field in kind])
        if types.is_large_list(kind):
            return self.pa.large_list(kind.value_field.with_type(self.type(kind.value_type)))
        if types.is_fixed_size_list(kind):
            return self.fixed_type(kind, kind.value_field.with_type(self.type(kind.value_type)))
        return kind

    def fixed_type(self, kind: Any, item: Any) -> Any:
        """The type that arrays of fixed-size lists get."""
        return self.pa.list_(item, kind.list_size)

    def batch(self, batch: Any, schema: Any) -> Any:
        """A record batch with the arrays rebuilt, and with the schema that `schema` returned."""
        arrays = [self.array(array, (name,)) for name, array in zip(batch.schema.names, batch.columns, strict=True)]
        return self.pa.RecordBatch.from_arrays(arrays, schema=schema)

    def array(self, array: Any, path: tuple[str, ...]) -> Any:
        """An array rebuilt."""
        kind, pa = array.type, self.pa
        if pa.types.is_dictionary(kind):
            return self.dictionary(array, path)
        if pa.types.is_struct(kind):
            children = [array.field(number) for number in range(kind.num_fields)]
            names = [field.name for field in kind]
            made = [self.array(child, (*path, name)) for child, name in zip(children, names, strict=True)]
            if all(new is old for new, old in zip(made, children, strict=True)):
                return array
            fields = [field.with_type(new.type) for field, new in zip(kind, made, strict=True)]
            return pa.StructArray.from_arrays(made, fields=fields, mask=array.is_null())
        if pa.types.is_large_list(kind):
            values = array.values
            made = self.array(values, (*path, ""))
            if made is values:
                return array
            return self._with_values(array, made)
        if pa.types.is_fixed_size_list(kind):
            return self.fixed(array, self.array(array.values, (*path, "")))
        return array

    def dictionary(self, array: Any, path: tuple[str, ...]) -> Any:
        """An array of a dictionary rebuilt; `path` is its place in the batch."""
        return array

    def fixed(self, array: Any, values: Any) -> Any:
        """An array of fixed-size lists rebuilt; `values` are its rebuilt items."""
        if values is array.values:
            return array
        return self._with_values(array, values)

    def _with_values(self, array: Any, values: Any) -> Any:
        """An array of lists with other items. (LargeListArray.from_arrays takes no slice of a list with nulls.)"""
        buffers = list(array.buffers()[: array.type.num_buffers])
        return self.pa.Array.from_buffers(
            self.type(array.type), len(array), buffers, array.null_count, array.offset, [values]
        )


class VariableLists(Reshaping):
    """Makes variable lists of fixed-size ones.

    pyarrow cannot read a Parquet file with fixed-size lists in a struct that is absent in some rows.
    """

    def fixed_type(self, kind: Any, item: Any) -> Any:
        """See `Reshaping`."""
        return self.pa.large_list(item)

    def fixed(self, array: Any, values: Any) -> Any:
        """See `Reshaping`."""
        import numpy as np

        size = array.type.list_size
        offsets = np.arange(array.offset, array.offset + len(array) + 1, dtype=np.int64) * size
        return self.pa.LargeListArray.from_arrays(
            offsets, values, type=self.type(array.type), mask=array.is_null() if array.null_count else None
        )


class OneDictionary(Reshaping):
    """Gives all batches the same dictionaries, which only grow.

    An Arrow IPC file has one dictionary for each column, to which entries can be added: numbers without a name.
    """

    def __init__(self, pyarrow: Any) -> None:
        super().__init__(pyarrow)
        self.seen: dict[tuple[str, ...], Any] = {}

    def dictionary(self, array: Any, path: tuple[str, ...]) -> Any:
        """See `Reshaping`."""
        own, known = array.dictionary, self.seen.get(path)
        if known is None or own.equals(known):
            self.seen[path] = own
            return array
        if len(own) > len(known) and own.slice(0, len(known)).equals(known):
            self.seen[path] = own
            return array
        indices = array.indices
        if not known.slice(0, len(own)).equals(own):
            import pyarrow.compute

            missing = own.filter(pyarrow.compute.invert(pyarrow.compute.is_in(own, known)))
            known = self.pa.concat_arrays([known, missing])
            places = pyarrow.compute.index_in(own, known)
            indices = places.take(indices)
        self.seen[path] = known
        return self.pa.DictionaryArray.from_arrays(indices, known)

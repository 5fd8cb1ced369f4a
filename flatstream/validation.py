"""Validators: what a payload must be before it is written, or after it was read."""

from flatstream._core.framing.validator import (
    CompositeValidator,
    NoValidator,
    SizeValidator,
    TableRootValidator,
    TypedValidator,
    Validator,
)

# The crate's other name for it.
StructuralValidator = TableRootValidator

__all__ = [
    "CompositeValidator",
    "NoValidator",
    "SizeValidator",
    "StructuralValidator",
    "TableRootValidator",
    "TypedValidator",
    "Validator",
]

"""Validators: rules for payloads, checked before a payload is written or after it is read."""

from flatstream._core.framing.validator import (
    CompositeValidator,
    NoValidator,
    SizeValidator,
    TableRootValidator,
    TypedValidator,
    Validator,
)

# The second name that the Rust crate has for it.
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

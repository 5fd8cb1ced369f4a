"""Validators: what a payload must be before it is written, or after it was read."""

from flatstream._core.validation import CompositeValidator, NoValidator, SizeValidator, Validator

__all__ = ["CompositeValidator", "NoValidator", "SizeValidator", "Validator"]

"""The schemas that the tests use, and where the data of the tests are.

To import this module puts the folders with the code that flatc generated on the path: it imports its own parts by the
name of the schema's namespace.
"""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import Any

from flatstream.schema import Schema, Table

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
SCHEMAS = TESTS / "data" / "schemas"
VECTORS = TESTS / "data" / "vectors"
EXAMPLES = ROOT / "examples"

for _folder in (SCHEMAS, EXAMPLES):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))


@functools.cache
def schema_of(name: str) -> Schema:
    folders = {"telemetry": EXAMPLES, "monster_test": VECTORS / "verifier"}
    return Schema.from_file(folders.get(name, SCHEMAS) / f"{name}.bfbs")


SHAPES = schema_of("shapes")
SHAPES_V2 = schema_of("shapes_v2")
UNIONS = schema_of("unions")
TINY = schema_of("tiny")
TELEMETRY = schema_of("telemetry")


def root_of(text: str) -> Table:
    """The root table of a schema's text."""
    root = Schema.from_fbs(text=text).root
    assert root is not None
    return root


def generated(name: str, package: str = "shapes") -> Any:
    module = importlib.import_module(f"{package}.{name}")
    # flatc 2.0.8 leaves the import out for a table that has itself as a field.
    module.__dict__.setdefault(package, importlib.import_module(package))
    return module

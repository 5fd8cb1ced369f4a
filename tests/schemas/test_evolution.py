"""What breaks readers if one schema takes the place of another. The referee is ``flatc --conform``."""

from __future__ import annotations

import copy
import random
import subprocess
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from flatstream import Schema
from flatstream.schema import EvolutionIssue
from flatstream.schema._flatc import find_flatc
from support.extent import in_one_test
from support.schema_texts import INTEGERS, NO_SHRINKING, RandomSchema, TextType

# Old text, new text, what is found as "kind path", and whether flatc refuses the new one too.
SAME = "table A {} table B {} struct P { x:int; y:int; } "
CASES = [
    # What may change
    ("table T { a:int; b:int; }", "table T { a:int; b:int; }", "", False),
    ("table T { a:int; }", "table T { a:int; b:string; } table U {} enum E : byte { A }", "", False),
    ("table T { a:int; b:int; }", "table T { a:int; c:int; }", "", False),
    ("table T { a:int; b:int; }", "table T { a:int; b:int (deprecated); }", "", False),
    ("table T { a:int (id: 1); b:int (id: 0); }", "table T { b:int; a:int; }", "", False),
    ("table T { a:double = nan; }", "/// more\ntable T { a:double = nan; }", "", False),
    ("enum E : byte { A, B }", "enum E : byte { A, B, C }", "", False),
    ("enum E : byte { A, B }", "enum E : byte { A, C }", "", False),
    (SAME + "union U { A }", SAME + "union U { A, B }", "", False),
    (SAME + "union U { A, B }", SAME + "union U { A, X:B }", "", False),
    ("struct S { a:int; b:int; }", "struct S { a:int; c:int; }", "", False),
    ("namespace a; table T {} root_type T;", "namespace a; table T {} table U {} root_type T;", "", False),
    ("table T {}", "table T {} root_type T;", "", False),
    # Fields
    ("table T { a:int; b:int; }", "table T { a:int; }", "field_removed T.b", True),
    ("table T { a:int; b:int; }", "table T { b:int; a:int; }", "field_id T.a; field_id T.b", True),
    ("table T { a:int; b:int; }", "table T { b:int; }", "field_removed T.a; field_id T.b", True),
    ("table T { a:int; b:int; }", "table T { a:int; b:long; }", "field_type T.b", True),
    ("table T { a:int; b:int; }", "table T { a:int; c:long; }", "field_type T.c", True),
    ("table T { a:int; }", "table T { a:[int]; }", "field_type T.a", True),
    ("table T { a:[int]; }", "table T { a:[uint]; }", "field_type T.a", True),
    (SAME + "table T { a:A; }", SAME + "table T { a:B; }", "field_type T.a", True),
    (SAME + "table T { a:P; }", SAME + "table T { a:A; }", "field_type T.a", True),
    ("enum E : int { A } table T { a:E; }", "enum E : int { A } table T { a:int; }", "field_type T.a", True),
    (
        "namespace n; table A {} namespace m; table A {} table T { a:n.A; }",
        "namespace n; table A {} namespace m; table A {} table T { a:m.A; }",
        "field_type m.T.a",
        False,
    ),
    (
        SAME + 'table T { a:[ubyte] (nested_flatbuffer: "A"); }',
        SAME + 'table T { a:[ubyte] (nested_flatbuffer: "B"); }',
        "field_type T.a",
        False,
    ),
    ("table T { a:int; }", "table T { a:int = 1; }", "field_default T.a", True),
    ("table T { a:int; }", "table T { a:int = null; }", "field_default T.a", True),
    ("table T { a:bool = true; }", "table T { a:bool; }", "field_default T.a", True),
    ("table T { a:float = nan; }", "table T { a:float = inf; }", "field_default T.a", True),
    ("table T { a:int; b:int = 1; }", "table T { a:int; c:int = 2; }", "field_default T.c", False),
    ("table T { a:string; }", "table T { a:string (required); }", "field_required T.a", False),
    ("table T { a:string (required); }", "table T { a:string; }", "field_required T.a", False),
    (
        "table T { a:string (required); }",
        "table T { a:string (required, deprecated); }",
        "field_required T.a",
        False,
    ),
    ("table T { a:int (key); b:int; }", "table T { a:int; b:int (key); }", "field_key T.a; field_key T.b", False),
    ("table T { a:int; }", "table U { a:int; }", "table_removed T", False),
    ("namespace n; table T { a:int; }", "namespace m; table T { a:int; }", "table_removed n.T", False),
    (SAME + "union U { A } table T { u:U; }", SAME + "union U { A } table T { x:int; u:U; }", "field_id T.u", True),
    (
        SAME + "union U { A } table T { u:U; }",
        SAME + "table T { u:A (id: 1); x:ubyte (id: 0); }",
        "field_type T.u",
        True,
    ),
    (SAME + "union U { A } table T { u:[U]; }", SAME + "union U { A } table T { x:int; }", None, True),
    # Types
    ("struct S { a:int; b:int; }", "struct S { a:int; b:int; c:int; }", "struct_layout S", False),
    ("struct S { a:int; b:int; }", "struct S { a:int; }", "struct_layout S", True),
    ("struct S { a:int; b:int; }", "struct S { b:int; a:int; }", "struct_layout S", True),
    ("struct S { a:int; }", "struct S { a:uint; }", "struct_layout S", True),
    ("struct S { a:[int:3]; }", "struct S { a:[int:4]; }", "struct_layout S", False),
    ("struct S { a:int; }", "struct S (force_align: 8) { a:int; }", "struct_layout S", False),
    ("struct S { a:int (key); b:int; }", "struct S { a:int; b:int (key); }", "field_key S", False),
    ("struct S { a:int; } table T { s:S; }", "table S { a:int; } table T { s:S; }", "type_kind S", True),
    ("enum E : byte { A } table T { a:E; }", "table E {} table T { a:E; }", None, True),
    ("enum E : byte { A, B }", "enum E : byte { A }", "enum_value_removed E.B", False),
    ("enum E : byte { A, B }", "enum E : byte { A, C, B }", "enum_value E.B", True),
    ("enum E : byte { A, B }", "enum E : short { A, B }", "enum_type E", None),
    (SAME + "union U { A, B }", SAME + "union U { B, A }", "union_member U.A; union_member U.B", True),
    (SAME + "union U { A, B }", SAME + "union U { A }", "union_member_removed U.B", False),
    (SAME + "union U { X:A }", SAME + "union U { X:B }", "union_member U.X", False),
    (SAME + "union U { X:A }", SAME + "union U { Y:P }", "union_member U.X", False),
    (SAME + "union U { X:A }", SAME + "union U { X:string }", "union_member U.X", False),
    # The schema
    (SAME + "root_type A;", SAME + "root_type B;", "root_type root_type", False),
    (SAME + "root_type A;", SAME, "root_type root_type", False),
    (
        'table T {} file_identifier "AAAA";',
        'table T {} file_identifier "BBBB";',
        "file_identifier file_identifier",
        False,
    ),
    ("table T {}", 'table T {} root_type T; file_identifier "BBBB";', "file_identifier file_identifier", False),
]


def flatc_refuses(old: str, new: str, folder: Any) -> bool:
    """Whether flatc says that the new text is no evolution of the old one."""
    (folder / "old.fbs").write_text(old)
    (folder / "new.fbs").write_text(new)
    command = [find_flatc(), "--binary", "--schema", "-o", "out", "--conform", "old.fbs", "new.fbs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        assert "schemas don't conform" in done.stdout + done.stderr
    return done.returncode != 0


@in_one_test
@pytest.mark.parametrize(("old", "new", "expected", "refused"), CASES)
def test_difference_is_found(old, new, expected, refused, tmp_path):
    issues = Schema.from_fbs(text=new).check_evolution(Schema.from_fbs(text=old))
    if expected is None:
        assert issues
    else:
        assert [f"{issue.kind} {issue.path}" for issue in issues] == [each for each in expected.split("; ") if each]
    if refused is not None:
        assert flatc_refuses(old, new, tmp_path) is refused
    for issue in issues:
        assert str(issue) == f"{issue.path}: {issue.message}"


def test_message_says_what_was_and_what_is():
    old = Schema.from_fbs(
        text="table A {} struct S { x:int; } enum E : byte { V } union U { A } "
        "table T { a:int; b:S; e:E; u:U; s:string; }"
    )
    new = Schema.from_fbs(
        text="table A {} struct S { x:int; y:[short:2]; } enum E : byte { V = 0, W } union U { A = 2 } "
        'table T { a:int = 7; b:S; e:long; u:U; s:string (required); } root_type T; file_identifier "ABCD";'
    )
    assert [str(issue) for issue in new.check_evolution(old)] == [
        "file_identifier: was none, is 'ABCD': a reader refuses messages with another one",
        "T.a: the default was 0, is 7: a value that a message does not store changes",
        "T.e: the type was E, is long",
        "T.s: is required now: readers refuse old messages without it",
        "S: the fields were { x: int }, are { x: int; y: [short:2] }: a struct can never change",
        "U.A: the number was 1, is 2: readers read another type",
    ]
    # Renamed, and something else too.
    renamed = Schema.from_fbs(text="table T { b:int = 1; }").check_evolution(Schema.from_fbs(text="table T { a:int; }"))
    assert [str(issue) for issue in renamed] == [
        "T.b: the default was 0, is 1 (it was called a): a value that a message does not store changes"
    ]
    assert renamed == [EvolutionIssue("field_default", "T.b", renamed[0].message)]


@in_one_test
@pytest.mark.parametrize("value", [None, 5, "old.fbs", b"", [Schema]])
def test_what_is_no_schema_is_a_type_error(value):
    with pytest.raises(TypeError, match=f"^old must be a Schema, got {type(value).__name__}$"):
        Schema.from_fbs(text="table T {}").check_evolution(value)


# Random schemas with one thing changed


def changed(schema: RandomSchema, chance: random.Random) -> str:
    """The text of a schema after a random change."""
    each: TextType = chance.choice([each for each in schema.types if each.fields] or schema.types)
    if not each.fields:
        return schema.text()
    place = chance.randrange(len(each.fields))
    part = each.fields[place]
    change = chance.randrange(6)
    if change == 0:
        del each.fields[place]
    elif change == 1:
        part.name += "_renamed"
    elif change == 2:
        chance.shuffle(each.fields)
    elif change == 3:
        each.fields.insert(place, copy.copy(part))
        each.fields[place].name += "_more"
    elif change == 4 and each.kind in ("table", "struct"):
        part.type = chance.choice([*INTEGERS, "string", "[int]"])
        part.default = ""
    elif each.kind == "enum" and part.default:
        part.default = chance.choice(["", " = 1", " = 5", " = 77"])
    elif each.kind == "table":
        part.default = chance.choice(["", " = 1", " = 5", " = null"])
    return schema.text()


def check_random_change(chance: random.Random, folder: Any) -> None:
    schema = RandomSchema(chance)
    old = schema.text()
    new = changed(schema, chance)
    try:
        schemas = Schema.from_fbs(text=old), Schema.from_fbs(text=new)
    except ValueError:
        # No longer a schema, or never one.
        reject()
    issues = schemas[1].check_evolution(schemas[0])
    assert len(set(issues)) == len(issues)
    if flatc_refuses(old, new, folder):
        assert issues


@settings(max_examples=15, phases=NO_SHRINKING)
@given(st.randoms(use_true_random=False))
def test_random_change_that_flatc_refuses_is_found(tmp_path_factory, chance):
    check_random_change(chance, tmp_path_factory.mktemp("change"))


@pytest.mark.long
@settings(max_examples=500, phases=NO_SHRINKING)
@given(st.randoms(use_true_random=False))
def test_500_random_changes_that_flatc_refuses_are_found(tmp_path_factory, chance):
    check_random_change(chance, tmp_path_factory.mktemp("change"))

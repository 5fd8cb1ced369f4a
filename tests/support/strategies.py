"""Hypothesis strategies for objects of the object API that flatc generated from shapes.fbs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from support.schemas import generated


def objects(name: str, package: str = "shapes", /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects of flatc's object API with these fields."""
    make = getattr(generated(name, package), f"{name}T")

    def filled(values: dict[str, Any]) -> Any:
        made = make()
        for field, value in values.items():
            assert hasattr(made, field), field
            setattr(made, field, value)
        return made

    return st.fixed_dictionaries(fields).map(filled)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return maybe(st.lists(strategy, max_size=3))


def signed(bits: int) -> st.SearchStrategy[int]:
    return st.sampled_from([0, 1, -1, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1]) | st.integers(
        -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    )


def unsigned(bits: int) -> st.SearchStrategy[int]:
    return st.sampled_from([0, 1, 2**bits - 1]) | st.integers(0, 2**bits - 1)


FLOATS = st.sampled_from([0.0, -0.0, 0.5]) | st.floats(width=32)


DOUBLES = st.sampled_from([0.0, -0.0, -1.25e100]) | st.floats()


TEXTS = st.text(max_size=12)


COLORS = st.sampled_from([-2, 0, 5])


SCALARS = {
    "truth": st.booleans(), "i8": signed(8), "u8": unsigned(8), "i16": signed(16), "u16": unsigned(16),
    "i32": signed(32),
    "u32": unsigned(32), "i64": signed(64), "u64": unsigned(64), "f32": FLOATS, "f64": DOUBLES, "color": COLORS,
    "access": unsigned(8),
}  # fmt: skip


def optional(values: dict[str, st.SearchStrategy[Any]]) -> dict[str, st.SearchStrategy[Any]]:
    return {name: maybe(strategy) for name, strategy in values.items()}


scalars = objects("Scalars", **SCALARS, wide=unsigned(64), far=signed(64))


defaults = objects("Defaults", **SCALARS, weekday=unsigned(16), far=signed(64))


optionals = objects("Optionals", **optional(SCALARS))


pixels = objects("Pixel", level=unsigned(8))


points = objects("Point", x=FLOATS, y=FLOATS)


mixeds = objects("Mixed", flag=st.booleans(), big=DOUBLES, small=signed(16), medium=unsigned(32), color=COLORS)


lines = objects("Line", from_=points, to=points, width=unsigned(8))


nests = objects("Nest", before=signed(8), mixed=mixeds, line=lines, after=unsigned(16))


aligneds = objects("Aligned", a=unsigned(64), b=unsigned(8))


nameds = objects("Named", name=TEXTS, note=maybe(TEXTS), code=unsigned(32))


level4s = objects("Level4", value=DOUBLES, end=maybe(TEXTS))


level3s = objects("Level3", name=maybe(TEXTS), next=maybe(level4s), others=some(level4s))


level2s = objects("Level2", next=maybe(level3s), values=some(signed(16)))


level1s = objects("Level1", value=signed(32), next=maybe(level2s))


empties = objects("Empty")


trees = st.recursive(
    objects("Tree", value=signed(32)),
    lambda inner: objects(
        "Tree", value=signed(32), left=maybe(inner), right=maybe(inner), children=some(inner), label=maybe(TEXTS)
    ),
    max_leaves=6,
)


# flatc 2.0.8 has a vector of signed bytes written with PrependByte, which is unsigned.
vectors = objects(
    "Vectors", truths=some(st.booleans()), i8s=some(st.integers(0, 127)), u8s=some(unsigned(8)), i16s=some(signed(16)),
    u16s=some(unsigned(16)), i32s=some(signed(32)), u32s=some(unsigned(32)), i64s=some(signed(64)),
    u64s=some(unsigned(64)),
    f32s=some(FLOATS), f64s=some(DOUBLES), colors=some(st.sampled_from([0, 5])), weekdays=some(unsigned(16)),
    accesses=some(unsigned(8)), strings=some(TEXTS), pixels=some(pixels), points=some(points), mixeds=some(mixeds),
    nests=some(nests), aligneds=some(aligneds), scalars=some(scalars), named=some(nameds),
    overaligned=some(unsigned(8)),
)  # fmt: skip


structs = objects(
    "Structs", pixel=maybe(pixels), point=maybe(points), mixed=maybe(mixeds), nest=maybe(nests),
    aligned=maybe(aligneds),
    pointRequired=points,
)  # fmt: skip


CHOICES = {0: st.none(), 1: nameds, 2: level1s, 3: empties, 4: trees}


@st.composite
def with_unions(draw: Any, name: str, fields: tuple[str, ...], /, **others: st.SearchStrategy[Any]) -> Any:
    made = draw(objects(name, **others))
    for field in fields:
        kind = draw(st.integers(int(field == "must"), 4))
        setattr(made, f"{field}Type", kind)
        setattr(made, field, draw(CHOICES[kind]))
    return made


unions = with_unions("Unions", ("choice", "other", "must"))


numbereds = with_unions(
    "Numbered", ("choice",), last=signed(32), first=unsigned(8), text=maybe(TEXTS), truth=st.booleans()
)


olds = objects("Old", kept=signed(32), alsoKept=maybe(TEXTS), tail=signed(16))


holders = objects("Holder", inner=some(unsigned(8)), innerShape=some(unsigned(8)), raw=some(unsigned(8)))


shapes = with_unions(
    "Shape", ("choice",), scalars=maybe(scalars), defaults=maybe(defaults), optionals=maybe(optionals),
    vectors=maybe(vectors),
    structs=maybe(structs), named=maybe(nameds), level=maybe(level1s), tree=maybe(trees), numbered=maybe(numbereds),
    old=maybe(olds), unions=maybe(unions), holder=maybe(holders), title=maybe(TEXTS), id=unsigned(64),
)  # fmt: skip

"""Every way of computing every checksum, held to oracles that others wrote, and to the division bit by bit.

Which way is taken is decided when the package is imported, so each runs in a process of its own: the CRCs' `portable`,
`sse42`, `pclmul` and `vpclmul`, as far as this processor has them, and the XXH3 of the extension and of the public
function. What is covered, for each way and each checksum, as far as it concerns it (XXH3 is no division and has no
``extend``):

- Every length from 0 to 4096 at every alignment from 0 to 63, 262,208 payloads; at some alignments in `make test`. All
  of them are beginnings of the same 4096 bytes of noise, which lie at every alignment in turn; in front of them lies
  other noise, different each time, and behind a payload its noise goes on.
- The same 4096 bytes, at these alignments, cut in two at every place: the value of the first part, extended by the
  rest.
- Every length from 0 to 4096 up to the end of a page behind which nothing can be read, and from the beginning of one in
  front of which nothing can be read.
- Every length from 0 to 512 at changing places of the noise, against the division bit by bit as well.
- Payloads of odd sizes up to 5 MiB at random places.
- Messages of up to 900,000 bytes in random pieces, some of them empty, and registers that no message may have led to,
  through ``extend``.
- The check values of the RevEng catalogue.

What is asked for is honoured or fails the import, and what is no checksum or no payload is refused by ``extend``.
"""

from __future__ import annotations

import array
import binascii
import ctypes
import functools
import importlib
import itertools
import json
import os
import platform
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastcrc
import google_crc32c
import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from flatstream import Crc16, Crc32, Crc32c, Crc64
from flatstream._core.checksums import crc
from reference import framing as reference
from support.extent import in_one_test, spread
from support.processes import import_with

PATHS = ["vpclmul", "pclmul", "sse42", "portable"]

# The value of no bytes, and of the ASCII digits 1 to 9. From the RevEng catalogue and the test vectors of xxHash.
CHECK_VALUES = {
    "crc16": [0x0000, 0x31C3],
    "crc32": [0x00000000, 0xCBF43926],
    "crc32c": [0x00000000, 0xE3069283],
    "crc64": [0x0000000000000000, 0x995DC9BBDF1939FA],
    "xxhash64": [0x2D06800538D394C2, 0x72DCB18B67A17DFF],
}

ORACLES: dict[str, Callable[[Any], int]] = {
    "crc16": lambda data: binascii.crc_hqx(data, 0),
    "crc32": zlib.crc32,
    "crc32c": lambda data: google_crc32c.value(bytes(data)),
    "crc64": lambda data: fastcrc.crc64.xz(bytes(data)),
    "xxhash64": xxhash.xxh3_64_intdigest,
}

CRCS: dict[str, type[Any]] = {"crc16": Crc16, "crc32": Crc32, "crc32c": Crc32c, "crc64": Crc64}

every_crc = pytest.mark.parametrize("name", CRCS)
every_path = pytest.mark.parametrize("path", crc.available_paths())

LONGEST = 4096
# `make coverage` builds modules that are fifty times as slow, and does not look into other processes.
ALIGNMENTS = [0] if os.environ.get("FLATSTREAM_TRACED") else spread(range(64), 21)
SEED = 20240517
NOISE = random.Random(SEED).randbytes((5 << 20) + 100)
# Where the noise begins that lies in front of the payloads.
FRONT = 1 << 20


def extended_bit_by_bit(name: str, value: int, data: bytes) -> int:
    """What `extend` must give for any `value`: the division goes on with the register that ends in it."""
    parameters: dict[str, dict[str, Any]] = {
        "crc16": {"width": 16, "polynomial": 0x1021, "reflected": False, "final_xor": 0},
        "crc32": {"width": 32, "polynomial": 0x04C11DB7, "reflected": True, "final_xor": 0xFFFFFFFF},
        "crc32c": {"width": 32, "polynomial": 0x1EDC6F41, "reflected": True, "final_xor": 0xFFFFFFFF},
        "crc64": {"width": 64, "polynomial": 0x42F0E1EBA9EA3693, "reflected": True, "final_xor": 2**64 - 1},
    }
    given_parameters = parameters[name]
    register = value ^ given_parameters["final_xor"]
    if given_parameters["reflected"]:
        register = int(f"{register:0{given_parameters['width']}b}"[::-1], 2)
    return reference.crc(data, initial=register, **given_parameters)


# Ways


# Calculates what the plan asks for. Nothing is compared here but the prefixes, a list of a megabyte otherwise.
SCRIPT = """
import json, mmap, random, sys, time
import flatstream
from flatstream._core.checksums import crc, xxh3

plan = json.load(sys.stdin)
noise = random.Random(plan["seed"]).randbytes(plan["size"])
view = memoryview(noise)
checksum = flatstream.ChecksumType(plan["checksum"]).checksum()
calculate = checksum.calculate
prefixes, longest = plan["prefixes"], len(plan["prefixes"]) - 1

def compare_aligned():
    # A mapping begins at a multiple of 64, since it begins at a page.
    room = mmap.mmap(-1, 2 * mmap.PAGESIZE + 2 * longest)
    compared, wrong, cuts, wrong_cuts = 0, [], 0, []
    for alignment in plan["alignments"]:
        begin = mmap.PAGESIZE + alignment
        room[:begin] = noise[plan["front"] + 31 * alignment :][:begin]
        room[begin : begin + longest] = noise[:longest]
        with memoryview(room) as whole, whole[begin : begin + longest] as payload:
            for length, expected in enumerate(prefixes):
                if calculate(payload[:length]) != expected:
                    wrong.append([alignment, length])
                compared += 1
            # Cut in two at every place: the value of all of it, from every length of the rest.
            for cut in range(longest + 1) if hasattr(checksum, "extend") else ():
                if checksum.extend(prefixes[cut], payload[cut:]) != prefixes[longest]:
                    wrong_cuts.append([alignment, cut])
                cuts += 1
    return {"compared": compared, "wrong": wrong[:20], "cuts": cuts, "wrong_cuts": wrong_cuts[:20]}

def extend_in_pieces(pieces):
    value, values, place = 0, [], 0
    for size in pieces:
        value = checksum.extend(value, view[place : place + size])
        values.append(value)
        place += size
    return values

def best_time_of(payload):
    # In nanoseconds: the least of many, which what else the machine does makes no smaller.
    times = []
    for _ in range(200):
        begin = time.perf_counter_ns()
        calculate(payload)
        times.append(time.perf_counter_ns() - begin)
    return min(times)

json.dump({
    "time": best_time_of(view[: 1 << 18]),
    "way": {"crc": crc.PATH, "xxh3": xxh3.KERNEL_NAME},
    "check": [calculate(b""), calculate(b"123456789")],
    "aligned": compare_aligned(),
    "values": [calculate(view[place : place + length]) for place, length in plan["spans"]],
    "pieces": [extend_in_pieces(pieces) for pieces in plan["pieces"]],
    "extended": [checksum.extend(value, view[place : place + size]) for value, place, size in plan["extended"]],
}, sys.stdout)
"""


@functools.cache
def make_plan(name: str) -> dict[str, Any]:
    """What a process is to calculate, and the values that prefixes of the noise must have."""
    chosen = random.Random(name)
    # Bit by bit a long payload takes too long: these are compared with both.
    spans = [(chosen.randrange(1 << 20), length) for length in range(513)]
    spans += [(chosen.randrange(1 << 20), chosen.randrange(513, 200_000)) for _ in range(100)]
    # Around the powers of two, and odd sizes of several MiB.
    spans += [(chosen.randrange(64), (1 << power) + more) for power in range(13, 22) for more in (-1, 0, 1)]
    spans += [(chosen.randrange(64), size) for size in ((2 << 20) + 7, (3 << 20) - 11, (4 << 20) + 3, 5 << 20)]
    pieces: list[list[int]] = []
    extended: list[tuple[int, int, int]] = []
    if name in CRCS:
        for round_number in range(150):
            # Where a path goes from one kernel to the next: within some tens and hundreds of bytes; and some larger
            # than what is calculated with the interpreter's lock held.
            largest = (5, 40, 300, 3000, 300_000)[round_number % 5]
            count = chosen.randrange(1, 30) if largest < 300_000 else 3
            pieces.append([chosen.choice((0, chosen.randrange(largest))) for _ in range(count)])
        width = 8 * CRCS[name].size
        for size in [*range(130), *range(130, 700, 13)]:
            extended.append((chosen.getrandbits(width), chosen.randrange(1 << 20), size))
        extended += [
            (value, 5, size) for value in (0, 1, 2**width - 1, 2 ** (width - 1)) for size in (0, 1, 15, 16, 99)
        ]
    return {
        "checksum": name,
        "seed": SEED,
        "size": len(NOISE),
        "front": FRONT,
        "alignments": ALIGNMENTS,
        "prefixes": [ORACLES[name](NOISE[:length]) for length in range(LONGEST + 1)],
        "spans": spans,
        "pieces": pieces,
        "extended": extended,
    }


# Several tests look at what one process found.
@functools.cache
def found(name: str, variable: str, setting: str) -> dict[str, Any]:
    result = import_with({variable: setting}, SCRIPT, make_plan(name))
    assert result.returncode == 0, result.stderr
    findings: dict[str, Any] = json.loads(result.stdout)
    return findings


# Every path of the CRCs, and both ways to XXH3.
every_way = pytest.mark.parametrize(
    ("name", "variable", "setting"),
    [
        *((name, "FLATSTREAM_CRC", path) for name in CRCS for path in crc.available_paths()),
        ("xxhash64", "FLATSTREAM_XXH3", ""),
        ("xxhash64", "FLATSTREAM_XXH3", "python"),
    ],
)


def oracle_value(name: str, place: int, length: int) -> int:
    return ORACLES[name](memoryview(NOISE)[place : place + length])


@every_way
def test_every_length_to_4096_at_every_alignment_to_63_agrees_with_the_oracle(name, variable, setting):
    aligned = found(name, variable, setting)["aligned"]
    assert (aligned["compared"], aligned["wrong"]) == (len(ALIGNMENTS) * 4097, [])


@every_crc
@every_path
def test_message_of_4096_bytes_cut_in_two_at_every_place_has_the_value_of_the_whole(path, name):
    aligned = found(name, "FLATSTREAM_CRC", path)["aligned"]
    assert (aligned["cuts"], aligned["wrong_cuts"]) == (len(ALIGNMENTS) * 4097, [])


@in_one_test
@every_way
def test_check_values_are_those_of_the_catalogue_on_every_way(name, variable, setting):
    assert found(name, variable, setting)["check"] == CHECK_VALUES[name]


@in_one_test
@every_way
def test_payloads_of_many_sizes_at_many_places_agree_with_the_oracle(name, variable, setting):
    spans = make_plan(name)["spans"]
    values = found(name, variable, setting)["values"]
    expected = [oracle_value(name, place, length) for place, length in spans]
    wrong = [span for span, value, right in zip(spans, values, expected, strict=True) if value != right]
    assert wrong == []
    assert max(length for _, length in spans) == 5 << 20


@in_one_test
@every_crc
@every_path
def test_every_length_to_512_agrees_with_the_division_bit_by_bit(path, name):
    spans = [(place, length) for place, length in make_plan(name)["spans"] if length <= 512]
    values = found(name, "FLATSTREAM_CRC", path)["values"][: len(spans)]
    assert sorted(length for _, length in spans) == list(range(513))
    assert values == bit_by_bit(name)


@functools.cache
def bit_by_bit(name: str) -> list[int]:
    calculate = reference.ALGORITHMS[name].calculate
    return [calculate(NOISE[place : place + length]) for place, length in make_plan(name)["spans"] if length <= 512]


@in_one_test
@every_crc
@every_path
def test_message_in_random_pieces_has_the_value_of_what_there_is_of_it_after_each(path, name):
    pieces = make_plan(name)["pieces"]
    values = found(name, "FLATSTREAM_CRC", path)["pieces"]
    expected = [[oracle_value(name, 0, end) for end in itertools.accumulate(sizes)] for sizes in pieces]
    assert values == expected
    everything = [size for sizes in pieces for size in sizes]
    assert 0 in everything
    assert max(everything) > 262_144


@in_one_test
@every_crc
@every_path
def test_extension_of_any_value_agrees_with_the_division_bit_by_bit(path, name):
    values = found(name, "FLATSTREAM_CRC", path)["extended"]
    assert values == extended_values(name)


@functools.cache
def extended_values(name: str) -> list[int]:
    extended = make_plan(name)["extended"]
    return [extended_bit_by_bit(name, value, NOISE[place : place + size]) for value, place, size in extended]


@pytest.mark.parametrize(
    ("name", "extend"),
    [
        ("crc16", lambda value, data: binascii.crc_hqx(data, value)),
        ("crc32", lambda value, data: zlib.crc32(data, value)),
        ("crc32c", google_crc32c.extend),
    ],
    ids=["crc16", "crc32", "crc32c"],
)
def test_division_bit_by_bit_that_goes_on_agrees_with_the_oracles_that_can_go_on(name, extend):
    # The judge of the test above is judged here. None of the oracles goes on with a CRC-64.
    extended = make_plan(name)["extended"]
    assert extended_values(name) == [extend(value, NOISE[place : place + size]) for value, place, size in extended]


# What lies beside a payload


# The middle page is between two that nobody may look at: a byte too many ends the process.
GUARDED = """
import ctypes, json, mmap, random, sys
import flatstream

plan = json.load(sys.stdin)
noise = random.Random(plan["seed"]).randbytes(plan["longest"])
page = -(-plan["longest"] // mmap.PAGESIZE) * mmap.PAGESIZE
room = mmap.mmap(-1, 3 * page)
first = ctypes.addressof(ctypes.c_char.from_buffer(room))
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PROT_NONE = 0
for address in (first, first + 2 * page):
    assert protect(address, page, PROT_NONE) == 0, ctypes.get_errno()
whole = memoryview(room)
if plan["touch"] is not None:
    whole[page + plan["touch"]]
wrong = []
for name, values in plan["prefixes"].items():
    calculate = flatstream.ChecksumType(name).checksum().calculate
    for length, expected in enumerate(values):
        for begin in (page, 2 * page - length):
            whole[begin : begin + length] = noise[:length]
            if calculate(whole[begin : begin + length]) != expected:
                wrong.append([name, begin - page, length])
json.dump(wrong[:20], sys.stdout)
"""


def run_guarded(settings: dict[str, str], names: list[str], touch: int | None = None) -> Any:
    prefixes = {name: make_plan(name)["prefixes"] for name in names}
    # Generated anew from the same seed, these are the first bytes of the noise.
    assert random.Random(SEED).randbytes(LONGEST) == NOISE[:LONGEST]
    return import_with(settings, GUARDED, {"seed": SEED, "longest": LONGEST, "prefixes": prefixes, "touch": touch})


@in_one_test
@pytest.mark.parametrize(
    ("settings", "names"),
    [
        *(({"FLATSTREAM_CRC": path}, list(CRCS)) for path in crc.available_paths()),
        ({"FLATSTREAM_XXH3": ""}, ["xxhash64"]),
    ],
    ids=[*crc.available_paths(), "xxh3"],
)
def test_no_byte_is_read_in_front_of_a_payload_or_behind_it(settings, names):
    result = run_guarded(settings, names)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == []


@pytest.mark.parametrize("touch", [-1, LONGEST], ids=["in_front", "behind"])
def test_byte_read_beside_the_page_in_the_middle_ends_the_process(touch):
    # Else the test above would show nothing.
    result = run_guarded({}, [], touch)
    # Negative: ended by a signal, SIGSEGV or SIGBUS.
    assert result.returncode < 0


# Choosing a path


@in_one_test
@pytest.mark.parametrize("path", PATHS)
def test_path_asked_for_is_honoured_or_fails_the_import(path):
    script = "import json, sys; from flatstream._core.checksums import crc; json.dump(crc.PATH, sys.stdout)"
    result = import_with({"FLATSTREAM_CRC": path}, script)
    if path in crc.available_paths():
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout) == path
    else:
        assert result.returncode != 0
        assert f"ImportError: FLATSTREAM_CRC requests {path!r}; this processor supports " in result.stderr


@in_one_test
@pytest.mark.parametrize("path", ["PCLMUL", "avx512", " portable", "portable ", "0"])
def test_path_that_nobody_has_fails_the_import_and_lists_those_there_are(path):
    result = import_with({"FLATSTREAM_CRC": path}, "import flatstream")
    assert result.returncode != 0
    expected = (
        f"ImportError: FLATSTREAM_CRC requests {path!r}; this processor supports {', '.join(crc.available_paths())}"
    )
    assert expected in result.stderr


def test_path_is_the_first_of_those_available_if_none_is_asked_for():
    script = (
        "import json, sys; from flatstream._core.checksums import crc as c; "
        "json.dump([c.PATH, c.available_paths()], sys.stdout)"
    )
    result = import_with({"FLATSTREAM_CRC": ""}, script)
    assert result.returncode == 0, result.stderr
    path, paths = json.loads(result.stdout)
    assert path == paths[0]
    assert paths == crc.available_paths()


def processor_flags() -> set[str] | None:
    """What the system says that the processor has, under the names of Linux; None where it does not say."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return None
    lines = (line.partition(":") for line in information.read_text().splitlines())
    return next((set(flags.split()) for name, _, flags in lines if name.strip() == "flags"), None)


def test_available_paths_are_those_that_the_processor_has_the_instructions_for():
    paths = crc.available_paths()
    # In this order, and the last on every machine.
    assert paths == [path for path in PATHS if path in paths]
    assert paths[-1] == "portable"
    if platform.machine() not in ("x86_64", "AMD64"):
        assert paths == ["portable"]
        return
    flags = processor_flags()
    needed = {
        "vpclmul": {"pclmulqdq", "ssse3", "sse4_1", "avx512f", "avx512bw", "avx512vl", "vpclmulqdq"},
        "pclmul": {"pclmulqdq", "ssse3", "sse4_1"},
        "sse42": {"sse4_2"},
        "portable": set(),
    }
    assert flags is None or paths == [path for path in PATHS if needed[path] <= flags]


def test_kernel_of_xxh3_is_taken_from_the_extension_if_it_exports_one_and_nobody_asks_otherwise():
    extension = ctypes.CDLL(importlib.import_module("xxhash._xxhash").__file__)
    exported = [name for name in ("XXH3_64bits_dispatch", "XXH3_64bits") if hasattr(extension, name)]
    assert found("xxhash64", "FLATSTREAM_XXH3", "")["way"]["xxh3"] == (exported[0] if exported else "")
    assert found("xxhash64", "FLATSTREAM_XXH3", "python")["way"]["xxh3"] == ""


@in_one_test
@every_crc
@every_path
def test_path_asked_for_is_the_one_that_was_tested(path, name):
    assert found(name, "FLATSTREAM_CRC", path)["way"]["crc"] == path


@in_one_test
@pytest.mark.parametrize(
    ("path", "name"),
    [
        (path, name)
        for path in crc.available_paths()
        for name in CRCS
        if path in ("vpclmul", "pclmul") or (path == "sse42" and name == "crc32c")
    ],
)
def test_path_that_has_an_instruction_for_the_crc_is_faster_than_the_portable_one(path, name):
    # The only sign from outside that it goes the way that it says it goes. The multiplications are some six times as
    # fast as the tables and more, the CRC32 instruction two and a half times.
    took, portable = (found(name, "FLATSTREAM_CRC", which)["time"] for which in (path, "portable"))
    assert 1.4 * took < portable


# extend(), on the path of this process


@every_crc
@given(pieces=st.lists(st.binary(max_size=400), max_size=12))
def test_pieces_extended_one_after_the_other_have_the_value_of_all_of_them(name, pieces):
    checksum = CRCS[name]()
    value = 0
    for piece in pieces:
        value = checksum.extend(value, piece)
    assert value == ORACLES[name](b"".join(pieces))


@every_crc
@given(beginning=st.binary(max_size=700), rest=st.binary(max_size=700))
def test_value_of_a_beginning_extended_by_the_rest_is_that_of_the_whole(name, beginning, rest):
    assert CRCS[name]().extend(ORACLES[name](beginning), rest) == ORACLES[name](beginning + rest)


@in_one_test
@every_crc
def test_value_of_nothing_is_0_and_extended_by_nothing_any_value_stays(name):
    checksum = CRCS[name]()
    width = 8 * checksum.size
    for value in (0, 1, 0xABCD, 2 ** (width - 1), 2**width - 1):
        assert checksum.extend(value, b"") == value
    assert checksum.extend(0, b"123456789") == CHECK_VALUES[name][1]


@in_one_test
@every_crc
@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: memoryview(data).cast("H"),
        lambda data: array.array("I", data),
        lambda data: np.frombuffer(data, np.float64),
        lambda data: np.frombuffer(data, np.uint8).reshape(4, -1),
    ],
    ids=["bytes", "bytearray", "memoryview", "memoryview_of_shorts", "array", "numpy", "numpy_2d"],
)
def test_every_kind_of_buffer_extends_by_its_bytes(name, make):
    data = NOISE[100:260]
    assert CRCS[name]().extend(ORACLES[name](NOISE[:100]), make(data)) == ORACLES[name](NOISE[:260])


@in_one_test
@every_crc
def test_value_may_be_an_int_of_a_subclass(name):
    class Number(int):
        pass

    assert CRCS[name]().extend(Number(ORACLES[name](b"1234")), b"56789") == CHECK_VALUES[name][1]


@in_one_test
@every_crc
def test_value_may_be_given_by_name(name):
    assert CRCS[name]().extend(value=ORACLES[name](b"1234"), payload=b"56789") == CHECK_VALUES[name][1]


@in_one_test
@pytest.mark.parametrize(
    "value",
    [None, "1", b"\x01", 1.0, True, False, [1], np.float64(1), np.bool_(True)],
    ids=["none", "str", "bytes", "float", "true", "false", "list", "numpy_float64", "numpy_bool"],
)
@every_crc
def test_value_that_is_no_int_raises_type_error(name, value):
    with pytest.raises(TypeError, match=r"^value must be an int, got " + type(value).__name__):
        CRCS[name]().extend(value, b"abc")


@in_one_test
@every_crc
@pytest.mark.parametrize("beyond", [-1, -(2**64), 0, 1, 2**64], ids=lambda beyond: f"{beyond}")
def test_value_that_is_negative_or_too_large_raises_value_error(name, beyond):
    size = CRCS[name].size
    value = beyond if beyond < 0 else 2 ** (8 * size) + beyond
    with pytest.raises(ValueError, match=rf"^value must be a checksum of {size} bytes, got {value}$"):
        CRCS[name]().extend(value, b"abc")


@in_one_test
@pytest.mark.parametrize(
    ("payload", "error", "message"),
    [
        (None, TypeError, "payload must be a bytes-like object, got NoneType"),
        ("text", TypeError, "payload must be a bytes-like object, got str: encode it first"),
        (7, TypeError, "payload must be a bytes-like object, got int"),
        ([1, 2], TypeError, "payload must be a bytes-like object, got list"),
        (memoryview(b"abcdef")[::2], BufferError, "payload must be C-contiguous, got a strided memoryview"),
        (memoryview(b"abcdef")[::-1], BufferError, "payload must be C-contiguous, got a strided memoryview"),
        (np.arange(10)[::2], BufferError, "payload must be C-contiguous, got a strided ndarray"),
        (np.asfortranarray(np.ones((3, 4))), BufferError, "payload must be C-contiguous, got a strided ndarray"),
    ],
    ids=["none", "str", "int", "list", "strided", "backwards", "strided_numpy", "fortran_numpy"],
)
@every_crc
def test_payload_that_is_no_contiguous_buffer_is_refused_by_extend(name, payload, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        CRCS[name]().extend(0, payload)


@in_one_test
@every_crc
def test_released_memoryview_is_refused_by_extend(name):
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ValueError, match="released"):
        CRCS[name]().extend(0, view)


@in_one_test
@pytest.mark.parametrize("arguments", [(), (0,), (0, b"", b"")], ids=["none", "one", "three"])
@every_crc
def test_extend_with_too_few_or_too_many_arguments_raises_type_error(name, arguments):
    with pytest.raises(TypeError, match="argument"):
        CRCS[name]().extend(*arguments)


@in_one_test
@pytest.mark.parametrize("size", [3, 300_000], ids=["lock_held", "lock_released"])
@every_crc
def test_payload_is_free_again_after_it_was_extended_by_or_refused(name, size):
    payload = bytearray(size)
    CRCS[name]().extend(0, payload)
    payload.append(0)
    with pytest.raises(ValueError, match="value must be a checksum"):
        CRCS[name]().extend(-1, payload)
    payload.append(0)
    with pytest.raises(TypeError, match="value must be an int"):
        CRCS[name]().extend("0", payload)
    payload.clear()
    # None of these found the bytes in use.
    assert payload == b""


class NarrowCrc32(Crc32):
    """Of whose value only two bytes are stored. ``calculate`` gives all of it."""

    size = 2


class NarrowCrc64(Crc64):
    size = 4


class WideCrc16(Crc16):
    size = 4


class WideCrc32c(Crc32c):
    size = 8


NARROW: list[tuple[type[Any], str]] = [(NarrowCrc32, "crc32"), (NarrowCrc64, "crc64")]
WIDE: list[tuple[type[Any], str]] = [(WideCrc16, "crc16"), (WideCrc32c, "crc32c")]


@in_one_test
@pytest.mark.parametrize(("cls", "name"), NARROW + WIDE)
def test_extend_of_a_subclass_that_stores_another_size_goes_on_with_what_it_calculates(cls, name):
    checksum = cls()
    assert checksum.calculate(b"1234") == ORACLES[name](b"1234")
    assert checksum.extend(checksum.calculate(b"1234"), b"56789") == CHECK_VALUES[name][1]


@pytest.mark.parametrize(("cls", "name"), WIDE)
def test_value_that_the_crc_of_a_wider_subclass_cannot_have_raises_value_error(cls, name):
    with pytest.raises(ValueError, match="value must be"):
        cls().extend(2 ** (8 * CRCS[name].size), b"abc")

"""The peers in asv_benchmarks: they all write and read the same events, and the chart shows what it is given.

What each peer writes is read back here by something else than what its benchmark reads it with: the reference, the
pure-Python readers of mcap, msgpack and fastavro, and a reader of protobuf's wire format below. For Arrow there is no
other reader: another way through the same one has to do. test_benchmarks.py runs the benchmarks themselves.
"""

from __future__ import annotations

import copy
import functools
import json
import platform
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro._read_py as pure_python_avro
import matplotlib
import mcap.records
import mcap.stream_reader
import msgpack.fallback
import pyarrow
import pytest

import flatstream
from asv_benchmarks import chart, peers
from asv_benchmarks.telemetry_event import (
    CORE_FIELDS,
    EVENT_FIELDS,
    EXAMPLES,
    Totals,
    build_events,
    generate_events,
    make_events,
    make_payloads,
)
from reference import framing as reference
from support.extent import in_one_test

COUNT = 40


# The event


def test_fields_are_those_of_the_schema_in_its_order() -> None:
    schema = (EXAMPLES / "telemetry.fbs").read_text()

    def declared(block: str) -> dict[str, str]:
        (body,) = re.findall(rf"^{block} {{\n(.*?)^}}", schema, re.MULTILINE | re.DOTALL)
        return dict(re.findall(r"^  (\w+):([\w\[\]]+);", body, re.MULTILINE))

    assert list(CORE_FIELDS.items()) == list(declared("struct CpuTimes").items())
    assert list(EVENT_FIELDS.items()) == [item for item in declared("table Event").items() if item[0] in EVENT_FIELDS]
    assert len(EVENT_FIELDS) == 16


def test_events_are_the_same_everywhere() -> None:
    # Never to be changed: figures of different days and machines are compared because their events are equal.
    _, second = generate_events(2)
    cores = second.pop("cores")
    assert second == {
        "sequence": 1,
        "wall_time_ns": 1_735_689_600_001_028_384,
        "monotonic_ns": 1_028_384,
        "deadline_missed": False,
        "host": "sensor-078.example",
        "kernel": "6.1.0-18-amd64",
        "context_switches": 1_239_162_134,
        "interrupts": 3_233_660_261,
        "load_1": 1.859375,
        "memory_total": 17_179_869_184,
        "memory_available": 11_100_823_552,
        "memory_percent": 33.75,
        "pid": 4242,
        "process_name": "telemetry_agent",
        "process_resident": 15_114_240,
    }
    assert cores[3] == {
        "user": 3806.2734375,
        "nice": 4907.59375,
        "system": 5711.1796875,
        "idle": 4110.9375,
        "iowait": 1596.6640625,
        "irq": 282.765625,
        "softirq": 2721.0859375,
        "steal": 8149.96875,
    }


def test_events_have_the_fields_and_types_of_the_schema() -> None:
    types = {"ulong": int, "uint": int, "bool": bool, "float": float, "string": str, "[CpuTimes]": list}
    for event in generate_events(COUNT):
        assert [(name, type(value)) for name, value in event.items()] == [
            (name, types[kind]) for name, kind in EVENT_FIELDS.items()
        ]
        assert [list(core) for core in event["cores"]] == [list(CORE_FIELDS)] * 4
        for name, kind in EVENT_FIELDS.items():
            if kind == "float":
                assert struct.unpack("<f", struct.pack("<f", event[name])) == (event[name],)


def test_more_events_begin_with_the_same_ones() -> None:
    assert list(generate_events(COUNT))[:5] == list(generate_events(5))


def event_of(payload: bytes | memoryview) -> dict[str, Any]:
    """The event in a FlatBuffer, by flatc's accessors."""
    from telemetry import Event  # it can be found since telemetry_event has been imported

    assert Event.Event.EventBufferHasIdentifier(payload, 0)
    table = Event.Event.GetRootAs(payload, 0)
    event: dict[str, Any] = {}
    for name, kind in EVENT_FIELDS.items():
        accessor = getattr(table, camel_case(name))
        if kind == "[CpuTimes]":
            cores = [accessor(index) for index in range(table.CoresLength())]
            event[name] = [{state: getattr(core, camel_case(state))() for state in CORE_FIELDS} for core in cores]
        else:
            event[name] = accessor().decode() if kind == "string" else accessor()
    return event


def camel_case(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def test_flatbuffers_hold_the_events() -> None:
    assert [event_of(payload) for payload in build_events(generate_events(COUNT))] == list(make_events(COUNT))
    assert [event_of(payload) for payload in make_payloads(COUNT)] == list(make_events(COUNT))


# Readers that are not those of the benchmarks: from a file to the payloads or events in it


def read_frames(checksum: str) -> Callable[[Path], list[bytes]]:
    def read(path: Path) -> list[bytes]:
        data = path.read_bytes()
        stream = reference.decode(data, checksum)
        assert stream.end == reference.Clean(len(data))
        return stream.payloads

    return read


def read_mcap(path: Path) -> list[bytes]:
    with open(path, "rb") as file:
        records = list(mcap.stream_reader.StreamReader(file, validate_crcs=True).records)
    (schema,) = {record.data for record in records if isinstance(record, mcap.records.Schema)}
    assert schema == (EXAMPLES / "telemetry.bfbs").read_bytes()
    return [record.data for record in records if isinstance(record, mcap.records.Message)]


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """The number that begins at `offset`, and where it ends."""
    end = offset
    while data[end] >= 0x80:
        end += 1
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data[offset : end + 1])), end + 1


def read_varint_frames(path: Path) -> list[bytes]:
    data = path.read_bytes()
    payloads = []
    offset = 0
    while offset < len(data):
        length, offset = read_varint(data, offset)
        assert offset + length <= len(data)
        payloads.append(data[offset : offset + length])
        offset += length
    return payloads


def protobuf_fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message."""
    offset = 0
    while offset < len(data):
        tag, offset = read_varint(data, offset)
        wire_type = tag & 7
        value: Any
        if wire_type == 0:
            value, offset = read_varint(data, offset)
        elif wire_type == 2:
            length, offset = read_varint(data, offset)
            value, offset = data[offset : offset + length], offset + length
        else:
            layout = {1: "<d", 5: "<f"}[wire_type]
            (value,) = struct.unpack_from(layout, data, offset)
            offset += struct.calcsize(layout)
        yield tag >> 3, value


def protobuf_message(data: bytes, fields: dict[str, str]) -> dict[str, Any]:
    """The message's fields by name. One with its default value is not in the bytes."""
    defaults = {"string": "", "bool": False, "float": 0.0, "double": 0.0, "[CpuTimes]": []}
    message: dict[str, Any] = {name: copy.copy(defaults.get(kind, 0)) for name, kind in fields.items()}
    for number, value in protobuf_fields(data):
        name, kind = list(fields.items())[number - 1]
        if kind == "[CpuTimes]":
            message[name].append(protobuf_message(value, CORE_FIELDS))
        else:
            message[name] = value.decode() if kind == "string" else value
    return message


def read_msgpack(path: Path) -> list[Any]:
    with open(path, "rb") as file:
        return list(msgpack.fallback.Unpacker(file))


def read_avro(path: Path) -> list[Any]:
    with open(path, "rb") as file:
        return list(pure_python_avro.reader(file))


def read_arrow(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.ipc.open_stream(path.read_bytes()).read_all().to_pylist()
    return rows


READ_PAYLOADS: dict[str, Callable[[Path], list[bytes]]] = {
    "flatstream": read_frames("none"),
    "flatstream crc32": read_frames("crc32"),
    "flatstream xxhash64": read_frames("xxhash64"),
    "struct": read_frames("none"),
    "struct crc32": read_frames("crc32"),
    "mcap": read_mcap,
    "protobuf": read_varint_frames,
    "msgpack": read_msgpack,
    "fastavro": read_avro,
    "pyarrow": lambda path: [row["payload"] for row in read_arrow(path)],
}
READ_EVENTS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "flatstream records": lambda path: [event_of(payload) for payload in read_frames("xxhash64")(path)],
    "flatstream columns": lambda path: [event_of(payload) for payload in read_frames("xxhash64")(path)],
    "mcap": lambda path: [event_of(payload) for payload in read_mcap(path)],
    "protobuf": lambda path: [protobuf_message(data, EVENT_FIELDS) for data in read_varint_frames(path)],
    "msgpack": read_msgpack,
    "fastavro": read_avro,
    "pyarrow": read_arrow,
}

every_peer = pytest.mark.parametrize("peer", list(peers.PEERS))
every_event_peer = pytest.mark.parametrize("peer", list(peers.EVENT_PEERS))


# What the peers write and read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events"


@every_peer
def test_payloads_written_are_read_back_by_another_reader(peer: str, path: Path) -> None:
    payloads = list(make_payloads(COUNT))
    peers.PEERS[peer].write_framed(str(path), payloads)
    assert READ_PAYLOADS[peer](path) == payloads
    assert peers.PEERS[peer].read_framed(str(path)) == (COUNT, sum(len(payload) for payload in payloads))


@every_event_peer
def test_events_written_are_read_back_by_another_reader(peer: str, path: Path) -> None:
    events = list(make_events(COUNT))
    peers.EVENT_PEERS[peer].write_events(str(path), events)
    assert READ_EVENTS[peer](path) == events
    assert peers.EVENT_PEERS[peer].read_events(str(path)) == Totals(
        events=40,
        sequence=780,
        memory_available=sum(event["memory_available"] for event in events),
        load_1=sum(event["load_1"] for event in events),
        host_characters=18 * 40,
        core_user=sum(core["user"] for event in events for core in event["cores"]),
    )


def test_several_batches_of_columns_are_all_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.Arrow, "events_per_batch", 16)
    peer = peers.EVENT_PEERS["flatstream columns"]
    peer.write_events(str(path), make_events(COUNT))
    assert READ_EVENTS["flatstream columns"](path) == list(make_events(COUNT))
    assert peer.read_events(str(path))[:2] == (40, 780)


def test_several_batches_of_arrow_are_all_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.Arrow, "events_per_batch", 16)
    peer = peers.PEERS["pyarrow"]
    peer.write_events(str(path), make_events(COUNT))
    assert [batch.num_rows for batch in pyarrow.ipc.open_stream(path.read_bytes())] == [16, 16, 8]
    assert peer.read_events(str(path))[:2] == (40, 780)
    peer.write_framed(str(path), make_payloads(COUNT))
    assert peer.read_framed(str(path))[0] == 40


@pytest.mark.parametrize("checksum", ["", " crc32"])
def test_by_hand_writes_the_same_bytes(checksum: str, tmp_path: Path) -> None:
    for name in ("struct", "flatstream"):
        peers.PEERS[name + checksum].write_framed(str(tmp_path / name), make_payloads(COUNT))
    assert (tmp_path / "struct").read_bytes() == (tmp_path / "flatstream").read_bytes()


@pytest.mark.parametrize(("name", "header_size"), [("struct", 4), ("struct crc32", 8)])
def test_by_hand_notices_a_torn_end(name: str, header_size: int, path: Path) -> None:
    peers.PEERS[name].write_framed(str(path), [b"abc", b"de"])
    whole = path.read_bytes()
    assert len(whole) == 2 * header_size + 5
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        if size in (0, header_size + 3):
            assert peers.PEERS[name].read_framed(str(path)) == ((1, 3) if size else (0, 0))
        else:
            with pytest.raises((EOFError, struct.error)):
                peers.PEERS[name].read_framed(str(path))


def test_by_hand_notices_a_damaged_payload(path: Path) -> None:
    peers.PEERS["struct crc32"].write_framed(str(path), [b"abc", b"de"])
    path.write_bytes(path.read_bytes()[:-1] + b"f")
    with pytest.raises(ValueError, match="damaged"):
        peers.PEERS["struct crc32"].read_framed(str(path))


def test_protobuf_class_encodes_golden_bytes() -> None:
    # By the encoding that protobuf's documentation lays down: tag, which is 8 * number + wire type, and value.
    event = peers.Protobuf.event_class(
        sequence=150, deadline_missed=True, host="testing", cores=[{"user": 1.0}], load_1=1.0, process_resident=1
    )
    golden = (
        "08 96 01"  # field 1, varint 150
        "20 01"  # field 4, varint 1
        "2a 07 74 65 73 74 69 6e 67"  # field 5, 7 bytes
        "3a 09 09 00 00 00 00 00 00 f0 3f"  # field 7, 9 bytes: field 1, double 1.0
        "55 00 00 80 3f"  # field 10, float 1.0
        "80 01 01"  # field 16, varint 1
    )
    assert event.SerializeToString() == bytes.fromhex(golden)
    assert peers.Protobuf.event_class.FromString(bytes.fromhex(golden)) == event


@pytest.mark.parametrize(
    ("size", "prefix"),
    [(0, "00"), (127, "7f"), (128, "80 01"), (300, "ac 02"), (16_383, "ff 7f"), (16_384, "80 80 01")],
)
def test_varint_length_is_golden(size: int, prefix: str, path: Path) -> None:
    peer = peers.PEERS["protobuf"]
    peer.write_framed(str(path), [b"x" * size, b"yz"])
    assert path.read_bytes() == bytes.fromhex(prefix) + b"x" * size + b"\x02yz"
    assert peer.read_framed(str(path)) == (2, size + 2)


@in_one_test
@pytest.mark.parametrize(
    ("benchmark_class", "items", "peer"),
    [(peers.Framing, "payloads", peer) for peer in peers.PEERS]
    + [(peers.Events, "events", peer) for peer in peers.EVENT_PEERS],
)
def test_benchmark_of_a_peer_that_loses_an_event_fails(benchmark_class: Any, items: str, peer: str) -> None:
    benchmark = benchmark_class()
    benchmark.setup(peer, 3)
    try:
        benchmark.time_write(peer, 3)
        benchmark.time_read(peer, 3)
        setattr(benchmark, items, getattr(benchmark, items)[:-1])
        with pytest.raises(AssertionError):
            benchmark.time_write(peer, 3)
        with pytest.raises(AssertionError):
            benchmark.time_read(peer, 3)
        with pytest.raises(AssertionError):
            benchmark.track_bytes_per_event(peer, 3)
    finally:
        benchmark.teardown(peer, 3)
    assert not Path(benchmark.folder.name).exists()


@in_one_test
@pytest.mark.parametrize(
    ("peer", "extra"), [("flatstream", 4), ("flatstream crc32", 8), ("flatstream xxhash64", 12), ("struct", 4)]
)
def test_bytes_per_event_are_payload_and_header(peer: str, extra: int) -> None:
    benchmark = peers.Framing()
    benchmark.setup(peer, 3)
    try:
        payload_bytes = sum(len(payload) for payload in make_payloads(3))
        assert benchmark.track_bytes_per_event(peer, 3) == payload_bytes / 3 + extra
    finally:
        benchmark.teardown(peer, 3)


# The chart


def result(panel: str, name: str, nanoseconds: float) -> dict[str, Any]:
    return {"panel": panel, "name": name, "nanoseconds": nanoseconds}


RESULTS: dict[str, Any] = {
    "date": "2025-01-31",
    "machine": {
        "cpu": "Example <CPU> & Co",
        "cores": 8,
        "os": "Example Linux 12",
        "python": "3.11.7",
        "versions": {"flatstream": "0.1.0", "mcap": "9.8.7"},
    },
    "events": 10_000,
    "files": 20,
    "rows": 760_000,
    "results": [
        result("Write finished messages", "mcap", 3890.0),
        result("Write finished messages", "flatstream", 52.25),
        result("Write finished messages", "msgpack", 576),
        result("Read finished messages", "flatstream", 7.4),
        result("Serialize and write events", "flatstream", 88_123.0),
        result("Read events and sum 5 fields", "mcap", 1_234_567.0),
        result(chart.SLICE_PANEL, "flatstream, index", 12_300_000.0),
        result(chart.SLICE_PANEL, "polars, Parquet", 45_600_000.0),
        result(chart.SLICE_PANEL, "flatstream, all read", 1_230_000_000.0),
    ],
}
SVG = "{http://www.w3.org/2000/svg}"


@functools.cache
def drawn() -> str:
    return chart.draw(RESULTS)


def drawn_texts(svg: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg.encode())
    assert root.tag == f"{SVG}svg"
    return list(root.iter(f"{SVG}text"))


def test_chart_shows_names_times_day_and_machine() -> None:
    texts = ["".join(element.itertext()).strip() for element in drawn_texts(drawn())]
    assert set(chart.PANELS) <= set(texts)
    assert f"{chart.SLICE_PANEL}: the whole question" in texts
    assert any("20 files with 760,000 messages each" in text for text in texts)
    for label in ("flatstream, index", "12.3 ms", "polars, Parquet", "45.6 ms", "1.23 s"):
        assert label in texts
    for label in ("mcap", "msgpack", "flatstream", "3.89 µs", "52.2 ns", "576 ns", "7.4 ns", "88.1 µs", "1.23 ms"):
        assert label in texts
    assert "2025-01-31, Example <CPU> & Co, 8 cores, Example Linux 12, Python 3.11.7" in texts
    assert "flatstream 0.1.0, mcap 9.8.7" in texts
    assert any(text.startswith("10,000 telemetry events") for text in texts)


def test_chart_has_the_fastest_on_top() -> None:
    heights = {}
    for element in drawn_texts(drawn()):
        text = "".join(element.itertext()).strip()
        if text in ("52.2 ns", "576 ns", "3.89 µs"):
            (height,) = re.findall(r"translate\([\d.]+ ([\d.]+)\)", element.get("transform", "")) or [element.get("y")]
            heights[text] = float(height)
    assert sorted(heights, key=heights.__getitem__) == ["52.2 ns", "576 ns", "3.89 µs"]


def test_same_results_give_the_same_bytes() -> None:
    first = drawn()
    assert "Matplotlib v" not in first
    assert "dc:date" not in first
    # Neither the order in the file nor the settings of the one who draws make a difference.
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "path", "axes.facecolor": "red"}):
        assert chart.draw({**RESULTS, "results": RESULTS["results"][::-1]}) == first
        assert matplotlib.rcParams["font.size"] == 20


def test_every_colour_of_the_chart_has_one_for_dark_pages() -> None:
    svg = drawn()
    rules, _, drawing = svg.partition("</style>")
    _, _, rules = rules.partition("@media (prefers-color-scheme: dark) {")
    changed = dict(
        re.findall(r'\[style\*="(?:fill|stroke): (#\w{6})"\] { (?:fill|stroke): (#\w{6}) !important }', rules)
    )
    assert changed == {"#1f2328": "#e6edf3", "#ffffff": "#0d1117", "#d0d7de": "#30363d"}
    # The bars stand out from either.
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawing)) == changed.keys() | {"#1a7f9c", "#8c959f"}
    for element in drawn_texts(svg):
        assert "fill: #1f2328" in element.get("style", ""), "".join(element.itertext())


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: data.pop(key)


def with_machine(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["machine"].update(values)


def with_result(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["results"][2].update(values)


@in_one_test
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            without("date"),
            "results file: expected the key 'date', found ['events', 'files', 'machine', 'results', 'rows']",
        ),
        (lambda data: data.update(date="31.1.2025"), "results file.date: expected a date like 2025-01-31"),
        (lambda data: data.update(events=0), "results file.events: expected a positive number, found 0"),
        (lambda data: data.update(files=0), "results file.files: expected a positive number, found 0"),
        (lambda data: data.update(rows=-1), "results file.rows: expected a positive number, found -1"),
        (without("rows"), "results file: expected the key 'rows', found ['date', 'events', 'files', 'machine', "),
        (lambda data: data.update(events=True), "results file.events: expected a value of type int, found True"),
        (lambda data: data.update(results={}), "results file.results: expected a value of type list, found {}"),
        (lambda data: data["machine"].pop("cpu"), "machine: expected the key 'cpu', found ['cores', 'os', "),
        (with_machine(cores="8"), "machine.cores: expected a value of type int, found '8'"),
        (with_machine(versions={"mcap": 1.6}), "machine.versions.mcap: expected a value of type str, found 1.6"),
        (lambda data: data["results"].append(7), "results[9]: expected an object, found 7"),
        (with_result(panel="Delete"), "results[2].panel: expected one of ['Write finished messages', "),
        (with_result(name="mcap"), "results[2]: expected each name once in a panel, found 'mcap'"),
        (with_result(nanoseconds=None), "results[2].nanoseconds: expected a positive number, found None"),
        (with_result(nanoseconds=True), "results[2].nanoseconds: expected a positive number, found True"),
        (with_result(nanoseconds=0), "results[2].nanoseconds: expected a positive number, found 0"),
        (with_result(nanoseconds=float("nan")), "results[2].nanoseconds: expected a positive number, found nan"),
        (with_result(nanoseconds=float("inf")), "results[2].nanoseconds: expected a positive number, found inf"),
        (lambda data: data["results"].pop(5), "results: expected some of panel 'Read events and sum 5 fields'"),
        (lambda data: data.update(results=data["results"][:6]), "results: expected some of panel 'Read five minutes"),
    ],
)
def test_results_of_another_form_are_refused(spoil: Callable[[dict[str, Any]], object], message: str) -> None:
    data = copy.deepcopy(RESULTS)
    spoil(data)
    with pytest.raises(ValueError, match=re.escape(message)):
        chart.draw(data)


def test_results_that_are_no_object_are_refused() -> None:
    with pytest.raises(ValueError, match=r"results file: expected an object, found \[\]"):
        chart.check_results([])


def test_command_draws_a_results_file(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    chart.main([str(tmp_path / "results.json"), str(tmp_path / "chart.svg")])
    assert (tmp_path / "chart.svg").read_text(encoding="utf-8") == drawn()


@pytest.mark.parametrize(
    ("content", "message"), [("{", "Expecting property name"), ("[]", "results file: expected an object")]
)
def test_command_names_the_file_that_it_cannot_use(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(SystemExit) as exit_info:
        chart.main([str(tmp_path / "results.json"), str(tmp_path / "chart.svg")])
    assert exit_info.value.code == 1
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'results.json'}: {message}")
    assert not (tmp_path / "chart.svg").exists()


def test_command_with_nothing_to_do_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        chart.main(["results.json"])
    assert exit_info.value.code == 2
    assert "nothing to do: name the SVG to draw, or give --measure" in capsys.readouterr().err


def test_command_measures_every_peer_and_keeps_the_machine_anonymous(tmp_path: Path) -> None:
    # As a script, from another folder: the way that its docstring shows.
    script = [sys.executable, "-W", "error", chart.__file__]
    arguments = ["--measure", "results.json", "chart.svg", "--events", "3", "--rounds", "1"]
    arguments += ["--files", "2", "--rows", "2000"]
    done = subprocess.run([*script, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    results = json.loads((tmp_path / "results.json").read_text())
    assert (tmp_path / "chart.svg").read_text(encoding="utf-8") == chart.draw(results)
    measured = [(result["panel"], result["name"]) for result in results["results"]]
    framing = [*peers.PEERS]
    assert measured == [
        *(("Write finished messages", name) for name in framing),
        *(("Read finished messages", name) for name in framing),
        *(("Serialize and write events", name) for name in peers.EVENT_PEERS),
        *(("Read events and sum 5 fields", name) for name in peers.EVENT_PEERS),
        *((chart.SLICE_PANEL, name) for name in chart.SLICES),
    ]
    assert results.keys() == {"date", "machine", "events", "files", "rows", "results"}
    assert (results["events"], results["files"], results["rows"]) == (3, 2, 2000)
    assert results["machine"].keys() == {"cpu", "cores", "os", "python", "versions"}
    assert platform.node() not in results["machine"].values()
    assert results["machine"]["python"] == platform.python_version()
    versions = results["machine"]["versions"]
    assert list(versions) == ["flatstream", *chart.PACKAGES]
    assert (versions["flatstream"], versions["pyarrow"]) == (flatstream.__version__, pyarrow.__version__)

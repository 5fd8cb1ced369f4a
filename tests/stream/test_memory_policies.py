"""Memory policies: when each asks to shrink, and what writer and reader then give back."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import flatbuffers
import pytest

from flatstream import (
    AdaptiveWatermarkPolicy,
    MemoryPolicy,
    NoOpPolicy,
    ReclamationInfo,
    ReclamationReason,
    SizeThresholdPolicy,
    StreamReader,
    StreamWriter,
)
from reference import framing as reference
from support.clock import Clock
from support.extent import in_one_test
from support.messages import flatbuffer_of_string
from support.modes import MODES
from support.sinks import PlainSink
from support.sources import CutReadSource, CutSource
from support.streams import corpus

COUNT = ReclamationReason.MESSAGE_COUNT
TIME = ReclamationReason.TIME_COOLDOWN
SIZE = ReclamationReason.SIZE_THRESHOLD


class Scripted(MemoryPolicy):
    """Answers what it is told to, in order and then None, and notes what it is asked and told."""

    def __init__(self, answers: Iterable[ReclamationReason | None] = (), baseline: int = 16384) -> None:
        self.answers = iter(answers)
        self.baseline = baseline
        self.asked: list[tuple[int, int]] = []
        self.told: list[ReclamationInfo] = []

    @property
    def baseline_capacity(self) -> int:
        return self.baseline

    def should_reset(self, last_message_size: int, current_capacity: int) -> ReclamationReason | None:
        self.asked.append((last_message_size, current_capacity))
        return next(self.answers, None)

    def on_reclaim(self, info: ReclamationInfo) -> None:
        self.told.append(info)


# The policies themselves


def answers(policy: MemoryPolicy, sizes: Iterable[int], capacity: int = 1000) -> list[ReclamationReason | None]:
    return [policy.should_reset(size, capacity) for size in sizes]


def test_no_op_policy_never_asks_for_anything() -> None:
    assert answers(NoOpPolicy(), [0, 1, 10**9] * 10) == [None] * 30


def test_policies_have_a_baseline_of_16_kib_unless_given() -> None:
    assert NoOpPolicy().baseline_capacity == 16384
    assert AdaptiveWatermarkPolicy().baseline_capacity == 16384
    assert SizeThresholdPolicy().baseline_capacity == 16384
    assert AdaptiveWatermarkPolicy(baseline_capacity=5).baseline_capacity == 5
    assert SizeThresholdPolicy(baseline_capacity=0).baseline_capacity == 0


def test_adaptive_policy_shrinks_after_so_many_small_messages_in_a_row() -> None:
    policy = AdaptiveWatermarkPolicy(4, 3)
    # A capacity of 1000 is 4 times too large for a message of 250, and not for one of 251.
    assert answers(policy, [250, 250, 250]) == [None, None, COUNT]
    assert answers(policy, [250, 250, 251, 250, 250, 250]) == [None] * 5 + [COUNT]


def test_adaptive_policy_takes_an_empty_message_for_no_evidence() -> None:
    assert answers(AdaptiveWatermarkPolicy(4, 3), [1, 1, 0, 1, 1, 0, 1, 1, 1]) == [None] * 8 + [COUNT]


def test_adaptive_policy_has_the_crates_defaults() -> None:
    policy = AdaptiveWatermarkPolicy()
    assert (policy.size_ratio_threshold, policy.messages_to_wait, policy.cooldown) == (4, 5, None)
    assert answers(policy, [250] * 5) == [None] * 4 + [COUNT]


def test_adaptive_policy_shrinks_after_a_cooldown_by_the_injected_clock() -> None:
    clock = Clock()
    policy = AdaptiveWatermarkPolicy(4, 1000, cooldown=2.5, clock=clock)
    got = []
    for seconds in (0, 1, 1, 0.4, 0.1, 0, 2.5, 0):
        clock.now += seconds
        got.append(policy.should_reset(10, 1000))
    # 2.5 s after the first of them; then it starts again with the next.
    assert got == [None, None, None, None, TIME, None, TIME, None]


def test_adaptive_policy_starts_the_cooldown_again_after_a_large_message() -> None:
    clock = Clock()
    policy = AdaptiveWatermarkPolicy(4, 1000, cooldown=2, clock=clock)
    got = []
    for seconds, size in [(0, 10), (1.9, 10), (0, 900), (1.9, 10), (1.9, 10), (0.1, 10)]:
        clock.now += seconds
        got.append(policy.should_reset(size, 1000))
    assert got == [None] * 5 + [TIME]


def test_adaptive_policy_says_count_when_that_comes_first_and_time_when_both_do() -> None:
    clock = Clock()
    policy = AdaptiveWatermarkPolicy(4, 3, cooldown=10, clock=clock)
    assert answers(policy, [1, 1, 1]) == [None, None, COUNT]
    assert answers(policy, [1, 1]) == [None, None]
    clock.now += 10
    assert answers(policy, [1]) == [TIME]


def test_adaptive_policy_does_not_look_at_the_clock_without_a_cooldown() -> None:
    clock = Clock()
    assert answers(AdaptiveWatermarkPolicy(4, 2, clock=clock), [1, 1]) == [None, COUNT]
    assert clock.asked == 0


def test_size_threshold_policy_shrinks_after_small_messages_that_follow_a_large_one() -> None:
    policy = SizeThresholdPolicy(100, 50, 3)
    # Small ones alone say nothing.
    assert answers(policy, [1] * 10) == [None] * 10
    # 100 is not large, 101 is; 50 is not small, 49 is.
    assert answers(policy, [100, 49, 49, 49]) == [None] * 4
    assert answers(policy, [101, 49, 49, 49]) == [None, None, None, SIZE]
    assert answers(policy, [49] * 10) == [None] * 10
    assert answers(policy, [101, 49, 49, 50, 49, 49, 49]) == [None] * 6 + [SIZE]
    assert answers(policy, [101, 49, 49, 101, 49, 49, 49]) == [None] * 6 + [SIZE]


def test_size_threshold_policy_has_the_crates_defaults() -> None:
    policy = SizeThresholdPolicy()
    assert (policy.grow_above_bytes, policy.shrink_below_bytes, policy.messages_to_wait) == (2**20, 2**10, 8)


def test_reclamation_info_is_a_tuple_of_four() -> None:
    info = ReclamationInfo(COUNT, 1, 2, 3)
    assert (info.reason, info.last_message_size, info.capacity_before, info.capacity_after) == (COUNT, 1, 2, 3)


# Writing


class Builders:
    """Makes builders and remembers them."""

    def __init__(self) -> None:
        self.made: list[tuple[int, flatbuffers.Builder]] = []

    def __call__(self, capacity: int) -> flatbuffers.Builder:
        self.made.append((capacity, flatbuffers.Builder(capacity)))
        return self.made[-1][1]

    @property
    def capacities(self) -> list[int]:
        return [capacity for capacity, _ in self.made]


LARGE = "x" * 100_000
# What the reference builder grows to when it starts with 1024 and doubles.
LARGE_CAPACITY = 131_072


def test_writer_asks_only_while_the_builder_is_above_the_baseline() -> None:
    policy = Scripted(baseline=2048)
    with StreamWriter(PlainSink(), memory_policy=policy, capacity=1024) as writer:
        writer.write("short")
        assert policy.asked == []
        # It grows to 2048, which is not above the baseline.
        writer.write("x" * 1500)
        assert len(writer.builder.Bytes) == 2048
        assert policy.asked == []
        writer.write("x" * 3000)
        writer.write("short")
        writer.write_batch(["a", "b"])
    sizes = [len(flatbuffer_of_string(text)) for text in ("x" * 3000, "short", "a", "b")]
    assert policy.asked == [(size, 4096) for size in sizes]
    assert policy.told == []


def test_writer_makes_one_builder_per_reclaim_and_tells_the_policy() -> None:
    builders = Builders()
    policy = Scripted([None, None, COUNT, None, SIZE], baseline=4096)
    expected = []
    sink = PlainSink()
    with StreamWriter(sink, memory_policy=policy, make_builder=builders, capacity=1024) as writer:
        for text in (LARGE, "a", "b", "c", LARGE, "d", "e"):
            writer.write(text)
            expected.append(flatbuffer_of_string(text))
        assert writer.builder is builders.made[-1][1]
    assert builders.capacities == [1024, 4096, 4096]
    small = len(flatbuffer_of_string("b"))
    assert policy.told == [
        ReclamationInfo(COUNT, small, LARGE_CAPACITY, 4096),
        ReclamationInfo(SIZE, small, LARGE_CAPACITY, 4096),
    ]
    # Asked after each message while the builder was large, and not for "c" and "e", when it was small again.
    assert policy.asked == [
        (len(flatbuffer_of_string(LARGE)), LARGE_CAPACITY),
        (small, LARGE_CAPACITY),
        (small, LARGE_CAPACITY),
        (len(flatbuffer_of_string(LARGE)), LARGE_CAPACITY),
        (small, LARGE_CAPACITY),
    ]
    assert sink.arrived() == reference.encode(expected, "none")


def test_writer_without_make_builder_makes_one_of_the_baseline() -> None:
    with StreamWriter(PlainSink(), memory_policy=Scripted([COUNT], baseline=2000), capacity=3000) as writer:
        writer.write("a")
        assert len(writer.builder.Bytes) == 2000


def test_writer_leaves_the_old_builder_and_its_message_alone() -> None:
    builders = Builders()
    policy = Scripted([None, COUNT])
    with StreamWriter(PlainSink(), memory_policy=policy, make_builder=builders) as writer:
        writer.write(LARGE)
        writer.write("the last message of the old one")
        (_, old), (_, new) = builders.made
        assert writer.builder is new
        writer.write("another")
        assert old.Output() == flatbuffer_of_string("the last message of the old one")


def test_writer_never_asks_in_expert_mode() -> None:
    policy = Scripted([COUNT] * 100, baseline=0)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(builder.CreateString("expert"))
    with StreamWriter(PlainSink(), memory_policy=policy) as writer:
        writer.write_finished(builder)
        writer.write_payload(b"x" * 100_000)
        writer.write_payloads([b"x" * 100_000] * 3)
        writer.write_message(builder)
    assert (policy.asked, policy.told) == ([], [])
    assert len(builder.Bytes) == 1 << 20


class NotingAdaptive(AdaptiveWatermarkPolicy):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.told: list[ReclamationInfo] = []

    def on_reclaim(self, info: ReclamationInfo) -> None:
        self.told.append(info)


class NotingThreshold(SizeThresholdPolicy):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.told: list[ReclamationInfo] = []

    def on_reclaim(self, info: ReclamationInfo) -> None:
        self.told.append(info)


every_policy = pytest.mark.parametrize(
    ("make_policy", "reason", "after"),
    [
        pytest.param(lambda: NotingAdaptive(4, 3), COUNT, 3, id="adaptive"),
        pytest.param(lambda: NotingAdaptive(4, 100, cooldown=0, clock=Clock()), TIME, 1, id="cooldown"),
        pytest.param(lambda: NotingThreshold(50_000, 100, 2), SIZE, 2, id="size threshold"),
    ],
)


@every_policy
def test_writer_shrinks_as_the_built_in_policies_say(
    make_policy: Callable[[], Any], reason: ReclamationReason, after: int
) -> None:
    policy = make_policy()
    told = []
    with StreamWriter(PlainSink(), memory_policy=policy) as writer:
        for text in [LARGE] + ["small"] * 10:
            writer.write(text)
            told.append(list(policy.told))
    info = ReclamationInfo(reason, len(flatbuffer_of_string("small")), LARGE_CAPACITY, 16384)
    # Once, after so many small messages, and never again: the new builder is not above the baseline.
    assert told == [[]] * after + [[info]] * (11 - after)


def test_error_of_a_policy_reaches_the_caller_and_nothing_of_the_message_was_written() -> None:
    class Failing(Scripted):
        def on_reclaim(self, info: ReclamationInfo) -> None:
            raise LookupError("the policy fails")

    sink = PlainSink()
    with StreamWriter(sink, memory_policy=Failing([COUNT], baseline=10)) as writer:
        with pytest.raises(LookupError, match="the policy fails"):
            writer.write("one")
        # The docstring of write(): whatever is raised, nothing of the item was written.
        assert writer.frames_written == 0
        writer.write("two")
    assert sink.arrived() == reference.encode([flatbuffer_of_string("two")], "none")


# Reading

READ_SOURCES = pytest.mark.parametrize(
    "make_source",
    [
        io.BytesIO,
        CutReadSource,
        lambda data: CutSource(data, range(0, len(data), 1000)),
        lambda data: CutSource(data, range(0, 250_000, 50_000)),
    ],
    ids=["BytesIO", "read", "in pieces of 1000", "in pieces of 50000"],
)
BURST = [b"large" * 20_000] + [b"small-%02d" % number for number in range(60)]


def read_noting_capacity(reader: StreamReader) -> tuple[list[bytes], list[int]]:
    payloads, capacities = [], []
    for payload in reader:
        payloads.append(bytes(payload))
        capacities.append(reader.buffer_capacity)
    return payloads, capacities


@in_one_test
@READ_SOURCES
def test_reader_asks_only_while_a_chunk_is_above_the_baseline(make_source: Any) -> None:
    stream = corpus(MODES["none"], [b"x" * 1000] * 100)
    policy = Scripted([COUNT] * 100, baseline=100)
    # The baseline is never less than the capacity asked for.
    with StreamReader(make_source(stream.data), capacity=16384, memory_policy=policy) as reader:
        assert [bytes(payload) for payload in reader] == list(stream.payloads)
        assert reader.buffer_capacity == 16384
    assert (policy.asked, policy.told) == ([], [])


@in_one_test
@READ_SOURCES
def test_reader_without_a_policy_or_with_the_no_op_one_keeps_its_chunk(make_source: Any) -> None:
    stream = corpus(MODES["none"], BURST)
    for policy in (None, NoOpPolicy()):
        with StreamReader(make_source(stream.data), capacity=16384, memory_policy=policy) as reader:
            payloads, capacities = read_noting_capacity(reader)
        assert payloads == BURST
        assert capacities[0] >= 100_004
        assert capacities[-1] == capacities[0]


@in_one_test
@READ_SOURCES
@pytest.mark.parametrize("name", ["none", "xxhash64"])
def test_reader_shrinks_and_every_payload_stays_right(make_source: Any, name: str) -> None:
    mode = MODES[name]
    payloads = [*BURST, b""] * 4
    stream = corpus(mode, payloads)
    policy = Scripted(itertools.cycle([None] * 3 + [COUNT]))
    kept: list[memoryview] = []
    with StreamReader(make_source(stream.data), mode.deframer(), capacity=16384, memory_policy=policy) as reader:
        for payload in reader:
            assert bytes(payload) == payloads[len(kept)]
            kept.append(payload)
        # Once more to the source, with nothing left to read: what was to be given back has been.
        assert reader.read_message() is None
        assert reader.buffer_capacity == 16384
    # Payloads already handed out were never touched.
    assert [bytes(payload) for payload in kept] == payloads
    assert len(policy.told) >= 1


def test_reader_tells_the_policy_what_it_gives_back() -> None:
    stream = corpus(MODES["none"], BURST)
    policy = Scripted([None, None, None, SIZE])
    with StreamReader(io.BytesIO(stream.data), capacity=16384, memory_policy=policy) as reader:
        capacity = 0
        for number, _ in enumerate(reader):
            if number == 0:
                capacity = reader.buffer_capacity
        assert reader.buffer_capacity == 16384
    # Asked after the large message and the small ones behind it, up to the one after which it said yes.
    assert policy.asked == [(100_000, capacity), (8, capacity), (8, capacity), (8, capacity)]
    assert policy.told == [ReclamationInfo(SIZE, 8, capacity, 16384)]
    assert 100_004 <= capacity < 200_000


def test_reader_gives_back_what_it_tells_the_policy_when_the_baseline_is_above_the_capacity() -> None:
    stream = corpus(MODES["none"], BURST)
    policy = Scripted([COUNT], baseline=16384)
    with StreamReader(io.BytesIO(stream.data), capacity=1024, memory_policy=policy) as reader:
        for _ in reader:
            pass
        # What is freed shrinks to the baseline (MemoryPolicy), and capacity_after is what takes its place.
        assert [info.capacity_after for info in policy.told] == [reader.buffer_capacity]


def test_reader_never_touches_a_payload_already_handed_out() -> None:
    stream = corpus(MODES["none"], BURST)
    policy = Scripted([COUNT])
    with StreamReader(io.BytesIO(stream.data), capacity=1024, memory_policy=policy) as reader:
        large = reader.read_message()
        assert len(policy.told) == 1
        rest = [bytes(payload) for payload in reader]
    assert large is not None
    assert bytes(large) == BURST[0]
    assert rest == BURST[1:]


def test_reader_asks_once_per_frame_of_a_batch_too() -> None:
    stream = corpus(MODES["none"], BURST)
    policy = Scripted([None] * 10 + [COUNT])
    with StreamReader(io.BytesIO(stream.data), capacity=16384, memory_policy=policy) as reader:
        assert [bytes(payload) for batch in reader.batches() for payload in batch] == BURST
        assert reader.buffer_capacity == 16384
    assert [size for size, _ in policy.asked] == [100_000] + [8] * 10
    assert len(policy.told) == 1


def test_reader_of_a_buffer_has_nothing_to_give_back() -> None:
    policy = Scripted([COUNT] * 10, baseline=0)
    with StreamReader(corpus(MODES["none"], BURST).data, memory_policy=policy) as reader:
        assert [bytes(payload) for payload in reader] == BURST
    assert (policy.asked, policy.told) == ([], [])


@in_one_test
@READ_SOURCES
@every_policy
def test_reader_shrinks_as_the_built_in_policies_say(
    make_source: Any, make_policy: Callable[[], Any], reason: ReclamationReason, after: int
) -> None:
    mode = MODES["crc16"]
    stream = corpus(mode, BURST)
    policy = make_policy()
    told: list[Any] = []
    with StreamReader(make_source(stream.data), mode.deframer(), capacity=16384, memory_policy=policy) as reader:
        for payload in reader:
            assert bytes(payload) == BURST[len(told)]
            told.append([(info.reason, info.last_message_size, info.capacity_after) for info in policy.told])
        assert reader.buffer_capacity == 16384
    assert told == [[]] * after + [[(reason, 8, 16384)]] * (len(BURST) - after)

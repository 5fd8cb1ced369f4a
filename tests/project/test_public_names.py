"""The public names of the public classes, frozen: a new one is added here on purpose, or begins with an underscore."""

from __future__ import annotations

import inspect
import pydoc

import pytest

import flatstream
import flatstream.aio
import flatstream.columns
import flatstream.schema
from flatstream.journal import JournalReader
from support.extent import in_one_test

# Names from the classes of this package. Attributes that `__init__` sets are not here.
PUBLIC = {
    # flatstream.aio
    "AsyncFileReader": (
        "batches close closed column_batches columns commit cursor deframer description encryption lost_bytes "
        "lost_ranges number objects offset read_batch read_description read_message reader records skipped stop_error "
        "typed_messages"
    ),
    "AsyncFileWriter": (
        "builder bytes_written close closed description flush framer frames_written records recovery sync write "
        "write_batch write_finished write_frames write_message write_payload write_payloads writer"
    ),
    "AsyncRecordWriter": "table write write_columns write_record write_records",
    "AsyncStreamReader": (
        "batches buffered bytes_read close closed column_batches deframer description encryption frames_read "
        "lost_bytes lost_ranges message_number message_offset messages objects offset read_batch "
        "read_description read_message records skipped stop_error typed_messages"
    ),
    "AsyncStreamWriter": (
        "abort builder bytes_written close closed description flush framer frames_written pending_bytes "
        "records write write_batch write_finished write_frames write_message write_payload write_payloads"
    ),
    "Connection": "abort close closed get_extra_info peer wait_closed",
    "Server": "close connections port serve_forever",
    # The others
    "AdaptiveWatermarkPolicy": (
        "baseline_capacity clock cooldown messages_to_wait on_reclaim should_reset size_ratio_threshold"
    ),
    "Aes256Gcm": "context key_id name number",
    "BoundedDeframer": (
        "bind_description bounded check compressed encrypted end inner locate max_len observed start "
        "with_max_frame_len with_validator"
    ),
    "BoundedFramer": (
        "accepted begin bind_description bounded compressed encrypted finish frame_and_write inner max_len "
        "observed start transforms with_max_frame_len with_validator"
    ),
    "Builder": (
        "Bytes Clear CreateByteVector CreateNumpyVector CreateSharedString CreateString EndObject EndVector "
        "Finish FinishSizePrefixed ForceDefaults GrowByteBuffer Head MAX_BUFFER_SIZE Offset Output Pad Place "
        "PlaceSOffsetT PlaceUOffsetT PlaceVOffsetT Prep Prepend PrependBool PrependBoolSlot PrependByte "
        "PrependByteSlot PrependFloat32 PrependFloat32Slot PrependFloat64 PrependFloat64Slot PrependInt16 "
        "PrependInt16Slot PrependInt32 PrependInt32Slot PrependInt64 PrependInt64Slot PrependInt8 "
        "PrependInt8Slot PrependSOffsetTRelative PrependSlot PrependStructSlot PrependUOffsetTRelative "
        "PrependUOffsetTRelativeSlot PrependUint16 PrependUint16Slot PrependUint32 PrependUint32Slot "
        "PrependUint64 PrependUint64Slot PrependUint8 PrependUint8Slot PrependVOffsetT Slot StartObject "
        "StartVector WriteVtable assertNested assertNotNested assertStructIsInline current_vtable finished "
        "forceDefaults head minalign nested objectEnd sharedStrings vectorNumElems vtables"
    ),
    "ChaCha20Poly1305": "context key_id name number",
    "Checksum": "calculate name size verify",
    "ChecksumDeframer": (
        "allow_empty bind_description bounded check checksum compressed encrypted end locate max_frame_len "
        "observed start with_max_frame_len with_validator"
    ),
    "ChecksumFramer": (
        "accepted begin bind_description bounded checksum compressed encrypted finish frame_and_write observed "
        "start transforms with_max_frame_len with_validator"
    ),
    "ChecksumMismatchError": "next_intact_offset",
    "ChecksumType": "CRC16 CRC32 CRC32C CRC64 NONE XXHASH64 checksum",
    "Cipher": "context key_id name number",
    "Column": "to_array to_arrow to_numpy to_pandas to_polars to_pylist",
    "ColumnBatch": "schema to_arrow to_numpy to_pandas to_polars to_pylist",
    "ColumnSchema": "to_pyarrow",
    "ColumnStream": "lost_bytes lost_ranges next_data others schema skipped stop_error type",
    "CompositeValidator": "add name validate validators",
    "CompressedDeframer": (
        "bind_description bounded check compressed decompressors encrypted end inner locate max_payload_len observed "
        "passed_over probe restore rewind start state tolerate with_inner with_max_frame_len with_validator"
    ),
    "CompressedFramer": (
        "accepted begin bind_description bounded compressed compressor described encrypted finish frame_and_write "
        "inner inner_frame observed start transform transforms with_inner with_max_frame_len with_validator"
    ),
    "Compressor": "compress decompress dictionary name number parameters probe start",
    "Crc16": "calculate extend name size verify",
    "Crc32": "calculate extend name size verify",
    "Crc32c": "calculate extend name size verify",
    "Crc64": "calculate extend name size verify",
    "Dataset": (
        "arrow_schema batches bytes_read columns count files head records refresh scan splits table_name time_field "
        "time_range to_arrow_dataset to_parquet"
    ),
    "DecompressionError": "next_intact_offset",
    "DecryptionError": "next_intact_offset",
    "DefaultDeframer": (
        "allow_empty bind_description bounded check compressed encrypted end locate max_frame_len observed start "
        "with_max_frame_len with_validator"
    ),
    "DefaultFramer": (
        "accepted begin bind_description bounded compressed encrypted finish frame_and_write observed start "
        "transforms with_max_frame_len with_validator"
    ),
    "Deframer": (
        "bind_description bounded check compressed encrypted end locate observed start with_max_frame_len "
        "with_validator"
    ),
    "Description": (
        "checksum created_by created_ns from_bytes matches metadata roots schema schemas serializer table tables time "
        "to_bytes transforms version with_checksum with_metadata"
    ),
    "Detection": "checksum confidence frames looks_like",
    "EncryptedDeframer": (
        "bind_description bounded check cipher compressed encrypted encryption_report end inner locate observed "
        "passed_over probe require_final restore rewind start state tail tolerate with_inner with_max_frame_len "
        "with_validator"
    ),
    "EncryptedFramer": (
        "accepted begin bind_description bounded cipher compressed described encrypted finish frame_and_write inner "
        "inner_frame observed start transform transforms with_inner with_max_frame_len with_validator"
    ),
    "EncryptionReport": (
        "is_complete is_finished is_gapped missing_ends missing_frames missing_parts other_descriptions parts refused "
        "unfinished_count unfinished_parts"
    ),
    "Enum": "",
    "EnumValue": "",
    "EvolutionIssue": "",
    "Field": "",
    "FlatStreamError": "next_intact_offset",
    "FlatbufferError": "next_intact_offset",
    "FrameBatch": "buffer frame_offsets lengths lost_bytes lost_ranges offsets skipped stream_offset",
    "FrameParser": (
        "at_eof batches buffer_capacity buffer_updated buffered bytes_read checksum column_batches columns deframer "
        "description detach encryption feed feed_eof frames_read get_buffer lost_bytes lost_ranges message_number "
        "message_offset messages needed objects offset process_all process_typed process_typed_with_payload read_batch "
        "read_message records skipped stop_error typed_messages write_json_lines"
    ),
    "FrameSerializer": (
        "buffer_capacity builder bytes_written description finish finished framer frames_written is_refusing mark_sent "
        "pending_buffers pending_bytes serializer take write write_batch write_finished write_frames write_message "
        "write_payload write_payloads"
    ),
    "FrameSpan": "frame_end payload_end payload_start",
    "Framer": (
        "accepted begin bind_description bounded compressed encrypted finish frame_and_write observed start "
        "transforms with_max_frame_len with_validator"
    ),
    "IndexReport": "gaps size stopped_because",
    "InvalidFrameError": "next_intact_offset",
    "JournalReader": "batches buffer_capacity bytes_read checksum checksum_found_by close closed column_batches "
    "columns commit cursor deframer description detach directory encryption frames_read gaps id lost_bytes "
    "lost_ranges message_number message_offset messages number objects offset position process_all "
    "process_typed process_typed_with_payload read_batch read_message records skipped source "
    "stop_error typed_messages write_json_lines",
    "JournalWriter": "buffer_capacity builder bytes_written close closed description detach directory "
    "durable_position flush framer frames_written health id index_report is_refusing metrics pending_bytes "
    "position recovery rotate serializer sink sync wait_durable write write_batch write_finished "
    "write_frames write_message write_payload write_payloads",
    "JsonError": "next_intact_offset",
    "Lz4Compressor": "compress decompress dictionary level name number parameters probe start",
    "JsonSerializer": "dumps loads name type",
    "MessagePackSerializer": "dumps loads name type",
    "MemoryPolicy": "baseline_capacity on_reclaim should_reset",
    "NoChecksum": "calculate name size verify",
    "NoOpPolicy": "baseline_capacity on_reclaim should_reset",
    "NoValidator": "name validate",
    "ObserverDeframer": (
        "bind_description bounded callback check compressed encrypted end inner locate observed start "
        "with_max_frame_len with_validator"
    ),
    "ObserverFramer": (
        "accepted begin bind_description bounded callback compressed encrypted finish frame_and_write inner "
        "observed start transforms with_max_frame_len with_validator"
    ),
    "Packable": "Pack",
    "ReclamationInfo": "capacity_after capacity_before last_message_size reason",
    "ReclamationReason": "MESSAGE_COUNT SIZE_THRESHOLD TIME_COOLDOWN",
    "RecordView": "to_dict to_json",
    "RecordWriter": "table write write_columns write_json_lines write_record write_records",
    "RecoveryEnd": "CLEAN_EOF NOT_A_STREAM TORN_TAIL",
    "RecoveryReport": "being_written end frames last_good_offset looks_like",
    "SalvageReport": "doubtful doubtful_ranges frames looks_like lost_bytes lost_ranges size",
    "SealReport": "blocks path size stored_size",
    "Schema": "check_evolution enums from_bytes from_fbs from_file root structs table tables to_bytes to_fbs",
    "SchemaError": "next_intact_offset",
    "Serializer": "dumps loads name",
    "SizeThresholdPolicy": (
        "baseline_capacity grow_above_bytes messages_to_wait on_reclaim should_reset shrink_below_bytes"
    ),
    "SizeValidator": "max_size min_size name validate",
    "StartupReport": "action bytes_cut error frames looks_like offset saved_as",
    "StreamDeserialize": "from_payload",
    "StreamReader": (
        "batches buffer_capacity bytes_read checksum checksum_found_by close closed column_batches columns deframer "
        "description detach encryption frames_read lost_bytes lost_ranges message_number message_offset messages "
        "objects offset process_all process_typed process_typed_with_payload read_batch read_message records skipped "
        "source stop_error typed_messages write_json_lines"
    ),
    "StreamSerialize": "serialize",
    "StreamWriter": (
        "buffer_capacity builder bytes_written close closed description detach flush framer frames_written "
        "index_report is_refusing pending_bytes recovery serializer sink sync write write_batch write_finished "
        "write_frames write_message write_payload write_payloads"
    ),
    "Struct": "",
    "Table": (
        "arrow_schema attributes documentation encode encode_json field_names fields from_json json_lines layout "
        "name read_column_batches read_columns read_records types view"
    ),
    "TableRootValidator": "max_depth max_tables name validate",
    "TransformDeframer": (
        "bind_description bounded check compressed encrypted end inner locate observed passed_over probe restore "
        "rewind start state tolerate with_inner with_max_frame_len with_validator"
    ),
    "TransformFramer": (
        "accepted begin bind_description bounded compressed described encrypted finish frame_and_write inner "
        "inner_frame observed start transform transforms with_inner with_max_frame_len with_validator"
    ),
    "TypedValidator": "for_type from_verify name validate",
    "UnexpectedEofError": "next_intact_offset",
    "ValidatingDeframer": (
        "bind_description bounded check compressed encrypted end inner locate observed start validator "
        "with_max_frame_len with_validator"
    ),
    "ValidatingFramer": (
        "accepted begin bind_description bounded compressed encrypted finish frame_and_write inner observed start "
        "transforms validator with_max_frame_len with_validator"
    ),
    "ValidationFailedError": "next_intact_offset",
    "Validator": "name validate",
    "VectorView": "to_json to_list to_numpy",
    "XxHash64": "calculate name size verify",
    "ZstdCompressor": "compress decompress dictionary dictionary_id level name number parameters probe start",
}

CLASSES = {
    value.__name__: value
    for module in (flatstream, flatstream.aio, flatstream.schema, flatstream.columns)
    for value in (getattr(module, name) for name in {*module.__all__, *getattr(module, "_LAZY", ())})
    if inspect.isclass(value)
}


def test_every_public_class_is_listed() -> None:
    assert sorted(CLASSES) == sorted(PUBLIC)


@in_one_test
@pytest.mark.parametrize("name", PUBLIC)
def test_public_class_shows_the_listed_names(name: str) -> None:
    bases = [base for base in CLASSES[name].__mro__ if base.__module__.startswith("flatstream")]
    assert (
        sorted({member for base in bases for member in vars(base) if not member.startswith("_")})
        == PUBLIC[name].split()
    )


@pytest.mark.parametrize("cls", [flatstream.StreamWriter, flatstream.StreamReader, JournalReader])
def test_help_of_a_stream_class_fits_on_three_screens(cls: type) -> None:
    text = pydoc.render_doc(cls, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    lines = text.splitlines()
    # Of these, 27 are pydoc's headings and the special methods. Empty lines and rules are not counted.
    assert sum(bool(line.strip(" |-")) for line in lines) <= 230

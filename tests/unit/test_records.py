"""The records by which what lies on a disk describes itself."""

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtlfs.disks import records
from vtlfs.disks.records import BLOCK, RECORD

RESERVED = range(24, 32)
texts = st.text(max_size=40) | st.binary(max_size=40).map(os.fsdecode)  # a program's name need not be UTF-8
documents = st.dictionaries(texts, st.none() | st.integers(-(2**63), 2**63) | texts, max_size=5)
generations = st.integers(0, 2**64 - 3)


def block_of(*records_: tuple[dict[str, Any], int]) -> bytearray:
    block = bytearray(BLOCK)
    for document, generation in records_:
        place = records.place(generation)
        block[place : place + RECORD] = records.encode(document, generation)
    return block


@given(documents, generations)
def test_what_was_encoded_is_decoded(document: dict[str, Any], generation: int) -> None:
    record = records.encode(document, generation)
    assert len(record) == RECORD
    assert records.decode(bytes(block_of((document, generation)))) == (document, generation)


@given(generations)
def test_a_generation_does_not_lie_where_the_one_before_lies(generation: int) -> None:
    assert {records.place(generation), records.place(generation + 1)} == {0, RECORD}


@given(documents, documents, generations)
def test_the_higher_generation_counts(older: dict[str, Any], newer: dict[str, Any], generation: int) -> None:
    block = block_of((older, generation), (newer, generation + 1))
    assert records.decode(bytes(block)) == (newer, generation + 1)


@given(documents, documents, generations, st.data())
def test_a_flipped_byte_in_the_newer_record_leaves_the_older(
    older: dict[str, Any], newer: dict[str, Any], generation: int, data: st.DataObject
) -> None:
    block = block_of((older, generation), (newer, generation + 1))
    length = int.from_bytes(block[records.place(generation + 1) + 12 :][:4], "little")
    at = data.draw(st.integers(0, 64 + length - 1).filter(lambda byte: byte not in RESERVED))
    block[records.place(generation + 1) + at] ^= data.draw(st.integers(1, 255))
    assert records.decode(bytes(block)) == (older, generation)


@given(documents, documents, generations, st.integers(0, RECORD - 1))
def test_a_torn_write_of_the_third_record_leaves_the_second(
    first: dict[str, Any], second: dict[str, Any], generation: int, torn: int
) -> None:
    block = block_of((first, generation), (second, generation + 1))
    place = records.place(generation + 2)
    block[place : place + torn] = records.encode({"third": "x" * 1900}, generation + 2)[:torn]
    found = records.decode(bytes(block))
    assert found is not None
    assert found[1] >= generation + 1
    if found[1] == generation + 1:
        assert found[0] == second


@given(st.binary(max_size=2 * BLOCK))
def test_garbage_is_no_record(garbage: bytes) -> None:
    assert records.decode(garbage) is None


@given(documents, generations, st.integers(0, RECORD))
def test_a_file_that_ends_within_a_record_is_no_error(document: dict[str, Any], generation: int, length: int) -> None:
    records.decode(bytes(block_of((document, generation)))[:length])


@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_a_record_of_another_version_is_not_read(version: int) -> None:
    block = block_of(({"key": "value"}, 0))
    block[8:12] = version.to_bytes(4, "little")
    assert records.decode(bytes(block)) is None


def test_a_document_that_is_too_large_is_refused_and_the_largest_is_not() -> None:
    largest = {"k": "x" * (records.MAX_JSON - len('{"k":""}'))}
    assert records.decode(records.encode(largest, 0)) == (largest, 0)
    with pytest.raises(ValueError, match="does not fit"):
        records.encode({"k": largest["k"] + "x"}, 0)


def test_a_document_that_is_no_object_is_not_read() -> None:
    assert records.decode(records.encode([1], 0)) is None  # type: ignore[arg-type]  # which nobody writes


def test_brackets_within_brackets_are_no_document() -> None:
    """As somebody might put there who can compute a digest."""
    text = b"[" * records.MAX_JSON
    head = records._HEAD.pack(records.MAGIC, records.VERSION, len(text), 0, records._digest(len(text), 0, text))
    assert records.decode(head + text) is None


@given(unit=st.integers(0, 1 << 40), size=st.integers(1, 4096), digest=st.binary(min_size=32, max_size=32))
def test_what_is_written_of_a_stripe_unit_is_read(unit: int, size: int, digest: bytes) -> None:
    record = records.UnitRecord(unit, size, digest)
    document = records.unit_document(unit, size, digest)
    assert records.UnitRecord.read(document, 4096) == record
    assert records.UnitRecord.read(document, size - 1) is None


@given(st.dictionaries(st.sampled_from(["unit", "bytes", "blake3"]), st.none() | st.integers() | texts | st.floats()))
def test_no_record_of_a_stripe_unit_is_an_error(document: dict[str, Any]) -> None:
    assert records.UnitRecord.read(document, 4096) is None or len(document) == 3

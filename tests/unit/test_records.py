"""The records that describe headers and extents on a disk."""

import json
import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtlfs.config import MAX_STRIPE_UNIT
from vtlfs.disks import records
from vtlfs.disks.headers import MAX_DISKS
from vtlfs.disks.records import BLOCK, RECORD, Described, Found, Owner
from vtlfs.engine.layout import dealer
from vtlfs.model import MAX_MEMBERS, MAX_PARITY, MAX_SESSION, MAX_SIZE, NO_CODEC, Extent

MAX_JSON = RECORD - 64  # of a header
MAX_EXTENT_JSON = BLOCK - 64
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


@pytest.mark.parametrize("version", [0, 1, 3, 2**32 - 1])
def test_a_record_of_another_version_is_not_read(version: int) -> None:
    block = block_of(({"key": "value"}, 0))
    block[8:12] = version.to_bytes(4, "little")
    assert records.decode(bytes(block)) is None


def test_a_document_that_is_too_large_is_refused_and_the_largest_is_not() -> None:
    largest = {"k": "x" * (MAX_JSON - len('{"k":""}'))}
    assert records.decode(records.encode(largest, 0)) == (largest, 0)
    with pytest.raises(ValueError, match="does not fit"):
        records.encode({"k": largest["k"] + "x"}, 0)


def test_a_document_that_is_no_object_is_not_read() -> None:
    assert records.decode(records.encode([1], 0)) is None  # type: ignore[arg-type]  # which nobody writes


def test_brackets_within_brackets_are_no_document() -> None:
    """An attacker who can compute a digest might write such a record."""
    text = b"[" * MAX_JSON
    head = records._HEAD.pack(records.MAGIC, records.VERSION, len(text), 0, records._digest(len(text), 0, text))
    assert records.decode(head + text) is None


# --- extents ----------------------------------------------------------------------------------------------------------

UNIT = 4096
OWNER = Owner("11111111-2222-3333-4444-555555555555", 3, 17)
POSITION = 5 * BLOCK
digests = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, 1 << 40)


@st.composite
def runs(draw: st.DrawFn, *, most: int = MAX_MEMBERS) -> list[Extent]:
    """Data extents that follow each other in the stream, each within one stripe unit."""
    offset, extents = draw(numbers), []
    for place in range(draw(st.integers(1, most))):
        size = draw(st.integers(1, UNIT - offset % UNIT))
        extents.append(
            Extent(17, 9, place, offset, size, NO_CODEC, 3, POSITION, stored=size, blake3=draw(digests)),
        )
        offset += size
    return extents


def parity_of(members: list[Extent], row: int = 0, digest: bytes = bytes(32)) -> Extent:
    longest = max(one.stored for one in members)
    return Extent(17, 9, row, None, 0, NO_CODEC, 3, POSITION, stored=longest, blake3=digest)


def block_with(document: object) -> bytes:
    """Return an extent's block with any document in it."""
    text = json.dumps(document).encode()
    head = records._HEAD.pack(records.MAGIC, records.VERSION, len(text), 0, records._digest(len(text), 0, text))
    return (head + text).ljust(BLOCK, b"\0")


def decoded(block: bytes, owner: Owner = OWNER, position: int = POSITION, unit: int = UNIT) -> Found | None:
    return records.decode_extent(block, owner, position, unit)


@given(runs(most=1))
def test_data_extent_that_was_encoded_is_decoded(run: list[Extent]) -> None:
    (extent,) = run
    block = records.encode_extent(OWNER, extent)
    assert len(block) == BLOCK
    assert decoded(block) == Found(extent)


@given(runs(), st.integers(0, MAX_PARITY - 1), digests)
def test_parity_extent_that_was_encoded_is_decoded(members: list[Extent], row: int, digest: bytes) -> None:
    extent = parity_of(members, row, digest)
    assert decoded(records.encode_extent(OWNER, extent, members)) == Found(extent, tuple(map(Described.of, members)))


@given(runs(), st.data())
def test_flipped_byte_in_the_record_of_an_extent_is_noticed(members: list[Extent], data: st.DataObject) -> None:
    block = bytearray(records.encode_extent(OWNER, parity_of(members), members))
    length = int.from_bytes(block[12:16], "little")
    at = data.draw(st.integers(0, 64 + length - 1).filter(lambda byte: byte not in RESERVED))
    block[at] ^= data.draw(st.integers(1, 255))
    assert decoded(bytes(block)) is None


@given(runs(), st.integers(0, BLOCK - 1))
def test_torn_record_of_an_extent_is_none(members: list[Extent], torn: int) -> None:
    block = records.encode_extent(OWNER, parity_of(members), members)
    length = int.from_bytes(block[12:16], "little")
    for rest in (b"", bytes(BLOCK - torn)):
        found = decoded(block[:torn] + rest)
        assert (found is not None) == (torn >= 64 + length or block[:torn] + rest == block)


@given(st.binary(max_size=2 * BLOCK))
def test_garbage_is_no_extent(garbage: bytes) -> None:
    assert decoded(garbage) is None


@pytest.mark.parametrize(
    ("owner", "position"),
    [
        (replace(OWNER, library="another"), POSITION),
        (replace(OWNER, disk=4), POSITION),
        (replace(OWNER, session=18), POSITION),
        (OWNER, POSITION + BLOCK),
        (OWNER, 0),
    ],
)
def test_record_that_was_copied_elsewhere_is_no_extent(owner: Owner, position: int) -> None:
    extent = Extent(17, 0, 0, 0, 5, NO_CODEC, 3, POSITION, 5, bytes(32))
    block = records.encode_extent(OWNER, extent)
    assert decoded(block) is not None
    assert decoded(block, owner, position) is None


def test_header_in_the_place_of_an_extent_is_none() -> None:
    assert decoded(records.encode(OWNER.document() | {"stripe_unit": UNIT}, 0).ljust(BLOCK, b"\0")) is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from([0, 1, UNIT, "none", "0" * 64]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
KEYS = sorted(
    {"library", "disk", "session", "position", "stripe", "place", "stored", "blake3"}
    | {"offset", "bytes", "codec", "members"}
)


def check_valid(found: Found) -> None:
    """Assert what everybody who is handed an extent counts on."""
    extent, members = found.extent, found.members
    assert (extent.session, extent.disk, extent.position) == (17, 3, POSITION)
    assert (extent.codec, type(extent.stripe), len(extent.blake3)) == (NO_CODEC, int, 32)
    assert extent.stripe >= 0
    if extent.offset is None:
        assert 0 < len(members) <= MAX_MEMBERS
        assert 0 <= extent.place < MAX_PARITY
        assert extent.bytes == 0
        assert extent.stored == max(one.stored for one in members)
        assert [one.offset for one in members[1:]] == [one.offset + one.bytes for one in members[:-1]]
    else:
        assert members == ()
        assert 0 <= extent.place < MAX_MEMBERS
        members = (Described.of(extent),)
    for one in members:
        assert type(one.offset) is type(one.bytes) is type(one.stored) is int
        assert 0 < one.stored == one.bytes <= UNIT
        assert 0 <= one.offset <= MAX_SIZE - one.bytes
        assert one.offset // UNIT == (one.offset + one.bytes - 1) // UNIT
        assert (one.codec, len(one.blake3)) == (NO_CODEC, 32)


@given(runs(most=4), st.booleans(), st.dictionaries(st.sampled_from(KEYS), anything, max_size=3), st.data())
def test_whatever_a_record_says_it_is_none_or_a_valid_extent(
    members: list[Extent], is_parity: bool, said: dict[str, Any], data: st.DataObject
) -> None:
    """An attacker who can compute a digest might write such a record."""
    right = records.extent_document(parity_of(members), members) if is_parity else records.extent_document(members[0])
    document = OWNER.document() | right | said
    for key in data.draw(st.sets(st.sampled_from(KEYS), max_size=1)):
        document.pop(key, None)
    if is_parity and isinstance(document.get("members"), list) and data.draw(st.booleans()):
        changed = data.draw(st.integers(0, len(members) - 1))
        if changed < len(document["members"]) and isinstance(document["members"][changed], list):
            document["members"][changed] = data.draw(st.lists(anything, min_size=4, max_size=6))
    block = block_with(document)
    found = decoded(block) if len(block) == BLOCK else None
    if found is not None:
        check_valid(found)


@given(anything)
def test_no_document_is_an_error(document: object) -> None:
    assert decoded(block_with(document)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"place": MAX_MEMBERS},
        {"place": -1},
        {"stripe": True},
        {"stripe": 1.0},
        {"stored": 0},
        {"stored": 4},
        {"bytes": 0},
        {"bytes": 4},
        {"offset": -1},
        {"offset": UNIT - 4},
        {"offset": MAX_SIZE},
        {"codec": "zstd"},
        {"blake3": "0" * 63},
        {"blake3": "A" * 64},
        {"position": POSITION + 1},
        {"members": []},
        {"members": None},
    ],
)
def test_data_extent_that_can_not_be_is_none(change: dict[str, Any]) -> None:
    document = OWNER.document() | records.extent_document(
        Extent(17, 0, 0, 0, 5, NO_CODEC, 3, POSITION, 5, bytes(32)),
    )
    assert decoded(block_with(document)) is not None
    assert decoded(block_with(document | change)) is None


MEMBER: list[Any] = [0, 5, NO_CODEC, 5, "0" * 64]


@pytest.mark.parametrize(
    "change",
    [
        {"place": MAX_PARITY},
        {"stored": 6},
        {"stored": 4},
        {"members": [MEMBER[:4]]},
        {"members": [[*MEMBER, 1]]},
        {"members": [MEMBER, [6, 5, NO_CODEC, 5, "0" * 64]]},  # there is a gap
        {"members": [MEMBER, [4, 5, NO_CODEC, 5, "0" * 64]]},  # they overlap
        {"members": [[at, 1, NO_CODEC, 1, "0" * 64] for at in range(MAX_MEMBERS + 1)], "stored": 1},
        {"members": {"01234": 1}},
        {"members": ["01234"]},
    ],
)
def test_parity_extent_that_can_not_be_is_none(change: dict[str, Any]) -> None:
    members = [Extent(17, 0, 0, 0, 5, NO_CODEC, 3, POSITION, 5, bytes(32))]
    document = OWNER.document() | records.extent_document(parity_of(members), members)
    assert document["members"] == [MEMBER]
    assert decoded(block_with(document)) is not None
    text = json.dumps(document | change)
    assert len(text) > MAX_EXTENT_JSON or decoded(block_with(document | change)) is None


def test_widest_parity_record_with_the_largest_numbers_fits() -> None:
    size, position = MAX_STRIPE_UNIT, MAX_SIZE // BLOCK * BLOCK
    first = MAX_SIZE - MAX_MEMBERS * size
    owner = Owner(OWNER.library, MAX_DISKS - 1, MAX_SESSION - 1)
    members = [
        Extent(owner.session, MAX_SIZE, place, first + place * size, size, NO_CODEC, owner.disk, 0, size, b"\xff" * 32)
        for place in range(MAX_MEMBERS)
    ]
    parity = Extent(
        *(owner.session, MAX_SIZE, MAX_PARITY - 1, None, 0, NO_CODEC, owner.disk, position, size, b"\xff" * 32)
    )
    block = records.encode_extent(owner, parity, members)
    assert records.decode_extent(block, owner, position, size) == Found(parity, tuple(map(Described.of, members)))


def test_record_of_an_extent_that_is_too_large_is_refused() -> None:
    members = [Extent(17, 0, at, at, 1, NO_CODEC, 3, 0, 1, bytes(32)) for at in range(2 * MAX_MEMBERS)]
    with pytest.raises(ValueError, match="does not fit"):
        records.encode_extent(OWNER, parity_of(members), members)


def test_no_stripe_is_wider_than_a_parity_record_can_say() -> None:
    assert dealer.WIDEST <= MAX_MEMBERS


@given(st.integers(0, 1 << 50), st.integers(1, 1 << 26))
def test_extent_begins_at_a_multiple_of_a_block_behind_the_one_before(block: int, stored: int) -> None:
    position = block * BLOCK
    following = records.after(position, stored)
    assert following % BLOCK == 0
    assert position + BLOCK + stored <= following < position + 2 * BLOCK + stored

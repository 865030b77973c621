"""The records by which what lies on a disk describes itself: a JSON text with a checksum, in a fixed block.

The block of a header has room for two records. Writing alternates between them, so that a torn write harms only the one
that is being written: of the valid records of a block, the one with the highest generation counts. The block of an
extent has one record, which is written once, with the extent. docs/format.md specifies it.
"""

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from blake3 import blake3

from vtlfs.model import MAX_MEMBERS, MAX_PARITY, MAX_SIZE, NO_CODEC, Digest, Extent

BLOCK = 4096
RECORD = BLOCK // 2
MAGIC = b"VTLFSREC"
VERSION = 2


_HEAD = struct.Struct("<8sIIQ8x32s")  # magic, version, length of the JSON, generation, reserved, BLAKE3 of the rest
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEYED = struct.Struct("<IIQ")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a member is: each of its records says so."""

    library: str
    disk: int
    session: int

    def document(self) -> dict[str, Any]:
        """Return what of it is written into each record."""
        return {"library": self.library, "disk": self.disk, "session": self.session}

    def owns(self, document: dict[str, Any]) -> bool:
        """Tell whether a header or a record says that it belongs there."""
        said = tuple(document.get(key) for key in ("library", "disk", "session"))
        return said == (self.library, self.disk, self.session)


@dataclass(frozen=True, slots=True)
class Described:
    """A data extent as the parity records of its stripe describe it."""

    offset: int
    bytes: int
    codec: str
    stored: int
    blake3: Digest

    @property
    def end(self) -> int:
        """Offset in the stream of the byte after the last."""
        return self.offset + self.bytes

    @classmethod
    def of(cls, extent: Extent) -> "Described":
        """Return what a parity record says of a data extent."""
        assert extent.offset is not None
        return cls(extent.offset, extent.bytes, extent.codec, extent.stored, extent.blake3)


@dataclass(frozen=True, slots=True)
class Found:
    """An extent that a record describes. `members`: of parity, the data extents of its stripe by place."""

    extent: Extent
    members: tuple[Described, ...] = ()


def extent_document(extent: Extent, members: Sequence[Extent] = ()) -> dict[str, Any]:
    """Return what is written of an extent, beside whose it is. `members`: of parity, the stripe's data extents."""
    said: dict[str, Any] = {
        "position": extent.position,
        "stripe": extent.stripe,
        "place": extent.place,
        "stored": extent.stored,
        "blake3": extent.blake3.hex(),
    }
    if extent.offset is not None:
        return said | {"offset": extent.offset, "bytes": extent.bytes, "codec": extent.codec}
    return said | {"members": [[one.offset, one.bytes, one.codec, one.stored, one.blake3.hex()] for one in members]}


def read_extent(document: dict[str, Any], owner: Owner, position: int, stripe_unit: int) -> Found | None:
    """Return the extent that a record at `position` describes; None where that can't be."""
    try:
        if not owner.owns(document) or _number(document["position"]) != position:
            return None
        stripe, stored, digest = (
            _number(document["stripe"]),
            _number(document["stored"], 1),
            _digest_of(document["blake3"]),
        )
        if "members" in document:
            place = _number(document["place"], 0, MAX_PARITY - 1)
            members = tuple(_member(one, stripe_unit) for one in document["members"])
            if not 0 < len(members) <= MAX_MEMBERS or stored != max(one.stored for one in members):
                return None
            if any(one.end != following.offset for one, following in pairwise(members)):
                return None
            parity = Extent(owner.session, stripe, place, None, 0, NO_CODEC, owner.disk, position, stored, digest)
            return Found(parity, members)
        place = _number(document["place"], 0, MAX_MEMBERS - 1)
        one = _member(
            [document["offset"], document["bytes"], document["codec"], stored, document["blake3"]], stripe_unit
        )
    except (KeyError, TypeError, ValueError):
        return None
    where = (owner.disk, position, stored, digest)
    return Found(Extent(owner.session, stripe, place, one.offset, one.bytes, one.codec, *where))


def _member(said: Any, stripe_unit: int) -> Described:
    offset, size, codec, stored, digest = said
    one = Described(_number(offset), _number(size, 1), codec, _number(stored, 1), _digest_of(digest))
    if codec != NO_CODEC or stored != size or one.end > MAX_SIZE:
        raise ValueError
    if offset // stripe_unit != (one.end - 1) // stripe_unit:  # it lies in two stripe units
        raise ValueError
    return one


def _number(value: Any, least: int = 0, most: int = MAX_SIZE) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError
    return value


def _digest_of(value: Any) -> Digest:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError
    return bytes.fromhex(value)


def padded(size: int) -> int:
    """Return the next multiple of BLOCK."""
    return -(-size // BLOCK) * BLOCK


def after(position: int, stored: int) -> int:
    """Return the position that follows an extent's: a multiple of BLOCK."""
    return position + BLOCK + padded(stored)


def encode(document: dict[str, Any], generation: int) -> bytes:
    """Return the record of a header's document."""
    return _encode(document, generation, RECORD)


def encode_extent(owner: Owner, extent: Extent, members: Sequence[Extent] = ()) -> bytes:
    """Return the block with the record of an extent; see `extent_document`."""
    return _encode(owner.document() | extent_document(extent, members), 0, BLOCK)


def encode_file(document: dict[str, Any], most: int) -> bytes:
    """Return a record that fills a file of its own. Raises ValueError where that has more than `most` bytes."""
    return _encode(document, 0, most).rstrip(b"\0")  # the JSON ends with a brace


def decode_file(content: bytes) -> dict[str, Any] | None:
    """Return the document of a record that fills a file; None without a valid one."""
    record = _decode(content)
    return None if record is None else record[0]


def _encode(document: dict[str, Any], generation: int, size: int) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode()
    if len(text) > size - _HEAD.size:
        raise ValueError(f"a record of {len(text)} bytes does not fit into {size - _HEAD.size}")
    head = _HEAD.pack(MAGIC, VERSION, len(text), generation, _digest(len(text), generation, text))
    return (head + text).ljust(size, b"\0")


def place(generation: int) -> int:
    """Return the offset in its block of the record of this generation."""
    return generation % 2 * RECORD


def decode(block: bytes) -> tuple[dict[str, Any], int] | None:
    """Return the document and the generation of the header block's valid record; None where there is none."""
    found = decode_all(block)
    return found[0] if found else None


def decode_all(block: bytes) -> list[tuple[dict[str, Any], int]]:
    """Return the documents and generations of the header block's valid records, the one that counts first."""
    found = [record for record in (_decode(block[:RECORD]), _decode(block[RECORD:BLOCK])) if record]
    return sorted(found, key=lambda record: record[1], reverse=True)


def decode_extent(block: bytes, owner: Owner, position: int, stripe_unit: int) -> Found | None:
    """Return what the record in an extent's block says; None without a valid one of this member and position."""
    document = decode_document(block)
    return None if document is None else read_extent(document, owner, position, stripe_unit)


def decode_document(block: bytes) -> dict[str, Any] | None:
    """Return the document of the record in an extent's block; None without a valid one."""
    record = _decode(block[:BLOCK])
    return None if record is None else record[0]


def _decode(record: bytes) -> tuple[dict[str, Any], int] | None:
    if len(record) < _HEAD.size:
        return None
    magic, version, length, generation, digest = _HEAD.unpack_from(record)
    text = record[_HEAD.size : _HEAD.size + length]
    if magic != MAGIC or version != VERSION or len(text) != length or digest != _digest(length, generation, text):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # the latter of brackets within brackets
        return None
    return (document, generation) if isinstance(document, dict) else None


def _digest(length: int, generation: int, text: bytes) -> bytes:
    return blake3(_KEYED.pack(VERSION, length, generation) + text).digest()

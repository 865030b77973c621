"""The records by which what lies on a disk describes itself: a JSON text with a checksum, in a fixed block.

A block of 4096 bytes has room for two records. Writing alternates between them, so that a torn write harms only the one
that is being written: of the valid records of a block, the one with the highest generation counts. docs/format.md
specifies it.
"""

import json
import re
import struct
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from vtlfs.model import MAX_SESSION, Digest

BLOCK = 4096
RECORD = BLOCK // 2
MAGIC = b"VTLFSREC"
VERSION = 1

_HEAD = struct.Struct("<8sIIQ8x32s")  # magic, version, length of the JSON, generation, reserved, BLAKE3 of the rest
MAX_JSON = RECORD - _HEAD.size
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
class UnitRecord:
    """What a record says of a stripe unit, beside whose it is: `bytes` bytes of it are there, or were once."""

    unit: int
    bytes: int
    blake3: Digest

    @classmethod
    def read(cls, document: dict[str, Any], stripe_unit: int) -> "UnitRecord | None":
        """Return what a record says; None where that can't be."""
        unit, size, digest = (document.get(key) for key in ("unit", "bytes", "blake3"))
        if type(unit) is not int or not 0 <= unit < MAX_SESSION:
            return None
        if type(size) is not int or not 0 < size <= stripe_unit:
            return None
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            return None
        return cls(unit, size, bytes.fromhex(digest))


def unit_document(unit: int, size: int, digest: Digest) -> dict[str, Any]:
    """Return what is written of a stripe unit: a UnitRecord, without the time that making one takes."""
    return {"unit": unit, "bytes": size, "blake3": digest.hex()}


def slot_offset(slot: int, stripe_unit: int) -> int:
    """Return the offset of a slot's record block; the unit's bytes follow that block."""
    return BLOCK + slot * (BLOCK + stripe_unit)


def encode(document: dict[str, Any], generation: int) -> bytes:
    """Return one record of RECORD bytes. Raises ValueError where the document is too large."""
    # A name that is not UTF-8 has lone surrogates; "backslashreplace" makes them their JSON escapes.
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "backslashreplace")
    if len(text) > MAX_JSON:
        raise ValueError(f"a record of {len(text)} bytes does not fit into {MAX_JSON}")
    head = _HEAD.pack(MAGIC, VERSION, len(text), generation, _digest(len(text), generation, text))
    return (head + text).ljust(RECORD, b"\0")


def place(generation: int) -> int:
    """Return the offset in its block of the record of this generation."""
    return generation % 2 * RECORD


def decode(block: bytes) -> tuple[dict[str, Any], int] | None:
    """Return the document and the generation of the block's valid record; None where there is none."""
    found = decode_all(block)
    return found[0] if found else None


def decode_all(block: bytes) -> list[tuple[dict[str, Any], int]]:
    """Return the documents and the generations of the block's valid records, the one that counts first."""
    found = [record for record in (_decode_one(block[:RECORD]), _decode_one(block[RECORD:BLOCK])) if record]
    return sorted(found, key=lambda record: record[1], reverse=True)


def _decode_one(record: bytes) -> tuple[dict[str, Any], int] | None:
    if len(record) < _HEAD.size:
        return None
    magic, version, length, generation, digest = _HEAD.unpack_from(record)
    text = record[_HEAD.size : _HEAD.size + length]
    if magic != MAGIC or version != VERSION or length > MAX_JSON or digest != _digest(length, generation, text):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # the latter of brackets within brackets
        return None
    return (document, generation) if isinstance(document, dict) else None


def _digest(length: int, generation: int, text: bytes) -> bytes:
    return blake3(_KEYED.pack(VERSION, length, generation) + text).digest()

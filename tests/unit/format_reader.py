"""A reader of vtlfs disks, written from docs/format.md alone. It shares no code with vtlfs: it tests the document."""

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

BLOCK = 4096


def label(disk: Path) -> dict[str, Any]:
    """Return the label of a disk."""
    document: dict[str, Any] = json.loads((disk / "vtlfs-disk.json").read_text())
    assert document["format"] == 1
    return document


def record(block: bytes) -> dict[str, Any] | None:
    """Return the record of a block that counts."""
    best: tuple[int, dict[str, Any]] | None = None
    for half in (block[:2048], block[2048:]):
        if len(half) < 64 or half[:8] != b"VTLFSREC":
            continue
        version, length, generation = struct.unpack_from("<IIQ", half, 8)
        text = half[64 : 64 + length]
        if version != 1 or length > 1984 or blake3(half[8:24] + text).digest() != half[32:64]:
            continue
        document = json.loads(text)
        if isinstance(document, dict) and (best is None or generation > best[0]):
            best = generation, document
    return best[1] if best else None


def members(disk: Path) -> Iterator[Path]:
    """Return the member files on a disk."""
    yield from disk.glob("sessions/*/*.member")


def member(disk: Path, session: int) -> Path:
    """Return where a session's member file is."""
    return disk / "sessions" / f"{session // 1000:06}" / f"{session:012}.member"


def header(path: Path) -> dict[str, Any] | None:
    """Return the header of a member file."""
    return record(path.read_bytes()[:BLOCK])


def units(path: Path, size: int) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Return the stripe units of a member file: what their records say, and their bytes."""
    content = path.read_bytes()
    for offset in range(BLOCK, len(content), BLOCK + size):
        about = record(content[offset : offset + BLOCK])
        if about is not None:
            yield about, content[offset + BLOCK : offset + BLOCK + about["bytes"]]


def stream(disks: Sequence[Path], session: int) -> bytes:
    """Return the stream of a session."""
    paths = [path for disk in disks if (path := member(disk, session)).exists()]
    headers = [head for path in paths if (head := header(path)) is not None]
    if not headers:
        return b""
    size = headers[0]["stripe_unit"]
    found = {about["unit"]: (about, data) for path in paths for about, data in units(path, size)}
    parts = []
    for number in range(len(found)):
        if number not in found:
            break
        about, data = found[number]
        assert blake3(data).hexdigest() == about["blake3"], f"unit {number} is damaged"
        parts.append(data)
        if len(data) < size:
            break
    whole = b"".join(parts)
    length = next((head["bytes"] for head in headers if "bytes" in head), len(whole))
    assert len(whole) >= length, "units are missing"
    return whole[:length]


def medium(disks: Sequence[Path], barcode: str) -> bytes:
    """Return all tape files of a medium, one after the other."""
    files = {}
    for disk in disks:
        for path in members(disk):
            head = header(path)
            if head is not None and head["medium"] == barcode and head.get("tape_file") is not None:
                files[head["tape_file"]] = head
    whole = b""
    for number in sorted(files):
        assert files[number]["start"] == len(whole)
        whole += stream(disks, files[number]["session"])
    return whole

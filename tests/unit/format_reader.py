"""A reader of vtlfs disks, written from docs/format.md alone. It shares no code with vtlfs: it tests the document."""

import itertools
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3

BLOCK = 4096


def label(disk: Path) -> dict[str, Any]:
    """Return the label of a disk."""
    document: dict[str, Any] = json.loads((disk / "vtlfs-disk.json").read_text())
    assert document["format"] == 2
    return document


def mark(disk: Path) -> dict[str, Any] | None:
    """Return the high-water mark of a disk; None without one."""
    path = disk / "vtlfs-disk.mark"
    return record_of_two(path.read_bytes()[:BLOCK]) if path.exists() else None


# --- records ----------------------------------------------------------------------------------------------------------


def record(place: bytes) -> tuple[int, dict[str, Any]] | None:
    """Return the generation and the object of the record in this block; None if the record is not valid."""
    if len(place) < 64 or place[:8] != b"VTLFSREC":
        return None
    version, length, generation = struct.unpack_from("<IIQ", place, 8)
    text = place[64 : 64 + length]
    if version != 2 or len(text) < length or blake3(place[8:24] + text).digest() != place[32:64]:
        return None
    document = json.loads(text)
    return (generation, document) if isinstance(document, dict) else None


def record_of_two(block: bytes) -> dict[str, Any] | None:
    """Return the object of the valid record with the higher generation, of a block that holds two."""
    found = [one for one in (record(block[:2048]), record(block[2048:BLOCK])) if one is not None]
    return max(found, key=lambda one: one[0])[1] if found else None


# --- member files -----------------------------------------------------------------------------------------------------


def members(disk: Path) -> Iterator[Path]:
    """Return the member files on a disk."""
    yield from disk.glob("sessions/*/*.member")


def member(disk: Path, session: int) -> Path:
    """Return the path of a session's member file."""
    return disk / "sessions" / f"{session // 1000:06}" / f"{session:012}.member"


def header(path: Path) -> dict[str, Any] | None:
    """Return the header of a member file."""
    return record_of_two(path.read_bytes()[:BLOCK])


def extents(path: Path, owner: tuple[str, int, int]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Return the extents of a member file: their records, and as many of their stored bytes as the file has.

    `owner`: library, disk and session.
    """
    content, position = path.read_bytes(), BLOCK
    while position < len(content):
        found = record(content[position : position + BLOCK])
        about = found[1] if found else {}
        if tuple(about.get(key) for key in ("library", "disk", "session", "position")) == (*owner, position):
            begin = position + BLOCK
            yield about, content[begin : begin + about["stored"]]
            position = -(-(begin + about["stored"]) // BLOCK) * BLOCK
        else:
            position += BLOCK


# --- the field of 256 elements ----------------------------------------------------------------------------------------


def times(a: int, b: int) -> int:
    """Return a product."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


def over(a: int, b: int) -> int:
    """Return a quotient."""
    return next(quotient for quotient in range(256) if times(quotient, b) == a)


def power(place: int) -> int:
    """Return 2 to the power of `place`."""
    return 1 if place == 0 else times(2, power(place - 1))


def scaled(factor: int, data: bytes) -> bytes:
    """Return each byte times the factor."""
    return data.translate(bytes(times(factor, byte) for byte in range(256)))


def xor(*pieces: bytes) -> bytes:
    """Return the exclusive or of pieces; shorter pieces are padded with zeros."""
    longest = max(map(len, pieces))
    total = 0
    for piece in pieces:
        total ^= int.from_bytes(piece.ljust(longest, b"\0"), "big")
    return total.to_bytes(longest, "big")


def parity(row: int, data: Sequence[bytes]) -> bytes:
    """Return a row of the parity of data extents, in the order of their places."""
    return xor(*(scaled(power(row * place), one) for place, one in enumerate(data)))


def solve(lost: Sequence[int], known: dict[int, bytes], rows: dict[int, bytes]) -> dict[int, bytes]:
    """Compute one or two lost data extents of a stripe by place, not yet cut to their lengths."""
    rest = {
        row: xor(one, *(scaled(power(row * place), data) for place, data in known.items())) for row, one in rows.items()
    }
    if len(lost) == 1:
        (x,) = lost
        return {x: rest[0] if 0 in rest else scaled(over(1, power(x)), rest[1])}
    x, y = lost
    first = scaled(over(1, power(x) ^ power(y)), xor(rest[1], scaled(power(y), rest[0])))
    return {x: first, y: xor(rest[0], first)}


# --- streams ----------------------------------------------------------------------------------------------------------


@dataclass
class Stripe:
    """A stripe: its undamaged data by offset and parity by row, and the data that its parity lists."""

    data: dict[int, bytes] = field(default_factory=dict)
    rows: dict[int, bytes] = field(default_factory=dict)
    members: list[tuple[int, int, str, int, str]] = field(default_factory=list)
    offsets: set[int] = field(default_factory=set)  # of all data extents that any record names

    def get(self, offset: int) -> bytes | None:
        """Return the data at an offset, read or computed from the rest of the stripe; None if neither is possible."""
        if offset in self.data:
            return self.data[offset]
        known = {place: self.data[one[0]] for place, one in enumerate(self.members) if one[0] in self.data}
        lost = [place for place in range(len(self.members)) if place not in known]
        if not 0 < len(lost) <= len(self.rows):
            return None
        for place, data in solve(lost, known, self.rows).items():
            begin, _, codec, stored, digest = self.members[place]
            assert codec == "none"
            if blake3(data[:stored]).hexdigest() == digest:
                self.data[begin] = data[:stored]
        return self.data.get(offset)


def stripes(disks: Sequence[Path], session: int) -> dict[int, Stripe]:
    """Return the stripes of a session, as far as these disks have them."""
    found: dict[int, Stripe] = {}
    for disk in disks:
        path, about_disk = member(disk, session), label(disk)
        if not path.exists():
            continue
        for about, data in extents(path, (about_disk["library"], about_disk["number"], session)):
            stripe = found.setdefault(about["stripe"], Stripe())
            is_right = len(data) == about["stored"] and blake3(data).hexdigest() == about["blake3"]
            if "members" in about:
                stripe.members = [tuple(one) for one in about["members"]]
                stripe.offsets.update(one[0] for one in stripe.members)
                if is_right:
                    stripe.rows[about["place"]] = data
            else:
                assert about["codec"] == "none"
                stripe.offsets.add(about["offset"])
                if is_right:
                    stripe.data[about["offset"]] = data
    return found


def stream(disks: Sequence[Path], session: int) -> bytes:
    """Return the stream of a session, read from these disks."""
    by_offset: dict[int, list[Stripe]] = {}
    for _, stripe in sorted(stripes(disks, session).items(), reverse=True):
        for offset in stripe.offsets:
            by_offset.setdefault(offset, []).append(stripe)
    whole = bytearray()
    while len(whole) in by_offset:
        found = (stripe.get(len(whole)) for stripe in by_offset[len(whole)])
        data = next((one for one in found if one is not None), None)
        if data is None:
            break
        whole += data
    paths = [path for disk in disks if (path := member(disk, session)).exists()]
    headers = [head for path in paths if (head := header(path)) is not None]
    length = next((head["bytes"] for head in headers if "bytes" in head), len(whole))
    assert len(whole) >= length, f"of {length} bytes only the first {len(whole)} can be had"
    return bytes(whole[:length])


def cartridge(disk: Path, library: str, barcode: str) -> dict[str, Any] | None:
    """Return what a disk remembers of a medium; None: nothing."""
    path = disk / "cartridges" / f"{barcode}.cartridge"
    if not path.exists() or len(content := path.read_bytes()) > 1 << 20:
        return None
    found = record(content)
    if found is None or (found[1]["library"], found[1]["barcode"]) != (library, barcode):
        return None
    return found[1]


def memory(disks: Sequence[Path], barcode: str) -> dict[str, Any] | None:
    """Return the newest that disks remember of a medium; None: nothing."""
    found = [known for disk in disks if (known := cartridge(disk, label(disk)["library"], barcode)) is not None]
    return max(found, key=lambda one: int(one["commits"]), default=None)


def events(disks: Sequence[Path], barcode: str) -> list[dict[str, Any]]:
    """Return the last events of a medium, the oldest first; an older vtlfs has written none."""
    known = memory(disks, barcode)
    return [] if known is None else list(known.get("events", []))


def deleted_snapshots(disks: Sequence[Path]) -> set[int]:
    """Return the numbers of all snapshots that any of these disks knows to be deleted."""
    found: set[int] = set()
    for disk in disks:
        path = disk / "cartridges" / "snapshots.memory"
        if not path.exists() or len(content := path.read_bytes()) > 1 << 20:
            continue
        said = record(content)
        if said is None or said[1]["library"] != label(disk)["library"]:
            continue
        runs = said[1]["deleted"]
        assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(runs))
        found.update(number for first, last in runs for number in range(first, last + 1))
    return found


def headers_of(disks: Sequence[Path], barcode: str) -> list[dict[str, Any]]:
    """Return the headers of a medium's member files, of all its volumes."""
    found = [header(path) for disk in disks for path in members(disk)]
    return [one for one in found if one is not None and one["medium"] == barcode]


def volume(disks: Sequence[Path], barcode: str) -> int:
    """Return the number of a medium's current volume."""
    known = memory(disks, barcode)
    found = [1 if known is None else known["volume"], *(one["volume"] for one in headers_of(disks, barcode))]
    return int(max(found))


def medium(disks: Sequence[Path], barcode: str, number: int | None = None) -> bytes:
    """Return all tape files of a medium, one after the other: of a volume, None: the current one."""
    current = volume(disks, barcode) if number is None else number
    files = {
        head["tape_file"]: head
        for head in headers_of(disks, barcode)
        if head["volume"] == current and head.get("tape_file") is not None
    }
    whole = b""
    for place in sorted(files):
        assert files[place]["start"] == len(whole)
        whole += stream(disks, files[place]["session"])
    return whole


MODES = ("governance", "compliance", "worm")


def retention(disks: Sequence[Path], barcode: str) -> tuple[str, str] | None:
    """Return how strictly a medium's current volume is retained, and until when; None: not at all.

    For ever is empty.
    """
    current, known = volume(disks, barcode), memory(disks, barcode)
    found = [(head["retain"], head["retain_until"]) for head in headers_of(disks, barcode)
             if head["volume"] == current and "retain" in head]  # fmt: skip
    if known is not None and known["volume"] == current and known["retain_mode"] is not None:
        found.append((known["retain_mode"], known["retain_until"]))
    if not found:
        return None
    mode = max((mode for mode, _ in found), key=MODES.index)
    return mode, "" if mode == "worm" else max(until or "" for _, until in found)


def pool_streams(disks: Sequence[Path], pool: str) -> dict[int, bytes]:
    """Return the streams of a pool by identifier: those of which no part is missing."""
    heads = {head["session"]: head for disk in disks for path in members(disk) if (head := header(path)) is not None}
    parts = [head for head in heads.values() if head.get("part", {}).get("pool") == pool]
    found: dict[int, bytes | None] = {}
    goes_on: dict[int, bool] = {}
    for head in sorted(parts, key=lambda one: (one["part"]["stream"], one["part"]["place"])):
        before = found.setdefault(head["part"]["stream"], b"")
        is_whole = before is not None and len(before) == head["part"]["start"]
        own = stream(disks, head["session"])
        goes_on[head["part"]["stream"]] = head.get("goes_on", False)
        found[head["part"]["stream"]] = before + own if is_whole and before is not None else None
    return {number: data for number, data in found.items() if data is not None and not goes_on[number]}


def place_of_pool(disks: Sequence[Path], pool: str) -> str | None:
    """Return the barcode of the medium on which a pool is; None: no stream tells of it."""
    heads = [head for disk in disks for path in members(disk) if (head := header(path)) is not None]
    found = [head for head in heads if head.get("part", {}).get("pool") == pool]
    newest = max(found, key=lambda one: int(one["part"].get("commits", 0)), default=None)
    return None if newest is None else str(newest["medium"])

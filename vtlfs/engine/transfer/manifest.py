"""The manifest of an exported medium, `medium.json`, and the list of its sums, `b3sums`: reading and writing. Pure.

docs/export.md specifies both. Reading checks everything: an export may come from anybody.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vtlfs.disks import headers, values
from vtlfs.errors import UsageError, VtlfsError
from vtlfs.model import (
    KIB,
    MAX_SESSION,
    MAX_SIZE,
    MIB,
    NO_CODEC,
    Digest,
    ImportedEnd,
    Opener,
    RetainMode,
    Retention,
    State,
    check_barcode,
)

FORMAT = 1
MANIFEST, SUMS = "medium.json", "b3sums"
SUM = ".b3"  # the end of the name of the sum of one file, in a tar stream
MAX_TAPE_FILES = 100_000  # of one medium
MAX_MANIFEST = 64 * MIB
MAX_SUMS = 16 * MIB
MAX_SUM = KIB

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SUM_LINE = re.compile(r"([0-9a-f]{64})  (medium\.json|[0-9]{4,6})")


class BadExport(VtlfsError):
    """What is to be imported is not what `vtlfs media export` writes, or is damaged."""

    exit_status = 3

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}; export the medium again")


@dataclass(frozen=True, slots=True)
class Entry:
    """A tape file and the session that wrote it. `session`: its identifier in the exporting library."""

    number: int
    start: int
    bytes: int
    session: int
    origin: str | None  # of a session that was itself imported
    opener: Opener
    drive: int
    opened_at: str
    state: State
    error: str | None
    released_at: str
    requests: int
    retention: Retention | None

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.number:04d}"

    def end(self, now: str, volume: Retention | None) -> ImportedEnd:
        """Return how its session ends in another library, at the time `now`. `volume`: the retention of that."""
        least = stricter(volume, self.retention)
        return ImportedEnd(self.state, self.error, self.released_at, self.requests, now, self.number, least)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An exported medium: one volume of it, and its tape files in their order."""

    library: str
    barcode: str
    volume: int
    begun_at: str
    capacity: int | None
    retention: Retention | None
    files: tuple[Entry, ...]

    @property
    def bytes(self) -> int:
        """The bytes in all tape files."""
        return sum(file.bytes for file in self.files)

    def origin(self, file: Entry) -> str:
        """Return where a tape file was written at first, as `Session.origin` says it."""
        return file.origin or f"{self.library}/{file.session}"


def stricter(one: Retention | None, other: Retention | None) -> Retention | None:
    """Return a retention that is as strict and as long as both."""
    if one is None or other is None:
        return one or other
    mode = max(one.mode, other.mode, key=lambda each: each.strictness)
    return Retention(mode, None if mode is RetainMode.WORM else max(one.until or "", other.until or ""))


# --- writing ------------------------------------------------------------------------------------------------------


def render(manifest: Manifest) -> bytes:
    """Return the text of a manifest; each tape file has a line. Raises UsageError where it would be too large."""
    head = {
        "vtlfs_export": FORMAT,
        "library": manifest.library,
        "barcode": manifest.barcode,
        "volume": manifest.volume,
        "begun_at": manifest.begun_at,
        "capacity": manifest.capacity,
        "retention": _retention(manifest.retention),
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items()]
    files = ",\n".join(f"  {json.dumps(_document(file))}" for file in manifest.files)
    text = "".join(["{\n", *lines, ' "tape_files": [', f"\n{files}\n " if files else "", "]\n}\n"]).encode()
    if len(text) > MAX_MANIFEST or len(manifest.files) > MAX_TAPE_FILES:
        raise UsageError(f"medium {manifest.barcode} has more than {MAX_TAPE_FILES:,} tape files; use `vtlfs extract`")
    return text


def _document(file: Entry) -> dict[str, object]:
    opener = file.opener
    return {
        "number": file.number,
        "start": file.start,
        "bytes": file.bytes,
        "session": file.session,
        "origin": file.origin,
        "host": opener.host,
        "pid": opener.pid,
        "uid": opener.uid,
        "gid": opener.gid,
        "program": opener.program,
        "drive": file.drive,
        "opened_at": file.opened_at,
        "released_at": file.released_at,
        "state": str(file.state),
        "error": file.error,
        "requests": file.requests,
        "retention": _retention(file.retention),
    }


def _retention(retention: Retention | None) -> dict[str, object] | None:
    return None if retention is None else {"mode": str(retention.mode), "until": retention.until}


def sum_line(digest: Digest, name: str) -> str:
    """Return the line of one file, as b3sum prints it."""
    return f"{digest.hex()}  {name}\n"


# --- reading --------------------------------------------------------------------------------------------------------


def parse(text: bytes, where: str) -> Manifest:
    """Read a manifest. `where` names it in errors. Raises BadExport."""
    try:
        document = json.loads(text.decode())
    except (ValueError, RecursionError):
        raise BadExport(where, "no JSON text in UTF-8") from None
    if not isinstance(document, dict) or "vtlfs_export" not in document:
        raise BadExport(where, "not the manifest of an exported medium")
    if document["vtlfs_export"] != FORMAT:
        raise BadExport(where, f"it is not of format {FORMAT}, which is the one that this vtlfs reads")
    try:
        return _manifest(document)
    except (KeyError, TypeError, ValueError, VtlfsError) as error:
        why = str(error).split(";")[0] if isinstance(error, (ValueError, VtlfsError)) else "a key is missing or wrong"
        raise BadExport(where, f"not a right manifest: {why}") from None


def _manifest(document: dict[str, Any]) -> Manifest:
    if not isinstance(document["library"], str) or not _UUID.fullmatch(document["library"]):
        raise ValueError("library is no UUID")
    rows = document["tape_files"]
    if not isinstance(rows, list) or len(rows) > MAX_TAPE_FILES:
        raise ValueError(f"tape_files is no list of at most {MAX_TAPE_FILES:,}")
    barcode = check_barcode(values.text(document["barcode"]))
    capacity = document["capacity"]
    files: list[Entry] = []
    start = 0
    for number, row in enumerate(rows):
        try:
            files.append(_entry(row, barcode, number, start))
        except (KeyError, TypeError, VtlfsError):
            raise ValueError(f"tape file {number} is described wrongly") from None
        start += files[-1].bytes
    if start > MAX_SIZE:
        raise ValueError("its tape files are too long")
    return Manifest(
        document["library"],
        barcode,
        values.number(document["volume"], headers.MAX_VOLUMES, least=1),
        values.time(document["begun_at"]),
        None if capacity is None else values.number(capacity, MAX_SIZE, least=1),
        _retention_of(document["retention"]),
        tuple(files),
    )


def _entry(row: dict[str, Any], barcode: str, number: int, start: int) -> Entry:
    """Return a tape file of a manifest. The names of the keys are those of a header, which has its checks."""
    if row["number"] != number or row["start"] != start or type(row["start"]) is not int:
        raise TypeError
    layout = {"medium": barcode, "volume": 1, "stripe_unit": 4096, "parity": 0, "codec": NO_CODEC}
    said = {key: value for key, value in row.items() if key != "origin" or value is not None}
    opening = headers.opening(said | layout)
    ending = headers.ending({key: row[key] for key in headers.OF_THE_END & row.keys()} | {"tape_file": number})
    session = values.number(row["session"], MAX_SESSION - 1, least=1)
    if opening is None or ending is None or ending.bytes is None or ending.requests is None:
        raise TypeError
    return Entry(
        *(number, start, ending.bytes, session, opening.origin, opening.opener, opening.drive, opening.opened_at),
        *(ending.state, ending.error, ending.released_at, ending.requests, _retention_of(row["retention"])),
    )


def _retention_of(value: Any) -> Retention | None:
    if value is None:
        return None
    mode, until = RetainMode(values.text(value["mode"])), value["until"]
    if (until is None) is not (mode is RetainMode.WORM):
        raise TypeError
    return Retention(mode, None if until is None else values.until(until))


def parse_sums(text: bytes, where: str) -> dict[str, Digest]:
    """Read a list of sums: BLAKE3s by the names of their files. Raises BadExport."""
    found: dict[str, Digest] = {}
    for line in text.decode(errors="replace").splitlines():
        match = _SUM_LINE.fullmatch(line)
        if match is None or match[2] in found:
            raise BadExport(where, f"{line[:80]!r} is no line of it, or there is another of that file")
        found[match[2]] = bytes.fromhex(match[1])
    return found


def check_sums(manifest: Manifest, sums: Mapping[str, Digest], own: Digest, where: str) -> None:
    """Raise BadExport unless there is a sum of the manifest, which is `own`, and one of each tape file."""
    wanted = {MANIFEST, *(file.name for file in manifest.files)}
    if sums.keys() != wanted:
        odd = min(sums.keys() ^ wanted)
        raise BadExport(where, f"it has {'a' if odd in sums else 'no'} sum of {odd}")
    if sums[MANIFEST] != own:
        raise BadExport(where, f"the BLAKE3 of {MANIFEST} is another one")


def render_sums(manifest: Manifest, own: Digest, sums: Iterable[Digest]) -> bytes:
    """Return the text of the list of sums. `own`: of the manifest; `sums`: of its tape files, in order."""
    lines = [sum_line(digest, file.name) for file, digest in zip(manifest.files, sums, strict=True)]
    return "".join([*lines, sum_line(own, MANIFEST)]).encode()

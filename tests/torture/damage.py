"""Random damage to a killed library, and what then becomes of every acknowledged stream.

No loss may be silent: each stream is read back right, or its loss is named by a mount that refuses, by `vtlfs check`
or `verify`, or by the command that mends. No read ever returns a wrong byte.
"""

import os
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from killed import Killed, Stream

from vtlfs.engine import recover
from vtlfs.engine.library import Library
from vtlfs.engine.reading.extract import extract
from vtlfs.engine.rebuild.rebuild import rebuild
from vtlfs.engine.scrub import soundness, verification
from vtlfs.engine.scrub.check import check
from vtlfs.engine.scrub.verify import verify
from vtlfs.engine.tracking.database import FILE_NAME
from vtlfs.errors import NoSuchSession, VtlfsError
from vtlfs.model import utc_now

PAGE = 4096


# --- ways to do damage ------------------------------------------------------------------------------------------------


def cut(file: Path, chance: random.Random) -> None:
    """Cut off a byte, or anything."""
    size = file.stat().st_size
    os.truncate(file, max(0, size - chance.choice([1, PAGE, chance.randrange(1, max(2, size)), size // 2])))


def zero(file: Path, chance: random.Random) -> None:
    """Zero a page, as a sector that was lost."""
    overwrite(file, chance.randrange(max(1, file.stat().st_size // PAGE)) * PAGE, bytes(PAGE))


def flip(file: Path, chance: random.Random) -> None:
    """Change a few bytes."""
    for _ in range(chance.randrange(1, 5)):
        overwrite(file, chance.randrange(max(1, file.stat().st_size)), bytes([chance.randrange(256)]))


def garble(file: Path, chance: random.Random) -> None:
    """Overwrite a part of the file with garbage."""
    length = chance.randrange(1, 2 * PAGE)
    overwrite(file, chance.randrange(max(1, file.stat().st_size - length)), chance.randbytes(length))


def delete(file: Path, chance: random.Random) -> None:
    """Delete the file."""
    file.unlink()


def overwrite(file: Path, offset: int, data: bytes) -> None:
    """Write over a part of a file, which keeps its length."""
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(data[: max(0, file.stat().st_size - offset)])


HARMS: list[Callable[[Path, random.Random], None]] = [cut, zero, flip, garble, delete]


def defect(killed: Killed, chance: random.Random) -> str:
    """Damage the library in one way or in several; return what was done."""
    done = []
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        kind = chance.choice(["database", "database", "log", "log", "older", "copy", "member", "mark"])
        if kind == "older":
            for suffix in ("-wal", "-shm") if chance.random() < 0.7 else ():
                (killed.path / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
            shutil.copy(killed.root / "older.db", killed.database)
            done.append("an older database put back")
            continue
        files = {
            "database": [killed.database],
            "log": [killed.log],
            "copy": [file for disk in killed.disks for file in sorted(disk.glob("tracking/*.db"))],
            "member": [file for disk in killed.disks for file in sorted(disk.rglob("*.member"))],
            "mark": [disk / "vtlfs-disk.mark" for disk in killed.disks],
        }[kind]
        there = [file for file in files if file.exists() and file.stat().st_size]
        if there:
            file, way = chance.choice(there), chance.choice(HARMS)
            way(file, chance)
            done.append(f"{way.__name__} {file.relative_to(killed.root)}")
    return ", ".join(done)


# --- what comes of it -----------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """The state of the streams, by session; `named`: who reported a loss."""

    refused: str | None = None
    right: set[int] = field(default_factory=set)
    lost: dict[int, str] = field(default_factory=dict)
    wrong: list[int] = field(default_factory=list)
    named: list[str] = field(default_factory=list)


def live_on(killed: Killed) -> Outcome:
    """Mount the library, or mend it if it can't be mounted; then read all streams, and collect the reported losses."""
    outcome = Outcome()
    try:
        library = Library.open(killed.path)
        soundness.check_before_mount(library, read_only=False)
        recover.recover(library)  # as a mount does first
    except VtlfsError as error:
        outcome.refused = str(error)
        try:
            rebuilt = rebuild(killed.path, (), (), utc_now())
        except VtlfsError as failure:
            outcome.named.append(f"rebuild: {failure}")
            outcome.lost = {stream.session: "not rebuilt" for stream in killed.streams}
            return outcome
        findings = rebuilt.report
        told = (*findings.damaged, *findings.ignored, *map(str, findings.lost))
        outcome.named += [f"rebuild: {text}" for text in told]
        library = rebuilt.library
    for stream in killed.streams:
        read(library, stream, outcome)
    outcome.named += [f"check: {one.problem}" for one in check(library).findings if one.damage]
    outcome.named += verified(library)
    return outcome


def read(library: Library, stream: Stream, outcome: Outcome) -> None:
    """Read a stream back, from its tape file and from its medium."""
    try:
        with closing(library.tracking(read_only=True)) as tracking:
            session = tracking.sessions.get(stream.session)
            number = session.tape_file
            if number is None:
                outcome.lost[stream.session] = "no tape file"
                return
        pieces: list[bytes] = []
        extract(library, stream.barcode, number, lambda piece: pieces.append(bytes(piece)), lambda _: None)
    except NoSuchSession:
        outcome.lost[stream.session] = "no session"
    except VtlfsError as error:
        outcome.lost[stream.session] = str(error)
    else:
        content = b"".join(pieces)
        if content == stream.content:
            outcome.right.add(stream.session)
        elif stream.content.startswith(content):
            outcome.lost[stream.session] = f"{len(content)} of {len(stream.content)} bytes"
        else:
            outcome.wrong.append(stream.session)


def verified(library: Library) -> list[str]:
    """Return the defects that `vtlfs verify` finds."""
    found: list[str] = []
    try:
        with closing(library.tracking()) as tracking:
            begun = verification.begin(tracking, [], utc_now())
            verify(library, tracking, begun, lambda defect: found.append(f"verify: {defect}"), lambda _: None)
    except VtlfsError as error:
        found.append(f"verify: {error}")
    return found

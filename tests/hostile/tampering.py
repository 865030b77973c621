"""Makes libraries that were tampered with, by the dozen, and runs every command on each."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from mounting import OnDisks, random_bytes, wait_until

from vtlfs.disks import records
from vtlfs.disks.records import BLOCK
from vtlfs.engine.library import Library
from vtlfs.model import KIB

UNIT = 4 * KIB
DISKS = ("disk0", "disk1")
AT_ONCE = 2  # processes
STATUSES = {0, 1, 2, 3, 4, 5}
HERE = Path(__file__).parent
LINE = re.compile(r"vtlfs: [^\n]+\n")
CANARY = b"nobody may read or change this\n"

Tamper = Callable[[Path, random.Random], object]


def prepare(root: Path) -> None:
    """Make a library of two disks with tape files, snapshots, an open session and copies of its database."""
    library = OnDisks(root, unit=UNIT)
    with library.mounted("host=alpha") as mounted:
        mounted.medium("T1").write_bytes(random_bytes(1, 5 * UNIT + 17))
        library.vtlfs("snapshot", "take", library.path, "--name", "first")
        mounted.medium("T2").write_bytes(random_bytes(2, 100))
        mounted.medium("T1").write_bytes(random_bytes(3, 2 * UNIT))
        library.vtlfs("load", library.path, 1, "T2")
        library.vtlfs("snapshot", "take", library.path)
    library.vtlfs("media", "hold", library.path, "T4", "--name", "case 7", "--reason", "auditors")
    library.vtlfs("media", "protect", library.path, "T5")
    library.vtlfs("verify", library.path)
    with library.mounted("host=beta", checked=False) as mounted:
        descriptor = os.open(mounted.medium("T3"), os.O_WRONLY)
        os.write(descriptor, random_bytes(4, 3 * UNIT))
        os.fsync(descriptor)
        os.write(descriptor, b"x")  # the stream goes on, else every `snapshot take` waits 5 s for its release
        wait_until(lambda: not announces(library), "a withdrawn announcement")
        mounted.kill()
        with suppress(OSError):
            os.close(descriptor)
        library.vtlfs("umount", mounted.path)
    for left in root.glob("*.log"):
        left.unlink()
    (root / "mnt").rmdir()
    configuration = library.path / "library.toml"
    configuration.write_text(configuration.read_text().replace(str(root), ".."))
    (root / "out").mkdir()
    (root / "canary").write_bytes(CANARY)


def announces(library: OnDisks) -> bool:
    """Tell whether an open session has an announced close(), for which snapshots wait."""
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        return tracking.sessions.is_closing(tracking.sessions.last_announcement())


def copied(model: Path, place: Path, tamper: Tamper, seed: int) -> Path:
    """Return a copy of the library after tampering with it."""
    shutil.copytree(model, place, symlinks=True)
    tamper(place, random.Random(seed))
    return place


def surroundings(root: Path, places: Iterable[Path]) -> dict[str, bytes]:
    """Return all files in the directory that belong to none of the libraries in it."""
    own = set(places)
    found = {}
    for path in sorted(root.rglob("*")):
        inside = next((place for place in own if path.is_relative_to(place)), None)
        if inside is not None and path.relative_to(inside).parts[:1] in {
            ("library",), ("rebuilt",), ("out",), *((disk,) for disk in DISKS), ()
        }:  # fmt: skip
            continue
        if path.is_file() and not path.is_symlink():
            found[str(path)] = path.read_bytes()
        elif not path.is_dir():
            found[str(path)] = b""
    return found


def examine(root: Path, places: list[Path]) -> list[str]:
    """Run every command on the libraries; return the complaints."""
    before = surroundings(root, places)
    shares = [share for number in range(AT_ONCE) if (share := places[number::AT_ONCE])]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        wrong = [complaint for found in threads.map(examine_share, shares) for complaint in found]
    after = surroundings(root, places)
    if before != after:
        wrong.append(f"outside of the libraries: {before.items() ^ after.items()}")
    return wrong


def examine_share(places: list[Path]) -> list[str]:
    """Run every command on the libraries in one process; return the complaints."""
    words = [sys.executable, str(HERE / "commands.py"), *map(str, places)]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=HERE.parents[1],
        env=os.environ | {"VTLFS_TRACEBACK": "1"},
    )
    if done.returncode:
        return [f"status {done.returncode}: {done.stderr[-3000:]}"]
    return [
        f"{place.name}: {complaint}"
        for place, results in zip(places, json.loads(done.stdout), strict=True)
        for result in results
        for complaint in complaints(result)
    ]


UNEXPECTED = re.compile(r"^vtlfs: unexpected \w+: |Traceback \(most recent", re.MULTILINE)  # not the words alone


def complaints(result: dict[str, Any]) -> list[str]:
    """Return the complaints about the end of a command."""
    words, status, printed, said = (result[key] for key in ("words", "status", "stdout", "stderr"))
    command = " ".join(words)
    lines = [line for line in said.splitlines(keepends=True) if not line.startswith("vtlfs: WARNING: ")]
    if status not in STATUSES or UNEXPECTED.search(said):
        return [f"{command}: status {status}: {said}"]
    if any(not one.isprintable() for one in said.replace("\n", "")) or any("\x1b" in one for one in printed):
        return [f"{command}: control characters: {said!r} {printed!r}"]
    if CANARY.decode() in printed + said:
        return [f"{command}: reads what is elsewhere"]
    expected = [] if status == 0 else [said]
    if status in (1, 2) and (len(lines) != 1 or not LINE.fullmatch(lines[0])):
        return [f"{command}: status {status}, and no single line: {said!r}"]
    if status == 0 and lines:
        return [f"{command}: status 0, and {expected} {said!r}"]
    return []


# --- what a fuzzer does ---------------------------------------------------------------------------------------------


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return the bytes with a few of them changed, cut out, doubled or put in."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(found) + 1)
        end = min(len(found), at + chance.choice((1, 1, 4, 64)))
        match chance.randrange(6):
            case 0:
                found[at:end] = chance.randbytes(end - at)
            case 1:
                del found[at:end]
            case 2:
                found[at:at] = found[at:end]
            case 3:
                found[at:end] = chance.choice(PIECES)
            case 4:
                found[at:at] = chance.choice(PIECES)
            case _:
                del found[at:]
    return bytes(found)


PIECES = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[2J", b"\n", b'"', b"'", b"-1", b"99999999999999999999", b"1e999",
    b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b"../../../canary", b"[]", b"{}", b"null", b"true", b"nan", b"-0",
    b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"; DROP TABLE session; --",
)  # fmt: skip

VALUES: tuple[object, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**300, 1.5, 1e308, float("inf"), float("nan"), "",
    "../../canary", "T1", "T1/../T2", "a\nb", "\x1b[2J", "\0", "\ud800", "é" * 300, "1", "2026-99-99T99:99:99.999999Z",
    "0000-00-00T00:00:00.000000Z", "'; DROP TABLE session; --", [], [1, "a", None], {}, {"a": [1]}, "x" * 900,
)  # fmt: skip


def described(disk: int, session: int) -> str:
    """Return where a member file lies in the place."""
    return f"disk{disk}/sessions/000000/{session:012d}.member"


def members(place: Path) -> list[Path]:
    """Return all member files."""
    return sorted(place.glob("disk?/sessions/*/*.member"))


def positions(member: Path) -> list[int]:
    """Return the positions of the records in a member file, as far as its extents follow each other."""
    data, found, at = member.read_bytes(), [], BLOCK
    while (document := records.decode_document(data[at : at + BLOCK])) is not None:
        found.append(at)
        at = records.after(at, document["stored"])
    return found


def retell(member: Path, position: int | None, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a header (position None) or of an extent's record, and give it a valid checksum."""
    data = bytearray(member.read_bytes())
    if position is None:
        found = records.decode(bytes(data[:BLOCK]))
        assert found is not None
        document, generation = found
        change(document)
        offset = records.place(generation)
        data[offset : offset + records.RECORD] = records.encode(document, generation)
    else:
        said = records.decode_document(bytes(data[position : position + BLOCK]))
        assert said is not None
        change(said)
        data[position : position + BLOCK] = records._encode(said, 0, BLOCK)
    member.write_bytes(data)

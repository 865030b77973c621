"""`vtlfs media export`, `import` and `copy`: real files, real `tar` and `b3sum`, and commands that die on the way."""

import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from filling import tracked
from unmounted import PROGRAM, PROJECT, Done, Refused, Run, Shelf

from vtlfs import failpoints
from vtlfs.engine.library import Library, create
from vtlfs.engine.reading.extract import extract
from vtlfs.engine.scrub.check import check
from vtlfs.model import RetainMode, Retention, Session, TapeFile, utc_now

B = "A00001L9"
SIZES = (1, 4095, 4096, 4097, 50_001)
STREAMS = [random.Random(number).randbytes(size) for number, size in enumerate(SIZES)]
LATER = random.Random(77).randbytes(9000)


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    """A library with some tape files on a medium, of different hosts."""
    for number, data in enumerate(STREAMS):
        shelf.write(B, data, host=f"host{number}", program=f"program{number}", drive=number % 4)
    return shelf


@pytest.fixture
def other(tmp_path: Path) -> Library:
    """An empty library with another stripe unit, and parity."""
    return library(tmp_path / "other", disks=3, unit=8192, parity=1)


def library(root: Path, *, disks: int, unit: int, parity: int, drives: int = 2) -> Library:
    root.mkdir()
    paths = [root / f"disk{number}" for number in range(disks)]
    for path in paths:
        path.mkdir()
    return create(root / "library", paths, drives=drives, stripe_unit=unit, parity=parity, at=utc_now())


def known(of: Library, barcode: str = B) -> list[tuple[TapeFile, Session]]:
    """Return the tape files of a medium, and who wrote them."""
    with closing(of.tracking(read_only=True)) as tracking:
        return [(file, tracking.sessions.get(file.session)) for file in tracking.tape_files.of(barcode)]


def barcodes(of: Library) -> list[str]:
    with closing(of.tracking(read_only=True)) as tracking:
        return [medium.barcode for medium in tracking.media.all()]


def events(of: Library, what: str) -> list[dict[str, Any]]:
    with closing(of.tracking(read_only=True)) as tracking:
        return [event.details for event in tracking.events.find() if event.what == what]


def streams(of: Library, barcode: str = B) -> list[bytes]:
    """Return what is extracted of each tape file, by the program's own function: quicker than the program."""
    found: list[bytes] = []
    for file, _ in known(of, barcode):
        pieces: list[bytes] = []
        extract(of, barcode, file.number, lambda piece, pieces=pieces: pieces.append(bytes(piece)), lambda _: None)  # type: ignore[misc]
        found.append(b"".join(pieces))
    return found


def want_sound(done: Done, of: Library) -> None:
    """Want neither `check` nor `verify` to find anything, nor a byte of a stream that was not recorded on the disks."""
    report = check(of)
    assert not report.findings, [str(finding) for finding in report.findings]
    assert "all is as it should be" in done("verify", of.path)
    with closing(of.tracking(read_only=True)) as tracking:
        for disk in tracking.disks.all():
            members = {int(path.stem): path for path in Path(disk.path).glob("sessions/*/*.member")}
            for session, path in members.items():
                if tracking.sessions.get(session).tape_file is None:
                    assert path.stat().st_size <= 4096, f"{path} was not cut off"


def want_sums(directory: Path) -> None:
    """Want all files of an exported medium to have the sums in b3sums, by b3sum itself where there is one."""
    names = [line.split("  ")[1] for line in (directory / "b3sums").read_text().splitlines()]
    assert {"medium.json", *(path.name for path in directory.glob("[0-9][0-9][0-9][0-9]"))} == set(names)
    if shutil.which("b3sum"):
        done = subprocess.run(
            ["b3sum", "--check", "b3sums"], cwd=directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for line in (directory / "b3sums").read_text().splitlines():
        digest, name = line.split("  ")
        assert blake3((directory / name).read_bytes()).hexdigest() == digest


def dying(where: str, *words: object) -> int:
    """Run vtlfs, which dies at a failpoint; return the exit status."""
    environment = os.environ | {failpoints.ENVIRONMENT: where}
    command = [*PROGRAM, *map(str, words)]
    return subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, timeout=60, check=False
    ).returncode


@pytest.fixture
def again(run: Run) -> Done:
    """Return what runs vtlfs as `done` does, where mounts are dead: that is all that may be complained of."""

    def call(*arguments: object, **more: object) -> str:
        result = run(*arguments, **more)
        assert result.returncode == 0, result.stderr
        assert all(" died; " in line for line in result.stderr.splitlines()), result.stderr
        return str(result.stdout)

    return call


# --- export -----------------------------------------------------------------------------------------------------------


def test_exported_medium_is_plain_files_that_describe_themselves(done: Done, filled: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert done("media", "export", filled.path, B, "-o", out) == f"{B}: 5 tape files exported, 60.8 KiB\n"
    assert sorted(path.name for path in (out / B).iterdir()) == [
        *("0000", "0001", "0002", "0003", "0004", "b3sums", "medium.json")
    ]
    assert [(out / B / f"{number:04d}").read_bytes() for number in range(5)] == STREAMS
    want_sums(out / B)
    manifest = json.loads((out / B / "medium.json").read_text())
    assert (manifest["vtlfs_export"], manifest["library"]) == (1, filled.library.config.uuid)
    assert (manifest["barcode"], manifest["volume"], manifest["capacity"]) == (B, 1, None)
    for row, (file, session) in zip(manifest["tape_files"], known(filled.library), strict=True):
        for key in ("host", "pid", "uid", "gid", "program", "drive", "opened_at", "released_at", "state", "error"):
            assert row[key] == getattr(session, key)
        assert (row["number"], row["start"], row["bytes"], row["session"], row["requests"]) == (
            *(file.number, file.start, file.bytes, session.id, session.requests),
        )
    assert events(filled.library, "exported")[0]["tape_files"] == 5


def test_export_that_is_repeated_writes_only_what_is_new(done: Done, filled: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done("media", "export", filled.path, B, "-o", out)
    before = {path.name: path.stat().st_mtime_ns for path in (out / B).iterdir()}
    assert "0 tape files exported, 0 B; 5 not needed" in done("media", "export", filled.path, B, "-o", out)
    assert {path.name: path.stat().st_mtime_ns for path in (out / B).iterdir()} == before
    filled.write(B, LATER)
    assert "1 tape file exported, 8.79 KiB; 5 not needed" in done("media", "export", filled.path, B, "-o", out)
    after = {path.name: path.stat().st_mtime_ns for path in (out / B).iterdir()}
    assert {name for name in before if after[name] != before[name]} == {"b3sums", "medium.json"}
    assert (out / B / "0005").read_bytes() == LATER
    want_sums(out / B)


def test_export_writes_a_file_anew_that_is_not_what_it_was(done: Done, filled: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done("media", "export", filled.path, B, "-o", out)
    with (out / B / "0004").open("r+b") as file:
        file.seek(40_000)
        file.write(b"\0\0\0")
    (out / B / "0002").write_bytes(STREAMS[2][:-1])
    (out / B / "0001").unlink()
    done("media", "export", filled.path, B, "-o", out)
    assert [(out / B / f"{number:04d}").read_bytes() for number in range(5)] == STREAMS


OF_EXPORT = [name for name in failpoints.NAMES if name.startswith("transfer.") and "recorded" not in name]


@pytest.mark.parametrize(
    "where", [*OF_EXPORT, "transfer.written:3", "transfer.noted:4", "file.written:2", "file.named:3"]
)
def test_export_that_died_goes_on(done: Done, filled: Shelf, tmp_path: Path, where: str) -> None:
    out = tmp_path / "out"
    assert dying(where, "media", "export", filled.path, B, "-o", out) == failpoints.STATUS
    ready = {path.name: path.stat().st_ino for path in (out / B).glob("[0-9]*")}
    if ":" in where:
        assert ready
    done("media", "export", filled.path, B, "-o", out)
    noted = len(ready) - (where == "transfer.named")
    same = sum((out / B / name).stat().st_ino == inode for name, inode in ready.items())
    assert same == noted
    assert [(out / B / f"{number:04d}").read_bytes() for number in range(5)] == STREAMS
    want_sums(out / B)
    assert not [path.name for path in (out / B).iterdir() if path.name.startswith(".")]


def test_export_goes_on_after_notes_that_were_cut_off(done: Done, filled: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert dying("transfer.noted:3", "media", "export", filled.path, B, "-o", out) == failpoints.STATUS
    notes = out / B / ".vtlfs-export"
    notes.write_bytes(notes.read_bytes()[:-5])
    assert dying("transfer.noted:2", "media", "export", filled.path, B, "-o", out) == failpoints.STATUS
    ready = {name: (out / B / name).stat().st_ino for name in ("0000", "0001", "0002", "0003")}
    done("media", "export", filled.path, B, "-o", out)
    assert {name: (out / B / name).stat().st_ino for name in ready} == ready
    want_sums(out / B)


def test_unfinished_export_is_not_imported(refused: Refused, filled: Shelf, other: Library, tmp_path: Path) -> None:
    dying("transfer.noted:3", "media", "export", filled.path, B, "-o", tmp_path / "out")
    assert "its export is not finished" in refused(2, "media", "import", other.path, tmp_path / "out")


def test_snapshot_is_exported_as_it_was(done: Done, filled: Shelf, tmp_path: Path) -> None:
    done("snapshot", "take", filled.path)
    filled.write(B, LATER)
    done("media", "export", filled.path, B, "--snapshot", 1, "-o", tmp_path / "then")
    assert len(json.loads((tmp_path / "then" / B / "medium.json").read_text())["tape_files"]) == 5
    want_sums(tmp_path / "then" / B)
    done("snapshot", "take", filled.path, "--name", "before the move")
    done("media", "export", filled.path, B, "--snapshot", "latest", "-o", tmp_path / "latest")
    done("media", "export", filled.path, B, "--snapshot", "before the move", "-o", tmp_path / "latest")
    assert [event["snapshot"] for event in events(filled.library, "exported")] == [1, 2]
    want_sums(tmp_path / "latest" / B)


def test_media_are_chosen_by_ranges_and_patterns(done: Done, refused: Refused, filled: Shelf, tmp_path: Path) -> None:
    done("media", "add", filled.path, "B1", "B2")
    done("media", "export", filled.path, "A00001L9..A00002L9", "B*", "B1", "-o", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["A00001L9", "A00002L9", "B1", "B2"]
    assert "no medium matches 'C*'" in refused(2, "media", "export", filled.path, "C*", "-o", tmp_path / "out")
    assert "no medium 'C1'" in refused(1, "media", "export", filled.path, "C1", "-o", tmp_path / "out")


def test_export_leaves_other_directories_alone(done: Done, refused: Refused, filled: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter").write_text("dear")
    assert "'letter', which is no export" in refused(2, "media", "export", filled.path, B, "-o", out)
    (out / "letter").unlink()
    (out / B).mkdir()
    (out / B / "letter").write_text("dear")
    assert "not empty, and no export" in refused(2, "media", "export", filled.path, B, "-o", out)
    shutil.rmtree(out / B)
    (out / B).symlink_to(tmp_path)
    assert "no export of vtlfs" in refused(2, "media", "export", filled.path, B, "-o", out)
    assert "belongs to the library" in refused(2, "media", "export", filled.path, B, "-o", filled.disks[0] / "out")
    assert "belongs to the library" in refused(2, "media", "export", filled.path, B, "-o", filled.path)
    (tmp_path / "file").write_text("x")
    assert "not a directory" in refused(2, "media", "export", filled.path, B, "-o", tmp_path / "file")


def test_export_of_another_volume_or_library_is_refused(
    done: Done, refused: Refused, filled: Shelf, other: Library, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done("media", "export", filled.path, B, "-o", out)
    done("media", "add", other.path, B)
    assert f"is an export of {B}, volume 1 of library" in refused(2, "media", "export", other.path, B, "-o", out)
    with closing(tracked(filled.library)) as tracking, tracking.transaction():
        tracking.volumes.end_current(B, utc_now())
    assert "is an export of" in refused(2, "media", "export", filled.path, B, "-o", out)


def test_damage_ends_an_export_before_it(run: Run, filled: Shelf, tmp_path: Path) -> None:
    (member,) = filled.disks[1].glob("sessions/*/000000000005.member")
    with member.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"\0")
    result = run("media", "export", filled.path, B, "-o", tmp_path / "out")
    assert (result.returncode, result.stderr.count("\n")) == (3, 1)
    assert sorted(path.name for path in (tmp_path / "out" / B).glob("*")) == [
        *(".vtlfs-export", "0000", "0001", "0002", "0003"),
    ]


def test_full_disk_is_told(run: Run, filled: Shelf, full_disk: Path) -> None:
    (full_disk / "filler").write_bytes(bytes(30_000))
    result = run("media", "export", filled.path, B, "-o", full_disk / "out")
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    assert result.stderr.count("\n") == 1


def slow_medium(shelf: Shelf, files: int = 60) -> list[bytes]:
    """Have a medium of many tape files, whose export takes seconds: each is synced."""
    data = [random.Random(number).randbytes(3000 + number) for number in range(files)]
    for one in data:
        shelf.write("A00002L9", one)
    return data


def begun(words: list[object], under_way: Callable[[], bool]) -> "subprocess.Popen[str]":
    """Start vtlfs, and wait until it is in the middle of what it does."""
    command = [*PROGRAM, *map(str, words)]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not under_way():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_export_that_is_stopped_goes_on(done: Done, shelf: Shelf, tmp_path: Path, number: signal.Signals) -> None:
    data, out = slow_medium(shelf), tmp_path / "out"
    words: list[object] = ["media", "export", shelf.path, "A00002L9", "-o", out]
    process = begun(words, lambda: (out / "A00002L9" / "0003").exists())
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    if number is signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert (process.returncode, said) == (128 + number, "vtlfs: interrupted; the same command goes on\n")
    assert not (out / "A00002L9" / "medium.json").exists()
    assert " not needed" in done(*words)
    assert [path.read_bytes() for path in sorted((out / "A00002L9").glob("[0-9]*"))] == data
    want_sums(out / "A00002L9")


def test_medium_that_is_erased_in_mid_export_is_exported_to_its_end(
    done: Done, shelf: Shelf, other: Library, tmp_path: Path
) -> None:
    """Whoever reads an old volume reads it to its end: nothing of it is reclaimed meanwhile."""
    data = [random.Random(number).randbytes(300_000) for number in range(6)]
    for one in data:
        shelf.write(B, one)
        shelf.write("A00002L9", one)
    command = [*PROGRAM, "media", "export", str(shelf.path), B, "A00002L9", "-o", "-"]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.read(1000)
        done("media", "erase", shelf.path, B, "A00002L9", "--yes")
        assert f"process {process.pid}, which reads it" in done("reclaim", shelf.path)
        (tmp_path / "media.tar").write_bytes(first + process.stdout.read())
    assert process.returncode == 0
    done("media", "import", other.path, tmp_path / "media.tar")
    assert streams(other) == streams(other, "A00002L9") == data
    assert "2 erased volumes" in done("reclaim", shelf.path)


# --- import -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def out(done: Done, filled: Shelf, tmp_path: Path) -> Path:
    """An exported medium's directory."""
    done("media", "export", filled.path, B, "-o", tmp_path / "out")
    return tmp_path / "out"


def want_copy(of: Library, source: Library, barcode: str = B, *, drives: int = 2) -> None:
    """Want a medium to have the same streams in another library, with the history of their sessions."""
    assert streams(of, barcode) == streams(source)
    for (file, session), (file_there, there) in zip(known(of, barcode), known(source), strict=True):
        assert (file.number, file.start, file.bytes) == (file_there.number, file_there.start, file_there.bytes)
        for key in ("host", "pid", "uid", "gid", "program", "opened_at", "released_at", "state", "error", "requests"):
            assert getattr(session, key) == getattr(there, key)
        assert session.drive == (there.drive if there.drive < drives else 0)
        assert session.origin == (there.origin or f"{source.config.uuid}/{there.id}")


def test_imported_medium_is_what_it_was(run: Run, done: Done, filled: Shelf, other: Library, out: Path) -> None:
    assert done("media", "import", other.path, out) == f"{B}: 5 tape files imported, 60.8 KiB\n"
    want_copy(other, filled.library)
    want_sound(done, other)
    (event,) = events(other, "imported")
    assert (event["library"], event["tape_files"], event["first"]) == (filled.library.config.uuid, 5, 0)
    listed = json.loads(done("sessions", other.path, "--json"))
    assert [one["origin"] for one in listed] == [f"{filled.library.config.uuid}/{number}" for number in range(1, 6)]


def test_import_that_is_repeated_adds_only_what_is_new(
    run: Run, done: Done, filled: Shelf, other: Library, out: Path
) -> None:
    done("media", "import", other.path, out / B)
    assert "0 tape files imported, 0 B; 5 not needed" in done("media", "import", other.path, out)
    filled.write(B, LATER)
    done("media", "export", filled.path, B, "-o", out)
    assert "1 tape file imported, 8.79 KiB; 5 not needed" in done("media", "import", other.path, out)
    want_copy(other, filled.library)
    assert len(events(other, "imported")) == 2


def test_session_that_failed_stays_failed(run: Run, done: Done, shelf: Shelf, other: Library, tmp_path: Path) -> None:
    from vtlfs.model import State

    for state, error in ((State.FAILED, "EIO"), (State.RECOVERED, None), (State.RELEASED, "ENOSPC")):
        number = shelf.open(B, random.Random(1).randbytes(5000))
        with closing(tracked(shelf.library)) as tracking, tracking.transaction():
            tracking.sessions.release(number, state, error, utc_now(), 7)
    done("media", "export", shelf.path, B, "-o", tmp_path / "out")
    done("media", "import", other.path, tmp_path / "out")
    want_copy(other, shelf.library)
    want_sound(done, other)


def test_streams_that_were_there_are_compared_by_their_bytes(
    run: Run, again: Done, filled: Shelf, out: Path, tmp_path: Path
) -> None:
    twin, stranger = Shelf(new(tmp_path / "twin")), Shelf(new(tmp_path / "stranger"))
    for data in STREAMS[:3]:
        twin.write(B, data)
        stranger.write(B, data[:-1] + bytes([data[-1] ^ 1]))
    assert "2 tape files imported, 52.8 KiB; 3 not needed" in again("media", "import", twin.path, out)
    assert not check(twin.library).damaged
    assert streams(twin.library) == STREAMS
    result = run("media", "import", stranger.path, out)
    assert result.returncode == 2
    assert "has another tape file 0000 than what is to come" in result.stderr
    assert len(known(stranger.library)) == 3


def new(path: Path) -> Path:
    path.mkdir()
    return path


def test_medium_that_has_more_is_left_alone(run: Run, filled: Shelf, out: Path, tmp_path: Path) -> None:
    twin = Shelf(new(tmp_path / "twin"))
    for data in [*STREAMS, LATER]:
        twin.write(B, data)
    result = run("media", "import", twin.path, out)
    assert result.returncode == 2
    assert "has another tape file 0005" in result.stderr
    assert len(known(twin.library)) == 6


def test_medium_comes_in_under_another_barcode(again: Done, filled: Shelf, out: Path) -> None:
    again("media", "import", filled.path, out, "--as", "C1")
    want_copy(filled.library, filled.library, "C1", drives=4)
    assert not check(filled.library).damaged


def test_capacity_is_kept_and_looked_at_before(run: Run, done: Done, filled: Shelf, other: Library, out: Path) -> None:
    done("media", "add", other.path, B, "--capacity", "50000")
    result = run("media", "import", other.path, out)
    assert result.returncode == 2
    assert "48.8 KiB are left of its capacity" in result.stderr
    assert known(other) == []
    done("media", "add", filled.path, "C1", "--capacity", "70000")
    filled.write("C1", LATER)
    done("media", "export", filled.path, "C1", "-o", out)
    done("media", "import", other.path, out / "C1")
    with closing(other.tracking(read_only=True)) as tracking:
        assert tracking.media.get("C1").capacity == 70_000
        assert tracking.media.get("C1").reserved == 0


def test_protected_medium_takes_nothing(run: Run, done: Done, other: Library, out: Path) -> None:
    done("media", "add", other.path, B)
    with closing(tracked(other)) as tracking, tracking.transaction():
        tracking.media.set_protected(B, True)
    result = run("media", "import", other.path, out)
    assert result.returncode == 1
    assert f"medium {B} can only be read" in result.stderr


OF_IMPORT = (
    *("transfer.unrecorded", "transfer.unrecorded:3", "transfer.recorded", "transfer.recorded:4"),
    *("tracking.media_added", "tracking.media_added>transaction.committed", "tracking.session_opened:2"),
    *("member.made:3", "extent.written:6", "parity.written:6", "member.synced:4"),
    *("tracking.progress_recorded:4", "tracking.progress_recorded:4>transaction.committed"),
    *("tracking.session_released:3", "tracking.session_released:3>transaction.committed", "member.finished:5"),
    "tracking.event_added",
)


@pytest.mark.parametrize("where", OF_IMPORT)
def test_import_that_died_goes_on(
    run: Run, done: Done, again: Done, filled: Shelf, other: Library, out: Path, where: str
) -> None:
    assert dying(where, "media", "import", other.path, out) == failpoints.STATUS
    if OF_IMPORT.index(where) % 2:
        again("recover", other.path)
        there = streams(other) if B in barcodes(other) else []
        assert there == STREAMS[: len(there)]
        want_sound(done, other)
    assert again("media", "import", other.path, out)
    want_copy(other, filled.library)
    want_sound(done, other)


@pytest.mark.parametrize("where", ["tracking.import_forgotten", "tracking.import_forgotten>transaction.committed"])
def test_recovery_of_an_import_may_die_too(again: Done, filled: Shelf, other: Library, out: Path, where: str) -> None:
    assert dying("transfer.unrecorded:5", "media", "import", other.path, out) == failpoints.STATUS
    assert dying(where, "recover", other.path) == failpoints.STATUS
    again("recover", other.path)
    assert streams(other) == STREAMS[:4]
    want_sound(again, other)
    again("media", "import", other.path, out)
    want_copy(other, filled.library)


@pytest.mark.parametrize("where", ["transfer.unrecorded:5", "tracking.progress_recorded:5>transaction.committed"])
def test_rebuild_after_an_import_that_died_has_no_part_of_a_stream(
    run: Run, again: Done, filled: Shelf, other: Library, out: Path, where: str
) -> None:
    assert dying(where, "media", "import", other.path, out) == failpoints.STATUS
    rebuild(run, other)
    assert streams(other) == STREAMS[:4]
    again("media", "import", other.path, out)
    want_copy(other, filled.library)


def rebuild(run: Run, of: Library) -> None:
    """Make a new tracking database from the disks alone; no copy of the old one is there, which is status 3."""
    for left in of.path.glob("tracking.db*"):
        left.unlink()
    result = run("rebuild", of.path, *(word for disk in of.config.disks for word in ("--disk", disk)))
    assert result.returncode == 3, result.stderr


def test_rebuild_knows_the_capacity_of_media_that_were_imported(
    run: Run, done: Done, filled: Shelf, other: Library, tmp_path: Path
) -> None:
    """The disks remembered another one, of media that were removed since."""
    filled.write("A00002L9", LATER)
    done("media", "set", filled.path, B, "A00002L9", "--capacity", "1MiB")
    done("media", "export", filled.path, B, "A00002L9", "-o", tmp_path / "out")
    done("media", "add", other.path, B, "A00002L9", "--capacity", "8KiB")
    done("media", "remove", other.path, B, "A00002L9", "--yes")
    done("media", "import", other.path, tmp_path / "out")
    rebuild(run, other)
    with closing(other.tracking(read_only=True)) as tracking:
        assert [medium.capacity for medium in tracking.media.all()] == [1 << 20, 1 << 20]


def test_rebuild_knows_what_was_imported(run: Run, done: Done, filled: Shelf, other: Library, out: Path) -> None:
    done("media", "import", other.path, out)
    rebuild(run, other)
    want_copy(other, filled.library)
    assert "5 not needed" in done("media", "import", other.path, out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_import_that_is_stopped_goes_on(
    done: Done, again: Done, shelf: Shelf, other: Library, tmp_path: Path, number: signal.Signals
) -> None:
    data = slow_medium(shelf)
    done("media", "export", shelf.path, "A00002L9", "-o", tmp_path / "out")

    def has_some() -> bool:
        with closing(sqlite3.connect(f"file:{other.path}/tracking.db?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT count(*) > 2 FROM tape_file").fetchone()[0])

    process = begun(["media", "import", other.path, tmp_path / "out"], has_some)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    if number is signal.SIGINT:
        assert (process.returncode, said) == (130, "vtlfs: interrupted; the same command goes on\n")
        want_sound(done, other)
    assert " not needed" in again("media", "import", other.path, tmp_path / "out")
    assert done("extract", other.path, "A00002L9", "-o", tmp_path / "all") == ""
    assert (tmp_path / "all").read_bytes() == b"".join(data)
    want_sound(done, other)


# --- retention --------------------------------------------------------------------------------------------------------


def retention_of(of: Library, barcode: str = B) -> Retention | None:
    with closing(of.tracking(read_only=True)) as tracking:
        return tracking.volumes.get(barcode, tracking.media.get(barcode).volume).retention


def edit(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change an exported manifest, as somebody does who can make right sums."""
    manifest = json.loads((out / B / "medium.json").read_text())
    change(manifest)
    text = json.dumps(manifest).encode()
    (out / B / "medium.json").write_bytes(text)
    lines = (out / B / "b3sums").read_text().splitlines()
    (out / B / "b3sums").write_text("\n".join([*lines[:-1], f"{blake3(text).hexdigest()}  medium.json"]) + "\n")


def test_retention_is_kept(run: Run, done: Done, shelf: Shelf, other: Library, tmp_path: Path) -> None:
    rules = '[media."A*"]\nretain = "90d"\nmode = "compliance"\n'
    config = Path(shelf.path) / "library.toml"
    config.write_text(config.read_text() + rules)
    opened = Library.open(Path(shelf.path))
    with closing(tracked(opened)) as tracking, tracking.transaction():
        tracking.volumes.begin_retention(B, opened.config.media["A*"])
    shelf.write(B, LATER)
    there = retention_of(shelf.library)
    assert there is not None
    done("media", "export", shelf.path, B, "-o", tmp_path / "out")
    done("media", "import", other.path, tmp_path / "out")
    assert retention_of(other) == there
    assert known(other)[0][0].retention == there
    with (
        closing(other.tracking()) as tracking,
        pytest.raises(Exception, match="retained until"),
        tracking.transaction(),
    ):
        tracking.volumes.end_current(B, utc_now(), override=True)
    want_sound(done, other)
    header = other.disks()[0].header(known(other)[0][1].id)
    assert header is not None
    assert header.ending is not None
    assert header.ending.retention == there


def test_own_rule_makes_retention_longer_and_stricter(done: Done, other: Library, out: Path) -> None:
    config = other.path / "library.toml"
    config.write_text(config.read_text() + '[media."A*"]\nretain = "10d"\nmode = "governance"\n')
    edit(out, lambda one: one.update(retention={"mode": "compliance", "until": "2020-01-01T00:00:00.000000Z"}))
    done("media", "import", other.path, out)
    found = retention_of(other)
    assert found is not None
    assert found.mode is RetainMode.COMPLIANCE
    assert found.until is not None
    assert found.until > utc_now()
    want_sound(done, other)


def test_times_of_a_manifest_move_no_clock(done: Done, filled: Shelf, other: Library, out: Path) -> None:
    config = other.path / "library.toml"
    config.write_text(config.read_text() + '[media."A*"]\nretain = "10d"\n')

    def change(one: dict[str, Any]) -> None:
        for row in one["tape_files"]:
            row["released_at"] = row["opened_at"] = "9000-01-01T00:00:00.000000Z"

    edit(out, change)
    done("media", "import", other.path, out)
    with closing(other.tracking(read_only=True)) as tracking:
        assert tracking.volumes.now("") <= utc_now()
    found = retention_of(other)
    assert found is not None
    assert found.until is not None
    assert utc_now() < found.until < "9000"
    want_sound(done, other)


# --- tar streams ------------------------------------------------------------------------------------------------------


def test_tar_stream_is_what_tar_reads(run: Run, done: Done, filled: Shelf, other: Library, tmp_path: Path) -> None:
    file = tmp_path / "media.tar"
    done("media", "export", filled.path, B, "A00002L9", "-o", file)
    names = subprocess.run(["tar", "tf", file], capture_output=True, text=True, check=True).stdout.splitlines()
    assert names[:4] == [f"{B}/medium.json", f"{B}/medium.json.b3", f"{B}/0000", f"{B}/0000.b3"]
    assert names[-1] == "A00002L9/b3sums"
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "xf", file, "-C", tmp_path / "unpacked"], check=True)
    want_sums(tmp_path / "unpacked" / B)
    done("media", "import", other.path, file)
    want_copy(other, filled.library)
    assert "5 not needed" in done("media", "import", other.path, tmp_path / "unpacked")
    assert "5 not needed" in done("media", "import", other.path, file)
    want_sound(done, other)
    assert barcodes(other) == [B, "A00002L9"]


def test_tar_stream_goes_through_a_pipe(run: Run, filled: Shelf, other: Library) -> None:
    program = " ".join(PROGRAM)
    script = f"{program} media export {filled.path} {B} -o - | {program} media import {other.path} -"
    piped = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (piped.returncode, piped.stderr) == (0, "")
    want_copy(other, filled.library)


def test_tar_stream_that_breaks_off_leaves_whole_tape_files(
    run: Run, done: Done, filled: Shelf, other: Library, tmp_path: Path
) -> None:
    file = tmp_path / "media.tar"
    done("media", "export", filled.path, B, "-o", file)
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.index(STREAMS[4][:64]) + 20_000])
    result = run("media", "import", other.path, file)
    assert (result.returncode, result.stderr.count("\n")) == (3, 1)
    assert "is not whole" in result.stderr
    assert streams(other) == STREAMS[:4]
    want_sound(done, other)
    file.write_bytes(whole)
    done("media", "import", other.path, file)
    want_copy(other, filled.library)


def test_sizes_from_8_gib_on_fit_into_a_header() -> None:
    from vtlfs.engine.transfer.tar import TarReader, TarWriter

    pieces: list[bytes] = []
    TarWriter(lambda piece: pieces.append(bytes(piece))).begin("A/0000", 1 << 50, "2026-01-31T09:30:00.000000Z")
    assert len(pieces[0]) == tarfile.BLOCKSIZE
    assert TarReader(io.BytesIO(pieces[0]), "x").next() == ("A/0000", 1 << 50)


# --- copy -------------------------------------------------------------------------------------------------------------


def test_copy_moves_only_what_is_missing(
    run: Run, done: Done, again: Done, filled: Shelf, other: Library, tmp_path: Path
) -> None:
    assert "5 tape files copied, 60.8 KiB" in done("media", "copy", filled.path, B, other.path)
    want_copy(other, filled.library)
    filled.write(B, LATER)
    assert "1 tape file copied, 8.79 KiB; 5 not needed" in done("media", "copy", filled.path, B, other.path)
    want_copy(other, filled.library)
    want_sound(done, other)
    third = library(tmp_path / "third", disks=2, unit=4096, parity=0)
    done("media", "copy", other.path, B, third.path)
    assert "6 not needed" in done("media", "copy", filled.path, B, third.path), "by way of another library"
    assert "6 not needed" in again("media", "copy", third.path, B, filled.path), "back to where they came from"
    assert [one["tape_files"] for one in events(filled.library, "copied")] == [5, 1, 0]
    assert [one["tape_files"] for one in events(other, "copied") if "first" in one] == [5, 1]


def test_copy_refuses_what_differs(run: Run, filled: Shelf, tmp_path: Path) -> None:
    twin = Shelf(new(tmp_path / "twin"))
    twin.write(B, b"x")
    result = run("media", "copy", filled.path, B, twin.path)
    assert result.returncode == 2
    assert "has another tape file 0000" in result.stderr
    assert len(known(twin.library)) == 1


@pytest.mark.parametrize("where", ["transfer.unrecorded:2", "transfer.recorded:3", "extent.written:9"])
def test_copy_that_died_goes_on(run: Run, done: Done, again: Done, filled: Shelf, other: Library, where: str) -> None:
    assert dying(where, "media", "copy", filled.path, B, other.path) == failpoints.STATUS
    again("media", "copy", filled.path, B, other.path)
    want_copy(other, filled.library)
    want_sound(done, other)


# --- hostile exports --------------------------------------------------------------------------------------------------

ROW = "tape_files"
MANIFESTS: list[Callable[[dict[str, Any]], object]] = [
    lambda one: one.update(barcode="../../etc"),
    lambda one: one.update(barcode="/etc"),
    lambda one: one.update(barcode=7),
    lambda one: one.update(library="x"),
    lambda one: one.update(volume=0),
    lambda one: one.update(volume=1 << 70),
    lambda one: one.update(vtlfs_export=2),
    lambda one: one.pop("vtlfs_export"),
    lambda one: one.pop("capacity"),
    lambda one: one.update(capacity=-1),
    lambda one: one.update(begun_at="yesterday"),
    lambda one: one.update(tape_files={}),
    lambda one: one.update(retention={"mode": "for fun", "until": None}),
    lambda one: one.update(retention={"mode": "worm", "until": "2026-01-31T09:30:00.000000Z"}),
    lambda one: one.update(retention=[]),
    lambda one: one[ROW][0].update(bytes=1 << 63),
    lambda one: one[ROW][0].update(bytes=0),
    lambda one: one[ROW][0].update(bytes="1"),
    lambda one: one[ROW][1].update(number=0),
    lambda one: one[ROW][1].update(start=0),
    lambda one: one[ROW][1].update(session=0),
    lambda one: one[ROW][1].update(session=1 << 80),
    lambda one: one[ROW][1].update(host=""),
    lambda one: one[ROW][1].update(host="h" * 5000),
    lambda one: one[ROW][1].update(program=None),
    lambda one: one[ROW][1].update(uid=-1),
    lambda one: one[ROW][1].update(drive=1 << 40),
    lambda one: one[ROW][1].update(state="open"),
    lambda one: one[ROW][1].update(state=["released"]),
    lambda one: one[ROW][1].update(error="rm -rf /"),
    lambda one: one[ROW][1].update(released_at="0000-00-00T00:00:00.000000Z"),
    lambda one: one[ROW][1].update(origin="elsewhere"),
    lambda one: one[ROW].append("x"),
    lambda one: one[ROW].pop(),
]


def want_refused(run: Run, of: Library, source: Path) -> str:
    """Want an import to fail with one line and to leave no medium; return the line."""
    result = run("media", "import", of.path, source)
    assert result.returncode in (2, 3), result.stderr
    assert result.stderr.startswith("vtlfs: ")
    assert result.stderr.count("\n") == 1
    assert "unexpected" not in result.stderr
    assert barcodes(of) == []
    return str(result.stderr)


@pytest.mark.parametrize("which", range(len(MANIFESTS)))
def test_wrong_manifest_is_refused(run: Run, other: Library, out: Path, which: int) -> None:
    edit(out, MANIFESTS[which])
    want_refused(run, other, out)


def test_files_that_are_not_what_they_are_said_to_be_are_refused(
    run: Run, done: Done, other: Library, out: Path, tmp_path: Path
) -> None:
    pristine = out.rename(tmp_path / "pristine")

    def again() -> Path:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(pristine, out)
        return out / B

    changed = bytearray(STREAMS[0])
    changed[0] ^= 1
    (again() / "0000").write_bytes(changed)
    assert "the BLAKE3 of tape file 0000" in want_refused(run, other, out)
    (again() / "0004").write_bytes(STREAMS[4] + b"x")
    assert "has 50002 bytes instead of 50001" in want_refused(run, other, out)
    (again() / "0003").unlink()
    assert "0003: is missing" in want_refused(run, other, out)
    (again() / "0003").unlink()
    (out / B / "0003").symlink_to("/etc/hostname")
    assert "is a symbolic link" in want_refused(run, other, out)
    (again() / "0003").unlink()
    os.mkfifo(out / B / "0003")
    assert "is no regular file" in want_refused(run, other, out)
    (again() / "medium.json").write_bytes(b"\xff\xfe{}")
    want_refused(run, other, out)
    (again() / "medium.json").write_text("[" * 100_000)
    want_refused(run, other, out)
    (again() / "medium.json").write_text('{"vtlfs_export": ' + "9" * 5000 + "}")
    want_refused(run, other, out)
    with (again() / "medium.json").open("r+b") as file:
        file.truncate(1 << 40)
    assert "has more than 67108864 bytes" in want_refused(run, other, out)
    sums = again() / "b3sums"
    for text in ("", "x  0000\n", sums.read_text() * 2, sums.read_text() + "0" * 64 + "  ../x\n", "\xff"):
        (again() / "b3sums").write_text(text)
        want_refused(run, other, out)
    (again() / "b3sums").write_text((pristine / B / "b3sums").read_text().replace("0001", "0009"))
    want_refused(run, other, out)
    want_refused(run, other, new(tmp_path / "empty"))
    again()
    done("media", "import", other.path, out)


Member = tuple[tarfile.TarInfo, bytes]


def members(run: Run, shelf: Shelf) -> list[Member]:
    """Return the members of a stream of an exported medium."""
    stream = run("media", "export", shelf.path, B, "-o", "-", text=False).stdout
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def packed(path: Path, found: list[Member], *, kind: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=kind) as tar:
        for member, content in found:
            tar.addfile(member, io.BytesIO(content))
    return path


def named(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE) -> Member:
    member = tarfile.TarInfo(name)
    member.size, member.type = (len(content) if kind == tarfile.REGTYPE else 0), kind
    if kind == tarfile.SYMTYPE:
        member.linkname = "/etc/passwd"
    return member, content


def test_wrong_tar_streams_are_refused(run: Run, done: Done, filled: Shelf, other: Library, tmp_path: Path) -> None:
    right = members(run, filled)
    at = tmp_path / "x.tar"

    def want(found: list[Member], what: str, **more: Any) -> None:
        assert what in want_refused(run, other, packed(at, found, **more))

    want(right[1:], "where the manifest of a medium is to come")
    want([named("../0000")], "where the manifest of a medium is to come")
    want([named("/etc/passwd")], "where the manifest")
    want([named("../x/medium.json")], "where the manifest")
    want([named("A/medium.json", b"{}"), *right[1:]], "A/medium.json.b3")
    want(
        [(named("B1/medium.json", right[0][1])[0], right[0][1]), named("B1/medium.json.b3", right[1][1])],
        "it is that of",
    )
    want([*right[:2], named(f"{B}/0000", kind=tarfile.SYMTYPE)], "is no regular file")
    want([*right[:2], named(f"{B}/0000", kind=tarfile.LNKTYPE)], "is no regular file")
    want([*right[:2], named(f"{B}/0000", kind=tarfile.FIFOTYPE)], "is no regular file")
    want([*right[:2], named(f"{B}/0000", b"xx")], "where A00001L9/0000 with 1 bytes is to come")
    want([*right[:2], named(f"{B}/../0000", b"x")], "is to come")
    want([*right[:3], right[5], *right[4:]], "0000.b3")
    want([*right[:2], named("x" * 300)], "is no regular file")
    want([*right[:2], named("ü" * 300)], "is no regular file", kind=tarfile.PAX_FORMAT)
    flipped = bytes([right[2][1][0] ^ 1])
    want([*right[:2], (right[2][0], flipped), *right[3:]], "the BLAKE3 of tape file 0000")
    want([(right[0][0], right[0][1][:-2] + b" \n"), *right[1:]], "its BLAKE3 is another one")
    want([], "where the manifest of a medium is to come")
    at.write_bytes(random.Random(3).randbytes(5000))
    assert "no tar stream" in want_refused(run, other, at)
    at.write_bytes(b"")
    assert "is not whole" in want_refused(run, other, at)
    assert known_sessions(other) >= 1  # of the stream whose sum was wrong
    want_sound(done, other)


def known_sessions(of: Library) -> int:
    with closing(of.tracking(read_only=True)) as tracking:
        return tracking.sessions.count()


def test_members_that_come_twice_are_refused_after_what_was_right(
    run: Run, done: Done, filled: Shelf, other: Library, tmp_path: Path
) -> None:
    right = members(run, filled)
    result = run("media", "import", other.path, packed(tmp_path / "x.tar", [*right[:4], *right[2:]]))
    assert result.returncode == 3
    assert "goes on with 'A00001L9/0000'" in result.stderr
    assert streams(other) == STREAMS[:1]
    wrong = right[-1][1].replace(b"  0001", b"  0009")
    result = run("media", "import", other.path, packed(tmp_path / "x.tar", [*right[:-1], named(f"{B}/b3sums", wrong)]))
    assert result.returncode == 3
    assert "b3sums: it has" in result.stderr
    want_sound(done, other)


def test_endless_streams_take_little_memory(filled: Shelf, other: Library, run: Run, tmp_path: Path) -> None:
    """A manifest that claims a petabyte, headers that claim it, and zeros without end."""
    header = tarfile.TarInfo(f"{B}/medium.json")
    header.size = 1 << 50
    claims = [header.tobuf(tarfile.GNU_FORMAT)]
    extended = tarfile.TarInfo("././@LongLink")
    extended.size, extended.type = 1 << 50, tarfile.GNUTYPE_LONGNAME
    claims.append(extended.tobuf(tarfile.GNU_FORMAT))
    pax = tarfile.TarInfo("x")
    pax.size, pax.type = 1 << 50, tarfile.XHDTYPE
    claims.append(pax.tobuf(tarfile.GNU_FORMAT))
    program = " ".join(PROGRAM)
    for claim in claims:
        (tmp_path / "head").write_bytes(claim)
        script = f"ulimit -v 4000000; (cat {tmp_path}/head; cat /dev/zero) | {program} media import {other.path} -"
        piped = subprocess.run(
            ["bash", "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
        )
        assert piped.returncode == 3, piped.stderr
        assert piped.stderr.count("vtlfs: ") == 1
    script = f"cat /dev/zero | {program} media import {other.path} -"
    piped = subprocess.run(["bash", "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert piped.returncode == 3
    assert barcodes(other) == []

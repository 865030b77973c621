"""Snapshots through real mounts: each shows the exact bytes of its moment while writers go on; and the schedule."""

import errno
import itertools
import json
import os
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mounting import PROGRAM, PROJECT, Mounted, OnDisks, random_bytes, shell, wait_until

from vtlfs.engine.library import Library
from vtlfs.engine.reading.extract import extract
from vtlfs.model import KIB, MIB, epoch_ns, utc_now
from vtlfs.snap import store
from vtlfs.snap.view import open_view, opened
from vtlfs.timing import Timing

PIECE = 96 * KIB


def take(library: OnDisks, *words: str) -> int:
    return int(json.loads(library.vtlfs("snapshot", "take", library.path, "--json", *words))["id"])


def test_snapshots_are_found_by_name_too(library: OnDisks) -> None:
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(b"first")
        first = take(library, "--name", "before the move")
        mounted.medium("T1").write_bytes(b"second")
        second = take(library)
        snapshots = mounted.path / "snapshots"
        assert (snapshots / "before the move/media/T1").read_bytes() == b"first"
        assert os.readlink(snapshots / "latest") == str(second)
        assert (snapshots / "latest/media/T1").read_bytes() == b"firstsecond"
        third = take(library)
        assert os.readlink(snapshots / "latest") == str(third)
        assert os.lstat(snapshots / "latest").st_size == len(str(third))
        assert sorted(os.listdir(snapshots)) == sorted(map(str, (first, second, third))), "links are not listed"
        library.vtlfs("snapshot", "delete", library.path, "before the move", "--yes")
        for gone in ("before the move", "another", "01", "\u0661"):
            assert not os.path.lexists(snapshots / gone)


def configure(library: OnDisks, *lines: str) -> None:
    """Add a section [snapshots] to library.toml."""
    with open(library.path / "library.toml", "a") as file:
        file.write("\n".join(["", "[snapshots]", *lines, ""]))


def taken(library: OnDisks) -> list[dict[str, Any]]:
    snapshots: list[dict[str, Any]] = json.loads(library.vtlfs("snapshot", "list", library.path, "--json"))
    return snapshots


def extracted(library: OnDisks, snapshot: int, barcode: str, number: int | None = None) -> bytes:
    """Extract from a snapshot by the program's own function, which is quicker than the program."""
    opened, pieces = Library.open(library.path), []
    extract(
        opened,
        barcode,
        number,
        lambda piece: pieces.append(bytes(piece)),
        lambda _: None,
        lambda: open_view(opened, snapshot),
    )
    return b"".join(pieces)


class Stream:
    """A program that writes piece by piece until `end` is called."""

    def __init__(self, path: Path, seed: int) -> None:
        self.seed = seed
        self.written = 0
        self.descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
        self.session = os.fstat(self.descriptor).st_ino
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        while not self._ending.wait(0.02):
            assert os.write(self.descriptor, self._piece(self.written // PIECE)) == PIECE
            self.written += PIECE
        os.close(self.descriptor)

    def data(self, size: int) -> bytes:
        """Return the stream's first bytes."""
        return b"".join(self._piece(number) for number in range(-(-size // PIECE)))[:size]

    def _piece(self, number: int) -> bytes:
        return random_bytes(self.seed * PIECE + number, PIECE)

    def end(self) -> bytes:
        """Stop, and return all that was written."""
        self._ending.set()
        self._thread.join()
        return self.data(self.written)


@contextmanager
def streams(mounted: Mounted, barcodes: list[str]) -> Iterator[list[Stream]]:
    running = [Stream(mounted.drive(seed % 2, barcode), seed) for seed, barcode in enumerate(barcodes)]
    try:
        yield running
    finally:
        for stream in running:
            stream.end()


def released(library: OnDisks, *sessions: int) -> None:
    """Wait until the release is recorded, which happens a moment after close() has returned."""
    wait_until(lambda: all(library.session(session).released_at for session in sessions), "released sessions")


def write(path: Path, data: bytes) -> int:
    """Write a stream; return its session."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    session = os.fstat(descriptor).st_ino
    while data:
        data = data[os.write(descriptor, data) :]
    os.close(descriptor)
    return session


def test_a_snapshot_amid_four_streams_reads_as_it_was(library: OnDisks) -> None:
    before = {"T1": random_bytes(901, 3 * MIB + 7), "T2": random_bytes(902, 12_345)}
    with library.mounted("host=alpha") as mounted:
        released(library, *(write(mounted.medium(barcode), data) for barcode, data in before.items()))
        with streams(mounted, ["T1", "T1", "T2", "T3"]) as running:
            wait_until(lambda: all(stream.written > 20 * PIECE for stream in running), "running streams")
            first = take(library, "--name", "amid")
            sizes = [stream.written for stream in running]
            wait_until(lambda: all(s.written > size + 5 * PIECE for s, size in zip(running, sizes, strict=True)), "on")
            whole = running[0].end()
            released(library, running[0].session)
            second = take(library)
            wait_until(lambda: all(stream.written > 40 * PIECE for stream in running[1:]), "streams that go on")
            then = mounted.path / "snapshots" / str(first)
            assert (then / "media/T1").read_bytes() == before["T1"]
            assert os.listdir(then / "files/T1") == ["0000"]
        rest = [stream.end() for stream in running]
        released(library, *(stream.session for stream in running))
        states = {
            first: {"T1": [before["T1"]], "T2": [before["T2"]], "T3": []},
            second: {"T1": [before["T1"], whole], "T2": [before["T2"]], "T3": []},
        }
        for number, media in states.items():
            then = mounted.path / "snapshots" / str(number)
            assert sorted(os.listdir(then / "media")) == [f"T{n}" for n in range(1, 10)]
            for barcode, files in media.items():
                assert (then / "media" / barcode).stat().st_size == len(b"".join(files))
                assert (then / "media" / barcode).read_bytes() == b"".join(files)
                assert extracted(library, number, barcode) == b"".join(files)
                assert sorted(os.listdir(then / "files" / barcode)) == [f"{n:04d}" for n in range(len(files))]
                for index, data in enumerate(files):
                    assert (then / "files" / barcode / f"{index:04d}").read_bytes() == data
                    assert extracted(library, number, barcode, index) == data
        then = json.loads(library.vtlfs("snapshot", "show", library.path, first, "--json"))
        written = {one["id"]: one for one in then["sessions"] if one["access"] == "write"}
        assert written.keys() == {stream.session for stream in running}
        for stream, size in zip(running, sizes, strict=True):
            assert written[stream.session]["bytes"] <= size + PIECE, "of then, not of now"
            ended = library.session(stream.session)
            assert (ended.state, ended.error, ended.bytes) == ("released", None, stream.written), "undisturbed"
        assert mounted.medium("T2").read_bytes() == before["T2"] + rest[2]
        assert mounted.medium("T1").stat().st_size == len(before["T1"] + whole + rest[1])


def test_a_stream_that_was_closed_is_in_the_next_snapshot(library: OnDisks) -> None:
    with library.mounted() as mounted:
        for count in range(1, 9):
            shell(f"dd if=/dev/zero of={mounted.medium('T1')} bs=64k count={count} status=none")
            with closing(Library.open(library.path).tracking()) as tracking:
                store.wait_visible(tracking, Timing(snapshot=60.0))
                with tracking.transaction():
                    found = store.take(tracking, utc_now())
            assert (found.tape_files, found.open_sessions) == (count, 0)
        shell(
            f"for count in 9 10 11; do dd if=/dev/zero of={mounted.medium('T1')} bs=64k count=1 status=none;"
            f" {' '.join(PROGRAM)} snapshot take {library.path} >/dev/null || exit; done",
            cwd=PROJECT,
        )
        assert [one["tape_files"] for one in taken(library)] == list(range(1, 12))


def test_taking_does_not_wait_for_a_stream_that_goes_on(library: OnDisks) -> None:
    with library.mounted() as mounted, open(mounted.medium("T1"), "wb", 0) as stream:
        stream.write(b"some")
        os.close(os.dup(stream.fileno()))  # a close() that is not the last one
        assert wait_until(lambda: library.session(os.fstat(stream.fileno()).st_ino).bytes, "a flush") == 4
        take(library)
        stream.write(b" more")
    assert taken(library)[0]["open_sessions"] == 1


def test_snapshots_are_read_only_and_never_change(library: OnDisks) -> None:
    with library.mounted() as mounted:
        released(library, write(mounted.medium("T1"), b"one"))
        number = take(library)
        released(library, write(mounted.medium("T1"), b"two"))
        folder = mounted.path / "snapshots" / str(number)
        medium, file = folder / "media/T1", folder / "files/T1/0000"
        for path in (medium, file):
            for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC):
                with pytest.raises(PermissionError) as caught:
                    os.open(path, flags)
                assert caught.value.errno == errno.EPERM
            with pytest.raises(PermissionError):
                path.unlink()
            with pytest.raises(PermissionError):
                path.rename(folder / "x")
            assert stat.S_IMODE(path.stat().st_mode) == 0o440
            assert path.read_bytes() == b"one"
        for path in (folder / "media/new", folder / "new", mounted.path / "snapshots/99"):
            with pytest.raises(PermissionError):
                path.touch()
            with pytest.raises(PermissionError):
                path.mkdir()
        with pytest.raises(PermissionError):
            folder.rmdir()
        assert sorted(os.listdir(folder)) == ["files", "media"]


def test_times_and_numbers(library: OnDisks) -> None:
    with library.mounted() as mounted:
        released(library, write(mounted.medium("T1"), b"one"))
        numbers = [take(library) for _ in range(11)]
        (one,) = [snapshot for snapshot in taken(library) if snapshot["id"] == numbers[0]]
        folder = mounted.path / "snapshots" / str(numbers[0])
        assert os.listdir(mounted.path / "snapshots") == [str(number) for number in numbers]
        for path in (folder, folder / "media", folder / "files"):
            assert path.stat().st_mtime_ns == epoch_ns(one["taken_at"])
        assert (folder / "media/T1").stat().st_mtime_ns == mounted.file("T1", 0).stat().st_mtime_ns
        places = [path for path in mounted.path.rglob("*") if "snapshots" in path.parts]
        kept = {str(path): path.lstat().st_ino for path in places}
        assert {str(path): path.lstat().st_ino for path in places} == kept
        own = {path: number for path, number in kept.items() if not path.endswith("/0000")}
        assert len(set(own.values())) == len(own)
        assert {number for path, number in kept.items() if path not in own} == {mounted.file("T1", 0).stat().st_ino}
        for entry in os.scandir(folder / "media"):
            assert entry.inode() == os.stat(entry.path).st_ino


def test_reading_a_snapshot_is_a_session(library: OnDisks) -> None:
    with library.mounted("host=reader") as mounted:
        released(library, write(mounted.medium("T1"), b"one"))
        folder = mounted.path / "snapshots" / str(take(library))
        for path in (folder / "media/T1", folder / "files/T1/0000"):
            assert path.read_bytes() == b"one"
        found = wait_until(
            lambda: [one for one in library.listed() if one["access"] == "read" and one["state"] == "released"][1:],
            "released readers",
        )
        assert (found[0]["host"], found[0]["medium"]) == ("reader", "T1")


def test_programs_walk_a_snapshot(library: OnDisks, tmp_path: Path) -> None:
    data = random_bytes(5, 2 * MIB + 11)
    with library.mounted() as mounted:
        released(library, write(mounted.medium("T1"), data), write(mounted.medium("T1"), b"two"))
        folder = mounted.path / "snapshots" / str(take(library))
        released(library, write(mounted.medium("T1"), b"three"))
        shell(f"cp -a {folder} {tmp_path}/copy && diff -r {folder} {tmp_path}/copy")
        assert (tmp_path / "copy/media/T1").read_bytes() == data + b"two"
        shell(f"tar cf {tmp_path}/all.tar -C {folder} . && tar df {tmp_path}/all.tar -C {folder}")
        assert shell(f"tail -c 3 {folder}/media/T1").stdout == "two"
        assert shell(f"find {folder}/files -type f | wc -l").stdout == "2\n"


def test_pruned_snapshot_vanishes_and_what_is_open_stays(library: OnDisks) -> None:
    data = random_bytes(6, 3 * MIB)
    with library.mounted() as mounted:
        released(library, write(mounted.medium("T1"), data))
        number, named = take(library), take(library, "--name", "stays")
        released(library, write(mounted.medium("T1"), b"more"))
        folder = mounted.path / "snapshots" / str(number)
        with open(folder / "media/T1", "rb") as reader:
            assert reader.read(10) == data[:10]
            configure(library, "keep = { last = 1 }")
            last = take(library)
            library.vtlfs("snapshot", "prune", library.path)
            assert not folder.exists()
            assert not (folder / "media/T1").exists()
            assert os.listdir(mounted.path / "snapshots") == [str(named), str(last)]
            assert reader.read() == data[10:]
        assert (mounted.path / "snapshots" / str(named) / "media/T1").read_bytes() == data
        assert mounted.medium("T1").read_bytes() == data + b"more"


def test_what_looks_at_a_snapshot_that_is_pruned_ends_well(library: OnDisks) -> None:
    """Each program has begun to read when the snapshot is pruned."""
    data = random_bytes(7, 24 * MIB)
    with library.mounted() as mounted:
        released(library, write(mounted.medium("T1"), data))
        number = take(library)
        released(library, write(mounted.medium("T1"), b"more"))
        words: list[str | Path] = [*PROGRAM, "extract", library.path, "T1", "--snapshot", str(number)]
        reading: list[str | Path] = ["cat", mounted.path / "snapshots" / str(number) / "media/T1"]
        with (
            subprocess.Popen(words, stdout=subprocess.PIPE, cwd=PROJECT) as extracting,
            subprocess.Popen(reading, stdout=subprocess.PIPE) as copying,
            opened(Library.open(library.path), number) as view,
        ):
            assert extracting.stdout is not None
            assert copying.stdout is not None
            first = [extracting.stdout.read(10), copying.stdout.read(10)]
            before = view.media.all()
            configure(library, "keep = { last = 1 }")
            last = take(library)
            library.vtlfs("snapshot", "prune", library.path)
            assert view.media.all() == before, "what has begun sees what it saw"
            rest = [extracting.stdout.read(), copying.stdout.read()]
        assert [head + tail for head, tail in zip(first, rest, strict=True)] == [data, data]
        assert (extracting.returncode, copying.returncode) == (0, 0)
        for gone in (
            ["extract", library.path, "T1", "--snapshot", number],
            ["snapshot", "diff", library.path, number, "now"],
        ):
            text = library.vtlfs(*gone, status=1)
            assert text == f"vtlfs: no snapshot {number}; `vtlfs snapshot list` shows the snapshots\n"
        assert extracted(library, last, "T1") == data + b"more"


def test_export_and_difference_agree(library: OnDisks) -> None:
    with library.mounted("host=alpha") as mounted:
        released(library, write(mounted.medium("T1"), b"one"))
        with streams(mounted, ["T1", "T2"]) as running:
            wait_until(lambda: all(stream.written > 5 * PIECE for stream in running), "running streams")
            first = take(library)
            wait_until(lambda: all(stream.written > 9 * PIECE for stream in running), "running streams")
        released(library, *(stream.session for stream in running), write(mounted.medium("T3"), b"three"))
        library.add("NEW1")
        library.vtlfs("load", library.path, 1, "T1")
        second = take(library)
        write(mounted.medium("T3"), b"later")
    exports = {}
    for number in (first, second):
        file = library.root / f"{number}.db"
        library.vtlfs("snapshot", "export", library.path, number, file)
        exports[number] = contents(file)
    found = json.loads(library.vtlfs("snapshot", "diff", library.path, first, second, "--json"))
    keys = {"session": "id", "medium": "barcode", "drive": "number", "disk": "number"}
    for table, key in keys.items():
        old = {row[key]: row for row in exports[first][table]}
        new = {row[key]: row for row in exports[second][table]}
        changes = found["media" if table == "medium" else f"{table}s"]
        assert {row[key] for row in changes["came"]} == new.keys() - old.keys()
        assert {row[key] for row in changes["went"]} == old.keys() - new.keys()
        differing = {name for name in old.keys() & new.keys() if old[name] != new[name]}
        assert {change["after"][key] for change in changes["changed"]} == differing
        for change in changes["changed"]:
            for side, rows in (("before", old), ("after", new)):
                row, shown = rows[change[side][key]], dict(change[side])
                shown["disks"] = json.dumps(shown.get("disks"), separators=(",", ":"))
                assert {name: row[name] for name in row.keys() & shown.keys() if name != "disks"} == {
                    name: shown[name] for name in row.keys() & shown.keys() if name != "disks"
                }
    files = [row for row in exports[second]["tape_file"] if row not in exports[first]["tape_file"]]
    assert {(row["medium"], row["number"], row["bytes"]) for row in files} == {
        (row["medium"], row["number"], row["bytes"]) for row in found["tape_files"]
    }
    assert found["bytes_by_host"] == {"alpha": sum(row["bytes"] for row in files)}
    assert found["bytes"] == sum(row["bytes"] for row in files)


def contents(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of all tables of a database; assert that SQLite alone can check and read it."""
    with closing(sqlite3.connect(file)) as database:
        database.row_factory = sqlite3.Row
        assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        made = database.execute("SELECT type, name FROM sqlite_master").fetchall()
        assert "trigger" not in {row["type"] for row in made}
        tables = [row["name"] for row in made if row["type"] == "table"]
        assert not [name for name in tables if name.endswith("_history")]
        return {name: [dict(row) for row in database.execute(f"SELECT * FROM {name}")] for name in tables}


def test_two_mounts_make_one_scheduled_snapshot(library: OnDisks, tmp_path: Path) -> None:
    configure(library, 'every = "1s"')
    with library.mounted("host=alpha") as alpha, library.mounted("host=beta", at=tmp_path / "beta") as beta:
        wait_until(lambda: taken(library), "the first snapshot")
        released(library, write(alpha.medium("T1"), b"one"))
        wait_until(lambda: taken(library)[-1]["tape_files"] == 1, "a snapshot of what was written")
        for mounted in (alpha, beta):
            assert (mounted.path / "snapshots" / str(taken(library)[-1]["id"]) / "media/T1").read_bytes() == b"one"
        released(library, write(beta.medium("T1"), b"two"))
        wait_until(lambda: taken(library)[-1]["tape_files"] == 2, "a further snapshot")
    times = [epoch_ns(one["taken_at"]) for one in taken(library)]
    assert all(one["scheduled"] for one in taken(library))
    assert all(later - earlier >= 10**9 for earlier, later in itertools.pairwise(times)), "one each time, not two"


def test_an_unchanged_library_gets_no_scheduled_snapshot(library: OnDisks) -> None:
    configure(library, 'every = "1s"', "keep = { last = 5 }")
    with library.mounted() as mounted:
        (first,) = wait_until(lambda: taken(library), "the first snapshot")
        for _ in range(3):  # a look of the schedule or more
            os.listdir(mounted.path / "media")
            os.stat(mounted.medium("T1"))
            shell("sleep 1")
        assert taken(library) == [first]
        released(library, write(mounted.medium("T1"), b"one"))
        wait_until(lambda: taken(library)[-1]["tape_files"] == 1, "a snapshot of what was written")


def test_scheduled_snapshots_are_thinned_out(library: OnDisks) -> None:
    configure(library, 'every = "1s"', "keep = { last = 2 }")

    def has_snapshot_of_more_than(tape_files: int) -> bool:
        found = taken(library)
        return bool(found) and found[-1]["tape_files"] > tape_files

    with library.mounted() as mounted:
        for number in range(4):
            released(library, write(mounted.medium("T1"), b"one"))
            wait_until(partial(has_snapshot_of_more_than, number), "a snapshot")
        assert len(taken(library)) == 2
        assert (mounted.path / "snapshots" / str(taken(library)[-1]["id"]) / "media/T1").read_bytes() == b"one" * 4


def test_a_schedule_that_will_not_do_is_named_with_its_line(library: OnDisks, tmp_path: Path) -> None:
    configure(library, 'every = "15m"')
    (tmp_path / "mnt").mkdir()
    assert "snapshots.every: '15m' is not a duration" in library.vtlfs(
        "mount", library.path, tmp_path / "mnt", status=1
    )

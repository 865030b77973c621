"""The lives of media on a real mount: what ls, dd and cat see of media that are erased, protected, retired, removed."""

import errno
import json
import os
import stat
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest
from mounting import Mounted, OnDisks, random_bytes, shell

from vtlfs.engine.library import Library
from vtlfs.errors import MediumBusy
from vtlfs.model import MIB

OLD, NEW = random_bytes(1, 3 * MIB + 17), random_bytes(2, 5000)


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.stat()  # it waits for the release


def error_of_writing(path: Path) -> int | None:
    """Return the errno of an open() for writing; None if it is let in."""
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError as error:
        return error.errno
    return None


def test_an_erased_medium_is_empty_at_once_and_snapshots_show_the_old_volume(library: OnDisks) -> None:
    with library.mounted() as mounted:
        write(mounted.medium("T1"), OLD)
        assert mounted.file("T1", 0).read_bytes() == OLD
        library.vtlfs("snapshot", "take", library.path)
        library.vtlfs("media", "erase", library.path, "T1", "--yes")
        assert [mounted.medium("T1").stat().st_size, mounted.drive(2, "T1").stat().st_size] == [0, 0]
        assert mounted.medium("T1").read_bytes() == b""
        assert os.listdir(mounted.path / "files" / "T1") == []
        assert not mounted.file("T1", 0).exists()
        with pytest.raises(FileNotFoundError):
            mounted.file("T1", 0).read_bytes()
        write(mounted.medium("T1"), NEW)
        assert mounted.file("T1", 0).read_bytes() == mounted.medium("T1").read_bytes() == NEW
        then = mounted.path / "snapshots" / "1"
        assert (then / "media" / "T1").read_bytes() == (then / "files" / "T1" / "0000").read_bytes() == OLD
        assert mounted.medium("T1").read_bytes() == NEW


@pytest.mark.parametrize("io", ["auto", "direct", "cached"])
def test_who_has_the_old_volume_open_reads_it_to_its_end(library: OnDisks, io: str) -> None:
    with library.mounted(f"io={io}") as mounted:
        write(mounted.medium("T1"), OLD)
        with open(mounted.medium("T1"), "rb") as medium, open(mounted.file("T1", 0), "rb") as file:
            assert medium.read(1000) == file.read(1000) == OLD[:1000]
            library.vtlfs("media", "erase", library.path, "T1", "--yes")
            write(mounted.medium("T1"), NEW)
            assert medium.read() == file.read() == OLD[1000:]
            assert os.fstat(medium.fileno()).st_size == len(OLD)
        assert mounted.medium("T1").read_bytes() == NEW


def test_volumes_of_one_length_do_not_share_cached_pages(library: OnDisks) -> None:
    """A file that is open is opened again by its descriptor, which is no look-up: the kernel has one cache for both."""
    other = random_bytes(3, len(OLD))
    with library.mounted("io=cached") as mounted:
        write(mounted.medium("T1"), OLD)
        with open(mounted.medium("T1"), "rb", buffering=0) as old:
            library.vtlfs("media", "erase", library.path, "T1", "--yes")
            write(mounted.medium("T1"), other)
            with open(f"/proc/self/fd/{old.fileno()}", "rb") as new:
                assert new.read() == other
                assert old.read(len(OLD)) == OLD


def test_a_directory_that_was_open_at_the_erasure_lists_nothing(library: OnDisks) -> None:
    with library.mounted() as mounted:
        write(mounted.medium("T1"), OLD)
        directory = os.open(mounted.path / "files" / "T1", os.O_RDONLY)
        library.vtlfs("media", "erase", library.path, "T1", "--yes")
        write(mounted.medium("T1"), NEW)
        assert os.listdir(directory) == []
        with pytest.raises(FileNotFoundError):
            os.stat("0000", dir_fd=directory)
        os.close(directory)
        assert os.listdir(mounted.path / "files" / "T1") == ["0000"]


@pytest.mark.parametrize("act", ["protect", "retire"])
def test_a_medium_that_is_only_read_shows_it_and_refuses_writes(library: OnDisks, act: str) -> None:
    with library.mounted() as mounted:
        write(mounted.medium("T1"), NEW)
        mode = stat.S_IMODE(mounted.medium("T1").stat().st_mode)
        library.vtlfs("media", act, library.path, "T1")
        for path in (mounted.medium("T1"), mounted.drive(0, "T1")):
            assert stat.S_IMODE(path.stat().st_mode) == mode & 0o444
            assert shell(f"ls -l {path}").stdout.startswith("-r--r-----")
            said = shell(f"dd if=/dev/zero of={path} bs=1k count=1", status=1).stderr
            assert "Read-only file system" in said
            assert error_of_writing(path) == errno.EROFS
            assert path.read_bytes() == NEW
        library.vtlfs("media", act, library.path, "T1", "--off")
        assert stat.S_IMODE(mounted.medium("T1").stat().st_mode) == mode
        write(mounted.medium("T1"), NEW)
        assert mounted.medium("T1").read_bytes() == NEW + NEW


def test_a_removed_medium_is_nowhere_and_its_snapshots_stay(library: OnDisks) -> None:
    with library.mounted() as mounted:
        write(mounted.medium("T1"), OLD)
        library.vtlfs("snapshot", "take", library.path)
        library.vtlfs("media", "erase", library.path, "T1", "--yes")
        library.vtlfs("media", "remove", library.path, "T1", "--yes")
        for directory in ("media", "drives/0", "files"):
            assert "T1" not in os.listdir(mounted.path / directory)
            assert not (mounted.path / directory / "T1").exists()
        assert error_of_writing(mounted.medium("T1")) == errno.ENOENT
        assert "no medium 'T1'" in library.vtlfs("load", library.path, 0, "T1", status=1)
        assert (mounted.path / "snapshots" / "1" / "media" / "T1").read_bytes() == OLD
        library.vtlfs("media", "add", library.path, "T1")
        write(mounted.medium("T1"), NEW)
        assert mounted.file("T1", 0).read_bytes() == NEW
        assert (mounted.path / "snapshots" / "1" / "files" / "T1" / "0000").read_bytes() == OLD


def test_nothing_is_done_to_a_medium_while_a_session_writes_to_it(library: OnDisks) -> None:
    with library.mounted("host=beta") as mounted:
        with open(mounted.medium("T1"), "wb", buffering=0) as stream:
            stream.write(NEW)
            number = os.fstat(stream.fileno()).st_ino
            for act in (["erase", "--yes"], ["remove", "--yes"], ["protect"], ["retire"]):
                said = library.vtlfs("media", act[0], library.path, "T1", *act[1:], status=1)
                assert f"medium T1: session {number} of beta writes to it" in said
            library.vtlfs("media", "hold", library.path, "T1", "--name", "case", "--reason", "letter")
        assert mounted.medium("T1").read_bytes() == NEW
        assert "under legal hold" in library.vtlfs("media", "erase", library.path, "T1", "--yes", status=1)


def test_retention_of_library_toml_is_kept_whatever_is_edited(library: OnDisks) -> None:
    file = library.path / "library.toml"
    text = file.read_text()
    file.write_text(f'{text}\n[media."T*"]\nretain = "90d"\nmode = "compliance"\n')
    with library.mounted() as mounted:
        write(mounted.medium("T1"), NEW)
    file.write_text(text)
    said = library.vtlfs("media", "erase", library.path, "T1", "-y", "--override", "--reason", "please", status=1)
    assert "can't be erased: it is retained until" in said
    with library.mounted() as mounted:
        write(mounted.medium("T1"), NEW)
        assert "(compliance)" in library.vtlfs("media", "erase", library.path, "T1", "--yes", status=1)
        assert mounted.medium("T1").read_bytes() == NEW + NEW
    assert all(tape_file.retention is not None for tape_file in library.tape_files("T1"))


def test_every_stream_is_whole_in_one_volume_however_opens_and_erasures_race(library: OnDisks) -> None:
    """What close() has acknowledged is in the volume of the stream, which ended after that close()."""
    writers, rounds = 6, 12
    acknowledged: dict[int, bytes] = {}

    def stream(mounted: Mounted, which: int) -> None:
        for turn in range(rounds):
            data = random_bytes(1000 * which + turn, 20_000 + which)
            with open(mounted.drive(which % 4, "T1"), "wb", buffering=0) as file:
                number = os.fstat(file.fileno()).st_ino
                file.write(data[:9000])
                file.write(data[9000:])
            acknowledged[number] = data

    erased, busy = 0, 0
    with library.mounted() as mounted, closing(Library.open(library.path).tracking()) as tracking:
        threads = [threading.Thread(target=stream, args=(mounted, which)) for which in range(writers)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            try:
                with tracking.transaction():
                    before = tracking.media.get("T1")
                    tracking.volumes.end_current("T1", "2026-01-01T00:00:00.000000Z")
                erased += bool(before.tape_files)
            except MediumBusy:
                busy += 1
        for thread in threads:
            thread.join()
        mounted.medium("T1").stat()
        found: dict[int, bytes] = {}
        for volume in tracking.volumes.of("T1"):
            for tape_file in tracking.tape_files.of("T1", volume=volume.number):
                session = tracking.sessions.get(tape_file.session)
                assert (session.volume, session.tape_file) == (volume.number, tape_file.number)
                found[tape_file.session] = acknowledged[tape_file.session]
                assert tape_file.bytes == len(acknowledged[tape_file.session])
        assert set(found) == set(acknowledged)
        assert len(acknowledged) == writers * rounds
        current = b"".join(acknowledged[one.session] for one in tracking.tape_files.of("T1"))
        assert mounted.medium("T1").read_bytes() == current
    assert erased, "no erasure came between two streams"
    assert busy, "no erasure met a stream"


def test_a_stream_that_was_looked_up_before_an_erasure_begins_on_the_new_volume(library: OnDisks) -> None:
    """An O_PATH descriptor holds the look-up; what is opened by it reads and writes the medium as it is by then."""
    with library.mounted() as mounted:
        write(mounted.medium("T1"), OLD)
        seen = os.open(mounted.medium("T1"), os.O_PATH)
        library.vtlfs("media", "erase", library.path, "T1", "--yes")
        handle = os.open(f"/proc/self/fd/{seen}", os.O_RDWR)
        assert os.pread(handle, 100, 0) == b""
        os.write(handle, NEW)
        os.close(handle)
        os.close(seen)
        assert mounted.medium("T1").read_bytes() == NEW


def test_ordinary_users_are_refused_too(open_library: OnDisks) -> None:
    with open_library.mounted("allow_other,mode=0666") as mounted:
        open_library.vtlfs("media", "protect", open_library.path, "T1")
        command = ["setpriv", "--reuid=4001", "--regid=4001", "--clear-groups", "dd", "if=/dev/zero", "count=1"]
        done = subprocess.run([*command, f"of={mounted.medium('T1')}"], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "Permission denied" in done.stderr  # the kernel looks at the mode before the mount is asked


def test_an_open_that_writes_nothing_under_a_new_rule_retains_nothing(library: OnDisks) -> None:
    """Retention begins with the first bytes that are recorded under the rule: `> medium` makes nothing WORM."""
    with library.mounted() as mounted:
        for barcode in ("T1", "T2"):
            write(mounted.medium(barcode), OLD)
    with open(library.path / "library.toml", "a") as file:
        file.write('\n[media."T*"]\nworm = true\n')
    with library.mounted() as mounted:
        write(mounted.medium("T1"), b"")
        write(mounted.medium("T2"), NEW)
        for barcode, kept in (("T1", None), ("T2", "worm")):
            listed = json.loads(library.vtlfs("media", "list", library.path, "--json"))
            assert [one["retain_mode"] for one in listed if one["barcode"] == barcode] == [kept]
    library.vtlfs("media", "erase", library.path, "T1", "--yes")
    assert "is retained for ever" in library.vtlfs("media", "erase", library.path, "T2", "--yes", status=1)

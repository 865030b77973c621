"""The mounted directory tree: listings, stat(), links, inode numbers, and programs that walk the tree."""

import ctypes
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
from mounting import Mounted, OnDisks, random_bytes, shell, wait_until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

C = ctypes.CDLL(None, use_errno=True)
C.opendir.restype, C.opendir.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
C.readdir.restype, C.readdir.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
C.telldir.restype, C.telldir.argtypes = ctypes.c_long, [ctypes.c_void_p]
C.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
C.rewinddir.argtypes = C.closedir.argtypes = [ctypes.c_void_p]
D_NAME = 19  # where the name begins in a `struct dirent`


@contextmanager
def opened_directory(path: Path) -> Iterator[int]:
    """Open a directory with opendir(), because Python's own functions can't seek in a directory."""
    directory = C.opendir(os.fsencode(path))
    assert directory, os.strerror(ctypes.get_errno())
    try:
        yield directory
    finally:
        C.closedir(directory)


def names(directory: int) -> Iterator[str]:
    """Yield the names that follow."""
    while entry := C.readdir(directory):
        name = ctypes.string_at(entry + D_NAME).decode()
        if name not in (".", ".."):
            yield name


def write(path: Path, data: bytes) -> int:
    """Write a stream; return its session."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    number = os.fstat(descriptor).st_ino
    while data:
        data = data[os.write(descriptor, data) :]
    os.close(descriptor)
    return number


def test_directories_list_what_there_is(library: OnDisks) -> None:
    media = [f"T{number}" for number in range(1, 10)]
    with library.mounted() as mounted:
        write(mounted.medium("T2"), b"one")
        write(mounted.medium("T2"), b"two")
        assert sorted(os.listdir(mounted.path)) == ["drives", "files", "media", "pools", "sessions", "snapshots"]
        assert sorted(os.listdir(mounted.path / "drives")) == ["0", "1", "2", "3"]
        for folder in ("media", "files", "drives/0", "drives/3"):
            assert sorted(os.listdir(mounted.path / folder)) == media
        assert os.listdir(mounted.path / "files/T1") == []
        assert os.listdir(mounted.path / "files/T2") == ["0000", "0001"]
        assert os.listdir(mounted.path / "sessions") == []


def test_directory_of_many_entries_is_listed_whole(library: OnDisks) -> None:
    library.add("MANY0001..MANY3000")
    with library.mounted() as mounted:
        names = os.listdir(mounted.path / "media")
        assert len(names) == len(set(names)) == 3009
        assert shell(f"find {mounted.path}/media -type f | wc -l").stdout == "3009\n"
        assert shell(f"ls -U {mounted.path}/drives/0 | wc -l").stdout == "3009\n"


def test_listing_can_be_gone_back_in(library: OnDisks) -> None:
    library.add("MANY001..MANY900")
    with library.mounted() as mounted, opened_directory(mounted.path / "drives/1") as directory:
        begun = list(islice(names(directory), 400))
        place = C.telldir(directory)
        rest = list(names(directory))
        assert sorted([*begun, *rest]) == sorted(os.listdir(mounted.path / "drives/1"))
        assert len(rest) == 909 - 400
        library.add("LATER")
        assert list(names(directory)) == ["LATER"], "it goes on where it was"
        C.seekdir(directory, place)
        assert list(names(directory)) == [*rest, "LATER"]
        with opened_directory(mounted.path / "drives/1") as other:
            C.seekdir(other, place)
            assert list(names(other)) == [*rest, "LATER"]
        C.rewinddir(directory)
        assert list(names(directory)) == [*begun, *rest, "LATER"]


def test_stat_of_media_and_tape_files(library: OnDisks) -> None:
    with library.mounted("mode=0640") as mounted:
        write(mounted.medium("T1"), random_bytes(1, 5000))
        write(mounted.medium("T1"), random_bytes(2, 600))
        medium, first, second = (p.stat() for p in (mounted.medium("T1"), *(mounted.file("T1", n) for n in (0, 1))))
        assert [s.st_size for s in (medium, first, second)] == [5600, 5000, 600]
        assert [stat.S_IMODE(s.st_mode) for s in (medium, first, second)] == [0o640, 0o440, 0o440]
        assert [s.st_nlink for s in (medium, first, second)] == [1, 1, 1]
        assert [s.st_blocks for s in (medium, first, second)] == [11, 10, 2]
        assert medium.st_mtime_ns == second.st_mtime_ns > first.st_mtime_ns
        folder = (mounted.path / "media").stat()
        assert stat.S_IMODE(folder.st_mode) == 0o750
        assert stat.S_ISDIR(folder.st_mode)
        released = library.tape_files("T1")[1].released_at
        assert shell(f"TZ=UTC stat -c %y {mounted.medium('T1')}").stdout[:26] == released.replace("T", " ")[:26]


def test_numbers_of_paths_are_stable_and_distinct(library: OnDisks, tmp_path: Path) -> None:
    def numbers(mounted: Mounted) -> dict[str, int]:
        paths = [mounted.path, *mounted.path.rglob("*")]
        return {str(path.relative_to(mounted.path)): path.lstat().st_ino for path in paths}

    with library.mounted() as mounted:
        write(mounted.medium("T1"), b"one")
        first = numbers(mounted)
        assert len(set(first.values())) == len(first) > 60
        assert numbers(mounted) == first
        session = write(mounted.medium("T1"), b"two")
        assert session not in first.values()
        after = numbers(mounted)
        assert {name: after[name] for name in first} == first
        for path in (mounted.medium("T1"), mounted.file("T1", 0), mounted.drive(2, "T1")):
            with open(path, "rb") as reader:
                assert (
                    os.fstat(reader.fileno()).st_ino == path.stat().st_ino == first[str(path.relative_to(mounted.path))]
                )
                assert os.listdir(mounted.path / "sessions")
        with library.mounted("host=other", at=tmp_path / "other") as other:
            assert numbers(other) == after
    with library.mounted() as mounted:
        assert numbers(mounted) == after


def test_listing_shows_the_numbers_that_stat_shows(library: OnDisks) -> None:
    with library.mounted() as mounted:
        write(mounted.medium("T1"), b"one")
        for folder in ("media", "drives/1", "drives", "files", "files/T1"):
            for entry in os.scandir(mounted.path / folder):
                assert entry.inode() == os.lstat(entry.path).st_ino
                assert entry.is_dir(follow_symlinks=False) == stat.S_ISDIR(os.lstat(entry.path).st_mode)


def test_loaded_medium_is_a_link(library: OnDisks) -> None:
    with library.mounted() as mounted:
        loaded = mounted.path / "drives/2/loaded"
        assert not os.path.lexists(loaded)
        library.vtlfs("load", library.path, 2, "T3")
        assert os.readlink(loaded) == "T3"
        assert loaded.is_symlink()
        assert "loaded" in os.listdir(mounted.path / "drives/2")
        assert "loaded" not in os.listdir(mounted.path / "drives/1")
        session = write(loaded, b"through the link")
        assert (library.session(session).drive, library.session(session).medium) == (2, "T3")
        assert loaded.read_bytes() == b"through the link"
        descriptor = os.open(loaded, os.O_WRONLY)
        os.write(descriptor, b", begun on T3")
        library.vtlfs("load", library.path, 2, "T4")
        assert os.readlink(loaded) == "T4"
        write(loaded, b"on T4")
        os.close(descriptor)
        assert mounted.medium("T3").read_bytes() == b"through the link, begun on T3"
        assert mounted.medium("T4").read_bytes() == b"on T4"
        library.vtlfs("unload", library.path, 2)
        assert not os.path.lexists(loaded)
        assert "loaded" not in os.listdir(mounted.path / "drives/2")
        with pytest.raises(FileNotFoundError):
            loaded.read_bytes()
        with pytest.raises(FileNotFoundError):
            os.open(loaded, os.O_WRONLY | os.O_CREAT)


def test_media_that_are_added_while_mounted_appear(library: OnDisks) -> None:
    with library.mounted() as mounted:
        assert not mounted.medium("NEW1").exists()
        with pytest.raises(FileNotFoundError):
            write(mounted.medium("NEW1"), b"too early")
        library.vtlfs("media", "add", library.path, "NEW1")
        assert "NEW1" in os.listdir(mounted.path / "media")
        assert mounted.medium("NEW1").stat().st_size == 0
        write(mounted.drive(1, "NEW1"), b"data")
        assert mounted.file("NEW1", 0).read_bytes() == b"data"


def test_names_that_are_none_do_not_exist(library: OnDisks) -> None:
    with library.mounted() as mounted:
        write(mounted.medium("T1"), b"one")
        absent = ["x", "media/t1", "media/T1x", "media/T1/", "drives/4", "drives/00", "drives/-1", "drives/a"]
        absent += ["drives/0/NONE", "files/NONE", "files/T1/0001", "files/T1/0", "files/T1/00000", "files/T1/x"]
        absent += ["sessions/0", "sessions/999999", "sessions/01", "sessions/x", "media/..x", "media/\N{SNOWMAN}"]
        absent += ["sessions/" + "9" * 30, "files/T1/" + "9" * 30, "drives/" + "9" * 30]
        for name in absent:
            with pytest.raises((FileNotFoundError, NotADirectoryError)):
                os.stat(f"{mounted.path}/{name}")
        with pytest.raises(FileNotFoundError):
            os.stat(os.fsencode(mounted.path) + b"/media/\xff\xfe")


def test_session_tells_everything_while_it_is_open_and_afterwards(library: OnDisks) -> None:
    data = random_bytes(1, 2_500_000)
    with library.mounted("host=alpha") as mounted:
        write(mounted.medium("T1"), b"before")
        descriptor = os.open(mounted.drive(3, "T1"), os.O_WRONLY | os.O_TRUNC)
        number = os.fstat(descriptor).st_ino
        assert os.listdir(mounted.path / "sessions") == [str(number)]
        os.write(descriptor, data)
        os.fsync(descriptor)
        now = mounted.session(number)
        assert now["state"] == "open"
        assert (now["host"], now["drive"], now["medium"], now["access"]) == ("alpha", 3, "T1", "write")
        assert (now["pid"], now["uid"], now["released_at"], now["tape_file"]) == (os.getpid(), os.getuid(), None, None)
        assert (now["bytes"], now["received"], now["disks"]) == (len(data), len(data), [0, 1])
        assert TIME.fullmatch(now["opened_at"])
        os.close(descriptor)
        then = mounted.session(number)
        assert (then["state"], then["error"], then["tape_file"], then["start"]) == ("released", None, 1, 6)
        assert TIME.fullmatch(then["released_at"])
        assert then["requests"] >= 3
        assert [extent["offset"] for extent in then["extents"]] == [0, 1 << 20, 2 << 20]
        assert sum(extent["bytes"] for extent in then["extents"]) == len(data)
        assert then["extents_complete"] is True
        assert os.listdir(mounted.path / "sessions") == []
        text = (mounted.path / "sessions" / str(number)).read_text()
        assert (mounted.path / "sessions" / str(number)).stat().st_size == len(text)
        listed = library.listed()
        assert {key: json.loads(text)[key] for key in listed[1]} == listed[1]


def test_readers_are_tracked(library: OnDisks) -> None:
    with library.mounted("host=alpha") as mounted:
        write(mounted.medium("T1"), random_bytes(1, 100_000))
        with open(mounted.drive(2, "T1"), "rb", buffering=0) as reader:
            reader.read(1000)
            (number,) = os.listdir(mounted.path / "sessions")
            now = mounted.session(int(number))
            assert (now["state"], now["access"], now["drive"], now["host"]) == ("open", "read", 2, "alpha")
        shell(f"cat {mounted.file('T1', 0)} > /dev/null")
        wait_until(lambda: os.listdir(mounted.path / "sessions") == [], "the end of the readers")
        wait_until(lambda: mounted.session(int(number))["state"] == "released", "the row of the first reader")
    write_session, first, second = library.listed()
    assert [first["access"], second["access"]] == ["read", "read"]
    assert [first["state"], second["state"]] == ["released", "released"]
    assert second["bytes"] == 100_000
    assert second["program"] == "cat"
    assert first["requests"] >= 1
    assert write_session["access"] == "write"


def test_any_drive_is_the_least_busy_one(library: OnDisks) -> None:
    with library.mounted() as mounted:
        descriptors = [os.open(mounted.medium("T1"), os.O_WRONLY | os.O_TRUNC) for _ in range(8)]
        drives = [library.session(os.fstat(descriptor).st_ino).drive for descriptor in descriptors]
        assert sorted(drives) == [0, 0, 1, 1, 2, 2, 3, 3]
        for descriptor in descriptors:
            os.close(descriptor)


def test_tools_that_walk_the_tree(library: OnDisks, tmp_path: Path) -> None:
    with library.mounted() as mounted:
        for number in range(1, 4):
            for _ in range(number):
                write(mounted.medium(f"T{number}"), random_bytes(number, 300_000 + number))
        mnt = mounted.path
        shell(f"ls -lR {mnt} && du -a {mnt} && stat {mnt}/media/* {mnt}/files/*/* && find {mnt} -ls && df {mnt}")
        assert shell(f"find {mnt}/files -type f -size +1k | wc -l").stdout == "6\n"
        assert shell(f"du -sb --apparent-size {mnt}/files/T3").stdout.split()[0] == str(3 * 300_003)
        for copy in ("cp -r {}/. {}", "cp -a {}/. {}", "rsync -a {}/ {}", "tar c -C {} . | tar x -C {}"):
            there = tmp_path / "copy"
            there.mkdir()
            shell(copy.format(f"{mnt}/files", there))
            shell(f"diff -r {mnt}/files {there}")
            shutil.rmtree(there)
        shell(f"diff -r {mnt}/media {mnt}/drives/2 && rsync -anc {mnt}/media/ {mnt}/drives/1/")
        shell(f"diff -r {mnt}/media {mnt}/files", status=1)
        shell(f"cmp {mnt}/media/T1 {mnt}/files/T1/0000 && head -c 10 {mnt}/media/T3 | cmp -n 10 - {mnt}/files/T3/0000")
        assert shell(f"wc -c < {mnt}/media/T3").stdout.strip() == str(3 * 300_003)


def test_df_shows_the_file_system_of_the_disks_once(library: OnDisks) -> None:
    with library.mounted() as mounted:
        ours, disk = os.statvfs(mounted.path), os.statvfs(library.disks[0])
        assert ours.f_blocks * ours.f_frsize == pytest.approx(disk.f_blocks * disk.f_frsize, rel=0.01)
        assert ours.f_bavail * ours.f_frsize == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.1)
        assert shell(f"df --output=source,fstype {mounted.path} | tail -1").stdout.split() == [
            str(library.path),
            "fuse.vtlfs",
        ]


def test_tape_files_are_read_only_and_other_things_no_files(library: OnDisks) -> None:
    with library.mounted() as mounted:
        write(mounted.medium("T1"), b"one")
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_APPEND):
            with pytest.raises(PermissionError):
                os.open(mounted.file("T1", 0), flags)
        with pytest.raises(IsADirectoryError):
            os.open(mounted.path / "media", os.O_WRONLY)
        assert mounted.file("T1", 0).read_bytes() == b"one"


def test_mount_ends_while_somebody_looked_at_everything(library: OnDisks) -> None:
    """After an `ls`, the kernel still holds look-ups that it has not forgotten."""
    with library.mounted() as mounted:
        for _ in range(20):
            subprocess.run(["ls", "-lR", mounted.path], capture_output=True, check=True)

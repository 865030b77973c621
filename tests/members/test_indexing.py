"""Tape files of a real library are indexed, by the command and by mounts, and members are found."""

import json
import os
import shutil
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from archives import MAKERS, header
from conftest import set_index
from mounting import PROGRAM, PROJECT, SECONDS, OnDisks, random_bytes, wait_until

from vtlfs import failpoints
from vtlfs.engine.library import Library
from vtlfs.members import finding, foreground
from vtlfs.members.child import Limits
from vtlfs.members.database import FILE_NAME, MemberIndex
from vtlfs.members.pattern import compile_pattern

MIB = 1 << 20
END = bytes(1024)


def found(library: OnDisks, pattern: str) -> list[dict[str, Any]]:
    """Return what is found of the library as it is now, by the program's own functions: quicker than the program."""
    opened = Library.open(library.path)
    with (
        closing(opened.tracking(read_only=True)) as tracking,
        closing(MemberIndex.open(opened.path, opened.config.uuid)) as index,
    ):
        hits = list(finding.find(index, tracking, finding.Query(compile_pattern(pattern))))
    return [{"medium": hit.file.medium, "path": hit.member.path} for hit in hits]


def listed(library: OnDisks, *words: str) -> list[dict[str, Any]]:
    """Return what `vtlfs find --json` finds."""
    hits: list[dict[str, Any]] = json.loads(library.vtlfs("find", library.path, *words, "--json"))
    return hits


def indexed(library: OnDisks) -> foreground.Outcome:
    """Index by the program's own function."""
    return foreground.index(Library.open(library.path), None)


def states(library: OnDisks) -> list[tuple[str, int, int, str, int, str | None]]:
    """Return medium, volume, tape file, state, members and note of each tape file."""
    opened = Library.open(library.path)
    with (
        closing(opened.tracking(read_only=True)) as tracking,
        closing(MemberIndex.open(opened.path, opened.config.uuid)) as index,
    ):
        return [
            (file.medium, file.volume, file.number, str(stream.state), stream.members, stream.note)
            for file, stream in finding.streams_on(index, tracking)
            if stream is not None
        ]


def written(library: OnDisks, *contents: tuple[str, bytes]) -> None:
    """Write tape files through a mount."""
    with library.mounted() as mounted:
        for barcode, content in contents:
            mounted.medium(barcode).write_bytes(content)


def tar_of(*names: str) -> bytes:
    """Return a tar of files with a few bytes each."""
    return b"".join(header(name, 3) + b"abc".ljust(512, b"\0") for name in names) + END


@pytest.mark.parametrize("form", ["gnu", "pax sparse", "newc", "tar.zstd", "tar.xz"])
def test_archives_that_programs_write_to_a_medium_are_found(form: str, library: OnDisks, tree: Path) -> None:
    MAKERS[form](tree, library.root / "archive")
    content = (library.root / "archive").read_bytes()
    written(library, ("T1", b"first"), ("T1", content))
    said = library.vtlfs("index", library.path)
    assert said.startswith("indexed 2 tape files with ")
    (hit,) = listed(library, "/tree/big")
    assert (hit["medium"], hit["volume"], hit["tape_file"], hit["size"]) == ("T1", 1, 1, 3_000_001)
    assert hit["path"] == "tree/big"
    assert hit["mtime"][:4] == f"{int(hit['mtime'][:4])}"
    assert [state[3] for state in states(library)] == ["unknown", "indexed"]
    assert library.vtlfs("index", library.path).startswith("indexed 0 tape files")


def test_a_table_shows_where_a_member_is_and_what_could_not_be_searched(library: OnDisks) -> None:
    written(library, ("T1", tar_of("etc/fstab", "etc/passwd")), ("T2", b"Salted__" + random_bytes(1, 5000)))
    library.vtlfs("index", library.path, "T2")
    done = subprocess.run(
        [*PROGRAM, "find", library.path, "passwd"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=SECONDS,
        check=True,
    )
    assert done.stdout == "no archive member is like that\n"
    assert "1 tape file not indexed yet" in done.stderr
    assert "1 tape file can't be searched" in done.stderr
    library.vtlfs("index", library.path)
    shown = library.vtlfs("find", library.path, "passwd").splitlines()
    assert shown[0].split() == ["MEDIUM", "VOL", "FILE", "RELEASED", "SIZE", "MODIFIED", "PATH"]
    assert shown[1].split()[:3] == ["T1", "1", "0000"]
    assert shown[1].endswith("etc/passwd")
    assert ("T2", 1, 0, "unknown", 0, "it is encrypted: openssl enc") in states(library)
    first = subprocess.run(
        [*PROGRAM, "find", library.path, "etc", "--limit", "1"], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert first.stdout.splitlines()[-1] == "there are more than 1; --limit N shows more"
    assert first.stderr.count("\n") == 1


def test_only_wanted_media_times_and_snapshots_are_searched(library: OnDisks) -> None:
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(tar_of("one/file"))
        library.vtlfs("snapshot", "take", library.path, "--name", "before")
        mounted.medium("T2").write_bytes(tar_of("two/file"))
    library.vtlfs("media", "erase", library.path, "T1", "--yes")
    library.vtlfs("snapshot", "take", library.path, "--name", "after")
    indexed(library)

    def paths(*words: str) -> list[str]:
        return sorted(hit["path"] for hit in listed(library, "file", *words))

    assert paths() == ["one/file", "two/file"]  # a snapshot still shows the first one
    assert paths("--medium", "T2") == ["two/file"]
    assert paths("--medium", "T1", "--medium", "T2") == ["one/file", "two/file"]
    assert paths("--snapshot", "before") == ["one/file"]
    assert paths("--snapshot", "after") == ["two/file"]
    assert paths("--since", "1h") == ["one/file", "two/file"]
    assert paths("--since", "2999-01-01") == []
    assert "no medium 'T10'" in library.vtlfs("find", library.path, "x", "--medium", "T10", status=1)


def test_what_is_reclaimed_is_no_longer_found_and_leaves_the_index(library: OnDisks) -> None:
    written(library, ("T1", tar_of("gone/file")), ("T2", tar_of("kept/file")))
    indexed(library)
    library.vtlfs("media", "erase", library.path, "T1", "--yes")
    library.vtlfs("reclaim", library.path)
    assert [hit["path"] for hit in found(library, "/file")] == ["kept/file"]
    indexed(library)
    with Index(library) as index:
        assert index.count_members() == 1
        assert list(index.rows("SELECT name FROM path")) == [("file",)]


class Index:
    """The index of a library, opened for reading."""

    def __init__(self, library: OnDisks) -> None:
        opened = Library.open(library.path)
        self._index = MemberIndex.open(opened.path, opened.config.uuid)

    def __enter__(self) -> Any:
        return self._index

    def __exit__(self, *_: object) -> None:
        self._index.close()


def test_a_stream_that_goes_on_on_a_further_medium_is_one_archive(library: OnDisks, tree: Path) -> None:
    library.add("P1..P9", capacity=1 * MIB)
    path = library.path / "library.toml"
    path.write_text('[pools.many]\nmedia = "P*"\nspan = true\n\n' + path.read_text())
    MAKERS["gnu sparse"](tree, library.root / "archive")
    whole = (library.root / "archive").read_bytes() * 2
    (library.root / "archive").write_bytes(whole)
    with library.mounted() as mounted:
        subprocess.run(
            ["dd", f"if={library.root / 'archive'}", f"of={mounted.path}/pools/many", "bs=10240", "status=none"],
            check=True,
        )
        indexed(library)
    assert len(library.tape_files("P2")) == 1
    with Index(library) as index:
        (stream,) = index.streams()
        assert stream.bytes == len(whole)
        assert stream.note is None
    first, second = (hit["medium"] for hit in found(library, "tree/link"))
    assert first == "P1"
    assert second in {"P3", "P4"}


def test_a_snapshot_shows_only_what_its_part_of_a_stream_has(library: OnDisks) -> None:
    """Then the stream went on on a further medium."""
    library.add("P1..P9", capacity=1 * MIB)
    path = library.path / "library.toml"
    path.write_text('[pools.many]\nmedia = "P*"\nspan = true\n\n' + path.read_text())
    names = [f"a/{number}" for number in range(3000)]
    whole = b"".join(header(name, 0) for name in names) + END
    with library.mounted() as mounted:
        with open(mounted.path / "pools/many", "wb", buffering=0) as file:
            file.write(whole[: MIB + 10 * 512])
            wait_until(lambda: library.tape_files("P1"), "the end of the first part")
            library.vtlfs("snapshot", "take", library.path)
            file.write(whole[MIB + 10 * 512 :])
        indexed(library)
    length = library.tape_files("P1")[0].bytes
    assert len(listed(library, "a/")) == len(names)
    assert [hit["path"] for hit in listed(library, "a/", "--snapshot", "latest")] == names[: -(-length // 512)]


def test_the_index_is_made_anew_where_it_is_damaged_or_lost_or_that_is_wanted(library: OnDisks) -> None:
    written(library, ("T1", tar_of("some/file")))
    indexed(library)
    (library.path / FILE_NAME).write_bytes(b"no database" * 1000)
    assert "`vtlfs index --anew`" in library.vtlfs("find", library.path, "file", status=1)
    assert indexed(library).indexed.streams == 1
    assert len(found(library, "file")) == 1
    (library.path / FILE_NAME).unlink()
    assert "nothing is indexed yet" in library.vtlfs("find", library.path, "file", status=1)
    assert indexed(library).indexed.streams == 1
    assert indexed(library).indexed.streams == 0
    assert library.vtlfs("index", library.path, "--anew").startswith("indexed 1 tape file ")
    assert library.vtlfs("index", library.path, "--anew", "T1").startswith("indexed 1 tape file ")
    assert len(found(library, "file")) == 1


def test_a_rebuilt_catalogue_does_not_confuse_the_index(library: OnDisks) -> None:
    written(library, ("T1", tar_of("one")), ("T2", tar_of("two")))
    indexed(library)
    for suffix in ("", "-wal", "-shm"):
        (library.path / f"tracking.db{suffix}").unlink(missing_ok=True)
    library.vtlfs("rebuild", library.path, *(word for disk in library.disks for word in ("--disk", disk)))
    written(library, ("T3", tar_of("three")))
    indexed(library)
    assert sorted((hit["medium"], hit["path"]) for hit in found(library, "*")) == [
        ("T1", "one"),
        ("T2", "two"),
        ("T3", "three"),
    ]


WHERE = ["members.removed", "members.made", *(f"members.committed:{count}" for count in (1, 2, 3, 5))]


@pytest.mark.parametrize("where", WHERE)
def test_a_command_that_dies_leaves_an_index_with_which_the_next_one_goes_on(where: str, library: OnDisks) -> None:
    written(library, ("T1", tar_of(*(f"a/{number}" for number in range(9000)))), ("T2", tar_of("b")))
    (library.path / FILE_NAME).write_bytes(b"damaged")
    done = subprocess.run(
        [*PROGRAM, "index", library.path],
        env={**os.environ, failpoints.ENVIRONMENT: where},
        capture_output=True,
        cwd=PROJECT,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == failpoints.STATUS
    indexed(library)
    with Index(library) as index:
        assert index.count_members() == 9001
        assert next(index.rows("SELECT count(*) FROM member")) == (9001,)
    assert len(found(library, "a/8999")) == 1
    assert [state[3] for state in states(library)] == ["indexed", "indexed"]


def test_a_mount_indexes_what_is_released_and_goes_on_after_kill_9(library: OnDisks) -> None:
    set_index(library, 'limit = "50MB/s"')
    with library.mounted(checked=False) as mounted:
        mounted.medium("T1").write_bytes(tar_of("first/file"))
        wait_until(lambda: (library.path / FILE_NAME).exists() and found(library, "first/file"), "the index")
        mounted.medium("T1").write_bytes(tar_of("second/file"))
        mounted.kill()
        library.vtlfs("umount", mounted.path)
    with library.mounted(allows=["died"]):
        wait_until(lambda: found(library, "second/file"), "the index")
        assert len(found(library, "first/file")) == 1


def test_every_failpoint_of_the_index_is_one_where_a_command_dies() -> None:
    assert {where.split(":")[0] for where in WHERE} == {
        name for name in failpoints.NAMES if name.startswith("members.")
    }


def test_the_worker_ends_with_the_mount(library: OnDisks) -> None:
    set_index(library, 'limit = "1KB/s"')  # so that it is at work for as long as this test lasts
    with library.mounted(checked=False) as mounted:
        mounted.medium("T1").write_bytes(tar_of(*(f"a/{number}" for number in range(20_000))))
        (worker,) = wait_until(lambda: workers(mounted.pid), "a worker")
        mounted.kill()
        library.vtlfs("umount", mounted.path)
    wait_until(lambda: not os.path.exists(f"/proc/{worker}"), "the end of the worker")


def workers(mount: int) -> list[int]:
    """Return the worker processes of the process of a mount."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(mount)], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "vtlfs.members.worker" in line]


def test_a_tape_file_with_lost_extents_stays_pending_and_the_others_are_indexed(library: OnDisks) -> None:
    written(library, ("T1", tar_of("lost")), ("T2", tar_of("kept")))
    session = library.tape_files("T1")[0].session
    for disk in library.disks:
        for path in disk.rglob(f"*{session}*"):
            if path.is_file() and path.stat().st_size > 4096:
                with open(path, "r+b") as file:
                    file.seek(4096)
                    file.write(random_bytes(session, path.stat().st_size - 4096))
    said = library.vtlfs("index", library.path, status=4)
    assert "T1, tape file 0000" in said
    assert [hit["path"] for hit in found(library, "*")] == ["kept"]
    assert [state[3] for state in states(library)] == ["pending", "indexed"]


def test_an_interrupted_tar_is_gone_on_with_and_not_read_again(library: OnDisks) -> None:
    """The stream is 10 MB long, and its first 12,000 members were indexed before the command died."""
    names = [f"a/{number}" for number in range(20_000)]
    head, rest = tar_of(*names[:5000])[: -len(END)], tar_of(*names[5000:])
    written(library, ("T1", head + header("x/" * 3000 + "x", 0) + rest), ("T2", tar_of("b")))
    done = subprocess.run(
        [*PROGRAM, "index", library.path],
        env={**os.environ, failpoints.ENVIRONMENT: "members.committed:7"},
        capture_output=True,
        cwd=PROJECT,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == failpoints.STATUS
    with Index(library) as index:
        there = index.count_members()
    assert 5000 < there < len(names)
    gone_on = indexed(library).indexed
    assert gone_on.members == len(names) + 1 - (there - 1)
    assert gone_on.bytes < (len(names) - there) * 1024 + 20_000
    with Index(library) as index:
        session = library.tape_files("T1")[0].session
        assert [member.path for member in index.members(session)] == names
        assert {member.archive_start for member in index.members(session)} == {0}
    (first, second) = states(library)
    assert first[3:] == (
        "indexed",
        len(names),
        f"members without a name of 1 to 4096 bytes are left out, from byte {len(head)} on",
    )
    assert second[3:] == ("indexed", 1, None)


@pytest.mark.parametrize("compress", ["gzip", "cpio"])
def test_an_interrupted_stream_that_can_not_be_gone_on_with_begins_anew(compress: str, library: OnDisks) -> None:
    names = [f"a/{number}" for number in range(9000)]
    whole = tar_of(*names)
    if compress == "gzip":
        whole = subprocess.run(["gzip", "-c"], input=whole, capture_output=True, check=True).stdout
    else:
        odd = [b"070707" + b"%06o" * 9 % (1, n % 8**6, 0o100644, 0, 0, 1, 0, 0, 0) for n in range(9001)]
        parts = [
            h[:6] + h[6:48] + b"%011o%06o%011o" % (0, len(n) + 1, 0) + n.encode() + b"\0"
            for h, n in zip(odd, [*names, "TRAILER!!!"], strict=True)
        ]
        whole = b"".join(parts)
    written(library, ("T1", whole))
    done = subprocess.run(
        [*PROGRAM, "index", library.path],
        env={**os.environ, failpoints.ENVIRONMENT: "members.committed:6"},
        capture_output=True,
        cwd=PROJECT,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == failpoints.STATUS
    assert indexed(library).indexed.members == 9000
    with Index(library) as index:
        assert index.count_members() == 9000
        assert next(index.rows("SELECT count(*) FROM member")) == (9000,)


def test_an_interrupted_command_says_how_to_go_on(library: OnDisks) -> None:
    written(library, ("T1", tar_of(*(f"a/{number}" for number in range(20_000)))))
    command = [*PROGRAM, "index", str(library.path), "--limit", "1MB/s"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=PROJECT)
    wait_until(lambda: (library.path / FILE_NAME).exists(), "the index")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert said == f"vtlfs: interrupted; `vtlfs index {library.path}` goes on\n"
    indexed(library)
    assert len(found(library, "a/19999")) == 1


# --- hostile streams --------------------------------------------------------------------------------------------------


def notes(library: OnDisks, limits: Limits) -> list[str | None]:
    """Index with some limits; return what is noted of each stream."""
    foreground.index(Library.open(library.path), None, limits=limits)
    return [state[5] for state in states(library)]


def zeros(size: int) -> bytes:
    """Return a frame of zstd of so many zeros: 4 bytes for each 128 KiB."""
    most = 128 << 10
    blocks = [most] * (size // most) + [size % most]
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(
        ((length << 3) | 2 | (place == len(blocks) - 1)).to_bytes(3, "little") + b"\0"
        for place, length in enumerate(blocks)
    )


def zstd(data: bytes) -> bytes:
    """Return data compressed by the real zstd."""
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


def test_a_bomb_ends_when_it_has_taken_too_long(library: OnDisks) -> None:
    size = 400 << 30
    head = header("before", 3) + b"abc".ljust(512, b"\0") + header("zeros", size)
    packed = zstd(head) + zeros(size) + zstd(header("behind") + END)
    written(library, ("T1", packed), ("T2", tar_of("next")))
    first, second = notes(library, Limits(base=1.0, step=10.0, bytes_a_second=1 << 40))
    assert first is not None
    assert "too long" in first
    assert second is None


def test_a_worker_that_runs_out_of_memory_costs_its_stream_alone(library: OnDisks) -> None:
    data = random_bytes(1, 4 * MIB)
    packed = subprocess.run(
        ["xz", "--lzma2=dict=256MiB", "-c"], input=tar_of("file") + data, capture_output=True, check=True
    ).stdout
    written(library, ("T1", packed), ("T2", tar_of("next")))
    first, second = notes(library, Limits(memory=128 * MIB))
    assert first is not None
    assert second is None
    assert len(found(library, "next")) == 1


def test_endless_members_are_cut_off_and_told(library: OnDisks) -> None:
    written(library, ("T1", tar_of(*(f"m/{number}" for number in range(20_000)))), ("T2", tar_of("next")))
    first, second = notes(library, Limits(members=5000))
    assert first is not None
    assert "more names than are indexed" in first
    assert second is None
    assert 5000 <= len(found(library, "*")) <= 12_000


def test_endless_names_are_cut_off_and_told(library: OnDisks) -> None:
    names = [f"{number}/" + "n" * 90 + "/" + "m" * 90 for number in range(9000)]
    written(library, ("T1", tar_of(*names)))
    (note,) = notes(library, Limits(text=MIB))
    assert note is not None
    assert "more names than are indexed" in note


def test_an_index_that_would_take_the_last_room_is_not_filled_further(library: OnDisks) -> None:
    written(library, ("T1", tar_of("file")))
    opened = Library.open(library.path)
    with pytest.raises(Exception, match="make room there"):
        foreground.index(opened, None, limits=Limits(room=shutil.disk_usage(library.path).free * 100))
    assert [state[3] for state in states(library)] == ["pending"]

"""Pools on a real mount: streams of real programs go from medium to medium, and are read back in one piece."""

import errno
import json
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mounting import PROGRAM, SECONDS, Mounted, OnDisks, random_bytes, shell, wait_until

from vtlfs import failpoints
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.repositories.pools import Part, Pool
from vtlfs.model import Event

KIB, MIB = 1 << 10, 1 << 20
END = "pool P is at its end"


def pools(library: OnDisks, text: str, media: str = "N1..N5", capacity: int | None = MIB) -> None:
    """Write sections into library.toml, and add media."""
    with open(library.path / "library.toml", "a") as file:
        file.write(f"\n{text}\n")
    if media:
        library.add(media, capacity=capacity)


def pool(mounted: Mounted, name: str = "P") -> Path:
    return mounted.path / "pools" / name


def streams(mounted: Mounted, name: str = "P") -> dict[int, bytes]:
    """Return the streams of a pool by their identifiers, as they are read back."""
    folder = mounted.path / "pools" / f"{name}.files"
    return {int(entry): (folder / entry).read_bytes() for entry in os.listdir(folder)}


def where(library: OnDisks, name: str = "P") -> Pool:
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        return tracking.pools.get(name)


def events(library: OnDisks) -> list[Event]:
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        return tracking.events.find()


def parts(library: OnDisks, stream: int) -> list[Part]:
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        return tracking.pools.parts(stream)


def write(path: Path, data: bytes, block: int = 64 * KIB, flags: int = os.O_WRONLY | os.O_TRUNC) -> int:
    """Write a stream; return what fstat() said. Raises OSError where a write or close() does."""
    descriptor = os.open(path, flags)
    try:
        number = os.fstat(descriptor).st_ino
        for start in range(0, len(data), block):
            assert os.write(descriptor, data[start : start + block]) == len(data[start : start + block])
    finally:
        os.close(descriptor)
    return number


# --- which tape next ------------------------------------------------------------------------------------------------


def test_real_programs_write_to_the_medium_of_the_pool(library: OnDisks, tmp_path: Path) -> None:
    pools(library, '[pools.P]\nmedia = "N*"')
    (tmp_path / "data").write_bytes(random_bytes(1, 100_000))
    with library.mounted() as mounted:
        at = pool(mounted)
        assert sorted(os.listdir(mounted.path / "pools")) == ["P", "P.files"]
        assert at.read_bytes() == b""
        shell(f"tar cf {at} -C {tmp_path} data && dd if={tmp_path}/data of={at} bs=10k 2>/dev/null")
        shell(f"echo one > {at}; echo two >> {at}; cat {tmp_path}/data | dd of={at} bs=4k conv=notrunc 2>/dev/null")
        files = mounted.path / "files" / "N1"
        assert sorted(os.listdir(files)) == [f"{number:04d}" for number in range(5)]
        assert at.read_bytes() == mounted.medium("N1").read_bytes()
        assert at.stat().st_size == mounted.medium("N1").stat().st_size
        assert shell(f"tar tf {files}/0000").stdout == "data\n"
        found = list(streams(mounted).values())
        assert found[1:] == [(tmp_path / "data").read_bytes(), b"one\n", b"two\n", (tmp_path / "data").read_bytes()]
        for words in (f"touch {mounted.path}/pools/Q", f"echo > {mounted.path}/pools/Q", f"cat {mounted.path}/pools/Q"):
            assert "No such file" in shell(words, status=1).stderr
        with pytest.raises(PermissionError):
            os.unlink(at)
    assert where(library) == Pool("P", "N1", False, where(library).changed_at)


@pytest.mark.parametrize("io", ["auto", "direct", "cached"])
def test_next_open_after_a_full_medium_lands_on_the_next(library: OnDisks, io: str) -> None:
    pools(library, '[pools.P]\nmedia = "N*"', "N1..N2")
    data = random_bytes(2, 3 * MIB // 2)
    with library.mounted(f"io={io}", expects=[END], allows=["is full"]) as mounted:
        for number in (1, 2):
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                write(pool(mounted), data)
            assert where(library).medium == f"N{number}"
            assert where(library).is_full
        kept = [mounted.medium(f"N{number}").stat().st_size for number in (1, 2)]
        assert kept == ([MIB, MIB] if io != "cached" else kept)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            os.open(pool(mounted), os.O_WRONLY | os.O_TRUNC)
        status = json.loads(library.vtlfs("status", library.path, "--json"))
        assert status["pools"][0] | {"changed_at": "", "end": ""} == {
            "name": "P",
            "media": "N*",
            "media_count": 2,
            "medium": "N2",
            "is_full": True,
            "left": MIB - kept[1],
            "changed_at": "",
            "next": None,
            "next_why": None,
            "end": "",
        }
        assert END in library.vtlfs("status", library.path)
        assert "vtlfs media add" in next(line for line in mounted.said().splitlines() if END in line)
        library.add("N3", capacity=MIB)
        write(pool(mounted), data[:1000])
        assert mounted.file("N3", 0).read_bytes() == data[:1000]


def test_pool_grows_by_barcodes_of_its_pattern(library: OnDisks) -> None:
    pools(library, '[pools.P]\nmedia = "G????L9"\ncapacity = "300K"\ngrow = true\nspan = true', "")
    data = random_bytes(3, MIB)
    with library.mounted() as mounted:
        number = write(pool(mounted), data)
        assert streams(mounted) == {number: data}
        assert len(parts(library, number)) == 4
    listed = json.loads(library.vtlfs("media", "list", library.path, "--pool", "P", "--json"))
    assert [one["barcode"] for one in listed] == ["G0001L9", "G0002L9", "G0003L9", "G0004L9"]
    assert {one["capacity"] for one in listed} == {300 * KIB}
    added = [event for event in events(library) if event.what == "added"]
    assert [event.medium for event in added] == ["G0001L9", "G0002L9", "G0003L9", "G0004L9"]


def test_oldest_medium_whose_retention_is_over_is_erased_and_reused(library: OnDisks) -> None:
    pools(library, '[media."N*"]\nretain = "1s"\n[pools.P]\nmedia = "N*"\nreuse = "oldest expired"', "N1..N2")
    first, second, third = (random_bytes(number, MIB) for number in (4, 5, 6))
    with library.mounted(allows=["pool P is at its end"]) as mounted:
        for data in (first, second):
            write(pool(mounted), data)

        def write_third() -> bool:
            try:
                write(pool(mounted), third)
            except OSError:
                return False
            return True

        library.vtlfs("snapshot", "take", library.path)
        reader = os.open(mounted.medium("N1"), os.O_RDONLY)
        wait_until(write_third, "the end of the retention")
        assert pool(mounted).read_bytes() == mounted.medium("N1").read_bytes() == third
        assert mounted.medium("N2").read_bytes() == second
        assert (mounted.path / "snapshots/1/media/N1").read_bytes() == first
        assert b"".join(iter(lambda: os.read(reader, MIB), b"")) == first
        os.close(reader)
        assert list(streams(mounted).values()) == [second, third], "the first one is no longer whole"
    erased = [event for event in events(library) if event.what == "erased"]
    assert [(event.medium, event.volume, event.details["pool"]) for event in erased] == [("N1", 1, "P")]


def test_listing_says_what_each_medium_is_to_the_pool(library: OnDisks) -> None:
    pools(library, '[pools.P]\nmedia = "N*"', "N1..N4")
    with library.mounted() as mounted:
        write(pool(mounted), b"x")
        write(mounted.medium("N2"), b"y")
    listed = json.loads(library.vtlfs("media", "list", library.path, "--pool", "P", "--json"))
    assert [(one["barcode"], one["role"]) for one in listed] == [
        ("N1", "current"),
        ("N2", "it is written"),
        ("N3", "next: it was never written"),
        ("N4", "later: it was never written"),
    ]
    assert "next: it was never written" in library.vtlfs("media", "list", library.path, "--pool", "P")
    assert "no pool 'Q'" in library.vtlfs("media", "list", library.path, "--pool", "Q", status=1)


def test_user_writes_only_to_media_that_the_user_may_write_to(open_library: OnDisks) -> None:
    rules = "".join(
        f'[permissions.media."?{number}"]\nmode = "{mode}"\n' for number, mode in ((1, "0666"), (2, "0600"))
    )
    pools(open_library, f'{rules}[pools.P]\nmedia = "N*"\nspan = true\n[pools.Q]\nmedia = "Q*"\nspan = true', "N1..N2")
    open_library.add("Q1..Q2", capacity=MIB)
    user: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
    with open_library.mounted("allow_other") as mounted:
        at, other = pool(mounted), pool(mounted, "Q")
        shell(f"echo hello > {at}", **user)
        done = shell(f"head -c 2M /dev/zero | dd of={at} bs=64k", status=1, **user)
        assert "Permission denied" in done.stderr, "the stream would go on on a medium of root's"
        assert where(open_library) == Pool("P", "N1", True, where(open_library).changed_at)
        write(other, random_bytes(7, MIB + MIB // 2))
        assert where(open_library, "Q").medium == "Q2"
        assert other.stat().st_mode & 0o777 == 0o600
        [stream] = (mounted.path / "pools/Q.files").iterdir()
        assert stream.stat().st_mode & 0o777 == 0o444, "as its first part"
        for words in (f"echo no > {at}", f"echo no > {other}", f"cat {other}", f"cat {stream}"):
            assert "Permission denied" in shell(words, status=1, **user).stderr
        assert shell(f"cat {at}", **user).stdout.startswith("hello")


# --- streams that span ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("io", ["auto", "direct", "cached"])
@pytest.mark.parametrize("block", [10240, 64512, MIB])
def test_tar_over_five_media_is_read_back_in_one_piece(library: OnDisks, tmp_path: Path, io: str, block: int) -> None:
    pools(library, '[pools.P]\nmedia = "N*"\nspan = true', "N1..N6", 2 * MIB)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(9):
        (source / str(number)).write_bytes(random_bytes(number, 1_050_000 + number))
    with library.mounted(f"io={io}") as mounted:
        shell(f"tar c --sort=name -C {tmp_path} source > {tmp_path}/whole.tar")
        shell(f"tar c --sort=name -C {tmp_path} source | dd of={pool(mounted)} bs={block} iflag=fullblock 2>/dev/null")
        [(number, data)] = streams(mounted).items()
        assert data == (tmp_path / "whole.tar").read_bytes()
        stream = mounted.path / "pools/P.files" / str(number)
        assert stream.stat().st_size == len(data)
        shell(f"cmp {stream} {tmp_path}/whole.tar && tar df {stream} -C {tmp_path}")
        tapes = [mounted.medium(f"N{number}").read_bytes() for number in range(1, 6)]
        assert b"".join(tapes) == data
        assert all(len(tape) % block == 0 for tape in tapes[:4]), "no write stands on two media"
        shell(f"tar cf {pool(mounted)} -C {source} 1")
        assert len(streams(mounted)) == 2
        document = mounted.session(number)
        assert document["part"] == {"pool": "P", "stream": number, "place": 0}
        assert document["error"] is None, "the program was never told of the full medium"
    assert [part.place for part in parts(library, number)] == [0, 1, 2, 3, 4]


def test_identifier_of_a_stream_is_its_first_sessions_and_fsync_is_for_all_parts(library: OnDisks) -> None:
    pools(library, '[pools.P]\nmedia = "N*"\nspan = true')
    data = random_bytes(8, 5 * MIB // 2)
    with library.mounted(checked=False) as mounted:
        descriptor = os.open(pool(mounted), os.O_RDWR)
        number = os.fstat(descriptor).st_ino
        for start in range(0, len(data), 100_000):
            os.write(descriptor, data[start : start + 100_000])
        assert os.fstat(descriptor).st_ino == number
        assert os.pread(descriptor, len(data), 0) == data, "its own stream, over three media"
        os.fsync(descriptor)
        mounted.kill()
        with pytest.raises(OSError):
            os.close(descriptor)
        library.vtlfs("umount", mounted.path)
    library.vtlfs("recover", library.path)
    with library.mounted() as mounted:
        assert streams(mounted) == {number: data}


def test_mount_that_dies_in_mid_span_leaves_a_chain_of_tape_files(library: OnDisks) -> None:
    pools(library, '[pools.P]\nmedia = "N*"\nspan = true', "N1..N5")
    data = random_bytes(9, 3 * MIB + 333)
    with library.mounted(checked=False) as mounted:
        descriptor = os.open(pool(mounted), os.O_WRONLY | os.O_TRUNC)
        number = os.fstat(descriptor).st_ino
        for start in range(0, len(data), 32 * KIB):
            os.write(descriptor, data[start : start + 32 * KIB])
        assert not (mounted.path / "pools/P.files" / str(number)).exists(), "it has not ended"
        mounted.kill()
        with pytest.raises(OSError):
            os.close(descriptor)
        library.vtlfs("umount", mounted.path)
    library.vtlfs("recover", library.path)
    library.check()
    chain = parts(library, number)
    assert [part.place for part in chain] == [0, 1, 2, 3]
    assert [library.session(part.session).medium for part in chain] == ["N1", "N2", "N3", "N4"]
    with library.mounted() as mounted:
        [kept] = streams(mounted).values()
        assert len(kept) >= 3 * MIB
        assert data.startswith(kept)
        assert b"".join(mounted.medium(f"N{number}").read_bytes() for number in range(1, 5)) == kept


@pytest.mark.parametrize("committed", ["", ">transaction.committed"])
@pytest.mark.parametrize("where", ["tracking.pool_moved:2", "tracking.pool_full", "tracking.part_added:3"])
def test_mount_that_dies_where_a_pool_moves_leaves_the_pool_usable(
    library: OnDisks, where: str, committed: str
) -> None:
    pools(library, '[pools.P]\nmedia = "N*"\nspan = true', "N1..N5")
    library.serving = ["env", f"{failpoints.ENVIRONMENT}={where}{committed}", *PROGRAM]
    first = random_bytes(13, 100_000)
    with library.mounted(checked=False) as mounted:
        number = write(pool(mounted), first)
        with pytest.raises(OSError, match=r"not connected|abort|Input/output"):
            write(pool(mounted), random_bytes(14, 3 * MIB))
        mounted.kill()
        library.vtlfs("umount", mounted.path)
    library.serving = PROGRAM
    library.vtlfs("recover", library.path)
    library.check()
    data = random_bytes(15, MIB + 100)
    with library.mounted() as mounted:
        again = write(pool(mounted), data)
        found = streams(mounted)
        assert (found[number], found[again]) == (first, data)
    library.vtlfs("verify", library.path)


def test_stream_that_comes_to_the_pools_end_gets_enospc_and_keeps_what_came(library: OnDisks) -> None:
    pools(library, '[pools.P]\nmedia = "N*"\nspan = true', "N1..N2")
    data = random_bytes(10, 3 * MIB)
    with library.mounted(expects=[END]) as mounted:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            write(pool(mounted), data)
        assert list(streams(mounted).values()) == [data[: 2 * MIB]]


def test_write_that_is_larger_than_any_medium_is_refused(library: OnDisks) -> None:
    pools(library, '[pools.P]\nmedia = "N*"\nspan = true\ngrow = true\ncapacity = "10K"', "N1..N2", 10 * KIB)
    with library.mounted() as mounted, pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write(pool(mounted), random_bytes(11, 20 * KIB), 20 * KIB)


def test_small_writes_span_too(library: OnDisks) -> None:
    pools(library, '[pools.P]\nmedia = "N*"\nspan = true', "N1..N5", 10_000)
    data = random_bytes(12, 45_000)
    with library.mounted() as mounted:
        number = write(pool(mounted), data, 700)
        assert streams(mounted) == {number: data}


# --- several at once ------------------------------------------------------------------------------------------------


def test_many_streams_of_two_mounts_pass_over_no_medium_and_lose_nothing(library: OnDisks, tmp_path: Path) -> None:
    pools(library, '[pools.P]\nmedia = "N*"\nspan = true', "N001..N060", 200_000)
    with library.mounted("host=a") as one, library.mounted("host=b", at=tmp_path / "other") as other:
        wanted = {}
        lock = threading.Lock()

        def stream(seed: int) -> None:
            data = random_bytes(seed, 30_000 + 17_000 * (seed % 11))
            number = write(pool((one, other)[seed % 2]), data, 5_000)
            with lock:
                wanted[number] = data

        with ThreadPoolExecutor(12) as threads:
            list(threads.map(stream, range(60)))
        for mounted in (one, other):
            assert streams(mounted) == wanted
    used = [
        one["barcode"] for one in json.loads(library.vtlfs("media", "list", library.path, "--json")) if one["bytes"]
    ]
    used = [barcode for barcode in used if barcode.startswith("N")]
    assert used == [f"N{number:03d}" for number in range(1, len(used) + 1)], "none was passed over"


def test_program_that_tries_again_comes_to_the_next_medium(library: OnDisks) -> None:
    pools(library, '[pools.P]\nmedia = "N*"', "N001..N020", 500_000)
    with library.mounted() as mounted:
        write_it = f"head -c 30000 /dev/urandom | dd of={pool(mounted)} bs=3000 2>/dev/null && continue 2"
        words = f"for number in 1 2 3; do for attempt in $(seq 20); do {write_it}; done; exit 1; done"
        running = [subprocess.Popen(["bash", "-o", "pipefail", "-c", words]) for _ in range(12)]
        assert {process.wait(SECONDS) for process in running} == {0}
        found = streams(mounted).values()
        assert [len(data) for data in found].count(30_000) == 36
        assert all(len(data) <= 30_000 and len(data) % 3000 == 0 for data in found)

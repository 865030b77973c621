"""Reading damaged extents through a mount, and verifying while the library is mounted."""

import errno
import json
import os
import re
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from filling import flip_at
from mounting import Mounted, OnDisks, random_bytes, require_fuse, shell, wait_until

from vtlfs.disks.local.opening import member_path
from vtlfs.disks.records import BLOCK
from vtlfs.engine.library import Library

MIB = 1 << 20
FIRST = random_bytes(1, 70_001)
DATA = random_bytes(2, 6 * MIB + 5)
PAGE = 4096
BAD = 3  # number of the extent that is damaged


def damaged_at(library: OnDisks, session: int, number: int = BAD) -> tuple[Path, int, int]:
    """Return the member file of an extent that is a whole stripe unit, the offset in it, and its disk."""
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        (row,) = tracking.extents.of(session, number * MIB, 1)
    assert row.offset == number * MIB
    return member_path(library.disks[row.disk], session), row.position + BLOCK, row.disk


def write(mounted: Mounted, *streams: bytes) -> None:
    """Write the streams to T1; return when they are tape files."""
    for stream in streams:
        mounted.medium("T1").write_bytes(stream)
    assert mounted.medium("T1").stat().st_size == sum(map(len, streams))


@pytest.mark.parametrize("io", ["cached", "direct"])
def test_damage_is_an_error_around_which_everything_is_read(library: OnDisks, io: str) -> None:
    with library.mounted(f"io={io}", expects=["its BLAKE3 is not the recorded one"]) as mounted:
        write(mounted, FIRST, DATA)
        session = library.tape_files("T1")[1].session
        member, offset, disk = damaged_at(library, session)
        flip_at(member, offset + 1000)
        begin, end = BAD * MIB, (BAD + 1) * MIB
        with open(mounted.file("T1", 1), "rb", buffering=0) as file:
            for at in range(0, len(DATA), PAGE):
                if begin <= at < end:
                    with pytest.raises(OSError, match="Input/output"):
                        os.pread(file.fileno(), PAGE, at)
                else:
                    assert os.pread(file.fileno(), PAGE, at) == DATA[at : at + PAGE]
        (line,) = [line for line in mounted.said().splitlines() if "BLAKE3" in line]
        assert line.endswith(
            f"session {session}, the extent at offset {begin} on disk {disk}: its BLAKE3 is not the recorded one "
            f"(medium T1, tape file 0001, offset {begin}, {len(FIRST) + begin} on the medium);"
            " `vtlfs verify` finds all damage"
        )
        # In large steps, as programs read: the medium as a whole, where extents and requests have different borders.
        told = shell(f"cat {mounted.medium('T1')} > {library.root}/copy", status=1).stderr
        assert "Input/output error" in told
        got = (library.root / "copy").read_bytes()
        assert (FIRST + DATA).startswith(got)
        assert len(got) <= len(FIRST) + begin
        shell(
            f"tail -c +{len(FIRST) + end + PAGE} {mounted.medium('T1')} | cmp - <(tail -c {2 * MIB + 6 - PAGE} "
            f"{mounted.file('T1', 1)})"
        )
        flip_at(member, offset + 1000)
        assert mounted.medium("T1").read_bytes() == FIRST + DATA, "what failed is not kept"


def test_without_checking_damage_is_handed_out_and_verify_finds_it(library: OnDisks) -> None:
    with library.mounted("check=off", allows=["repair has ended"]) as mounted:  # what verify finds, a mount repairs
        write(mounted, DATA)
        member, offset, _ = damaged_at(library, 1)
        flip_at(member, offset)
        got = mounted.file("T1", 0).read_bytes()
        assert [at for at in range(0, len(DATA), MIB) if got[at : at + MIB] != DATA[at : at + MIB]] == [BAD * MIB]
        assert "1 damaged" in library.vtlfs("verify", library.path, status=3)


def test_fifo_in_the_place_of_a_member_file_is_an_error_and_not_waited_for(library: OnDisks) -> None:
    with library.mounted(expects=["a FIFO is in its place"], checked=False) as mounted:
        write(mounted, DATA)
        member, _, _ = damaged_at(library, 1)
        member.unlink()
        os.mkfifo(member)
        told = shell(f"timeout 30 cat {mounted.medium('T1')} > /dev/null", status=1).stderr
        assert "Input/output error" in told
        assert "replaced" in library.vtlfs("verify", library.path, status=3)


def test_verify_runs_beside_streams_and_leaves_them_out(library: OnDisks) -> None:
    with library.mounted() as mounted:
        write(mounted, DATA)
        with open(mounted.medium("T2"), "wb", buffering=0) as stream:
            stream.write(DATA)
            os.fsync(stream.fileno())
            document = json.loads(library.vtlfs("verify", library.path, "--json"))
            assert document["defects"] == []
            assert document["summary"]["bytes"] == len(DATA)
            stream.write(DATA)
        assert json.loads(library.vtlfs("verify", library.path, "--json"))["summary"]["bytes"] == 3 * len(DATA)
        assert mounted.medium("T2").read_bytes() == DATA + DATA


def test_dead_disk_is_told_by_the_mount_and_by_verify(on_loop: OnDisks) -> None:
    """Every read of a disk that was shut down fails with EIO, also that of its label."""
    if shutil.which("xfs_io") is None:
        pytest.skip("xfs_io is not installed")
    with on_loop.mounted("io=direct", expects=["Input/output error"], checked=False) as mounted:
        write(mounted, DATA)
        shell(f"xfs_io -x -c shutdown {on_loop.disks[0]}")
        first = damaged_at(on_loop, 1, 0)[2]
        with open(mounted.file("T1", 0), "rb", buffering=0) as file:
            for unit in range(6):
                if (unit + first) % 2:
                    assert os.pread(file.fileno(), PAGE, unit * MIB) == DATA[unit * MIB : unit * MIB + PAGE]
                else:
                    with pytest.raises(OSError, match="Input/output") as told:
                        os.pread(file.fileno(), PAGE, unit * MIB)
                    assert told.value.errno == errno.EIO
        line = wait_until(lambda: re.search(r"ERROR.*medium T1.*", mounted.said()), "the line in the log")[0]
        assert f"disk 0 ({on_loop.disks[0]}): Input/output error (session 1; medium T1, " in line
        said = on_loop.vtlfs("verify", on_loop.path, status=4)
        assert f"absent: disk 0 ({on_loop.disks[0]}): " in said
        assert said.count("\n") == 3  # the disk, the tape file that it hurts, the summary


# --- with parity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parity", "disks"), [(1, 2), (1, 3), (2, 4)])
def test_damage_that_the_stripe_makes_up_for_is_read_past(tmp_path: Path, parity: int, disks: int) -> None:
    library = with_parity(tmp_path, disks, parity)
    with library.mounted(expects=["are computed from the rest of their stripes"], checked=False) as mounted:
        write(mounted, FIRST, DATA)
        member, offset, disk = damaged_at(library, 2)
        flip_at(member, offset + 1000)
        assert mounted.medium("T1").read_bytes() == FIRST + DATA
        result = json.loads(library.vtlfs("verify", library.path, "--json", status=3).rpartition("}")[0] + "}")
        (defect,) = result["defects"]
        assert (defect["offset"], defect["disk"], defect["is_replaceable"]) == (BAD * MIB, disk, True)
        assert (result["summary"]["damaged"], result["summary"]["replaceable"]) == (1, 1)
        assert result["summary"]["bytes"] == len(FIRST) + len(DATA)


def test_more_damage_than_a_stripe_makes_up_for_is_an_error(tmp_path: Path) -> None:
    library = with_parity(tmp_path, 3, 1)
    with library.mounted(expects=["its BLAKE3 is not the recorded one"], checked=False) as mounted:
        write(mounted, DATA)
        for number in (2, 3):  # of one stripe
            member, offset, _ = damaged_at(library, 1, number)
            flip_at(member, offset)
        with open(mounted.file("T1", 0), "rb", buffering=0) as file:
            for number in range(6):
                if number in (2, 3):
                    with pytest.raises(OSError, match="Input/output"):
                        os.pread(file.fileno(), PAGE, number * MIB)
                else:
                    assert os.pread(file.fileno(), PAGE, number * MIB) == DATA[number * MIB : number * MIB + PAGE]
        assert "2 damaged\n" in library.vtlfs("verify", library.path, status=3)


def with_parity(root: Path, disks: int, parity: int) -> OnDisks:
    """Return a library whose stripes have parity, to be mounted."""
    require_fuse()
    return OnDisks(root, disks, parity=parity)

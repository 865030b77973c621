"""Full media and disks: the writer gets ENOSPC, and the bytes written before are kept."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import OnDisks, random_bytes, require_fuse, shell, wait_until

KIB, MIB = 1 << 10, 1 << 20
MODES = ["auto", "direct", "cached"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of 3 MiB."""
    path = tmp_path / "data"
    path.write_bytes(random_bytes(7, 3 * MIB))
    return path


@pytest.fixture
def small_disks(tmp_path: Path, _no_descriptor_left: None) -> Iterator[OnDisks]:
    """A library with two disks of 8 MiB. A larger disk beside a small one would get nearly all extents."""
    require_fuse()
    disks = [tmp_path / "small0", tmp_path / "small1"]
    try:
        for disk in disks:
            disk.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
        yield OnDisks(tmp_path, disks)
    finally:
        for disk in filter(os.path.ismount, disks):
            subprocess.run(["umount", disk], check=True)


def fill(path: Path, data: bytes, block: int) -> tuple[int, int | None]:
    """Write until an error. Return how many bytes were accepted, and the errno of the write or of close()."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    accepted, error = 0, None
    try:
        while accepted < len(data):
            accepted += os.write(descriptor, data[accepted : accepted + block])
    except OSError as failure:
        error = failure.errno
    try:
        os.close(descriptor)
    except OSError as failure:
        error = error or failure.errno
    return accepted, error


# --- media ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("io", ["auto", "direct"])
@pytest.mark.parametrize("block", [1000, 4096, 10240, 64512, MIB + 1])
def test_write_that_does_not_fit_on_the_medium_fails_as_a_whole(
    library: OnDisks, data: Path, io: str, block: int
) -> None:
    capacity = 2 * MIB + 333
    library.add("FULL", capacity=capacity)
    content = data.read_bytes()
    with library.mounted(f"io={io}") as mounted:
        whole = capacity // block * block
        assert fill(mounted.medium("FULL"), content, block) == (whole, errno.ENOSPC)
        assert mounted.file("FULL", 0).read_bytes() == content[:whole]
        rest = capacity - whole
        assert fill(mounted.medium("FULL"), content[:rest], block) == (rest, None)
        assert fill(mounted.medium("FULL"), b"x", 1) == (0, errno.ENOSPC)
        assert mounted.medium("FULL").stat().st_size == capacity
    assert library.extract("FULL") == content[:whole] + content[:rest]
    first, second, third = (one for one in library.listed() if one["access"] == "write")
    assert (first["state"], first["error"], first["bytes"]) == ("released", "ENOSPC", whole)
    assert (second["state"], second["error"], second["bytes"]) == ("released", None, rest)
    assert (third["state"], third["error"], third["tape_file"]) == ("released", "ENOSPC", None)


def test_session_goes_on_with_less_after_a_write_that_did_not_fit(library: OnDisks) -> None:
    library.add("FULL", capacity=10_000)
    with library.mounted("io=direct") as mounted:
        descriptor = os.open(mounted.medium("FULL"), os.O_WRONLY)
        assert os.write(descriptor, b"a" * 9000) == 9000
        with pytest.raises(OSError, match="No space") as refused:
            os.write(descriptor, b"b" * 1001)
        assert refused.value.errno == errno.ENOSPC
        os.fsync(descriptor)
        assert os.write(descriptor, b"c" * 1000) == 1000
        os.close(descriptor)
        assert mounted.medium("FULL").read_bytes() == b"a" * 9000 + b"c" * 1000


def test_cached_stream_hears_at_close_that_the_medium_is_full(library: OnDisks, data: Path) -> None:
    library.add("FULL", capacity=MIB + 5000)
    with library.mounted("io=cached", expects=["FULL is full"]) as mounted:
        _, error = fill(mounted.medium("FULL"), data.read_bytes(), 64 * KIB)
        assert error == errno.ENOSPC
        kept = mounted.file("FULL", 0).read_bytes() if mounted.file("FULL", 0).exists() else b""
        assert data.read_bytes().startswith(kept)
        assert len(kept) <= MIB + 5000
    (session,) = (one for one in library.listed() if one["access"] == "write")
    assert (session["state"], session["error"]) == ("failed", "ENOSPC")
    assert library.extract("FULL") == kept


PROGRAMS = {
    "dd bs=64k": ("dd if={data} of={tape} bs=64k", 1),
    "dd conv=fsync": ("dd if={data} of={tape} bs=64k conv=fsync", 1),
    "tar": ("tar cf {tape} -C {data.parent} data", 2),
    "cat": ("cat {data} > {tape}", 1),
    "cp": ("cp {data} {tape}", 1),
    "head": ("head -c 2M {data} > {tape}", 1),
    "tee": ("tee {tape} < {data} > /dev/null", 1),
}


@pytest.mark.parametrize("io", MODES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_program_learns_that_the_medium_is_full(library: OnDisks, data: Path, io: str, program: str) -> None:
    library.add("FULL", capacity=MIB)
    script, status = PROGRAMS[program]
    with library.mounted(f"io={io}", expects=["FULL is full"] if io == "cached" else []) as mounted:
        said = shell(script.format(data=data, tape=mounted.medium("FULL")), status=status).stderr
        assert "No space left on device" in said
        if io == "cached" and program == "dd bs=64k":
            assert "closing output file" in said
        if io == "cached" and program == "tar":
            assert "Cannot close" in said
        content = mounted.medium("FULL").read_bytes()
        assert len(content) <= MIB
        if program != "tar":
            assert data.read_bytes().startswith(content)
        if io != "cached":
            assert len(content) > MIB - 256 * KIB


@pytest.mark.parametrize("io", ["auto", "direct"])
def test_tar_goes_on_with_the_next_medium(library: OnDisks, tmp_path: Path, io: str) -> None:
    library.add("VOL1", "VOL2", "VOL3", capacity=MIB + 3 * KIB)
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(9):
        (tree / f"file{number}").write_bytes(random_bytes(number, 290 * KIB + number))
    with library.mounted(f"io={io}") as mounted:
        volumes = " ".join(f"-f {mounted.medium(f'VOL{number}')}" for number in (1, 2, 3))
        shell(f"tar -c -M {volumes} -C {tree} .")
        assert all(mounted.medium(f"VOL{number}").stat().st_size > 0 for number in (1, 2, 3))
        there = tmp_path / "there"
        there.mkdir()
        shell(f"tar -x -M {volumes} -C {there} && diff -r {tree} {there}")


def test_many_writers_share_what_is_left(library: OnDisks) -> None:
    """Together they fill the medium up to less than one write; no writer gets room that the medium does not have."""
    library.add("FULL", capacity=MIB + 100)
    with library.mounted("io=direct") as mounted:
        script = f"for n in 1 2 3 4 5 6; do dd if=/dev/zero of={mounted.medium('FULL')} bs=10k & done; wait"
        shell(script)
        assert mounted.medium("FULL").stat().st_size == (MIB + 100) // 10240 * 10240
        sizes = [tape_file.bytes for tape_file in library.tape_files("FULL")]
        assert all(size % 10240 == 0 for size in sizes)


def test_what_an_open_session_has_reserved_comes_back(library: OnDisks) -> None:
    library.add("FULL", capacity=100_000)
    with library.mounted("io=direct") as mounted:
        first = os.open(mounted.medium("FULL"), os.O_WRONLY)
        os.write(first, b"a" * 60_000)
        assert fill(mounted.medium("FULL"), b"b" * 50_000, 50_000) == (0, errno.ENOSPC)
        os.close(first)
        assert fill(mounted.medium("FULL"), b"b" * 40_000, 40_000) == (40_000, None)
    assert library.extract("FULL") == b"a" * 60_000 + b"b" * 40_000


# --- disks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("io", ["auto", "direct"])
@pytest.mark.parametrize("block", [10240, MIB, 3 * MIB])
def test_write_that_does_not_fit_on_a_disk_fails_as_a_whole(small_disks: OnDisks, io: str, block: int) -> None:
    content = random_bytes(3, 24 * MIB)
    with small_disks.mounted(f"io={io}", expects=["No space left on device"]) as mounted:
        mounted.medium("T1").write_bytes(b"before")
        accepted, error = fill(mounted.medium("T1"), content, block)
        assert error == errno.ENOSPC
        assert 10 * MIB <= accepted < 17 * MIB
        assert mounted.file("T1", 0).read_bytes() == b"before"
        assert mounted.file("T1", 1).read_bytes() == content[:accepted]
    assert small_disks.extract("T1") == b"before" + content[:accepted]
    session = [one for one in small_disks.listed() if one["access"] == "write"][1]
    assert (session["state"], session["error"], session["bytes"]) == ("released", "ENOSPC", accepted)


def test_cached_stream_hears_at_close_that_a_disk_is_full(small_disks: OnDisks) -> None:
    content = random_bytes(3, 24 * MIB)
    with small_disks.mounted("io=cached", expects=["No space left on device"]) as mounted:
        mounted.medium("T1").write_bytes(b"before")
        _, error = fill(mounted.medium("T1"), content, 64 * KIB)
        assert error == errno.ENOSPC
        assert mounted.file("T1", 0).read_bytes() == b"before"
        kept = mounted.medium("T1").read_bytes()[6:]
        assert content.startswith(kept)
    session = [one for one in small_disks.listed() if one["access"] == "write"][1]
    assert (session["state"], session["error"], session["bytes"]) == ("failed", "ENOSPC", len(kept))


@pytest.mark.parametrize("io", MODES)
def test_full_disk_fails_programs_with_enospc(small_disks: OnDisks, io: str) -> None:
    with small_disks.mounted(f"io={io}", expects=["No space left on device"]) as mounted:
        for script in ("dd if=/dev/zero of={} bs=64k count=400", "head -c 25M /dev/zero > {}"):
            said = shell(script.format(mounted.medium("T1")), status=1).stderr
            assert "No space left on device" in said
            assert "Input/output" not in said
        assert set(mounted.medium("T1").read_bytes()) == {0}


def test_disk_that_has_room_again_takes_streams_again(small_disks: OnDisks) -> None:
    filler = small_disks.disks[0] / "filler"
    with small_disks.mounted(expects=["No space left on device"]) as mounted:
        shell(f"head -c 9M /dev/zero > {filler}", status=1)
        content = random_bytes(1, 4 * MIB)
        assert fill(mounted.medium("T1"), content, 64 * KIB)[1] == errno.ENOSPC
        filler.unlink()
        assert fill(mounted.medium("T2"), content, 64 * KIB) == (len(content), None)
        assert mounted.medium("T2").read_bytes() == content


def test_df_shows_what_can_be_written(small_disks: OnDisks) -> None:
    """With two disks, the fuller one limits it."""
    (small_disks.disks[0] / "filler").write_bytes(bytes(3 * MIB))
    with small_disks.mounted() as mounted:
        ours, small, large = (os.statvfs(path) for path in (mounted.path, *small_disks.disks))
        assert ours.f_blocks * ours.f_frsize == small.f_blocks * small.f_frsize + large.f_blocks * large.f_frsize
        assert ours.f_bavail * ours.f_frsize == 2 * small.f_bavail * small.f_frsize < 11 * MIB
        assert ours.f_bfree == ours.f_bavail


@pytest.mark.usefixtures("_no_descriptor_left")
def test_df_counts_what_is_reserved_for_root_as_free(tmp_path: Path) -> None:
    """As ext4 itself does: nothing is used in an empty library, and less than all is available."""
    require_fuse()
    disks = [tmp_path / "disk0", tmp_path / "disk1"]
    try:
        for disk in disks:
            disk.mkdir()
            image = disk.with_suffix(".img")
            shell(f"truncate -s 64M {image} && mkfs.ext4 -q -m 20 {image} && mount -o loop {image} {disk}")
        library = OnDisks(tmp_path, disks)
        with library.mounted() as mounted:
            ours, *theirs = (os.statvfs(path) for path in (mounted.path, *disks))
            assert ours.f_bfree * ours.f_frsize == pytest.approx(
                2 * min(one.f_bfree * one.f_frsize for one in theirs), rel=0.01
            )
            assert ours.f_bavail * ours.f_frsize == pytest.approx(
                2 * min(one.f_bavail * one.f_frsize for one in theirs), rel=0.01
            )
            used = (ours.f_blocks - ours.f_bfree) * ours.f_frsize
            assert used < 2 * MIB < (ours.f_bfree - ours.f_bavail) * ours.f_frsize
    finally:
        for disk in filter(os.path.ismount, disks):
            subprocess.run(["umount", disk], check=True)


@pytest.mark.usefixtures("_no_descriptor_left")
@pytest.mark.parametrize(("disks", "parity"), [(2, 1), (3, 1), (3, 2)])
def test_df_leaves_the_room_of_parity_out(tmp_path: Path, disks: int, parity: int) -> None:
    """All disks are directories on one device, whose room counts once."""
    require_fuse()
    library = OnDisks(tmp_path, disks, parity=parity)
    with library.mounted() as mounted:
        ours, device = os.statvfs(mounted.path), os.statvfs(tmp_path)
        share = (disks - parity) / disks
        assert ours.f_blocks * ours.f_frsize == pytest.approx(share * device.f_blocks * device.f_frsize, rel=0.01)
        assert ours.f_bavail * ours.f_frsize == pytest.approx(share * device.f_bavail * device.f_frsize, rel=0.1)


@pytest.mark.usefixtures("_no_descriptor_left")
def test_df_counts_no_disk_that_is_missing(tmp_path: Path) -> None:
    """Two of three directories on one device are left, with parity 1: a mirror."""
    require_fuse()
    library = OnDisks(tmp_path, 3, parity=1)
    shutil.rmtree(library.disks[1])
    with library.mounted(expects=["disk 1"], checked=False) as mounted:
        ours, device = os.statvfs(mounted.path), os.statvfs(tmp_path)
        assert ours.f_bavail * ours.f_frsize == pytest.approx(device.f_bavail * device.f_frsize / 2, rel=0.1)


# --- the library ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_library(tmp_path: Path, _no_descriptor_left: None) -> Iterator[OnDisks]:
    """A library whose tracking database has little room, with stripe units of 64 KiB and checkpoints every second."""
    require_fuse()
    (tmp_path / "library").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path / "library"], check=True)
    try:
        library = OnDisks(tmp_path, unit=64 * KIB)
        toml = library.path / "library.toml"
        toml.write_text(toml.read_text().replace('checkpoint = "5s"', 'checkpoint = "1s"'))
        yield library
    finally:
        subprocess.run(["umount", tmp_path / "library"], check=True)


def test_streams_outlive_a_library_that_has_no_room_for_its_database(small_library: OnDisks) -> None:
    library, full = small_library, "database or disk is full"
    with library.mounted("io=direct", expects=["checkpoint"], allows=[full]) as mounted:
        streams = {f"T{number}": os.open(mounted.medium(f"T{number}"), os.O_WRONLY) for number in range(1, 9)}
        sent = dict.fromkeys(streams, b"")

        def write_on() -> None:
            for number, (barcode, stream) in enumerate(streams.items()):
                data = random_bytes(len(sent[barcode]) + number, 64 * KIB)
                sent[barcode] += data[: os.write(stream, data)]

        def has_failed() -> bool:
            write_on()
            return mounted.said().count("checkpoint") >= len(streams)

        write_on()
        shell(f"cat /dev/zero > {library.path}/filling || true")
        wait_until(has_failed, "checkpoints that fail")
        for stream in streams.values():
            with pytest.raises(OSError, match="No space left"):
                os.fsync(stream)
        (library.path / "filling").unlink()
        for stream in streams.values():
            os.fsync(stream)
            os.close(stream)
    assert {barcode: library.extract(barcode) for barcode in streams} == sent

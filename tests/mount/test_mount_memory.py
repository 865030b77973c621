"""The memory of a mount is bounded by `[memory] limit`, however many files are open, and is returned to the system."""

import re
import sys
from pathlib import Path

import pytest
from crowd import HALF, READ, content, crowd, resident
from mounting import PROGRAM, PROJECT, OnDisks, random_bytes, require_fuse, shell, wait_until

from vtlfs.config import FILE_NAME
from vtlfs.model import KIB, MIB

STARTED = [*PROGRAM]  # memory is measured of a mount that nobody has forked
SMALL, HALVES, READERS = 700, 250, 550
MORE = 1000
ISOLATED = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from vtlfs.cli.main import main; sys.exit(main())"
EACH = 16 * KIB  # that an open file may cost besides
OTHER = 24 * MIB  # what malloc has not given back yet, and the database


def limited(root: Path, disks: int) -> OnDisks:
    library = OnDisks(root, disks)
    library.serving = STARTED
    settings = library.path / FILE_NAME
    text = settings.read_text()
    assert 'limit = "256MiB"' in text
    settings.write_text(text.replace('limit = "256MiB"', 'limit = "64MiB"'))
    return library


@pytest.mark.parametrize("program", [("-m", "vtlfs"), ("-I", "-X", "utf8", "-c", ISOLATED)])
def test_a_mount_allocates_objects_so_that_their_memory_goes_back(tmp_path: Path, program: tuple[str, ...]) -> None:
    """Python's own allocator keeps a mebibyte as long as one small object in it lives."""
    require_fuse()
    library = OnDisks(tmp_path, 2)
    library.serving = [sys.executable, *program]
    with library.mounted() as mounted:
        started = Path(f"/proc/{mounted.pid}/environ").read_bytes().split(b"\0")
        assert b"PYTHONMALLOC=malloc" in started
        mounted.medium("T1").write_bytes(b"written")
        assert mounted.medium("T1").read_bytes() == b"written"


@pytest.mark.parametrize(("disks", "parity"), [(2, 0), (3, 1), (4, 2)])
def test_memory_is_bounded_with_32_streams_at_once(tmp_path: Path, disks: int, parity: int) -> None:
    require_fuse()
    library = OnDisks(tmp_path, disks, parity=parity)
    library.serving = STARTED
    with library.mounted() as mounted:
        writers = "\n".join(
            f"dd if=/dev/zero of={mounted.drive(n % 4, f'T{1 + n % 8}')} bs={bs} count={16 * MIB // size} status=none &"
            for n in range(32)
            for bs, size in [(("10k", 10240), ("1M", MIB))[n % 2]]
        )
        shell(f"{writers}\nwait", timeout=120)
        status = Path(f"/proc/{mounted.pid}/status").read_text()
        peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])
        assert peak < 300 << 10, f"{peak} KiB"
        assert sum(mounted.medium(f"T{number}").stat().st_size for number in range(1, 9)) == 32 * 16 * MIB - 16 * (
            16 * MIB % 10240
        )


@pytest.mark.parametrize(("disks", "options"), [(2, "sync=none"), (3, "sync=close")])
def test_a_crowd_of_idle_files_takes_no_more_than_the_limit(tmp_path: Path, disks: int, options: str) -> None:
    require_fuse()
    library = limited(tmp_path, disks)
    with library.mounted(options) as mounted:
        mounted.medium("T1").write_bytes(random_bytes(1, 8 * MIB))
        before = resident(mounted.pid)
        with crowd() as files:
            files.write(mounted.medium("T2"), SMALL, HALVES)
            files.read(mounted.medium("T1"), READERS)
            files.again(files.readers, 5 * MIB)
            files.go_on(MORE)
            took = resident(mounted.pid) - before
            assert took < 64 * MIB + OTHER + (SMALL + HALVES + READERS) * EACH, f"{took / MIB:.0f} MiB"
        wait_until(lambda: resident(mounted.pid) - before < OTHER, "memory goes back to the system")
        mounted.medium("T2").stat()  # waits for what was closed
        lengths = {HALF + MORE: HALVES, 1: SMALL}
        found = library.tape_files("T2")
        assert sorted(file.bytes for file in found) == sorted(
            size for size, count in lengths.items() for _ in range(count)
        )
        wanted = sorted(content(number, HALF + MORE) for number in range(HALVES))
        assert sorted(mounted.file("T2", file.number).read_bytes() for file in found if file.bytes > READ) == wanted

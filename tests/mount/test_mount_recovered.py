"""Where the tape file of a stream ends whose mount was killed: at the end of one of the program's own writes."""

import os
from pathlib import Path

import pytest
from mounting import OnDisks, random_bytes, require_fuse, wait_until

UNIT = 65_536
UNITS = 3  # that are to be recorded before the mount is killed


@pytest.mark.parametrize(
    ("size", "flags"),
    [(999, os.O_WRONLY), (64_512, os.O_RDWR), (UNIT, os.O_WRONLY), (100_000, os.O_WRONLY | os.O_APPEND)],
)
def test_recovered_tape_file_has_whole_writes(tmp_path: Path, size: int, flags: int) -> None:
    require_fuse()
    library = OnDisks(tmp_path, unit=UNIT)
    library.checkpoint_every("0.05s")
    data = random_bytes(size, size)
    with library.mounted(checked=False) as mounted:
        descriptor = os.open(mounted.medium("T1"), flags)
        number = os.fstat(descriptor).st_ino

        def is_recorded() -> bool:
            assert os.write(descriptor, data) == size
            return library.session(number).bytes > UNITS * UNIT

        for _ in range(UNITS * UNIT // size):
            assert os.write(descriptor, data) == size
        wait_until(is_recorded, "a checkpoint")
        mounted.kill()
        with pytest.raises(OSError, match="not connected"):
            os.write(descriptor, data)
        with pytest.raises(OSError, match="not connected"):
            os.close(descriptor)
        library.vtlfs("umount", mounted.path)
    with library.mounted(expects=["1 of its sessions were ended"]) as mounted:
        [file] = library.tape_files("T1")
        assert file.bytes > UNITS * UNIT
        assert mounted.medium("T1").read_bytes() == data * (file.bytes // size)

"""Streams in blocks of all sizes come back byte by byte, in each I/O mode and however the file is opened."""

import os
from pathlib import Path

import pytest
from mounting import OnDisks, Tape, random_bytes, require_fuse

MIB = 1 << 20
SIZES = {1: 3001, 511: 700_001, 512: 700_928, 4095: 3 * MIB + 7, 4097: 3 * MIB + 7, 10240: 5 * MIB + 1}
SIZES |= {65536: 5 * MIB + 4095, MIB + 1: 5 * (MIB + 1) + 3, 3 * MIB: 7 * MIB + 511}
CREATE = os.O_WRONLY | os.O_CREAT
FLAGS = {
    "truncate": CREATE | os.O_TRUNC,
    "append": CREATE | os.O_APPEND,
    "append+truncate": CREATE | os.O_APPEND | os.O_TRUNC,
    "neither": CREATE,
    "read-write": os.O_RDWR | os.O_CREAT,
}


def write_stream(path: os.PathLike[str], flags: int, data: bytes, block: int) -> None:
    descriptor = os.open(path, flags)
    try:
        if flags & os.O_RDWR:
            os.lseek(descriptor, 0, os.SEEK_END)
        for start in range(0, len(data), block):
            piece = data[start : start + block]
            assert os.write(descriptor, piece) == len(piece)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("block", SIZES)
def test_two_streams_in_blocks_of_one_size_come_back(tape: Tape, block: int) -> None:
    first, second = random_bytes(block, SIZES[block]), random_bytes(-block, SIZES[block] // 3)
    write_stream(tape.path, FLAGS["truncate"], first, block)
    write_stream(tape.path, FLAGS["truncate"], second, block)
    assert tape.streams() == [first, second]
    assert tape.library.extracted(tape.barcode) == first + second
    assert tape.library.extract(tape.barcode, 1) == second


@pytest.mark.parametrize("block", [511, MIB + 1])
@pytest.mark.parametrize("flags", FLAGS)
def test_every_way_of_opening_appends(tape: Tape, flags: str, block: int) -> None:
    streams = [random_bytes(seed, min(block * 200, 2 * MIB + 3)) for seed in range(2)]
    for stream in streams:
        write_stream(tape.path, FLAGS[flags], stream, block)
    assert tape.streams() == streams


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1])
def test_streams_that_end_around_borders_come_back(tape: Tape, size: int) -> None:
    streams = [random_bytes(seed, size) for seed in range(2)]
    for stream in streams:
        write_stream(tape.path, FLAGS["truncate"], stream, MIB)
    assert tape.streams() == streams


def test_blocks_of_changing_sizes_come_back(tape: Tape) -> None:
    data = random_bytes(1, 4 * MIB)
    sizes = [1, 4095, 3, 70_000, 511, 2 * MIB, 4096, 12_345] * 40
    descriptor = os.open(tape.path, FLAGS["truncate"])
    done = 0
    for size in sizes:
        done += os.write(descriptor, data[done : done + size])
    os.close(descriptor)
    assert done == len(data)
    assert tape.streams() == [data]


@pytest.mark.parametrize("io", ["direct", "cached"])
def test_small_stripe_units_on_three_disks_come_back(tmp_path: Path, io: str) -> None:
    require_fuse()
    library = OnDisks(tmp_path, 3, unit=4096)
    streams = [random_bytes(seed, 400_003) for seed in range(3)]
    with library.mounted(f"io={io}") as mounted:
        for stream, block in zip(streams, (4095, 10240, MIB), strict=True):
            write_stream(mounted.medium("T1"), FLAGS["truncate"], stream, block)
        assert [mounted.file("T1", number).read_bytes() for number in range(3)] == streams
    assert library.extract("T1") == b"".join(streams)
    assert all(session["disks"] == [0, 1, 2] for session in library.listed() if session["access"] == "write")


def test_random_reads_return_what_is_there(tape: Tape) -> None:
    streams = [random_bytes(seed, 1_500_000 + seed) for seed in range(3)]
    for stream in streams:
        write_stream(tape.path, FLAGS["truncate"], stream, MIB)
    whole = b"".join(streams)
    with open(tape.path, "rb", buffering=0) as reader:
        for number in range(60):
            offset = (number * 987_654_321) % (len(whole) + 10_000)
            size = (number * 123_457) % 300_000
            assert os.pread(reader.fileno(), size, offset) == whole[offset : offset + size]

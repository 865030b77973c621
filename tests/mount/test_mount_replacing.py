"""A session replaces its own bytes as long as nobody has seen them and nothing has made them durable, and no others."""

import errno
import os
import random

import pytest
from mounting import OnDisks, Tape, random_bytes

UNIT = 16_384
STEPS = 250
FIRST, SECOND = random_bytes(1, 210), random_bytes(2, 210)
BLOCKS = [random_bytes(number, 64_512) for number in range(3, 23)]


class Model:
    """What a read-write handle must show: the medium as it stood, and behind it the bytes of the session."""

    def __init__(self, base: bytes) -> None:
        self.base = base
        self.own = bytearray()
        self.kept = 0  # own bytes that can't be replaced any more

    @property
    def end(self) -> int:
        return len(self.base) + len(self.own)

    def whole(self) -> bytes:
        return self.base + bytes(self.own)

    def write(self, offset: int, data: bytes) -> bool:
        """Tell whether the write is taken; if so, take it."""
        fixed = self.whole()[: len(self.base) + self.kept]
        if offset > self.end or fixed[offset : offset + len(data)] != data[: max(0, len(fixed) - offset)]:
            return False
        start = offset - len(self.base)
        if start + len(data) > 0:
            fresh = data[max(0, -start) :]
            self.own[max(0, start) : max(0, start) + len(fresh)] = fresh
        self.kept = max(self.kept, len(self.own) // UNIT * UNIT)  # whole stripe units have left hand
        return True

    def sync(self) -> None:
        self.kept = len(self.own)


def some_write(rng: random.Random, model: Model) -> tuple[int, bytes]:
    """Return an offset and bytes: at the end, over own bytes, over others, beyond the end; the same bytes or others."""
    size = rng.choice([1, 210, 4096, rng.randrange(1, 3 * UNIT)])
    fixed = len(model.base) + model.kept
    own = rng.randint(fixed, model.end)
    anywhere = rng.randint(0, model.end + 300)
    offset = rng.choice([model.end, model.end, own, max(0, fixed - rng.randint(0, 300)), anywhere, 0])
    data = rng.randbytes(size)
    if rng.random() < 0.5:  # the same bytes as far as they can't be replaced
        data = model.whole()[offset : min(fixed, offset + size)] + data[max(0, min(size, fixed - offset)) :]
    return offset, data


@pytest.fixture(scope="module")
def replacing(tmp_path_factory: pytest.TempPathFactory) -> OnDisks:
    """A library with small stripe units, and without checkpoints, which make bytes durable at any moment."""
    library = OnDisks(tmp_path_factory.mktemp("replacing"), media="T1..T9", unit=UNIT)
    library.checkpoint_every("1d")
    return library


@pytest.mark.parametrize("seed", range(6))
def test_random_writes_and_reads_are_those_of_a_model(library: OnDisks, replacing: OnDisks, seed: int) -> None:
    """Every read-write handle reads what was taken, and its tape file has the same bytes in the end."""
    rng = random.Random(seed)
    base = rng.randbytes(rng.choice([0, 100, UNIT, 3 * UNIT + 77]))
    with replacing.mounted() as mounted:
        medium = mounted.medium(f"T{seed + 1}")
        medium.write_bytes(base)
        model = Model(base if seed % 3 else b"")
        taken = refused = 0
        descriptor = os.open(medium, os.O_RDWR | (0 if seed % 3 else os.O_TRUNC))
        for _ in range(STEPS):
            offset, data = some_write(rng, model)
            if model.write(offset, data):
                assert os.pwrite(descriptor, data, offset) == len(data)
                taken += 1
            else:
                with pytest.raises(OSError, match="Illegal seek") as caught:
                    os.pwrite(descriptor, data, offset)
                assert caught.value.errno == errno.ESPIPE
                refused += 1
            at = rng.randint(0, model.end + 10)
            assert os.pread(descriptor, 2 * UNIT, at) == model.whole()[at : at + 2 * UNIT]
            if rng.random() < 0.05:
                os.fsync(descriptor) if rng.random() < 0.5 else os.close(os.dup(descriptor))
                model.sync()
            assert os.fstat(descriptor).st_size == model.end
        os.close(descriptor)
        assert taken > STEPS // 4
        assert refused > STEPS // 10
        assert medium.stat().st_size == len(base) + len(model.own)  # waits for the release, which comes after close()
        assert replacing.extract(f"T{seed + 1}") == base + bytes(model.own)


def test_label_is_replaced_by_another_in_the_same_open(tape: Tape) -> None:
    """Bacula writes a label, reads it, and writes another one over it, then goes on."""
    descriptor = os.open(tape.path, os.O_RDWR)
    assert os.read(descriptor, 64_512) == b""
    os.lseek(descriptor, 0, os.SEEK_SET)
    assert os.write(descriptor, FIRST) == 210
    os.lseek(descriptor, 0, os.SEEK_SET)
    assert os.read(descriptor, 64_512) == FIRST
    os.lseek(descriptor, 0, os.SEEK_SET)
    assert os.write(descriptor, SECOND) == 210
    for block in BLOCKS:
        assert os.write(descriptor, block) == len(block)
    assert os.pread(descriptor, 1 << 21, 0) == SECOND + b"".join(BLOCKS)
    os.close(descriptor)
    assert tape.streams() == [SECOND + b"".join(BLOCKS)]
    again = os.open(tape.path, os.O_RDWR)
    end = os.lseek(again, 0, os.SEEK_END)
    assert os.write(again, BLOCKS[0]) == len(BLOCKS[0])
    assert os.pread(again, 1 << 20, end) == BLOCKS[0]
    os.close(again)
    assert tape.streams() == [SECOND + b"".join(BLOCKS), BLOCKS[0]]


@pytest.mark.parametrize("how", ["fsync", "fdatasync", "close of a copy"])
def test_what_was_made_durable_is_not_replaced(tape: Tape, how: str) -> None:
    descriptor = os.open(tape.path, os.O_RDWR)
    os.write(descriptor, FIRST)
    match how:
        case "fsync":
            os.fsync(descriptor)
        case "fdatasync":
            os.fdatasync(descriptor)
        case _:
            os.close(os.dup(descriptor))
    with pytest.raises(OSError, match="Illegal seek"):
        os.pwrite(descriptor, SECOND, 0)
    assert os.pwrite(descriptor, FIRST + BLOCKS[0], 0) == 210 + len(BLOCKS[0])
    assert os.pwrite(descriptor, BLOCKS[1], 210) == len(BLOCKS[1])  # still in hand
    os.close(descriptor)
    assert tape.streams() == [FIRST + BLOCKS[1]]

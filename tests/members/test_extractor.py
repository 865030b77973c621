"""The worker process of a restore: what crashes it, or holds it up, costs one archive member."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from archives import header
from mounting import random_bytes

from vtlfs.errors import DiskError
from vtlfs.members.values import ArchiveMember, Kind
from vtlfs.restore.child import Extractor, Limits
from vtlfs.restore.directories import DirectoryHeaders, TooLong
from vtlfs.restore.extracting import AS_USER, BadMember
from vtlfs.restore.source import StreamBytes

UNIT = 4096
SIZE = 3 * UNIT  # of a member's data


@dataclass
class Stream:
    """A tar of files of SIZE bytes; `before` is called with each offset that is read."""

    count: int
    before: Callable[[int], object] = lambda offset: None
    members: list[ArchiveMember] = field(default_factory=list)
    content: bytes = b""

    def __post_init__(self) -> None:
        for number in range(self.count):
            start = len(self.content)
            self.content += header(f"f{number}", SIZE) + random_bytes(number, SIZE)
            place = (SIZE, None, None, start, len(self.content), 0, "tar", "none")
            self.members.append(ArchiveMember(number, 1, f"f{number}", Kind.FILE, *place))

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the tar."""
        self.before(offset)
        return self.content[offset : offset + size]

    @property
    def bytes(self) -> StreamBytes:
        """It as an extractor takes it."""
        return StreamBytes(len(self.content), UNIT, self.read)


@pytest.fixture
def out(tmp_path: Path) -> Iterator[int]:
    """A directory to restore to."""
    (tmp_path / "out").mkdir()
    descriptor = os.open(tmp_path / "out", os.O_PATH)
    yield descriptor
    os.close(descriptor)


def hit(extractor: Extractor, number: signal.Signals) -> Callable[[int], None]:
    """Return what sends the worker a signal when it reads the first member."""

    def before(offset: int) -> None:
        if offset < SIZE:
            assert extractor.pid is not None
            os.kill(extractor.pid, number)

    return before


def test_a_crash_costs_the_member_at_which_it_was(out: int, tmp_path: Path) -> None:
    with closing(Extractor()) as extractor:
        stream = Stream(2, hit(extractor, signal.SIGSEGV))
        extractor.open(stream.bytes)
        with pytest.raises(BadMember, match="died by signal 11: the archive is damaged"):
            extractor.write(stream.members[0], out, b"f0", AS_USER)
        assert extractor.write(stream.members[1], out, b"f1", AS_USER) == []
    assert (tmp_path / "out" / "f1").read_bytes() == random_bytes(1, SIZE)


def test_one_that_crashes_again_and_again_is_not_started_for_ever(out: int) -> None:
    with closing(Extractor(limits=Limits(crashes=2))) as extractor:
        stream = Stream(2, hit(extractor, signal.SIGKILL))
        extractor.open(stream.bytes)
        for _ in range(2):
            with pytest.raises(BadMember, match="died by signal 9"):
                extractor.write(stream.members[0], out, b"f0", AS_USER)
        with pytest.raises(BadMember, match="not tried: of the members before, 2 have crashed"):
            extractor.write(stream.members[1], out, b"f1", AS_USER)
        assert extractor.pid is None


def test_one_that_does_not_answer_is_ended(out: int) -> None:
    with closing(Extractor(limits=Limits(step=1.0))) as extractor:
        stream = Stream(1, hit(extractor, signal.SIGSTOP))
        extractor.open(stream.bytes)
        with pytest.raises(BadMember, match="does not answer for 1 s"):
            extractor.write(stream.members[0], out, b"f0", AS_USER)
        assert extractor.pid is None


def test_it_is_ended_when_the_restore_is_to_stop(out: int) -> None:
    class StopNow(BaseException):
        pass

    def check() -> None:
        raise StopNow

    with closing(Extractor(check)) as extractor:
        stream = Stream(1, hit(extractor, signal.SIGSTOP))
        extractor.open(stream.bytes)
        with pytest.raises(StopNow):
            extractor.write(stream.members[0], out, b"f0", AS_USER)
        assert extractor.pid is None


def test_what_the_stream_raises_is_raised_and_the_next_member_comes_from_the_same_process(out: int) -> None:
    def before(offset: int) -> None:
        if offset < SIZE:
            raise DiskError(1, "/disk1", OSError(5, "Input/output error"))

    with closing(Extractor()) as extractor:
        stream = Stream(2, before)
        extractor.open(stream.bytes)
        with pytest.raises(DiskError):
            extractor.write(stream.members[0], out, b"f0", AS_USER)
        before_that = extractor.pid
        assert extractor.write(stream.members[1], out, b"f1", AS_USER) == []
        assert extractor.pid == before_that is not None


def test_it_has_as_much_memory_as_it_may_have(out: int) -> None:
    with closing(Extractor(limits=Limits(memory=300 << 20))) as extractor:
        stream = Stream(1)
        extractor.open(stream.bytes)
        assert extractor.write(stream.members[0], out, b"f0", AS_USER) == []
        limits = Path(f"/proc/{extractor.pid}/limits").read_text().splitlines()
    (space,) = [line for line in limits if line.startswith("Max address space")]
    assert space.split()[3:5] == [str(300 << 20)] * 2


def test_headers_of_directories_are_bounded() -> None:
    member = Stream(1).members[0]
    with closing(DirectoryHeaders(most=1000)) as headers:
        headers.add(member, b"a" * 900)
        with pytest.raises(TooLong):
            headers.add(member, b"b" * 101)
        assert [content for _, content in headers.deepest_first()] == [b"a" * 900]

"""The headers of directories, which get their attributes when all that lies in them is restored, in a temporary file.

An archive may have millions of directories, and headers as long as it likes: memory is bounded, and so is the file.
"""

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile

from vtlfs.errors import VtlfsError
from vtlfs.members.values import ArchiveMember
from vtlfs.restore.destination import components

IN_MEMORY = 16 << 20  # bytes; those beyond are in a temporary file
MOST = 4 << 30  # bytes in all


class TooLong(VtlfsError):
    """The headers of all directories are longer than anybody keeps."""

    exit_status = 3

    def __init__(self) -> None:
        super().__init__("restored, but without its attributes: the headers of the directories are too long in all")


class DirectoryHeaders:
    """See the module. Close it after use."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: list[tuple[ArchiveMember, int, int]] = []  # with the place in the file, and the length
        self._end = 0
        self._file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  close() closes it

    def close(self) -> None:
        """Let go of them."""
        self._file.close()

    def add(self, member: ArchiveMember, headers: bytes) -> None:
        """Keep the headers of a directory. Raises TooLong, OSError."""
        if self._end + len(headers) > self._most:
            raise TooLong
        self._file.seek(self._end)
        self._file.write(headers)
        self._kept.append((member, self._end, len(headers)))
        self._end += len(headers)

    def deepest_first(self) -> Iterator[tuple[ArchiveMember, bytes]]:
        """Yield the directories with their headers: each before those in which it lies."""
        for member, start, size in sorted(self._kept, key=lambda kept: len(components(kept[0].path)), reverse=True):
            self._file.seek(start)
            yield member, self._file.read(size)

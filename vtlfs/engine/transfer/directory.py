"""The directory of an exported medium as it is written: a file for each tape file, then the manifest and the sums.

While an export is under way, notes in the directory say of which volume it is, and the BLAKE3 of each tape file that
is whole. So the next run goes on from there, after a kill or a power cut too. All functions may block.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from blake3 import blake3

from vtlfs.durable import sync_directory, write_file
from vtlfs.engine.transfer.files import FileError, is_whole, read_small
from vtlfs.engine.transfer.manifest import (
    MANIFEST,
    MAX_MANIFEST,
    MAX_SUMS,
    SUMS,
    BadExport,
    Entry,
    Manifest,
    parse,
    parse_sums,
    render,
    render_sums,
)
from vtlfs.errors import UsageError
from vtlfs.failpoints import reached
from vtlfs.model import BARCODE, Digest

NOTES = ".vtlfs-export"


class ExportDirectory:
    """The directory of one medium, whose manifest is to be there in the end. Used by one thread at a time."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Raises UsageError where something else is there, FileError."""
        self.path = path
        self._manifest = manifest
        self._sums: dict[int, Digest] = {}
        self._is_torn = False  # the notes end with a line that is not whole
        with _errors(path):
            self._begin()

    def has(self, file: Entry) -> bool:
        """Tell whether a tape file is there, whole and right: it is read."""
        digest = self._sums.get(file.number)
        if digest is not None and is_whole(self.path / file.name, file.bytes, digest):
            return True
        self._sums.pop(file.number, None)
        return False

    @contextmanager
    def written(self, file: Entry) -> Iterator["_File"]:
        """Have what takes the bytes of a tape file; the file gets its name when the block ends without an error."""
        temporary = self.path / f".{file.name}.tmp"
        with _errors(temporary):
            self._note_begin()
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            taken = _File(temporary, descriptor)
            yield taken
            with _errors(temporary):
                reached("transfer.written")
                os.fsync(descriptor)
                reached("transfer.synced")
                temporary.rename(self.path / file.name)
                reached("transfer.named")
                sync_directory(self.path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        digest = taken.digest()
        self._note({"number": file.number, "origin": self._manifest.origin(file), "blake3": digest.hex()})
        self._sums[file.number] = digest

    def finish(self) -> bool:
        """Write the manifest and the sums, when all tape files are there; tell whether anything was not there yet."""
        with _errors(self.path):
            for left in filter(is_temporary, os.listdir(self.path)):
                (self.path / left).unlink()
            text = render(self._manifest)
            sums = render_sums(
                self._manifest, blake3(text).digest(), [self._sums[file.number] for file in self._manifest.files]
            )
            has_notes = (self.path / NOTES).exists()
            if not has_notes and _is(self.path / MANIFEST, text) and _is(self.path / SUMS, sums):
                return False
            self._note_begin()
            write_file(self.path / MANIFEST, text)
            write_file(self.path / SUMS, sums)
            reached("transfer.listed")
            (self.path / NOTES).unlink()
            reached("transfer.ended")
            sync_directory(self.path)
        return True

    # --- what is there already ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Make the directory, or find out what is in it."""
        if not self.path.is_symlink() and not self.path.exists():
            self.path.mkdir(mode=0o700)
            sync_directory(self.path.parent)
            reached("transfer.directory_made")
            return
        if self.path.is_symlink() or not self.path.is_dir():
            raise UsageError(f"{self.path}: there is something else; export to another directory")
        if not any(not is_temporary(name) for name in os.listdir(self.path)):
            return
        if not is_export(self.path):
            raise UsageError(f"{self.path}: not empty, and no export of vtlfs; export to another directory")
        if (self.path / MANIFEST).exists():
            self._take_manifest()
        if (self.path / NOTES).exists():
            self._take_notes()

    def _take_manifest(self) -> None:
        earlier = parse(read_small(self.path / MANIFEST, MAX_MANIFEST), str(self.path / MANIFEST))
        self._check_same(earlier.library, earlier.barcode, earlier.volume)
        if len(earlier.files) > len(self._manifest.files):
            raise UsageError(
                f"{self.path}: has {len(earlier.files)} tape files, {len(self._manifest.files)} are to be exported;"
                " export to another directory"
            )
        with suppress(BadExport):
            sums = parse_sums(read_small(self.path / SUMS, MAX_SUMS), str(self.path / SUMS))
            for file in earlier.files:
                if file.name in sums:
                    self._learn(file.number, earlier.origin(file), sums[file.name])

    def _take_notes(self) -> None:
        """Believe the notes up to the first line that is not whole: a crash has cut it off."""
        for line in read_small(self.path / NOTES, MAX_MANIFEST).splitlines(keepends=True):
            try:
                said: Any = json.loads(line) if line.endswith(b"\n") else None
                if "library" in said:
                    self._check_same(said["library"], said["barcode"], said["volume"])
                else:
                    self._learn(said["number"], said["origin"], bytes.fromhex(said["blake3"]))
            except (ValueError, KeyError, TypeError):
                self._is_torn = True
                return

    def _check_same(self, *which: object) -> None:
        mine = (self._manifest.library, self._manifest.barcode, self._manifest.volume)
        if which != mine:
            raise UsageError(
                f"{self.path}: is an export of {which[1]}, volume {which[2]} of library {which[0]}; export to another"
                " directory"
            )

    def _learn(self, number: int, origin: str, digest: Digest) -> None:
        files = self._manifest.files
        if 0 <= number < len(files) and self._manifest.origin(files[number]) == origin:
            self._sums[number] = digest

    # --- notes --------------------------------------------------------------------------------------------------------

    def _note_begin(self) -> None:
        if (self.path / NOTES).exists() and not self._is_torn:
            return
        known = [
            {"number": number, "origin": self._manifest.origin(self._manifest.files[number]), "blake3": digest.hex()}
            for number, digest in self._sums.items()
        ]
        head = {
            "library": self._manifest.library,
            "barcode": self._manifest.barcode,
            "volume": self._manifest.volume,
        }
        write_file(self.path / NOTES, "".join(f"{json.dumps(line)}\n" for line in [head, *known]).encode())
        self._is_torn = False
        reached("transfer.begun")

    def _note(self, line: dict[str, Any]) -> None:
        with _errors(self.path / NOTES):
            descriptor = os.open(self.path / NOTES, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.write(descriptor, f"{json.dumps(line)}\n".encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        reached("transfer.noted")


class _File:
    """The file of a tape file that is being written, and its BLAKE3."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._sum = blake3()

    def write(self, data: memoryview) -> None:
        """Write all bytes. Raises FileError."""
        self._sum.update(data)
        with _errors(self._path):
            while data:
                data = data[os.write(self._descriptor, data) :]

    def digest(self) -> Digest:
        """Return the BLAKE3 of what was written."""
        return self._sum.digest()


def is_export(path: Path) -> bool:
    """Tell whether a directory is that of an exported medium, whole or not."""
    return any((path / name).is_file() for name in (MANIFEST, NOTES)) and not path.is_symlink()


def is_temporary(name: str) -> bool:
    """Tell whether a name is one of those under which files are written at first."""
    return name.startswith(".") and name.endswith(".tmp")


@contextmanager
def root_directory(root: Path, barcodes: list[str]) -> Iterator[None]:
    """Have the directory for some media for oneself; it is made, unless it is there.

    Raises UsageError where something else is in it, or somebody else exports to it.
    """
    with _errors(root):
        if not root.exists() and not root.is_symlink():
            root.mkdir(mode=0o700)
            sync_directory(root.parent)
        if not root.is_dir():
            raise UsageError(f"{root}: not a directory; a file for a tar stream has a name that ends in .tar")
        _check_root(root, barcodes)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{root}: somebody else exports to it; wait for that") from None
        yield
    finally:
        os.close(descriptor)


def _check_root(root: Path, barcodes: list[str]) -> None:
    for entry in root.iterdir():
        may_be = entry.name == "lost+found" or (entry.name in barcodes and not entry.is_symlink() and entry.is_dir())
        if not may_be and not (BARCODE.fullmatch(entry.name) and entry.is_dir() and is_export(entry)):
            raise UsageError(f"{root}: has {entry.name!r}, which is no export of vtlfs; give an empty directory")


def _is(path: Path, text: bytes) -> bool:
    return path.exists() and read_small(path, len(text) + 1) == text


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(Path(os.fsdecode(error.filename or path)), error) from None

"""The label of a disk: the file `vtlfs-disk.json` that says which library the disk belongs to, and which one it is."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vtlfs.disks.headers import MAX_DISKS
from vtlfs.disks.local.opening import NotAFile, read_small
from vtlfs.durable import sync_directory, write_file
from vtlfs.errors import FORMAT_1, LibraryError
from vtlfs.failpoints import reached

FILE_NAME = "vtlfs-disk.json"
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Label:
    """What the label says. `number` is the disk's number in the library, `disk` its own UUID."""

    library: str
    disk: str
    number: int
    created_at: str


def read(path: Path) -> Label | None:
    """Return the label of the disk at this directory; None where there is none. Raises LibraryError."""
    file = path / FILE_NAME
    try:
        return parse(read_small(file))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LibraryError(f"{file}: {error.strerror}") from None
    except (LibraryError, NotAFile) as error:
        raise LibraryError(f"{file}: {error}") from None


def parse(content: bytes) -> Label:
    """Read a label's text. Raises LibraryError."""
    try:
        document = json.loads(content)
        if document["format"] == 1:
            raise LibraryError(FORMAT_1)
        if document["format"] != FORMAT:
            raise LibraryError(f"format {document['format']!r} is not one of this vtlfs, which reads {FORMAT}")
        label = Label(document["library"], document["disk"], document["number"], document["created_at"])
        if not all(isinstance(text, str) for text in (label.library, label.disk, label.created_at)):
            raise TypeError
        if type(label.number) is not int or not 0 <= label.number < MAX_DISKS:
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise LibraryError("not the label of a disk") from None
    return label


def write(path: Path, label: Label) -> None:
    """Label an unlabelled disk. Raises OSError; FileExistsError where there is a label."""
    text = json.dumps({"format": FORMAT, **asdict(label)}, indent=1) + "\n"
    write_file(path / FILE_NAME, text.encode(), exclusive=True)


def remove(path: Path) -> None:
    """Take the label off again durably, if there is one."""
    (path / FILE_NAME).unlink(missing_ok=True)
    reached("label.removed")
    sync_directory(path)

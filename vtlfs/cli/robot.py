"""The changer of a library for `vtlfs mtx` and `vtlfs changer`: by the database, or by a mount for those who can't.

Whoever may write to the tracking database uses it. Others, such as the user of a backup daemon, use the file /changer
of a mount that is theirs to use, as [permissions.changer] in library.toml says.
"""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from vtlfs import mount_table
from vtlfs.engine.library import Library
from vtlfs.engine.media import changer
from vtlfs.engine.media.changer import Changer, Elements, Request
from vtlfs.engine.media.lifecycle import Order
from vtlfs.engine.tracking.connection import is_read_only
from vtlfs.engine.tracking.database import FILE_NAME
from vtlfs.engine.tracking.repositories.events import this_command
from vtlfs.errors import ChangerRefused, LibraryError
from vtlfs.model import utc_now

READ_SIZE = 1 << 20
NO_ACCESS = (
    "you may not open the library, and no mount of it here lets you use its changer; have it mounted with -o"
    " allow_other, and name your group in [permissions.changer] of library.toml"
)


class OfLibrary(Changer):
    """The changer by the tracking database."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def elements(self) -> Elements:
        """Return what is where."""
        with closing(self._library.tracking(read_only=True)) as tracking:
            return changer.elements(tracking, self._library.config.drives)

    def move(self, request: Request) -> None:
        """Load, unload or transfer a medium."""
        library = self._library
        with closing(library.tracking()) as tracking:
            with tracking.transaction():
                change = changer.perform(tracking, library.config.drives, request, Order(this_command(), utc_now()))
            if change.event == "moved":
                # Here, since it loads trio, which a program that loads media often can do without.
                from vtlfs.engine.media import cartridges

                cartridges.keep(library, tracking, [change.medium.barcode])


class OfMount(Changer):
    """The changer by the file /changer of a mount."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def elements(self) -> Elements:
        """Return what is where."""
        return changer.of_document(self._ask(changer.ELEMENTS)["elements"])

    def move(self, request: Request) -> None:
        """Load, unload or transfer a medium."""
        said = self._ask(request)
        if "refused" in said:
            raise ChangerRefused(str(said["refused"]))

    def _ask(self, request: Request) -> dict[str, Any]:
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.write(descriptor, bytes(request))
                text = b"".join(_pieces(descriptor))
            finally:
                os.close(descriptor)
            said: dict[str, Any] = json.loads(text)
        except OSError as error:
            raise LibraryError(f"{self._file}: {error.strerror}; the log of the mount may say more") from None
        except ValueError:
            raise LibraryError(f"{self._file}: no answer of a changer; is it a mount of vtlfs?") from None
        return said


def _pieces(descriptor: int) -> Iterator[bytes]:
    offset = 0
    while piece := os.pread(descriptor, READ_SIZE, offset):
        offset += len(piece)
        yield piece


def changer_of(place: Path) -> Changer:
    """Return the changer of a library, by its directory or by the mount point of a mount. Raises LibraryError."""
    path = Path(os.path.realpath(place))
    if (entry := mount_table.entry_around(path)) is not None:
        return OfMount(Path(entry.path) / changer.FILE)
    if os.access(path / FILE_NAME, os.R_OK | os.W_OK):
        return OfLibrary(Library.open(place))
    for mountpoint in _mounts_of(path):
        if os.access(mountpoint / changer.FILE, os.R_OK | os.W_OK):
            return OfMount(mountpoint / changer.FILE)
    if path.exists() and _is_not_theirs(path):
        raise LibraryError(f"{place}: {NO_ACCESS}")
    return OfLibrary(Library.open(place))


def _is_not_theirs(library: Path) -> bool:
    """Tell whether a library is another's who lets this user not in; not whether its file system is read-only."""
    if library.stat().st_uid == os.geteuid():
        return False
    return not os.access(library, os.R_OK | os.X_OK) or not (os.access(library, os.W_OK) or is_read_only(library))


def _mounts_of(library: Path) -> list[Path]:
    """Return where a library is mounted by its owner or by root: anybody may give a mount the name of a library."""
    try:
        trusted = {0, library.stat().st_uid}
    except OSError:
        trusted = {0}
    return [
        Path(entry.path)
        for entry in reversed(mount_table.table())
        if entry.kind == mount_table.FILE_SYSTEM_TYPE
        and os.path.realpath(entry.source) == str(library)
        and entry.user in trusted
    ]

"""What the UI shows: a library, or an exported snapshot, which is a single file.

Worker threads call these methods, and each may block. Each call opens the tracking database for itself, so that threads
share no connection.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError
from vtlfs.model import Snapshot, utc_now
from vtlfs.snap import store, view

NOW = None  # the present, in place of a snapshot's number


class NotInAnExport(VtlfsError):
    """An exported snapshot has no disks and no other states."""

    def __init__(self, operation: str) -> None:
        super().__init__(f"{operation}: not with an exported snapshot; open the library that it comes from")


@dataclass(frozen=True, slots=True)
class Target:
    """Stored data of one state: a tape file, or the whole volume of a medium if `number` is None.

    `volume` is its number, None: the one that is current in that state.
    """

    barcode: str
    number: int | None
    volume: int | None = None

    def __str__(self) -> str:
        medium = self.barcode if self.volume in (None, 1) else f"{self.barcode} volume {self.volume}"
        return medium if self.number is None else f"{medium}/{self.number:04d}"


@dataclass(frozen=True, slots=True)
class Source:
    """A library; or an exported snapshot, if `library` is None."""

    path: Path
    library: Library | None

    @classmethod
    def open(cls, path: Path) -> "Source":
        """Open a library's directory or an exported snapshot. Raises LibraryError."""
        source = cls(path.absolute(), None) if path.is_file() else cls(path.absolute(), Library.open(path))
        with source.tracking():
            return source

    @property
    def is_export(self) -> bool:
        """Whether this is an exported snapshot."""
        return self.library is None

    @contextmanager
    def tracking(self, state: int | None = NOW) -> Iterator[Tracking]:
        """Open the tracking database as it stood at a snapshot, or as it is now. Raises VtlfsError."""
        if self.library is not None:
            with view.opened(self.library, state) as tracking:
                yield tracking
            return
        if state is not NOW:
            raise NotInAnExport(f"snapshot {state}")
        with closing(Tracking(self.path.parent, read_only=True, name=self.path.name)) as tracking:
            yield tracking

    def require_library(self, operation: str) -> Library:
        """Return the library. Raises NotInAnExport, which names the operation."""
        if self.library is None:
            raise NotInAnExport(operation)
        return self.library

    def tracking_opener(self, state: int | None) -> Callable[[], Tracking]:
        """Return a function that opens the tracking database of a state, for a reader that closes it itself.

        `tracking()` is no alternative: it holds one read transaction for as long as it is open, and so keeps the
        write-ahead log from being folded in while a medium is read from end to end. Raises NotInAnExport.
        """
        library = self.require_library("reading")
        return partial(library.tracking, read_only=True) if state is NOW else partial(view.open_view, library, state)

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots, the newest first."""
        with self.tracking() as tracking:
            return store.snapshots(tracking)[::-1]

    def take_snapshot(self, name: str | None) -> Snapshot:
        """Take a snapshot, the only change that the UI makes. Raises VtlfsError."""
        library = self.require_library("taking a snapshot")
        if name is not None:
            store.check_name(name)
        with closing(library.tracking()) as tracking:
            store.wait_visible(tracking)
            with tracking.transaction():
                return store.take(tracking, utc_now(), name=name)

    def mount_path(self, target: Target, state: int | None) -> str:
        """Return the path of the data in the library's newest live mount. Raises VtlfsError if there is no mount."""
        library = self.require_library("a path in the mount")
        with self.tracking(state) as tracking:
            if target.volume not in (None, tracking.media.get(target.barcode).volume):
                raise VtlfsError(
                    f"volume {target.volume} of {target.barcode} has ended, and the mount shows it in snapshots only;"
                    " open one from before its end"
                )
        with self.tracking() as tracking:
            live = [mount for mount in tracking.mounts.live() if not mount.is_command]
            mounts = [mount for mount in live if library.leases.is_alive(mount.id)]
        if not mounts:
            raise VtlfsError("the library is not mounted, so the data has no path; run `vtlfs mount` first")
        root = Path(mounts[-1].mountpoint)
        if state is not NOW:
            root = root / "snapshots" / str(state)
        if target.number is None:
            return str(root / "media" / target.barcode)
        return str(root / "files" / target.barcode / f"{target.number:04d}")

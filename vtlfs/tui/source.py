"""What the UI looks at: a library, or an exported snapshot that is a file of its own. Its methods may block.

Called from worker threads; each call opens the tracking database for itself, so nothing is shared between them.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vtlfs.engine.library import Library
from vtlfs.engine.recover import is_alive
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError
from vtlfs.model import Snapshot, utc_now
from vtlfs.snap import store, view

NOW = None  # the number of the present, where snapshots have theirs


class NotInAnExport(VtlfsError):
    """An exported snapshot has neither disks nor other states."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: not with an exported snapshot; open the library that it comes from")


@dataclass(frozen=True, slots=True)
class Target:
    """Data of a state: a tape file, or the whole medium where `number` is None."""

    barcode: str
    number: int | None

    def __str__(self) -> str:
        return self.barcode if self.number is None else f"{self.barcode}/{self.number:04d}"


@dataclass(frozen=True, slots=True)
class Source:
    """A library; or an exported file, where `library` is None."""

    path: Path
    library: Library | None

    @classmethod
    def open(cls, path: Path) -> "Source":
        """Open a library's directory or an exported snapshot. Raises LibraryError."""
        source = cls(path.absolute(), None) if path.is_file() else cls(path.absolute(), Library.open(path))
        with source.tracking():
            return source

    @contextmanager
    def tracking(self, state: int | None = NOW) -> Iterator[Tracking]:
        """Open the tracking database as it stood at a snapshot, or as it is. Raises VtlfsError."""
        if self.library is not None:
            with view.opened(self.library, state) as tracking:
                yield tracking
            return
        if state is not NOW:
            raise NotInAnExport(f"snapshot {state}")
        with closing(Tracking(self.path.parent, read_only=True, name=self.path.name)) as tracking:
            yield tracking

    def require(self, what: str) -> Library:
        """Return the library. Raises NotInAnExport."""
        if self.library is None:
            raise NotInAnExport(what)
        return self.library

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots, the newest first."""
        with self.tracking() as tracking:
            return store.snapshots(tracking)[::-1]

    def take(self, name: str | None) -> Snapshot:
        """Take a snapshot: the one thing that the UI changes. Raises VtlfsError."""
        library = self.require("taking a snapshot")
        if name is not None:
            store.check_name(name)
        with closing(library.tracking()) as tracking:
            store.wait_visible(tracking)
            with tracking.transaction():
                return store.take(tracking, utc_now(), name=name)

    def shown_at(self, target: Target, state: int | None) -> str:
        """Return the path under which a mount shows the data. Raises VtlfsError without a mount."""
        library = self.require("a path in the mount")
        with self.tracking() as tracking:
            mounts = [mount for mount in tracking.mounts() if is_alive(library.path, mount.id)]
        if not mounts:
            raise VtlfsError("the library is not mounted; `vtlfs mount` it, then there is a path")
        root = Path(mounts[-1].mountpoint)
        if state is not NOW:
            root = root / "snapshots" / str(state)
        if target.number is None:
            return str(root / "media" / target.barcode)
        return str(root / "files" / target.barcode / f"{target.number:04d}")

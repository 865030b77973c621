"""The tracking database of a library: its connection, its transactions, and a repository for each noun.

A `Tracking` belongs to one thread at a time. Its methods and those of its repositories are synchronous. Methods that
change rows are called inside `transaction()`, so that a caller can put several into one commit.
"""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vtlfs import blame
from vtlfs.durable import check_synced
from vtlfs.engine.tracking.connection import (
    TABLES,
    Connection,
    check_files,
    check_tables,
    fresh_tables,
    set_journal,
    translated,
    unusable,
)
from vtlfs.engine.tracking.repositories.cartridges import Cartridges
from vtlfs.engine.tracking.repositories.copies import Copies
from vtlfs.engine.tracking.repositories.disks import Disks
from vtlfs.engine.tracking.repositories.drives import Drives
from vtlfs.engine.tracking.repositories.events import Events
from vtlfs.engine.tracking.repositories.extents import Extents
from vtlfs.engine.tracking.repositories.incidents import Incidents
from vtlfs.engine.tracking.repositories.jobs import Jobs
from vtlfs.engine.tracking.repositories.lacks import Lacks
from vtlfs.engine.tracking.repositories.library_row import LibraryRow
from vtlfs.engine.tracking.repositories.media import Media
from vtlfs.engine.tracking.repositories.mounts import Mounts
from vtlfs.engine.tracking.repositories.pools import Pools
from vtlfs.engine.tracking.repositories.reclaiming import Reclaiming
from vtlfs.engine.tracking.repositories.retentions import Retentions
from vtlfs.engine.tracking.repositories.session_disks import SessionDisks
from vtlfs.engine.tracking.repositories.sessions import Sessions
from vtlfs.engine.tracking.repositories.snapshots import Snapshots
from vtlfs.engine.tracking.repositories.tape_files import TapeFiles
from vtlfs.engine.tracking.repositories.volumes import Volumes
from vtlfs.engine.tracking.schema.migrations import has_table
from vtlfs.engine.tracking.schema.steps import FIRST_OF_FORMAT_1, migrations
from vtlfs.engine.tracking.sqlite_tools import sqlite_utils
from vtlfs.engine.tracking.statements import Statements
from vtlfs.errors import FORMAT_1, LibraryError, TrackingError
from vtlfs.failpoints import reached
from vtlfs.model import DiskRecord, Watermark

if TYPE_CHECKING:
    from vtlfs.engine.tracking.repositories.periods import Periods
    from vtlfs.engine.tracking.repositories.rebuild.found_extents import FoundExtents
    from vtlfs.engine.tracking.repositories.rebuild.late_files import LateFiles
    from vtlfs.engine.tracking.repositories.rebuild.rebuilding import Rebuilding
    from vtlfs.engine.tracking.repositories.rebuild.rejoined import Rejoined
    from vtlfs.engine.tracking.repositories.rebuild.relived import Relived
    from vtlfs.engine.tracking.repositories.rebuild.scanned import Scanned
    from vtlfs.engine.tracking.repositories.verifications import Verifications

FILE_NAME = "tracking.db"
BUSY_SECONDS = 60.0


class Tracking:
    """One connection to a library's tracking database. `sql` is for `vtlfs.snap`; all others use the repositories.

    `on_commit` is called after each durable commit that has changed rows, before `transaction` returns. `frozen`:
    commits are not counted. A database that is older than the disks stays frozen: counting would hide that it is older.
    """

    def __init__(self, library: Path, *, read_only: bool = False, name: str = FILE_NAME) -> None:
        """Open the database of a library. Raises LibraryError if it is missing, newer, or no tracking database.

        A database of an older vtlfs is brought up to date; with `read_only`, which never writes, it is a LibraryError.
        `name`: the name of the file in the directory `library`, for another file such as an exported snapshot.
        """
        path = library / name
        check_files(path)
        try:
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, factory=Connection)
        except sqlite3.DatabaseError as error:
            raise unusable(path, error) from None
        try:
            if read_only:
                connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            _check(path, connection, read_only)
            check_tables(path, connection, exported=name != FILE_NAME and read_only)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.path = path
            if name == FILE_NAME and not read_only:
                set_journal(path, connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._path = path
        self.sql = Statements(connection)
        self.library = LibraryRow(self.sql)
        self.mounts = Mounts(self.sql)
        self.incidents = Incidents(self.sql)
        self.disks = Disks(self.sql, self.incidents)
        self.media = Media(self.sql)
        self.drives = Drives(self.sql, self.media)
        self.extents = Extents(self.sql)
        self.lacks = Lacks(self.sql)
        self.session_disks = SessionDisks(self.sql, self.extents)
        self.sessions = Sessions(self.sql, self.extents, self.lacks, Retentions(self.sql))
        self.tape_files = TapeFiles(self.sql, self.media)
        self.volumes = Volumes(self.sql, self.media)
        self.events = Events(self.sql)
        self.cartridges = Cartridges(self.sql)
        self.pools = Pools(self.sql, self.media)
        self.copies = Copies(self.sql)
        self.snapshots = Snapshots(self.sql)
        self.jobs = Jobs(self.sql)
        self.reclaiming = Reclaiming(self.sql, self.extents)
        self._durable = True
        self._log: int | None = None  # descriptor of the write-ahead log
        self.on_commit: Callable[[Watermark], object] | None = None
        self.frozen = False

    # Only one or two commands use each of these repositories, and loading them takes time: they are loaded when used.

    @cached_property
    def verifications(self) -> "Verifications":
        """The repository of verifications."""
        from vtlfs.engine.tracking.repositories.verifications import Verifications

        return Verifications(self.sql, self.incidents)

    @cached_property
    def periods(self) -> "Periods":
        """The repository of what happened since a time."""
        from vtlfs.engine.tracking.repositories.periods import Periods

        return Periods(self.sql)

    @cached_property
    def scanned(self) -> "Scanned":
        """The repository of what a rebuild has found on the disks."""
        from vtlfs.engine.tracking.repositories.rebuild.scanned import Scanned

        return Scanned(self.sql)

    @cached_property
    def found_extents(self) -> "FoundExtents":
        """The repository of the extents that a rebuild has found."""
        from vtlfs.engine.tracking.repositories.rebuild.found_extents import FoundExtents

        return FoundExtents(self.sql)

    @cached_property
    def late_files(self) -> "LateFiles":
        """The repository of tape files that come late in a rebuild."""
        from vtlfs.engine.tracking.repositories.rebuild.late_files import LateFiles

        return LateFiles(self.sql)

    @cached_property
    def rejoined(self) -> "Rejoined":
        """The repository of the streams of pools in a rebuild."""
        from vtlfs.engine.tracking.repositories.rebuild.rejoined import Rejoined

        return Rejoined(self.sql)

    @cached_property
    def relived(self) -> "Relived":
        """The repository of the lives of media in a rebuild."""
        from vtlfs.engine.tracking.repositories.rebuild.relived import Relived

        return Relived(self.sql)

    @cached_property
    def rebuilding(self) -> "Rebuilding":
        """The repository of the changes that only a rebuild makes."""
        from vtlfs.engine.tracking.repositories.rebuild.rebuilding import Rebuilding

        return Rebuilding(self.sql)

    def close(self) -> None:
        """Close the connection."""
        log, self._log = self._log, None
        if log is not None:
            os.close(log)
        self._connection.close()

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """Run the block in one transaction; it is committed at the end, and rolled back if the block raises.

        `durable`: the commit survives a power cut; it costs a sync of the write-ahead log. Nested, it is a savepoint.
        Raises TrackingError where SQLite can't commit.
        """
        try:
            if self.in_transaction:
                with self._savepoint():
                    yield
                return
            if durable != self._durable:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                before = self._connection.total_changes
                yield
                watermark = None if self._connection.total_changes == before else self._count_commit()
                reached("transaction.commit")
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise
            reached("transaction.committed")
            if durable:
                self._check_log()
            if durable and watermark is not None and self.on_commit is not None:
                self.on_commit(watermark)
        except sqlite3.DatabaseError as error:
            raise translated(error, self._path) from error

    @property
    def in_transaction(self) -> bool:
        """Tell whether a transaction is under way."""
        return self._connection.in_transaction

    def _check_log(self) -> None:
        """Raise TrackingError if the sync of the last commit may have failed unnoticed, see `check_synced`.

        The descriptor stays open, since the process may have none left later. Closing it does not release SQLite's
        locks, which are on other files.
        """
        try:
            if self._log is None:
                self._log = os.open(self._log_path, os.O_RDONLY | os.O_CLOEXEC)
            check_synced(self._log)
        except FileNotFoundError:  # a rebuild's database has no log: it is thrown away after a failure
            pass
        except OSError as error:
            if not blame.is_limit(error.errno or errno.EIO):
                raise TrackingError(f"{self._log_path}: {error.strerror}", error.errno or errno.EIO) from error

    @property
    def _log_path(self) -> str:
        return f"{os.path.realpath(self._path)}-wal"  # SQLite resolves symbolic links, too

    def _count_commit(self) -> Watermark | None:
        if self.frozen:
            return None
        return self.library.count_commit()

    def _savepoint(self) -> AbstractContextManager[object]:
        """Return a context manager that runs a part of a transaction, and undoes only that part if it raises."""
        database = sqlite_utils().Database(self._connection, execute_plugins=False)
        return cast(AbstractContextManager[object], database.atomic())

    def journal_mode(self) -> str:
        """Return SQLite's journal mode; `wal` in a sound library."""
        return str(self.sql.one("PRAGMA journal_mode")[0])

    def set_journal_mode(self, mode: str) -> None:
        """Set SQLite's journal mode: `WAL`, or `OFF` for a database that is thrown away after a failure."""
        self.sql.execute(f"PRAGMA journal_mode = {mode}")

    def is_as_made(self) -> bool:
        """Tell whether the tables, indexes and triggers are those that vtlfs makes, and there are no others."""
        return self.sql.execute(TABLES).fetchall() == fresh_tables()

    def is_consistent(self) -> bool:
        """Tell whether every row that another row refers to exists."""
        return self.sql.first("PRAGMA foreign_key_check") is None

    def sync_log(self) -> None:
        """Make earlier commits durable that were not synced. Raises TrackingError."""
        try:
            descriptor = os.open(self._log_path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                reached("log.synced")
                check_synced(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise TrackingError(f"{self._log_path}: {error.strerror}", error.errno or errno.EIO) from error


def _check(path: Path, connection: sqlite3.Connection, read_only: bool) -> None:
    """Raise LibraryError unless the file is a tracking database of this version; bring an older one up to date."""
    try:
        if not has_table(connection, "library"):
            raise LibraryError(f"{path}: not a tracking database; `vtlfs rebuild` makes a new one from the disks")
        if FIRST_OF_FORMAT_1 in migrations.applied(connection):
            raise LibraryError(f"{path}: {FORMAT_1}")
        if migrations.is_newer(connection):
            raise LibraryError(f"{path}: made by a newer vtlfs than this one; use the newer vtlfs")
        if migrations.pending(connection):
            if read_only:
                raise LibraryError(
                    f"{path}: made by an older vtlfs than this one; run `vtlfs recover` to bring a library up to date,"
                    " or export a snapshot again"
                )
            migrations.apply(connection)
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from None


def create(
    library: Path, uuid: str, disks: Sequence[DiskRecord], drives: int, at: str, *, name: str = FILE_NAME
) -> None:
    """Make the tracking database of a new library, which must not have one."""
    connection = sqlite3.connect(library / name)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        reached("create.made")
        migrations.apply(connection)
        reached("create.described")
        with connection:
            connection.execute(
                "INSERT INTO library (uuid, created_at, epoch, next_session) VALUES (?, ?, 1, 1)", (uuid, at)
            )
            for disk in disks:
                connection.execute(
                    "INSERT INTO disk (number, uuid, path, added_at) VALUES (?, ?, ?, ?)",
                    (disk.number, disk.uuid, disk.path, disk.added_at),
                )
            for number in range(drives):
                connection.execute("INSERT INTO drive (number) VALUES (?)", (number,))
            reached("create.filled")
        reached("create.committed")
    except sqlite3.DatabaseError as error:
        raise translated(error) from error
    finally:
        connection.close()

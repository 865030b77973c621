"""Looking at the tracking database as it stood: the same queries, answered with the rows of then."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from vtlfs.engine.history import as_of_sql
from vtlfs.engine.library import Library
from vtlfs.engine.schema import VERSIONED
from vtlfs.engine.tracking import Tracking
from vtlfs.snap import store

_TAPE_FILE = "medium, number, session, start, bytes, released_at, epoch"


def open_view(library: Library, number: int) -> Tracking:
    """Open the tracking database as it stood at a snapshot, for reading. Raises NoSuchSnapshot, LibraryError.

    Temporary views stand before the tables of the same names, so that every query of `Tracking` sees the rows of then.
    """
    view = library.tracking()
    try:
        store.snapshot(view, number)
        for table, (_, columns) in VERSIONED.items():
            view.execute(f"CREATE TEMP VIEW {table} AS {as_of_sql(table, columns, str(int(number)))}")
        view.execute(
            f"CREATE TEMP VIEW tape_file AS SELECT {_TAPE_FILE} FROM main.tape_file WHERE epoch <= {int(number)}"
        )
        view.execute(
            f"CREATE TEMP VIEW library AS SELECT uuid, created_at, {int(number)} AS epoch, next_session,"
            " snapshot.media, snapshot.sessions, snapshot.tape_files, snapshot.bytes"
            f" FROM main.library, main.snapshot WHERE snapshot.id = {int(number)}"
        )
        view.execute(
            f"CREATE TEMP VIEW snapshot AS SELECT {store.COLUMNS} FROM main.snapshot WHERE id <= {int(number)}"
        )
        view.execute("PRAGMA query_only = ON")
    except BaseException:
        view.close()
        raise
    return view


@contextmanager
def opened(library: Library, number: int | None) -> Iterator[Tracking]:
    """Open a snapshot, or the present where `number` is None, and look at one state of it for the whole block.

    Nothing that is written or pruned meanwhile is seen. It keeps the write-ahead log from being folded in, so not for
    long. Raises NoSuchSnapshot, LibraryError.
    """
    with closing(library.tracking(read_only=True) if number is None else open_view(library, number)) as tracking:
        tracking.execute("BEGIN")
        if number is not None:
            store.snapshot(tracking, number)
        yield tracking

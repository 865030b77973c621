"""`vtlfs snapshot`: taking, listing, showing, comparing, exporting and pruning snapshots."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vtlfs.cli import params, show
from vtlfs.cli.commands.events import print_events
from vtlfs.cli.show import Column
from vtlfs.errors import LibraryError, UsageError, VtlfsError
from vtlfs.model import DiskRecord, Drive, Medium, Session, Snapshot, TapeFile, format_size, utc_now

if TYPE_CHECKING:
    from vtlfs.engine.tracking.database import Tracking
    from vtlfs.snap.diff import Changes, Difference

SHOWN_ROWS = 50  # of a table, at most; JSON has all
SHOWN_EVENTS = 5  # the newest; JSON has all
SHOWN_SUMS = 20  # of bytes by host, medium or drive, at most: the largest


@click.group(
    no_args_is_help=False,
    epilog=params.example(
        "vtlfs snapshot take /srv/vtl --name 'before the move'", "vtlfs snapshot diff /srv/vtl 1 now"
    ),
)
def snapshot() -> None:
    """Take snapshots of a library, show them, compare them.

    The data of a snapshot can be read: in a mount under /snapshots/ID, and with `vtlfs extract --snapshot ID`.
    """


_WHICH = "ID|NAME|latest"  # what names a snapshot


@snapshot.command(epilog=params.example("vtlfs snapshot take /srv/vtl --name 'before the move'"))
@params.library_argument
@click.option(
    "--name", metavar="TEXT", type=params.text, help="A name for the snapshot. Named snapshots are never pruned."
)
@params.json_option
def take(library: Path, name: str | None, as_json: bool) -> None:
    """Take a snapshot of the library at this moment. It adds one row to the database; open streams go on."""
    from vtlfs.disks.probe import probe
    from vtlfs.engine.library import Library
    from vtlfs.snap import store

    if name is not None:
        store.check_name(name)
    opened = Library.open(library)
    with closing(opened.tracking()) as tracking:
        found = probe(opened.config.uuid, opened.config.disks)
        store.wait_visible(tracking)
        with tracking.transaction():
            for disk in found:
                if disk.number is not None and disk.total is not None and disk.free is not None:
                    tracking.disks.record_fill(disk.number, disk.total, disk.free, utc_now())
            taken = store.take(tracking, utc_now(), name=name)
    if as_json:
        show.as_json(asdict(taken))
    else:
        show.line(f"snapshot {_title(taken)}: {_counters(taken)}")


@snapshot.command("list", epilog=params.example("vtlfs snapshot list /srv/vtl"))
@params.library_argument
@click.option("--limit", metavar="N", type=params.number, help="Only the N newest. By default a table has 50.")
@params.json_option
def list_snapshots(library: Path, limit: int | None, as_json: bool) -> None:
    """List the snapshots, the newest last."""
    from vtlfs.engine.library import Library
    from vtlfs.snap import store

    rows = DEFAULT_ROWS if limit is None and not as_json else limit
    with closing(Library.open(library).tracking(read_only=True)) as tracking:
        found = store.snapshots(tracking, rows)
        left_out = store.count(tracking) - len(found)
    if as_json:
        show.as_json([asdict(one) for one in found])
    elif not found and not left_out:
        show.line(f"no snapshots; vtlfs snapshot take {show.word(library)} takes one")
    else:
        if left_out:
            show.line(f"{show.count(left_out, 'older snapshot')} left out; --limit N shows more")
        columns = [Column("ID", figures=True), Column("TAKEN", folds=False), Column("BY", folds=False)]
        columns += [Column(text, figures=True) for text in ("MEDIA", "SESSIONS", "OPEN", "FILES", "BYTES")]
        show.table([*columns, Column("NAME")], [_snapshot_row(one) for one in found])


@snapshot.command("show", epilog=params.example("vtlfs snapshot show /srv/vtl 1"))
@params.library_argument
@click.argument("which", metavar=_WHICH, type=params.text)
@click.option("--sessions", "all_sessions", is_flag=True, help="Show all sessions, not only the open ones.")
@params.json_option
def show_snapshot(library: Path, which: str, all_sessions: bool, as_json: bool) -> None:
    """Show the library as it stood at a snapshot: disks and their fill, drives, media, mounts, sessions."""
    from vtlfs.engine.library import Library
    from vtlfs.engine.tracking.repositories.sessions import SessionFilter
    from vtlfs.snap import store
    from vtlfs.snap.view import opened

    found = Library.open(library)
    number = store.number_of(found, which)
    with opened(found, number) as then:
        taken, disks, drives = store.snapshot(then, number), then.disks.all(), then.drives.all()
        media, mounts, busy = then.media.all(), then.mounts.live(), then.sessions.count_open_by_drive()
        sessions = then.sessions.find(SessionFilter(open_only=not all_sessions))
        events, count = then.events.find(limit=None if as_json else SHOWN_EVENTS), then.events.count()
    if as_json:
        show.as_json(
            {
                "snapshot": asdict(taken),
                "disks": [asdict(disk) for disk in disks],
                "drives": [asdict(drive) | {"open_sessions": busy.get(drive.number, 0)} for drive in drives],
                "mounts": [asdict(mount) for mount in mounts],
                "media": [asdict(medium) for medium in media],
                "sessions": [session.as_json() for session in sessions],
                "events": [asdict(event) for event in events],
            }
        )
        return
    show.line(f"snapshot {_title(taken)}, taken {show.seconds(taken.taken_at)}: {_counters(taken)}")
    _part(_DISK, [_disk_row(disk) for disk in disks])
    _part(
        [*_DRIVE, Column("OPEN SESSIONS", figures=True)],
        [[*_drive_row(drive), busy.get(drive.number, 0)] for drive in drives],
    )
    _part(_MEDIUM, [_medium_row(medium) for medium in media[:SHOWN_ROWS]], len(media))
    _part(_SESSION, [_session_row(session) for session in sessions[:SHOWN_ROWS]], len(sessions))
    if events:
        show.line("")
        show.line(f"{show.count(count, 'event')} by then; the newest:")
        print_events(events)
    for mount in mounts:
        where = f"a command, {mount.options}," if mount.is_command else f"mounted at {mount.mountpoint}"
        show.line(f"{where} by {mount.host or mount.machine}, pid {mount.pid}")


@snapshot.command(epilog=params.example("vtlfs snapshot diff /srv/vtl 1 2", "vtlfs snapshot diff /srv/vtl 2 now"))
@params.library_argument
@click.argument("first", metavar=_WHICH, type=params.text)
@click.argument("second", metavar=f"{_WHICH}|now", type=params.text)
@params.json_option
def diff(library: Path, first: str, second: str, as_json: bool) -> None:
    """Compare two snapshots, or a snapshot with now: what came, what went, what changed.

    The comparison is always from the earlier state to the later, in whichever order you name them.
    """
    from vtlfs.engine.library import Library
    from vtlfs.snap import store
    from vtlfs.snap.diff import difference, difference_as_json

    opened = Library.open(library)
    earlier = store.number_of(opened, first)
    later = None if second == store.NOW else store.number_of(opened, second)
    if as_json:
        show.pieces(difference_as_json(opened, earlier, later))
        return
    found = difference(opened, earlier, later, limit=SHOWN_ROWS)
    if found.is_empty:
        show.line("no difference")
    else:
        _print_difference(found)


@snapshot.command(epilog=params.example("vtlfs snapshot export /srv/vtl 1 monday.db"))
@params.library_argument
@click.argument("which", metavar=_WHICH, type=params.text)
@click.argument("file", metavar="FILE.db", type=params.text)
def export(library: Path, which: str, file: str) -> None:
    """Write a snapshot to a new SQLite file: the tables of the tracking database, as they stood at the snapshot."""
    from vtlfs.engine.library import Library
    from vtlfs.snap import store
    from vtlfs.snap.export import export as write

    if not os.path.basename(file):
        raise click.BadParameter(f"{file!r} is not a name of a file; give one such as monday.db")
    opened = Library.open(library)
    number = store.number_of(opened, which)
    write(opened, number, Path(file))
    show.line(f"snapshot {number} written to {file}")


@snapshot.command(epilog=params.example("vtlfs snapshot prune /srv/vtl --dry-run"))
@params.library_argument
@click.option("-n", "--dry-run", is_flag=True, help="Only list the snapshots that would be removed.")
@params.json_option
def prune(library: Path, dry_run: bool, as_json: bool) -> None:
    """Remove the snapshots that `snapshots.keep` in library.toml does not keep.

    Snapshots with a name stay. What only the removed ones showed of erased media is reclaimed from then on, see
    `vtlfs reclaim`.
    """
    from vtlfs.engine.library import Library
    from vtlfs.engine.media import cartridges
    from vtlfs.engine.reserve import essential

    opened = Library.open(library)
    if not opened.config.snapshot_keep:
        raise LibraryError(
            f"{opened.path}: library.toml has no snapshots.keep, so every snapshot stays; add rules to it to prune"
        )
    with closing(opened.tracking()) as tracking:
        before, going = essential(
            opened.path, tracking, partial(_pruned, keep=opened.config.snapshot_keep, dry=dry_run)
        )
    if going and not dry_run:
        cartridges.keep_deleted(opened, going)
    removed = [one for one in before if one.id in going]
    if as_json:
        show.as_json([asdict(one) for one in removed])
        return
    for one in removed:
        show.line(f"{'would remove' if dry_run else 'removed'} snapshot {one.id}, taken {show.seconds(one.taken_at)}")
    show.line(f"{show.count(len(before) - len(removed), 'snapshot')} kept")


def _pruned(tracking: "Tracking", keep: dict[str, int], dry: bool) -> tuple[list[Snapshot], set[int]]:
    """Remove the snapshots that no rule keeps, unless it is a dry run; return all there were, and the numbers."""
    from vtlfs.snap import store
    from vtlfs.snap.retention import to_remove

    before = store.snapshots(tracking)
    going = set(to_remove(before, keep))
    if not dry:
        store.remove(tracking, going)
    return before, going


@snapshot.command(epilog=params.example("vtlfs snapshot delete /srv/vtl 17 'before the move' --dry-run"))
@params.library_argument
@click.argument("words", metavar="ID|NAME...", type=params.text, nargs=-1, required=True)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be deleted, and what would come back then.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask first: for scripts.")
@params.json_option
def delete(library: Path, words: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete snapshots, by number, by name, or the latest: all that are named, or none.

    No medium is erased by it, and no retention is shortened. Stored bytes of erased media that only these snapshots
    show are reclaimed from then on, by mounts or by `vtlfs reclaim`.
    """
    from vtlfs.engine.library import Library
    from vtlfs.engine.media import cartridges
    from vtlfs.engine.reserve import essential

    opened = Library.open(library)
    with closing(opened.tracking(read_only=True)) as reading:
        wanted, freed = _wanted(reading, words)
    if not (dry_run or yes):
        _ask(wanted, freed)
    if not dry_run:
        numbers = tuple(str(one.id) for one in wanted)  # as they were when the question was asked
        with closing(opened.tracking()) as tracking:
            wanted = essential(opened.path, tracking, partial(_delete, words=numbers))
        cartridges.keep_deleted(opened, [one.id for one in wanted])
    if as_json:
        show.as_json({"deleted": not dry_run, "snapshots": [asdict(one) for one in wanted], "bytes": freed})
        return
    for one in wanted:
        verb = "would delete" if dry_run else "deleted"
        show.line(f"{verb} snapshot {_title(one)}, taken {show.seconds(one.taken_at)}")
    show.line(f"{format_size(freed)} on the disks {'would be' if dry_run else 'will be'} reclaimed")


def _wanted(tracking: "Tracking", words: Sequence[str]) -> tuple[list[Snapshot], int]:
    """Return the snapshots that words stand for, and the stored bytes that only they show."""
    from vtlfs.snap import store

    wanted = {one.id: one for one in (store.resolve(tracking, word) for word in words)}
    shown = tracking.reclaiming.ended(is_shown=True)
    freed = sum(
        volume.stored
        for volume in shown
        if {number for number, _ in tracking.reclaiming.snapshots(volume)} <= set(wanted)
    )
    return [wanted[number] for number in sorted(wanted)], freed


def _delete(tracking: "Tracking", words: Sequence[str]) -> list[Snapshot]:
    from vtlfs.engine.tracking.repositories.events import this_command
    from vtlfs.snap import store

    return store.delete(tracking, words, this_command(), utc_now())


def _ask(wanted: Sequence[Snapshot], freed: int) -> None:
    """Ask whether snapshots are to be deleted. Raises VtlfsError if not, UsageError where there is nobody to ask."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        raise UsageError("this asks first, and there is no terminal to ask at; give --yes to have it done")
    which = ", ".join(_title(one) for one in wanted)
    if not click.confirm(f"delete {show.printable(which)}, and have {format_size(freed)} reclaimed?", err=True):
        raise VtlfsError("nothing was changed")


# --- lines and tables -------------------------------------------------------------------------------------------------

DEFAULT_ROWS = 50
_MARK = Column("")
_DISK = [Column("DISK", figures=True), Column("PATH"), Column("FREE", figures=True), Column("TOTAL", figures=True)]
_DRIVE = [Column("DRIVE", figures=True), Column("LOADED")]
_MEDIUM = [Column("BARCODE"), Column("BYTES", figures=True), Column("FILES", figures=True), Column("CAPACITY")]
_SESSION = [Column("SESSION", figures=True), Column("HOST"), Column("PROGRAM"), Column("DOES", folds=False)]
_SESSION += [Column("DRIVE/MEDIUM", folds=False), Column("STATE"), Column("BYTES", figures=True)]
_FILE = [Column("MEDIUM"), Column("FILE", folds=False), Column("SESSION", figures=True), Column("HOST")]
_FILE += [Column("BYTES", figures=True), Column("RELEASED", folds=False)]


def _title(taken: Snapshot) -> str:
    return f"{taken.id}" if taken.name is None else f"{taken.id} ({taken.name})"


def _counters(taken: Snapshot) -> str:
    sessions = f"{show.count(taken.sessions, 'session')} of which {taken.open_sessions:,} open"
    files = f"{format_size(taken.bytes)} in {show.count(taken.tape_files, 'tape file')}"
    return f"{taken.media:,} media, {sessions}, {files}"


def _snapshot_row(one: Snapshot) -> list[object]:
    by = "schedule" if one.scheduled else "hand"
    counters = [one.media, one.sessions, one.open_sessions, one.tape_files, show.human(one.bytes)]
    return [one.id, show.seconds(one.taken_at), by, *counters, one.name]


def _disk_row(disk: DiskRecord) -> list[object]:
    return [disk.number, disk.path, show.human(disk.free), show.human(disk.total)]


def _drive_row(drive: Drive) -> list[object]:
    return [drive.number, drive.loaded]


def _medium_row(medium: Medium) -> list[object]:
    return [medium.barcode, show.human(medium.bytes), medium.tape_files, show.human(medium.capacity)]


def _session_row(session: Session) -> list[object]:
    state = session.state if session.error is None else f"{session.state} {session.error}"
    where = f"{session.drive}/{session.medium}"
    return [session.id, session.host, session.program, session.access, where, state, show.human(session.bytes)]


def _file_row(file: TapeFile) -> list[object]:
    released = show.seconds(file.released_at)
    return [file.medium, f"{file.number:04d}", file.session, file.host, show.human(file.bytes), released]


def _part(columns: Sequence[Column], rows: Sequence[Sequence[object]], count: int | None = None) -> None:
    """Print an empty line and a table of the first rows; nothing without rows. `count`: the number of all rows."""
    if not rows:
        return
    show.line("")
    show.table(columns, rows[:SHOWN_ROWS])
    left_out = (len(rows) if count is None else count) - len(rows[:SHOWN_ROWS])
    if left_out:
        show.line(f"… and {left_out:,} more; --json has all")


def _print_difference(found: "Difference") -> None:
    """Print rows that came after a `+`, rows that went after a `-`, and changed rows, with both values, after a `~`."""
    groups: dict[str, Counter[Any]] = {
        "host": found.bytes_by_host,
        "medium": found.bytes_by_medium,
        "drive": found.bytes_by_drive,
    }
    files = show.count(found.count_tape_files, "tape file")
    show.line(f"{format_size(sum(found.bytes_by_host.values()))} came in {files}")
    for group, sizes in groups.items():
        if sizes:
            first = ", ".join(f"{name} {format_size(size)}" for name, size in sizes.most_common(SHOWN_SUMS))
            left_out = len(sizes) - SHOWN_SUMS
            show.line(f"by {group}: {first}{f' and {left_out:,} more' if left_out > 0 else ''}")
    kinds: dict[str, Changes[Any]] = {
        "sessions": found.sessions,
        "media": found.media,
        "drives": found.drives,
        "disks": found.disks,
    }
    for nouns, changes in kinds.items():
        if changes.count:
            show.line(f"{nouns}: {_counts(changes)}")
    _part([_MARK, *_FILE], [["+", *_file_row(file)] for file in found.tape_files], found.count_tape_files)
    _changes(_SESSION, found.sessions, _session_row)
    _changes(_MEDIUM, found.media, _medium_row)
    _changes(_DRIVE, found.drives, _drive_row)
    _changes(_DISK, found.disks, _disk_row)


def _counts(changes: "Changes[Any]") -> str:
    counts = {"came": changes.count_came, "went": changes.count_went, "changed": changes.count_changed}
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)


def _changes(columns: list[Column], changes: "Changes[Any]", row: Callable[[Any], list[object]]) -> None:
    """Print the first differing rows, without those that differ only in values that no column shows."""
    rows: list[list[object]] = []
    hidden = 0
    for before, after in changes.pairs():
        if before is None or after is None:
            rows += [[mark, *row(one)] for mark, one in (("-", before), ("+", after)) if one is not None]
        elif (old := row(before)) != (new := row(after)):
            rows.append(["~", *_both(old, new)])
        else:
            hidden += 1
    _part([_MARK, *columns], rows, changes.count - hidden)


def _both(before: list[object], after: list[object]) -> Iterator[object]:
    """Return the cells of a row that has changed."""
    for old, new in zip(before, after, strict=True):
        yield new if old == new else f"{'-' if old is None else old} → {'-' if new is None else new}"

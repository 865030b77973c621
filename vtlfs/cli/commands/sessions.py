"""`vtlfs sessions` and `vtlfs files`: the sessions of a library, and the tape files of a medium."""

from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vtlfs.cli import params, show
from vtlfs.cli.show import Column
from vtlfs.errors import NoSuchDrive, UsageError
from vtlfs.model import Access, Session, State, TapeFile

if TYPE_CHECKING:
    from vtlfs.engine.tracking.database import Tracking
    from vtlfs.engine.tracking.repositories.sessions import SessionFilter

DEFAULT_ROWS = 50  # of the table: people look at the end of the list


@click.command(
    epilog=params.example(
        "vtlfs sessions --open --medium A00001L9",
        "vtlfs sessions --failed --since yesterday",
        "vtlfs sessions /srv/vtl --since '2027-01-31 18:00' --until '2027-02-01 06:00' --writers",
    )
)
@params.library_argument
@params.json_option
@click.option("--open", "open_only", is_flag=True, help="Only open sessions.")
@click.option("--state", type=click.Choice(list(map(str, State))), help="Only sessions in this state.")
@click.option("--failed", is_flag=True, help="Only sessions that ended with an error, or whose mount died.")
@click.option("--writers", is_flag=True, help="Only sessions that write.")
@click.option("--all", "all_sessions", is_flag=True, help="Also sessions that were to write, and wrote nothing.")
@click.option("--since", metavar="TIME", type=params.since, help="Only those that were open then, or later.")
@click.option("--until", metavar="TIME", type=params.since, help="Only those that were opened before.")
@click.option("--medium", metavar="BARCODE", type=params.barcode, help="Only sessions on this medium.")
@click.option("--drive", metavar="N", type=params.number, help="Only sessions through this drive.")
@click.option("--host", metavar="HOST", type=params.text, help="Only sessions of this host.")
@click.option("--program", metavar="NAME", type=params.text, help="Only sessions of this program.")
@click.option("--user", "uid", metavar="USER", type=params.user, help="Only sessions of this user: a name or a number.")
@click.option(
    "--limit",
    metavar="N",
    type=params.number,
    help=f"Only the N newest sessions. By default a table has {DEFAULT_ROWS}, and JSON has all.",
)
def sessions(
    library: Path, as_json: bool, open_only: bool, writers: bool, all_sessions: bool, state: str | None, **wanted: Any
) -> None:
    """List the sessions in the order of opening, the newest last.

    One open() of a medium starts a session, and its last close() ends it. The list shows by whom, and how it ended.
    Left out are sessions that were opened for writing and ended well without a byte, unless --all is given.

    TIME is local: yesterday, -12h, 2027-01-31, '2027-01-31 18:00', 'tuesday 9pm'. A day is its beginning.
    """
    from vtlfs.engine.library import Library
    from vtlfs.engine.tracking.repositories.sessions import SessionFilter

    if open_only and state not in (None, State.OPEN):
        raise UsageError(f"--open and --state {state} exclude each other; give one of them")
    chosen = SessionFilter(
        open_only=open_only,
        no_idle=not all_sessions,
        access=Access.WRITE if writers else None,
        state=None if state is None else State(state),
        **wanted,
    )
    with closing(Library.open(library).tracking(read_only=True)) as tracking:
        _check(tracking, chosen)
        if as_json:
            show.as_json([session.as_json() for session in tracking.sessions.find(chosen)])
            return
        found, left_out = _newest(tracking, chosen)
    if left_out:
        empty = "" if all_sessions else " or empty"
        more = "--limit N shows more" if all_sessions else "--limit N and --all show more"
        show.line(f"{show.count(left_out, f'older{empty} session')} left out; {more}")
    if found:
        _table(found)
    elif not left_out:
        show.line("no sessions")


@click.command(epilog=params.example("vtlfs files /srv/vtl A00001L9"))
@params.library_argument
@click.argument("barcode", metavar="BARCODE", type=params.barcode)
@params.json_option
def files(library: Path, barcode: str, as_json: bool) -> None:
    """List the tape files of a medium, in their order on the medium."""
    from vtlfs.engine.library import Library

    with closing(Library.open(library).tracking(read_only=True)) as tracking:
        found = tracking.tape_files.of(barcode)
    if as_json:
        show.as_json([asdict(tape_file) for tape_file in found])
    elif not found:
        show.line(f"no tape files on {barcode}")
    else:
        columns = [Column("FILE"), Column("SESSION", figures=True), Column("HOST"), Column("START", figures=True)]
        columns += [Column("BYTES", figures=True), Column("RELEASED", folds=False)]
        show.table(columns, [_file_row(tape_file) for tape_file in found])


def _check(tracking: "Tracking", wanted: "SessionFilter") -> None:
    """Raise NoSuchMedium or NoSuchDrive if the library lacks the medium or the drive."""
    if wanted.medium is not None:
        tracking.media.get(wanted.medium)
    drives = [drive.number for drive in tracking.drives.all()]
    if wanted.drive is not None and wanted.drive not in drives:
        raise NoSuchDrive(wanted.drive, len(drives))


def _newest(tracking: "Tracking", wanted: "SessionFilter") -> tuple[list[Session], int]:
    """Return the sessions for the table, and how many are left out: older ones, or those that wrote nothing.

    Both are counted together, since the library's row and its indexes have the number of all.
    """
    limit = DEFAULT_ROWS if wanted.limit is None else wanted.limit
    found = tracking.sessions.find(replace(wanted, limit=limit))
    return found, tracking.sessions.count(replace(wanted, no_idle=False)) - len(found)


def _table(found: list[Session]) -> None:
    columns = [Column("ID", figures=True), Column("OPENED", folds=False, rank=1), Column("HOST")]
    columns += [Column("PROGRAM", rank=2), Column("DOES", folds=False, rank=4), Column("DRIVE", figures=True, rank=5)]
    columns += [Column("MEDIUM", folds=False), Column("FILE", folds=False, rank=3), Column("STATE")]
    show.table([*columns, Column("BYTES", figures=True)], [_row(session) for session in found])


def _row(session: Session) -> list[object]:
    return [
        session.id,
        show.minutes(session.opened_at),
        session.host,
        session.program,
        session.access,
        session.drive,
        session.medium,
        None if session.tape_file is None else f"{session.tape_file:04d}",
        _state(session),
        show.human(session.bytes),
    ]


def _state(session: Session) -> str:
    """Return the state; with an error, that in the place of `failed`."""
    if session.error is None:
        return str(session.state)
    return session.error if session.state is State.FAILED else f"{session.state} {session.error}"


def _file_row(tape_file: TapeFile) -> list[object]:
    return [
        f"{tape_file.number:04d}",
        tape_file.session,
        tape_file.host,
        tape_file.start,
        show.human(tape_file.bytes),
        show.seconds(tape_file.released_at),
    ]

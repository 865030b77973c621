"""`vtlfs restore`: brings back files out of archives on the tapes, and reads no more of a tape than these need."""

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.progress import progress

if TYPE_CHECKING:
    from vtlfs.engine.library import Library
    from vtlfs.engine.tracking.database import Tracking
    from vtlfs.restore.restoring import Restored
    from vtlfs.restore.wanted import Choice

_NUMBER = re.compile(r"[0-9]{1,18}")


def _where(word: str) -> tuple[str, int | None]:
    """Read a medium, or a tape file."""
    barcode, slash, number = word.partition("/")
    if slash and not _NUMBER.fullmatch(number):
        raise click.BadParameter(f"{word!r} is not a MEDIUM/FILE; write it like A00001L9/0003")
    return params.barcode(barcode), int(number) if slash else None


@click.command(
    epilog=params.example(
        "vtlfs restore /srv/vtl home/ann/letter.odt -C /tmp",
        "vtlfs restore /srv/vtl etc --from A00001L9/3 -C /mnt/new",
        "vtlfs restore /srv/vtl '*.odt' --snapshot monday -C /tmp",
    )
)
@params.library_before_paths
@click.argument("words", metavar="MEMBER...", nargs=-1, required=True)
@click.option("--from", "where", metavar="MEDIUM[/FILE]", type=_where, help="Only from this medium, or this tape file.")
@click.option("--snapshot", metavar="ID|NAME|latest", type=params.text, help="Only what this snapshot shows.")
@click.option(
    "-C",
    "--directory",
    metavar="DIR",
    default=".",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Restore beneath this directory; by default the current one.",
)
@click.option("--overwrite", is_flag=True, help="Replace files, and set the attributes of directories, that are there.")
def restore(
    library: Path,
    words: tuple[str, ...],
    where: tuple[str, int | None] | None,
    snapshot: str | None,
    directory: Path,
    overwrite: bool,
) -> None:
    """Restore files, or directories with all that lies in them, out of archives on the tapes.

    MEMBER is the path of an archive member, as `vtlfs find` shows it; slashes or `./` before it do not matter. With *,
    ? or [, it is a pattern as for `vtlfs find`. The newest tape file that has it counts. A directory is restored as one
    tape file has it.

    Only the extents that hold a member are read, each checked; of a compressed archive, what comes before the member as
    well. Owners, modes, times, holes, extended attributes and ACLs are those of the archive; a user who isn't root gets
    the files, with the umask. Nothing is written outside DIR, through links neither. What is there already is not
    replaced without --overwrite. A file appears under its name once it is whole. Exit status: 3 if a member is damaged.
    """
    from vtlfs.engine.library import Library
    from vtlfs.restore.restoring import Report, Request
    from vtlfs.restore.restoring import restore as run
    from vtlfs.restore.wanted import Where, choose

    opened = Library.open(library)
    opening = partial(_open_tracking, opened, snapshot)
    chosen = partial(choose, words, None if where is None else Where(*where))
    request = Request(chosen, directory, overwrite)
    with progress("restoring", None) as advance:
        done = run(opened, request, opening, Report(_tell, _failed, advance), stoppable=True)
    if done.pending:
        files = show.count(done.pending, "tape file")
        text = f"{files} not indexed yet, which may have newer versions; `vtlfs index {show.word(library)}` does so"
        click.echo(f"vtlfs: {show.printable(text)}", err=True)
    click.echo(f"vtlfs: {_summary(done)}", err=True)
    if done.interrupted is not None:
        click.get_current_context().exit(128 + done.interrupted)
    if done.status:
        click.get_current_context().exit(done.status)


def _open_tracking(library: "Library", snapshot: str | None) -> "Tracking":
    if snapshot is None:
        return library.tracking(read_only=True)
    from vtlfs.snap import store
    from vtlfs.snap.view import open_view

    return open_view(library, store.number_of(library, snapshot))


def _summary(done: "Restored") -> str:
    directories = f"{done.directories:,} director{'y' if done.directories == 1 else 'ies'}"
    failed = f"; {show.count(done.failed, 'failure')}" if done.failed else ""
    ended = "interrupted; " if done.interrupted is not None else ""
    return f"{ended}restored {show.count(done.files, 'file')}, {directories}, {show.human(done.bytes)}{failed}"


def _tell(choice: "Choice") -> None:
    parts = choice.stream.parts
    names = ", ".join(f"{part.medium}/{part.number:04d}" for part in parts)
    roots = sorted(choice.roots)
    what = " ".join(roots[:3]) + (f" and {len(roots) - 3} more" if len(roots) > 3 else "")
    said = f"from {names}, written by {parts[0].host}, released {show.seconds(parts[-1].released_at)}: {what or 'all'}"
    click.echo(f"vtlfs: {show.printable(said)}", err=True)


def _failed(path: str, why: str) -> None:
    click.echo(f"vtlfs: {show.printable(f'{path}: {why}')}", err=True)

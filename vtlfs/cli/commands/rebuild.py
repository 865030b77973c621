"""`vtlfs rebuild`: a new tracking database from the disks alone."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vtlfs.cli import params, show
from vtlfs.errors import DamagedExtent
from vtlfs.model import format_size, utc_now

if TYPE_CHECKING:
    from vtlfs.engine.rebuild.rebuild import Rebuilt

EXIT_DAMAGED = DamagedExtent.exit_status


@click.command(
    epilog=params.example(
        "vtlfs rebuild /srv/vtl", "vtlfs rebuild /srv/vtl --disk /disk1 --disk /disk3 --without-disk 1"
    )
)
@click.argument("library", metavar="LIBRARY", type=params.library)
@click.option(
    "--disk",
    "disks",
    metavar="DIR",
    multiple=True,
    type=params.directory,
    help="Where a disk is. Give all of them; without any, library.toml says where they are.",
)
@click.option(
    "--without-disk",
    "without",
    metavar="N",
    multiple=True,
    type=params.number,
    help="The number of a lost disk. What lay on it comes back as far as parity makes up for it.",
)
@params.json_option
def rebuild(library: Path, disks: tuple[Path, ...], without: tuple[int, ...], as_json: bool) -> None:
    """Make a new tracking database from the disks, if the old one is gone, damaged or older than the disks.

    Rebuilding starts from the newest undamaged database, which is the old one or a copy on a disk, and adds the later
    sessions from the member files. The library must not be mounted. Nothing is changed until the new database is whole;
    the old one is then kept under another name. If library.toml is gone, a new one is made.

    Exit status: 0 if all data on the disks came back; 3 if some data is lost, with a `lost:` line for each loss; 1 or 2
    if nothing was done.
    """
    from vtlfs.engine.rebuild.rebuild import rebuild as run

    with _progress() as progress:
        rebuilt = run(library, disks, without, utc_now(), progress)
    if as_json:
        show.as_json(_document(rebuilt))
    else:
        _print(rebuilt)
    if rebuilt.report.lost or rebuilt.report.damaged:
        click.get_current_context().exit(EXIT_DAMAGED)


def _print(rebuilt: "Rebuilt") -> None:
    report, path = rebuilt.report, show.word(rebuilt.library.path)
    for note in report.ignored:
        show.line(f"note: {note}")
    for problem in report.damaged:
        show.line(f"lost: {problem}")
    for lost in report.lost:
        show.line(f"lost: {lost}")
    for session in report.recovered:
        kept = "nothing was left of it"
        if session.tape_file is not None:
            kept = f"{format_size(session.bytes)} kept as tape file {session.tape_file:04d}"
        show.line(f"session {session.id} of {session.host} on {session.medium}: its end was not known; {kept}")
    if rebuilt.aside is not None:
        show.line(f"the old database is kept as {rebuilt.aside}")
    origin = "from member files only"
    if rebuilt.base is not None:
        copy = f"{rebuilt.base.where} of {show.seconds(rebuilt.base.made_at)}"
        begun = "the old one" if rebuilt.base.is_old else copy
        origin = f"{begun}, and {show.count(report.replayed, 'session')} from member files"
    counts = [(rebuilt.media, "medium", "media"), (rebuilt.sessions, "session", "sessions")]
    what = ", ".join(f"{count:,} {one if count == 1 else many}" for count, one, many in counts)
    files = show.count(rebuilt.tape_files, "tape file")
    show.line(f"rebuilt {path}: {what}, {files} with {format_size(rebuilt.bytes)}; {origin}")
    show.line(f"next: vtlfs check {path}, and vtlfs verify {path}, which reads all the data")


def _document(rebuilt: "Rebuilt") -> dict[str, Any]:
    report = rebuilt.report
    base = rebuilt.base
    copy = None if base is None or base.is_old else base
    return {
        "library": str(rebuilt.library.path),
        "began_with": "nothing" if base is None else "old" if base.is_old else "copy",
        "copy": None if copy is None else {"path": copy.where, "number": copy.number, "made_at": copy.made_at},
        "without_disks": list(rebuilt.without),
        "aside": None if rebuilt.aside is None else str(rebuilt.aside),
        "media": rebuilt.media,
        "sessions": rebuilt.sessions,
        "tape_files": rebuilt.tape_files,
        "bytes": rebuilt.bytes,
        "member_files": report.members,
        "replayed": report.replayed,
        "recovered": [session.as_json() for session in report.recovered],
        "lost": [asdict(lost) for lost in report.lost],
        "damaged": report.damaged,
        "notes": report.ignored,
    }


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Show on standard error what is done, if that is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda what, count: None
        return
    from rich.console import Console

    with Console(stderr=True).status("looking at the disks") as status:
        yield lambda what, count: status.update(f"{count:,} {what}" if count else what)

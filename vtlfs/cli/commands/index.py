"""`vtlfs index`: reads what is on the tapes, for `vtlfs find` and `vtlfs restore`."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.progress import follow
from vtlfs.cli.show import Column
from vtlfs.errors import NoSuchMedium, UsageError, VtlfsError
from vtlfs.model import choose_barcodes

if TYPE_CHECKING:
    from vtlfs.engine.library import Library
    from vtlfs.members.values import IndexedStream
    from vtlfs.model import TapeFile

EXIT_UNREADABLE = 4


class Unfinished(VtlfsError):
    """Not everything that was to be indexed is."""

    def __init__(self, what: str, exit_status: int) -> None:
        super().__init__(what)
        self.exit_status = exit_status


@click.command(epilog=params.example("vtlfs index /srv/vtl", "vtlfs index /srv/vtl --list"))
@params.library_argument
@click.argument("words", metavar="[BARCODE]...", nargs=-1, type=params.text)
@click.option("--anew", is_flag=True, help="Index again; without barcodes: throw the index away first.")
@click.option("--list", "lists", is_flag=True, help="Only list the tape files, and how far each is indexed.")
@click.option("--limit", metavar="SPEED", type=params.rate, help="Read at most at this speed, such as 100MB/s.")
@params.json_option
def index(library: Path, words: tuple[str, ...], anew: bool, lists: bool, limit: int | None, as_json: bool) -> None:
    """Read the archives on the tapes that are not indexed yet, so that their members can be found and restored.

    Mounts do the same in the background, slowly, if library.toml does not forbid it. With barcodes, ranges or patterns,
    only these media are read. tar and cpio archives are read, also those compressed with gzip, zstd, xz, bzip2 or lz4;
    of other streams, --list says why they are not. The index lies in members.db beside the tracking database, and may
    be thrown away at any time. The command may be stopped at any time, and goes on with the next run. Exit status: 4 if
    a tape file can't be read because of its disks.
    """
    from vtlfs.engine.library import Library

    if lists and (anew or limit is not None):
        raise UsageError("--list only lists; leave --anew and --limit out")
    opened = Library.open(library)
    media = _media(opened, words)
    if lists:
        _list(opened, media, as_json)
    else:
        _index(opened, media, anew, limit, as_json)


def _media(library: "Library", words: tuple[str, ...]) -> list[str] | None:
    with closing(library.tracking(read_only=True)) as tracking:
        known = tracking.media.barcodes()
    if not words:
        return None
    media = choose_barcodes(words, known)
    if strange := sorted(set(media).difference(known)):
        raise NoSuchMedium(strange[0])
    return media


def _index(library: "Library", media: list[str] | None, anew: bool, limit: int | None, as_json: bool) -> None:
    from vtlfs.members.foreground import index as run

    def waits() -> None:
        click.echo("vtlfs: a mount, or another command, indexes just now; waiting for its end", err=True)

    again = f"`vtlfs index {show.word(library.path)}` goes on"
    try:
        with follow("indexing") as progress:
            done = run(library, media, anew=anew, limit=limit, progress=progress, waits=waits)
    except KeyboardInterrupt:
        raise Unfinished(f"interrupted; {again}", 130) from None
    result = done.indexed
    if as_json:
        show.as_json(asdict(result) | {"interrupted": done.interrupted is not None})
    if done.interrupted is not None:
        raise Unfinished(f"interrupted; {again}", 128 + done.interrupted)
    if not as_json:
        show.line(f"indexed {result.in_words()}{'; --list says why' if result.unknown else ''}")
    if result.failed:
        files = show.count(len(result.failed), "tape file")
        raise Unfinished(f"{files} could not be read, as told above; {again} with them", EXIT_UNREADABLE)


def _list(library: "Library", media: list[str] | None, as_json: bool) -> None:
    from vtlfs.members.database import MemberIndex
    from vtlfs.members.finding import streams_on

    with (
        closing(library.tracking(read_only=True)) as tracking,
        closing(MemberIndex.open(library.path, library.config.uuid)) as members,
    ):
        found = list(streams_on(members, tracking, media))
    if as_json:
        show.as_json([_document(file, stream) for file, stream in found])
    elif not found:
        show.line("no tape files")
    else:
        columns = [Column("MEDIUM", folds=False), Column("VOL", figures=True), Column("FILE", folds=False)]
        columns += [Column("BYTES", figures=True), Column("STATE", folds=False), Column("MEMBERS", figures=True)]
        show.table([*columns, Column("NOTE")], [_row(file, stream) for file, stream in found])


def _row(file: "TapeFile", stream: "IndexedStream | None") -> Sequence[object]:
    state, members, note = ("pending", None, None) if stream is None else (stream.state, stream.members, stream.note)
    return file.medium, file.volume, f"{file.number:04d}", show.human(file.bytes), state, members, note


def _document(file: "TapeFile", stream: "IndexedStream | None") -> dict[str, object]:
    return {
        "medium": file.medium,
        "volume": file.volume,
        "tape_file": file.number,
        "session": file.session,
        "bytes": file.bytes,
        "state": "pending" if stream is None else str(stream.state),
        "members": 0 if stream is None else stream.members,
        "note": None if stream is None else stream.note,
    }

"""`vtlfs find`: archive members by their names, over all tape files and times."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.show import Column
from vtlfs.errors import NoSuchMedium

if TYPE_CHECKING:
    from vtlfs.engine.library import Library
    from vtlfs.engine.tracking.database import Tracking
    from vtlfs.members.finding import Hit

DEFAULT_ROWS = 50  # of the table
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@click.command(
    epilog=params.example(
        "vtlfs find /srv/vtl passwd",
        "vtlfs find /srv/vtl '/etc/*.conf' --since 30d",
        "vtlfs find /srv/vtl '*.odt' --json",
    )
)
@params.library_before_paths
@click.argument("pattern", metavar="PATTERN")
@click.option(
    "--medium", metavar="BARCODE", multiple=True, type=params.barcode, help="Only on this medium; repeatable."
)
@click.option(
    "--since", metavar="TIME", type=params.since, help="Only in tape files released since: yesterday, -12h, a date."
)
@click.option("--snapshot", metavar="ID|NAME", type=params.text, help="Only what this snapshot shows.")
@click.option("-i", "--ignore-case", is_flag=True, help="Take capital and small letters as the same.")
@params.json_option
@click.option(
    "--limit",
    metavar="N",
    type=params.number,
    help=f"Only the first N. By default a table has {DEFAULT_ROWS}, and JSON has all.",
)
def find(
    library: Path,
    pattern: str,
    medium: tuple[str, ...],
    since: str | None,
    snapshot: str | None,
    ignore_case: bool,
    as_json: bool,
    limit: int | None,
) -> None:
    """Find the members of archives on the tapes whose paths are like PATTERN, on all media and of all times.

    PATTERN without *, ? and [ finds what contains it. With one of these and without a slash, it is compared with the
    last component of a path; with a slash, with the end of the path, or where it begins with a slash, with all of it. A
    path counts from the root, whether the archive names it etc/fstab, ./etc/fstab or /etc/fstab.

    Mounts index new tape files by themselves; `vtlfs index` does so at once. A line on standard error says how many
    tape files could not be searched.
    """
    from vtlfs.engine.library import Library
    from vtlfs.members.database import MemberIndex
    from vtlfs.members.finding import Query, not_indexed
    from vtlfs.members.finding import find as run
    from vtlfs.members.pattern import compile_pattern

    opened = Library.open(library)
    with closing(_tracking(opened, snapshot)) as tracking, closing(opened.tracking(read_only=True)) as now:
        if strange := sorted(set(medium).difference(tracking.media.barcodes())):
            raise NoSuchMedium(strange[0])
        with closing(MemberIndex.open(opened.path, opened.config.uuid)) as index:
            wanted = compile_pattern(pattern, ignore_case=ignore_case)
            query = Query(wanted, medium or None, since, is_past=snapshot is not None)
            hits = run(index, tracking, query)
            if as_json:
                _print_json(islice(hits, limit))
            else:
                _print_table(hits, DEFAULT_ROWS if limit is None else limit)
            left_out = not_indexed(index, now)
    if left_out.pending or left_out.unknown:
        _tell(opened, left_out.pending, left_out.unknown)


def _tracking(library: "Library", snapshot: str | None) -> "Tracking":
    if snapshot is None:
        return library.tracking(read_only=True)
    from vtlfs.snap import store
    from vtlfs.snap.view import open_view

    return open_view(library, store.number_of(library, snapshot))


def _tell(library: "Library", pending: int, unknown: int) -> None:
    """Say on standard error in which tape files nothing is found."""
    where = show.word(library.path)
    said = [f"{show.count(pending, 'tape file')} not indexed yet; `vtlfs index {where}` does so"] if pending else []
    if unknown:
        said.append(f"{show.count(unknown, 'tape file')} can't be searched; `vtlfs index {where} --list` says why")
    for text in said:
        click.echo(f"vtlfs: {show.printable(text)}", err=True)


def _print_table(hits: "Iterator[Hit]", limit: int) -> None:
    found = list(islice(hits, limit))
    if found:
        columns = [Column("MEDIUM", folds=False), Column("VOL", figures=True), Column("FILE", folds=False)]
        columns += [Column("RELEASED", folds=False), Column("", folds=False), Column("SIZE", figures=True)]
        columns += [Column("MODIFIED", folds=False), Column("PATH")]
        show.table(columns, [_row(hit) for hit in found])
    elif limit:
        show.line("no archive member is like that")
    if next(hits, None) is not None:
        show.line(f"there are more than {limit}; --limit N shows more")


def _row(hit: "Hit") -> list[object]:
    member, file = hit.member, hit.file
    path = member.path if member.link is None else f"{member.path} -> {member.link}"
    return [
        *(file.medium, file.volume, f"{file.number:04d}", show.seconds(file.released_at), str(member.kind)),
        *(show.human(member.size), _time(member.mtime), path),
    ]


def _print_json(hits: "Iterator[Hit]") -> None:
    """Print the hits as a list, each as it is found: there may be many."""
    separator = ""

    def pieces() -> Iterator[str]:
        nonlocal separator
        for hit in hits:
            yield f"{separator}\n{json.dumps(_document(hit))}"
            separator = ","

    click.echo("[", nl=False)
    show.pieces(pieces())
    click.echo("\n]" if separator else "]")


def _document(hit: "Hit") -> dict[str, object]:
    member, file = hit.member, hit.file
    return {
        "medium": file.medium,
        "volume": file.volume,
        "tape_file": file.number,
        "session": file.session,
        "released_at": file.released_at,
        "host": file.host,
        "path": member.path,
        "kind": member.kind.name.lower().replace("_", " "),
        "size": member.size,
        "mtime": _time(member.mtime),
        "link": member.link,
        "member": member.id,
        "format": member.format,
        "compression": member.compression,
    }


def _time(seconds: int | None) -> str | None:
    """Return seconds since 1970 as a time; as a number where no calendar has it."""
    if seconds is None:
        return None
    try:
        return f"{EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
    except OverflowError:
        return str(seconds)

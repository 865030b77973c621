"""`vtlfs events`: what was done to media, snapshots and pools, by whom, and why."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from vtlfs.cli import params, show
from vtlfs.cli.show import Column
from vtlfs.errors import NoSuchMedium
from vtlfs.model import Event, choose_barcodes

DEFAULT_ROWS = 50  # of the table: people look at the end of the list


@click.command(
    epilog=params.example("vtlfs events /srv/vtl A00001L9", "vtlfs events /srv/vtl --since 7d --json"),
)
@params.library_argument
@click.argument("words", metavar="[BARCODE...]", nargs=-1, type=params.text)
@params.json_option
@click.option(
    "--limit",
    metavar="N",
    type=params.number,
    help=f"Only the N newest. By default a table has {DEFAULT_ROWS}, and JSON has all.",
)
@click.option("--since", metavar="TIME", type=params.since, help="Only later ones: yesterday, -12h, a date.")
def events(library: Path, words: tuple[str, ...], as_json: bool, limit: int | None, since: str | None) -> None:
    """List what was done to media, snapshots and pools, the newest last: when, by whom, why. Nothing is ever deleted.

    With barcodes, ranges or patterns: only of these media, also of those that were removed.
    """
    from vtlfs.engine.library import Library

    rows = DEFAULT_ROWS if limit is None and not as_json else limit
    with closing(Library.open(library).tracking(read_only=True)) as tracking:
        media = None
        if words:
            known = tracking.media.barcodes()
            media = choose_barcodes(words, known)
            if strange := sorted(set(media).difference(known)):
                raise NoSuchMedium(strange[0])
        found = tracking.events.find(media=media, limit=rows, since=since)
        left_out = tracking.events.count(media=media, since=since) - len(found)
    if as_json:
        show.as_json([asdict(event) for event in found])
        return
    if left_out:
        show.line(f"{show.count(left_out, 'older event')} left out; --limit N shows more")
    if found:
        print_events(found)
    elif not left_out:
        show.line("no events")


def print_events(found: Sequence[Event]) -> None:
    """Print a table of events."""
    columns = [Column("ID", figures=True), Column("AT", folds=False), Column("EVENT", folds=False), Column("MEDIUM")]
    columns += [Column("VOL", figures=True), Column("BY"), Column("REASON"), Column("DETAILS")]
    show.table(columns, [_row(event) for event in found])


def _row(event: Event) -> list[object]:
    by = f"uid {event.uid} of {event.host}"
    details = ", ".join(f"{name} {value}" for name, value in event.details.items() if value is not None)
    at = show.seconds(event.at)
    return [event.id, at, event.what, event.medium, event.volume, by, event.reason, details or None]

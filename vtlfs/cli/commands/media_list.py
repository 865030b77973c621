"""`vtlfs media list` and `vtlfs media show`: how full media are, their state, and what forbids to erase them."""

from collections import defaultdict
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.show import Column
from vtlfs.model import Hold, Medium, Retention, Volume, choose_barcodes, utc_now

if TYPE_CHECKING:
    from vtlfs.engine.tracking.database import Tracking

SHOWN_EVENTS = 10  # of a medium, the newest


@click.command("list", epilog=params.example("vtlfs media list /srv/vtl 'NIGHT*' --json"))
@params.library_argument
@click.argument("words", metavar="[BARCODE...]", nargs=-1, type=params.text)
@click.option("--pool", metavar="NAME", help="The media of this pool only, and what each is to the pool.")
@params.json_option
def list_media(library: Path, words: tuple[str, ...], pool: str | None, as_json: bool) -> None:
    """List the media, how full they are, and in what state: all media, or some.

    P: write-protected. RETAINED: the date until which the current volume can't be erased.
    """
    from vtlfs.engine.library import Library

    if pool is not None:
        from vtlfs.cli.commands.pool_list import list_pool

        list_pool(Library.open(library), pool, words, as_json=as_json)
        return
    with closing(Library.open(library).tracking(read_only=True)) as tracking:
        found = _chosen(tracking, words) if words else tracking.media.all()
        volumes, now = tracking.volumes.current(), tracking.volumes.now(utc_now())
        holds: defaultdict[str, list[Hold]] = defaultdict(list)
        for hold in tracking.volumes.holds():
            holds[hold.medium].append(hold)
    if as_json:
        documents = [document(one, volumes[one.barcode], holds[one.barcode], now) for one in found]
        show.as_json(documents)
    elif not found:
        show.line(f"no media; vtlfs media add {show.word(library)} BARCODE... adds some")
    else:
        figures = [Column(text, figures=True) for text in ("CAPACITY", "BYTES", "FILES", "FILL")]
        columns = [*figures, Column("WRITTEN", folds=False), Column("VOL", figures=True)]
        columns += [Column("STATE", folds=False), Column("RETAINED", folds=False)]
        rows = [_row(one, volumes[one.barcode], bool(holds[one.barcode]), now) for one in found]
        show.table([Column("BARCODE"), Column("SLOT", figures=True), *columns], rows)


@click.command("show", epilog=params.example("vtlfs media show /srv/vtl A00001L9"))
@params.library_argument
@params.media_argument
@params.json_option
def show_media(library: Path, words: tuple[str, ...], as_json: bool) -> None:
    """Show media: their state, their volumes, retention, legal holds, and what was done to them last."""
    from vtlfs.engine.library import Library

    documents: list[dict[str, object]] = []
    with closing(Library.open(library).tracking(read_only=True)) as tracking:
        now = tracking.volumes.now(utc_now())
        for number, medium in enumerate(_chosen(tracking, words)):
            volumes, holds = tracking.volumes.of(medium.barcode), tracking.volumes.holds(medium.barcode)
            if as_json:
                events = tracking.events.find(media=[medium.barcode])
                all_volumes = {"volumes": [asdict(one) for one in volumes], "events": [asdict(one) for one in events]}
                documents.append(document(medium, volumes[-1], holds, now) | all_volumes)
            else:
                if number:
                    show.line("")
                _print(tracking, medium, volumes, holds, now)
    if as_json:
        show.as_json(documents)


def _chosen(tracking: "Tracking", words: tuple[str, ...]) -> list[Medium]:
    barcodes = choose_barcodes(words, [medium.barcode for medium in tracking.media.all()])
    return [tracking.media.get(barcode) for barcode in barcodes]


def document(medium: Medium, volume: Volume, holds: list[Hold], now: str) -> dict[str, object]:
    """Return a medium as a JSON object. `volume`: the current one; `now`: by which retention is told."""
    retention = volume.retention
    return {
        "barcode": medium.barcode,
        "state": str(medium.state),
        "protected": medium.protected,
        "slot": medium.slot,
        "capacity": medium.capacity,
        "bytes": medium.bytes,
        "tape_files": medium.tape_files,
        "reserved": medium.reserved,
        "left": medium.left,
        "added_at": medium.added_at,
        "written_at": medium.written_at,
        "volume": medium.volume,
        "begun_at": medium.begun_at,
        "retain_mode": volume.retain_mode,
        "retain_seconds": volume.retain_seconds,
        "retain_until": None if retention is None else retention.until,
        "retained": _in_force(volume, now) is not None,
        "holds": [asdict(hold) for hold in holds],
    }


def _in_force(volume: Volume, now: str) -> Retention | None:
    retention = volume.retention
    if retention is None or (retention.until is not None and retention.until <= now):
        return None
    return retention


def _row(medium: Medium, volume: Volume, is_held: bool, now: str) -> list[object]:
    fill = None if medium.capacity is None else f"{100 * medium.bytes // medium.capacity}%"
    retention = _in_force(volume, now)
    until = None if retention is None else retention.until[:10] if retention.until else "for ever"
    return [
        medium.barcode,
        medium.slot,
        show.human(medium.capacity),
        show.human(medium.bytes),
        medium.tape_files,
        fill,
        show.minutes(medium.written_at),
        medium.volume,
        state(medium, is_held),
        until,
    ]


def state(medium: Medium, is_held: bool = False) -> str:
    """Return the state of a medium for a table, with P where it is write-protected."""
    return " ".join([str(medium.state), *(["P"] if medium.protected else []), *(["held"] if is_held else [])])


def _print(tracking: "Tracking", medium: Medium, volumes: list[Volume], holds: list[Hold], now: str) -> None:
    from vtlfs.cli.commands.events import print_events

    barcode = medium.barcode
    tab = "; write-protected" if medium.protected else ""
    limit = "no capacity limit" if medium.capacity is None else f"capacity {show.human(medium.capacity)}"
    show.line(f"{barcode}: {medium.state}{tab}; slot {medium.slot}; {limit}; added {show.seconds(medium.added_at)}")
    retention = _in_force(volumes[-1], now)
    show.line(f"retained: {'no' if retention is None else retention}")
    for hold in holds:
        show.line(f"held: {hold.name} ({hold.reason}), since {show.seconds(hold.placed_at)} by uid {hold.uid}")
    columns = [Column("VOLUME", figures=True), Column("BEGUN", folds=False), Column("ENDED", folds=False)]
    columns += [Column("FILES", figures=True), Column("BYTES", figures=True), Column("RETAINED", folds=False)]
    show.table([*columns, Column("STORED")], [_volume_row(one) for one in volumes])
    if events := tracking.events.find(media=[barcode], limit=SHOWN_EVENTS):
        show.line("")
        print_events(events)


def _volume_row(volume: Volume) -> list[object]:
    ended, size = show.seconds(volume.ended_at), show.human(volume.bytes)
    stored = "yes" if volume.reclaimed_at is None else f"reclaimed {show.seconds(volume.reclaimed_at)}"
    return [volume.number, show.seconds(volume.begun_at), ended, volume.tape_files, size, volume.retention, stored]

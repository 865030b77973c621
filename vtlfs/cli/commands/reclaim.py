"""`vtlfs reclaim`: the stored bytes of erased media, of which no snapshot shows anything any more, are deleted."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.progress import follow
from vtlfs.cli.show import Column
from vtlfs.errors import VtlfsError
from vtlfs.model import format_size

if TYPE_CHECKING:
    from vtlfs.engine.library import Library
    from vtlfs.engine.reclaim.outlook import Held, Outlook
    from vtlfs.engine.reclaim.reclaim import Reclaimed
    from vtlfs.engine.tracking.repositories.reclaiming import EndedVolume

SHOWN_ROWS = 50  # of volumes that are held, at most; JSON has all
SHOWN_NAMES = 4  # of snapshots that hold a volume
EXIT_LEFT = 4  # something that was to be deleted could not be


class Unfinished(VtlfsError):
    """What was to be reclaimed is not, or not all of it."""

    def __init__(self, what: str, exit_status: int) -> None:
        super().__init__(what)
        self.exit_status = exit_status


@click.command(epilog=params.example("vtlfs reclaim /srv/vtl --dry-run", "vtlfs reclaim /srv/vtl"))
@params.library_argument
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would come back, and what holds the rest.")
@click.option("--limit", metavar="SPEED", type=params.rate, help="Stored bytes a second that are deleted at most.")
@params.json_option
def reclaim(library: Path, dry_run: bool, limit: int | None, as_json: bool) -> None:
    """Delete the stored bytes of erased media that no snapshot shows and nobody reads, the oldest first.

    It first says what will come back, and what holds the rest. Mounts do the same in the background. It may be stopped
    at any time, and goes on with the next run. Exit status: 4 if something is left on a disk that is away.
    """
    from vtlfs.engine.library import Library

    opened = Library.open(library)
    outlook = _look(opened)
    if not as_json:
        _print(outlook)
    if dry_run:
        if as_json:
            show.as_json(_document(outlook))
        return
    _reclaim(opened, outlook, limit, as_json)


def _look(library: "Library") -> "Outlook":
    from vtlfs.engine.reclaim.outlook import look

    with closing(library.tracking(read_only=True)) as tracking:
        return look(library, tracking)


def _reclaim(library: "Library", outlook: "Outlook", limit: int | None, as_json: bool) -> None:
    from vtlfs.engine.reclaim.foreground import reclaim as run

    def waits() -> None:
        click.echo("vtlfs: a repair, or another reclaim, is under way; waiting for its end", err=True)

    again = f"`vtlfs reclaim {show.word(library.path)}` goes on, and so do mounts"
    try:
        with follow("reclaiming") as progress:
            done = run(library, limit=limit, progress=progress, waits=waits)
    except KeyboardInterrupt:
        raise Unfinished(f"interrupted; {again}", 130) from None
    result, elsewhere = done.reclaimed, _elsewhere(library, outlook, done.reclaimed)
    if as_json:
        said = {"result": _result(result), "elsewhere": [asdict(one) for one in elsewhere]}
        show.as_json(_document(outlook) | said | {"interrupted": done.interrupted is not None})
    if done.interrupted is not None:
        raise Unfinished(f"interrupted; {again}", 128 + done.interrupted)
    if not as_json:
        if result.volumes or result.postponed or result.left or not elsewhere:
            show.line(f"reclaimed {result.in_words()}")
        if elsewhere:
            size = format_size(sum(volume.stored for volume in elsewhere))
            which = show.count(len(elsewhere), "erased volume")
            show.line(f"{size} of {which} were reclaimed meanwhile by a mount or another command")
    if result.left:
        disks = "; ".join(f"disk {number}: {why}" for number, why in sorted(result.left.items()))
        raise Unfinished(f"not everything could be deleted: {disks}; {again}", EXIT_LEFT)


def _elsewhere(library: "Library", outlook: "Outlook", result: "Reclaimed") -> "list[EndedVolume]":
    """Return the volumes of the outlook that somebody else has reclaimed meanwhile."""
    with closing(library.tracking(read_only=True)) as tracking:
        return [
            volume
            for volume in outlook.reclaimable
            if volume.key not in result.volumes and tracking.volumes.get(*volume.key).reclaimed_at is not None
        ]


# --- what is printed --------------------------------------------------------------------------------------------------


def _document(outlook: "Outlook") -> dict[str, object]:
    return {
        "bytes": outlook.bytes,
        "held_bytes": outlook.held_bytes,
        "reclaimable": [asdict(volume) for volume in outlook.reclaimable],
        "held": [
            asdict(one.volume)
            | {
                "snapshots": [number for number, _ in one.snapshots],
                "readers": [asdict(reader) for reader in one.readers],
                "processes": one.processes,
            }
            for one in outlook.held
        ],
        "left_on_disks": outlook.left,
    }


def _result(result: "Reclaimed") -> dict[str, object]:
    volumes = [{"medium": medium, "volume": number} for medium, number in result.volumes]
    return asdict(result) | {"volumes": volumes}


def _print(outlook: "Outlook") -> None:
    volumes = show.count(len(outlook.reclaimable), "erased volume")
    show.line(f"{format_size(outlook.bytes)} can be reclaimed, of {volumes}")
    if outlook.left:
        disks = ", ".join(str(number) for number in outlook.left)
        show.line(f"members that an earlier run has left are to be removed from disk {disks}")
    if not outlook.held:
        return
    held = show.count(len(outlook.held), "erased volume")
    show.line(f"{format_size(outlook.held_bytes)} of {held} are held:")
    columns = [Column("MEDIUM"), Column("VOLUME", figures=True), Column("ERASED", folds=False)]
    columns += [Column("STORED", figures=True), Column("HELD BY")]
    show.table(columns, [_row(one.volume, _holders(one)) for one in outlook.held[:SHOWN_ROWS]])
    if len(outlook.held) > SHOWN_ROWS:
        show.line(f"… and {len(outlook.held) - SHOWN_ROWS:,} more; --json has all")


def _row(volume: "EndedVolume", held: str) -> Sequence[object]:
    return volume.medium, volume.number, show.seconds(volume.ended_at), format_size(volume.stored), held


def _holders(one: "Held") -> str:
    parts = []
    if one.snapshots:
        named = [f"{number}" if name is None else f"{number} ({name})" for number, name in one.snapshots]
        more = len(named) - SHOWN_NAMES
        which = ", ".join(named[:SHOWN_NAMES]) + (f" and {more:,} more" if more > 0 else "")
        parts.append(f"snapshot{'s' * (len(named) != 1)} {which}")
    parts += [f"session {reader.session}, read by {reader.program} of {reader.host}" for reader in one.readers]
    parts += [f"process {number}, which reads it" for number in one.processes]
    return "; ".join(parts)

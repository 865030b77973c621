"""`vtlfs media`, `vtlfs load` and `vtlfs unload`: media, and the medium to which a drive's `loaded` points."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.commands import media_acts, media_list, transfer
from vtlfs.model import expand_barcodes, utc_now

if TYPE_CHECKING:
    from vtlfs.engine.tracking.database import Tracking


@click.group(no_args_is_help=False, epilog=params.example("vtlfs media list /srv/vtl"))
def media() -> None:
    """Add media to a library, list them, change what they are, and move them to other libraries.

    BARCODE is a barcode, a range such as A00001L9..A00020L9, or for media that are there a pattern such as 'NIGHT*'.
    What is done to media is an event: `vtlfs events` lists them.
    """


@media.command(epilog=params.example("vtlfs media add /srv/vtl A00001L9..A00020L9 --capacity 12TB"))
@params.library_argument
@click.argument("barcodes", metavar="BARCODE...", nargs=-1, required=True)
@click.option(
    "--capacity",
    metavar="SIZE",
    type=params.capacity,
    help="The capacity of each medium, such as 800GiB or 12TB. Without it, only the disks limit a medium.",
)
@params.reason_option
@click.option("-n", "--dry-run", is_flag=True, help="Only say which media would be added, or why not.")
@params.json_option
def add(
    library: Path, barcodes: tuple[str, ...], capacity: int | None, reason: str | None, dry_run: bool, as_json: bool
) -> None:
    """Add empty media. If one can't be added, none is. A00001L9..A00020L9 is a range."""
    from vtlfs.engine import reserve
    from vtlfs.engine.library import Library
    from vtlfs.engine.media import cartridges, lifecycle
    from vtlfs.engine.tracking.repositories.events import this_command

    def act(tracking: "Tracking", some: Sequence[str], order: lifecycle.Order) -> list[lifecycle.Change]:
        return lifecycle.add(tracking, some, capacity, order)

    new, opened = expand_barcodes(barcodes), Library.open(library)
    order = lifecycle.Order(this_command(), utc_now(), reason)
    with closing(opened.tracking()) as tracking:
        if dry_run:
            media_acts.print_dry_run(tracking, new, act, order, as_json)
            return
        changes = reserve.essential(opened.path, tracking, lambda tracking: act(tracking, new, order))
        cartridges.keep(opened, tracking, new)
    if as_json:
        show.as_json([media_acts.document(change) for change in changes])
        return
    which = new[0] if len(new) == 1 else f"{new[0]} to {new[-1]}"
    limit = "no capacity limit" if capacity is None else f"capacity {show.human(capacity)} each"
    show.line(f"added {len(new):,} {'medium' if len(new) == 1 else 'media'}: {which}, {limit}")


media.add_command(media_list.list_media)
media.add_command(media_list.show_media)
media.add_command(media_acts.erase)
media.add_command(media_acts.retire)
media.add_command(media_acts.remove)
media.add_command(media_acts.move)
media.add_command(media_acts.protect)
media.add_command(media_acts.hold)
media.add_command(media_acts.release)
media.add_command(media_acts.set_media)


transfer.register(media)


@click.command(epilog=params.example("vtlfs load /srv/vtl 0 A00001L9"))
@params.library_argument
@click.argument("drive", metavar="N", type=params.number)
@click.argument("barcode", metavar="BARCODE", type=params.barcode)
def load(library: Path, drive: int, barcode: str) -> None:
    """Point /drives/N/loaded to a medium.

    Programs that want a fixed device path can use this link. All other paths to the drive and the medium stay usable.
    """
    from vtlfs.engine.library import Library
    from vtlfs.engine.media import changer
    from vtlfs.engine.media.lifecycle import Order
    from vtlfs.engine.tracking.repositories.events import this_command

    opened = Library.open(library)
    with closing(opened.tracking()) as tracking, tracking.transaction():
        tracking.drives.ensure(opened.config.drives)
        changer.load(tracking, drive, barcode, Order(this_command(), utc_now()))
    show.line(f"drive {drive}: {barcode} loaded")


@click.command(epilog=params.example("vtlfs unload /srv/vtl 0"))
@params.library_argument
@click.argument("drive", metavar="N", type=params.number)
def unload(library: Path, drive: int) -> None:
    """Remove the link /drives/N/loaded. Open sessions go on."""
    from vtlfs.engine.library import Library
    from vtlfs.engine.media import changer
    from vtlfs.engine.media.lifecycle import Order
    from vtlfs.engine.tracking.repositories.events import this_command

    opened = Library.open(library)
    with closing(opened.tracking()) as tracking, tracking.transaction():
        tracking.drives.ensure(opened.config.drives)
        change = changer.unload(tracking, drive, Order(this_command(), utc_now()))
    show.line(f"drive {drive}: " + ("was empty" if change is None else change.says))

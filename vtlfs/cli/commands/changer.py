"""`vtlfs changer`: the changer of a library in the words of Bacula's `Changer Command`."""

from collections.abc import Iterator
from pathlib import Path

import click

from vtlfs.cli import params, show
from vtlfs.cli.library_argument import LibraryArgument
from vtlfs.engine.media.changer import Elements, Request
from vtlfs.errors import ChangerRefused, UsageError

WORDS = {"slots": 0, "list": 0, "listall": 0, "loaded": 3, "load": 3, "unload": 3, "transfer": 2}  # needed arguments


@click.command(
    epilog=params.example(
        "vtlfs changer /srv/vtl listall",
        "vtlfs changer /srv/vtl load 3 /mnt/vtl/drives/0/loaded 0",
        "vtlfs changer /srv/vtl transfer 3 21",
    )
)
@click.argument("library", metavar="[LIBRARY]", cls=LibraryArgument, type=params.directory)
@click.argument("command", metavar="COMMAND", type=click.Choice(list(WORDS)))
@click.argument("words", metavar="[SLOT [DEVICE [DRIVE]]]", nargs=-1, type=params.text)
def changer(library: Path, command: str, words: tuple[str, ...]) -> None:
    """Change media as Bacula asks for it: Changer Command = "vtlfs changer %c %o %S %a %d".

    \b
    slots              how many slots there are
    list               SLOT:BARCODE of each medium, also those in drives
    listall            D:DRIVE:F:SLOT:BARCODE or D:DRIVE:E of each drive,
                       S:SLOT:F:BARCODE or S:SLOT:E of each slot
    loaded             the slot of the medium in DRIVE; 0: it is empty
    load, unload       SLOT DEVICE DRIVE: DEVICE is not looked at
    transfer           from SLOT to another SLOT

    LIBRARY is a library, or the mount point of one. A medium is in one drive or slot at a time. There are no slots for
    import and export: `vtlfs media` adds, imports, exports and removes media.
    """
    from vtlfs.cli.robot import changer_of

    if len(words) < WORDS[command]:
        raise UsageError(f"{command} needs {'SLOT SLOT' if command == 'transfer' else 'SLOT DEVICE DRIVE'}")
    robot = changer_of(library)
    if command in ("load", "unload", "transfer"):
        second = 1 if command == "transfer" else 2
        try:
            robot.move(Request(command, (params.number(words[0]), params.number(words[second]))))
        except ChangerRefused as error:
            click.echo(str(error), err=True)
            click.get_current_context().exit(1)
        return
    there = robot.elements()
    if command == "loaded":
        show.line(str(_loaded(there, params.number(words[2]))))
        return
    for line in {"slots": _slots, "list": _list, "listall": _list_all}[command](there):
        show.line(line)


def _loaded(there: Elements, drive: int) -> int:
    if drive >= len(there.drives):
        raise UsageError(f"there is no drive {drive}; the library has drives 0 to {len(there.drives) - 1}")
    loaded = there.drives[drive]
    return 0 if loaded is None else loaded.slot


def _slots(there: Elements) -> Iterator[str]:
    yield str(len(there.slots))


def _list(there: Elements) -> Iterator[str]:
    media = {slot: barcode for slot, barcode in enumerate(there.slots, 1) if barcode is not None}
    media |= {one.slot: one.barcode for one in there.drives if one is not None}
    yield from (f"{slot}:{media[slot]}" for slot in sorted(media))


def _list_all(there: Elements) -> Iterator[str]:
    for drive, one in enumerate(there.drives):
        yield f"D:{drive}:E" if one is None else f"D:{drive}:F:{one.slot}:{one.barcode}"
    for slot, barcode in enumerate(there.slots, 1):
        yield f"S:{slot}:E" if barcode is None else f"S:{slot}:F:{barcode}"

"""`vtlfs mtx`: the changer of a library in the words of mtx(1), for programs that call mtx and read what it says."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from vtlfs import __version__
from vtlfs.cli import params, show
from vtlfs.engine.media.changer import Changer, Elements, Request, check
from vtlfs.errors import ChangerRefused

USAGE = """Usage:
	mtx --version
	mtx [ -f <loader-dev> ] noattach <more commands>
	mtx [ -f <loader-dev> ] inquiry | inventory 
	mtx [ -f <loader-dev> ] [altres] [nobarcode] status
	mtx [ -f <loader-dev> ] [altres] first [<drive#>]
	mtx [ -f <loader-dev> ] [altres] last [<drive#>]
	mtx [ -f <loader-dev> ] [altres] previous [<drive#>]
	mtx [ -f <loader-dev> ] [altres] next [<drive#>]
	mtx [ -f <loader-dev> ] [altres] [invert] load <storage-element-number> [<drive#>]
	mtx [ -f <loader-dev> ] [altres] [invert] unload [<storage-element-number>][<drive#>]
	mtx [ -f <loader-dev> ] [altres] [eepos eepos-number] transfer <storage-element-number> <storage-element-number>
	mtx [ -f <loader-dev> ] [altres] position <storage-element-number>
	mtx [ -f <loader-dev> ] eject
where <loader-dev> is a library of vtlfs, or the mount point of one."""  # noqa: W291  # as mtx says it
MTX_VERSION = "1.3.12"  # whose words these are
VENDOR, PRODUCT = "VTLFS", "TAPE LIBRARY"

_ARGUMENTS = {
    "inquiry": 0, "status": 0, "invert": 0, "noattach": 0, "eepos": 1, "load": 2, "unload": 2, "transfer": 2,
    "first": 1, "last": 1, "previous": 1, "next": 1, "inventory": 0, "eject": 0, "erase": 0, "nobarcode": 0,
    "position": 1, "invert2": 0, "exchange": 3, "altres": 0,
}  # fmt: skip
"""How many numbers each command of mtx takes at most; those that are left out are -1."""


class Fatal(Exception):
    """What mtx says on standard error when it ends with status 1."""


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=params.example("vtlfs mtx -f /srv/vtl status", "vtlfs mtx -f /srv/vtl load 3 0"),
)
@click.argument("words", metavar="-f LIBRARY COMMAND...", nargs=-1, type=click.UNPROCESSED)
def mtx(words: tuple[str, ...]) -> None:
    """Change media in the words of mtx: for programs that call mtx and read what it says.

    \b
    status                   what is in each drive and each slot
    load SLOT [DRIVE]        from a slot into a drive
    unload [SLOT] [DRIVE]    from a drive into a slot
    first, last, next, previous [DRIVE]
    transfer SLOT SLOT       from a slot to an empty one
    inquiry, inventory, nobarcode, noattach, eepos N, invert, altres

    Several commands can follow each other. LIBRARY is a library, or the mount point of one; without -f, the environment
    variable CHANGER names it, or it is the default library. A medium is in one drive or slot at a time, and a full
    drive must be unloaded first. The program vtlfs-mtx does the same, for programs that want the path of one.
    """
    try:
        Session().run(words)
    except (Fatal, ChangerRefused) as error:
        click.echo(show.printable(str(error)), err=True)
        click.get_current_context().exit(1)


@dataclass
class Session:
    """One run of mtx: its changer, and the options for the commands that follow."""

    device: str | None = None
    robot: Changer | None = None
    shows_barcodes: bool = True

    def run(self, words: Sequence[str]) -> None:
        """Run the commands one after the other. Raises Fatal, ChangerRefused, and what the changer raises."""
        if not words:
            raise Fatal(USAGE)
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "-f" and rest:
                self.device, self.robot = rest.pop(0), None
                continue
            if word == "--version":
                raise Fatal(f"mtx version {MTX_VERSION} (vtlfs {__version__})\n\n{USAGE}")
            if word not in _ARGUMENTS:
                raise Fatal(USAGE)
            numbers: list[int] = []
            while rest and len(numbers) < _ARGUMENTS[word] and rest[0][:1].isdigit():
                numbers.append(_number(rest.pop(0)))
            self._do(word, numbers)

    def _do(self, word: str, numbers: list[int]) -> None:
        first, second, *_ = [*numbers, -1, -1]
        acts: dict[str, Callable[[], None]] = {
            "inquiry": self._inquiry,
            "status": self._status,
            "nobarcode": self._hide_barcodes,
            "eepos": lambda: _check_eepos(first),
            "load": lambda: self._load(first, max(second, 0)),
            "unload": lambda: self._unload(first, max(second, 0)),
            "transfer": lambda: self._transfer(first, second),
            "first": lambda: self._first(first),
            "last": lambda: self._last(first),
            "next": lambda: self._step(first, 1),
            "previous": lambda: self._step(first, -1),
            "inventory": self._inventory,
            "eject": lambda: click.echo("mtx:eject failed", err=True),
            "erase": lambda: _refuse("vtlfs mtx erases nothing; `vtlfs media erase` does"),
            "exchange": lambda: _refuse("EXCHANGE MEDIUM Failed; use transfer"),
        }  # the others change nothing of a library without a robot
        acts.get(word, lambda: None)()

    @property
    def _changer(self) -> Changer:
        from vtlfs.cli.default_library import NoDefaultLibrary, default
        from vtlfs.cli.robot import changer_of

        if self.robot is None:
            self.device = self.device or os.environ.get("CHANGER") or os.environ.get("TAPE")
            try:
                self.robot = changer_of(Path(self.device) if self.device else default())
            except NoDefaultLibrary:
                raise Fatal("No Media Changer Device Specified") from None
        return self.robot

    @property
    def _there(self) -> Elements:
        return self._changer.elements()

    def _inquiry(self) -> None:
        self._changer.elements()
        show.line("Product Type: Medium Changer")
        show.line(f"Vendor ID: '{VENDOR:<8}'")
        show.line(f"Product ID: '{PRODUCT:<16}'")
        show.line(f"Revision: '{__version__[:4]:<4}'")
        show.line("Attached Changer API: No")

    def _inventory(self) -> None:
        self._changer.elements()  # so that it fails where there is no changer

    def _hide_barcodes(self) -> None:
        self.shows_barcodes = False

    def _status(self) -> None:
        show.pieces(f"{show.printable(line)}\n" for line in self._status_lines(self._there))

    def _status_lines(self, there: Elements) -> Iterator[str]:
        counts = f"{len(there.drives)} Drives, {len(there.slots)} Slots ( 0 Import/Export )"
        yield f"  Storage Changer {self.device}:{counts}"
        for drive, one in enumerate(there.drives):
            full = "Empty" if one is None else f"Full (Storage Element {one.slot} Loaded)"
            tag = f":VolumeTag = {one.barcode}" if one is not None and self.shows_barcodes else ""
            yield f"Data Transfer Element {drive}:{full}{tag}"
        for slot, barcode in enumerate(there.slots, 1):
            tag = f":VolumeTag={barcode}" if barcode is not None and self.shows_barcodes else ""
            yield f"      Storage Element {slot}:{'Empty' if barcode is None else 'Full '}{tag}"

    def _load(self, slot: int, drive: int) -> None:
        if slot < 1:
            raise Fatal("No source specified")
        self._move(Request("load", (slot, drive)), f"Loading media from Storage Element {slot} into drive {drive}")

    def _unload(self, slot: int, drive: int) -> None:
        if slot < 0:
            drives = self._there.drives
            loaded = drives[drive] if drive < len(drives) else None
            if loaded is None:
                raise Fatal(f"No Source for tape in drive {drive}!")
            slot = loaded.slot
        self._move(Request("unload", (slot, drive)), f"Unloading drive {drive} into Storage Element {slot}")

    def _move(self, request: Request, doing: str) -> None:
        """Make a move, and say so as mtx does: what it does once it has looked, and `done` at the end."""
        check(self._there, request)
        click.echo(f"{doing}...", nl=False)  # flushed
        self._changer.move(request)
        click.echo("done")

    def _transfer(self, source: int, target: int) -> None:
        if source < 1:
            raise Fatal("No source specified")
        if target < 1:
            raise Fatal("No destination specified")
        self._changer.move(Request("transfer", (source, target)))

    def _first(self, drive: int) -> None:
        self._go_to(1, drive)

    def _last(self, drive: int) -> None:
        self._go_to(len(self._there.slots), drive)

    def _go_to(self, slot: int, wanted: int) -> None:
        drive, loaded = self._drive(wanted)
        if loaded == slot:
            show.line("loading...done.")
            return
        if loaded:
            self._unload(loaded, drive)
        self._load(slot, drive)

    def _step(self, wanted: int, step: int) -> None:
        drive, loaded = self._drive(wanted)
        slots = self._there.slots
        begin = loaded or (0 if step > 0 else len(slots) + 1)
        found = next((slot for slot in range(begin + step, *_end(slots, step)) if slots[slot - 1] is not None), None)
        if loaded and not (step < 0 and loaded == 1):  # mtx, too, unloads before it finds that there is no other
            self._unload(loaded, drive)
        if found is None:
            raise Fatal("No More Media")
        self._load(found, drive)

    def _drive(self, wanted: int) -> tuple[int, int]:
        """Return a drive, and the slot of what is in it; slot 0: it is empty."""
        drives = self._there.drives
        drive = wanted if 0 <= wanted < len(drives) else 0
        loaded = drives[drive]
        return drive, 0 if loaded is None else loaded.slot


def _end(slots: Sequence[object], step: int) -> tuple[int, int]:
    return (len(slots) + 1 if step > 0 else 0), step


def _number(word: str) -> int:
    """Read a number as C's atoi() does: its first digits count."""
    digits = word[: next((place for place, one in enumerate(word) if one not in "0123456789"), len(word))]
    return int(digits[:9] or 0)


def _check_eepos(number: int) -> None:
    if not 0 <= number <= 3:
        raise Fatal("eepos equires argument between 0 and 3.")  # as mtx writes it


def _refuse(why: str) -> None:
    raise Fatal(why)

"""The changer: which medium is in which slot or drive, and moving media between them, as the robot of a library does.

A medium is in a drive while /drives/N/loaded points to it, and else in its slot, which it keeps while a drive has it.
The moves are made inside a transaction of the caller, which decides between two callers who want the same drive. A
refused move is refused in the words of mtx, because programs read these.
"""

import json
from dataclasses import dataclass
from typing import Any, Protocol

from vtlfs.engine.media.lifecycle import Change, Order, record
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import ChangerRefused, UsageError

FILE = "changer"  # its name in the root of a mount
MAX_SLOT = 65_535  # to which a medium can be moved, as in SCSI: all slots up to the last are listed
MAX_REQUEST = 200  # bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is in a drive: a medium, and the slot that it is from."""

    barcode: str
    slot: int


@dataclass(frozen=True, slots=True)
class Elements:
    """What is in each drive, from drive 0 on, and in each slot, from slot 1 on; None where it is empty."""

    drives: tuple[Loaded | None, ...]
    slots: tuple[str | None, ...]

    def in_slot(self, slot: int) -> str | None:
        """Return what is in a slot. Slots count from 1."""
        return self.slots[slot - 1]


class Changer(Protocol):
    """The changer of a library, for a command. All raise VtlfsError; moves that can't be made raise ChangerRefused."""

    def elements(self) -> Elements:
        """Return what is where."""

    def move(self, request: "Request") -> None:
        """Load, unload or transfer a medium."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a program asks of the changer: `elements`; `load` and `unload` SLOT DRIVE; `transfer` SLOT SLOT."""

    what: str
    numbers: tuple[int, ...] = ()

    def __bytes__(self) -> bytes:
        return " ".join([self.what, *map(str, self.numbers)]).encode() + b"\n"


ELEMENTS = Request("elements")
_MOVES = ("load", "unload", "transfer")


def read_request(text: bytes) -> Request:
    """Return the request that a program has written. Raises UsageError."""
    what, *rest = text[:MAX_REQUEST].decode("ascii", "replace").split() or [""]
    wanted = 0 if what == ELEMENTS.what else 2
    are_numbers = all(word.isascii() and word.isdigit() and len(word) < 10 for word in rest)
    if what not in (ELEMENTS.what, *_MOVES) or not are_numbers or len(rest) != wanted or len(text) > MAX_REQUEST:
        raise UsageError("no request to a changer; write elements, load SLOT DRIVE, unload SLOT DRIVE, transfer A B")
    return Request(what, tuple(map(int, rest)))


# --- what is where ----------------------------------------------------------------------------------------------------


def elements(tracking: Tracking, drives: int) -> Elements:
    """Return what is where in a library with so many drives."""
    by_slot = tracking.media.by_slot()
    slots = {barcode: slot for slot, barcode in by_slot.items()}
    loaded = {drive.number: drive.loaded for drive in tracking.drives.all() if drive.number < drives}
    in_drives = {barcode for barcode in loaded.values() if barcode is not None}
    return Elements(
        tuple(
            None if (barcode := loaded.get(number)) is None else Loaded(barcode, slots.get(barcode, 0))
            for number in range(drives)
        ),
        tuple(
            None if (barcode := by_slot.get(slot)) in in_drives else barcode
            for slot in range(1, max(by_slot, default=0) + 1)
        ),
    )


def as_document(found: Elements) -> dict[str, Any]:
    """Return what is where as a JSON object."""
    return {
        "drives": [None if one is None else [one.barcode, one.slot] for one in found.drives],
        "slots": list(found.slots),
    }


def of_document(document: dict[str, Any]) -> Elements:
    """Return what is where of the JSON object that `as_document` makes."""
    drives = (None if one is None else Loaded(str(one[0]), int(one[1])) for one in document["drives"])
    return Elements(tuple(drives), tuple(None if one is None else str(one) for one in document["slots"]))


# --- moves of a program -----------------------------------------------------------------------------------------------


def perform(tracking: Tracking, drives: int, request: Request, order: Order) -> Change:
    """Make the move that a program asks for. Raises ChangerRefused.

    What is returned is `moved` where the medium has another slot now, which the disks are to remember.
    """
    first, second = request.numbers
    tracking.drives.ensure(drives)
    there = elements(tracking, drives)
    check(there, request)
    if request.what == "load":
        return load(tracking, second, _medium_in(there, first), order)
    if request.what == "transfer":
        return _set_slot(tracking, _medium_in(there, first), second, order)
    loaded, moved = there.drives[second], None
    assert loaded is not None
    if first != loaded.slot:
        moved = _set_slot(tracking, loaded.barcode, first, order)
    change = unload(tracking, second, order)
    assert change is not None
    return moved or change


def check(there: Elements, request: Request) -> None:
    """Raise ChangerRefused where a move can't be made."""
    {"load": _check_load, "unload": _check_unload, "transfer": _check_transfer}[request.what](there, *request.numbers)


def _medium_in(there: Elements, slot: int) -> str:
    if (barcode := there.in_slot(slot)) is None:
        raise ChangerRefused(f"Source Element Address {slot} is Empty")
    return barcode


def _check_load(there: Elements, slot: int, drive: int) -> None:
    if not 1 <= slot <= len(there.slots):
        raise ChangerRefused(f"Invalid <storage-element-number> argument '{slot}' to 'load' command")
    if drive >= len(there.drives):
        raise ChangerRefused(f"illegal <drive-number> argument '{drive}' to 'load' command")
    if (loaded := there.drives[drive]) is not None:
        raise ChangerRefused(f"Drive {drive} Full (Storage Element {loaded.slot} loaded)")
    _medium_in(there, slot)


def _check_unload(there: Elements, slot: int, drive: int) -> None:
    if not 1 <= slot <= len(there.slots):
        raise ChangerRefused(f"illegal <storage-element-number> argument '{slot}' to 'unload' command")
    if drive >= len(there.drives):
        raise ChangerRefused(f"illegal <drive-number> argument '{drive}' to 'unload' command")
    if (loaded := there.drives[drive]) is None:
        raise ChangerRefused(f"Data Transfer Element {drive} is Empty")
    if there.in_slot(slot) is not None:
        raise ChangerRefused(f"Storage Element {slot} is Already Full")
    if slot != loaded.slot:
        _check_not_kept(there, slot)


def _check_transfer(there: Elements, source: int, target: int) -> None:
    if not 1 <= source <= len(there.slots):
        raise ChangerRefused("Invalid source")
    if not 1 <= target <= len(there.slots):
        raise ChangerRefused("Invalid destination")
    _medium_in(there, source)
    if there.in_slot(target) is not None:
        raise ChangerRefused(f"Destination Element Address {target} is Already Full")
    _check_not_kept(there, target)


def _check_not_kept(there: Elements, slot: int) -> None:
    """Raise ChangerRefused where a slot is empty only because a drive has the medium whose slot it is."""
    for drive, loaded in enumerate(there.drives):
        if loaded is not None and loaded.slot == slot:
            raise ChangerRefused(f"Storage Element {slot} is kept for {loaded.barcode}, which is in drive {drive}")


# --- moves of people and programs alike -------------------------------------------------------------------------------


def load(tracking: Tracking, drive: int, barcode: str, order: Order) -> Change:
    """Point a drive's `loaded` to a medium, whatever it pointed to. Raises NoSuchDrive or NoSuchMedium."""
    medium, before = tracking.media.get(barcode), tracking.drives.get(drive).loaded
    if before is not None and before != barcode:
        unload(tracking, drive, order)
    tracking.drives.load(drive, barcode, order.at)
    change = Change(medium, "loaded", f"{barcode} loaded", {"drive": drive, "slot": medium.slot})
    if before != barcode:
        record(tracking, order, change)
    return change


def unload(tracking: Tracking, drive: int, order: Order) -> Change | None:
    """Point a drive's `loaded` to nothing; None where it does already. Raises NoSuchDrive."""
    barcode = tracking.drives.unload(drive)
    if barcode is None:
        return None
    medium = tracking.media.get(barcode)
    change = Change(medium, "unloaded", f"{barcode} unloaded", {"drive": drive, "slot": medium.slot})
    record(tracking, order, change)
    return change


def move(tracking: Tracking, barcode: str, slot: int, order: Order) -> Change:
    """Give a medium another slot, also while a drive has it. Raises NoSuchMedium, UsageError."""
    medium, by_slot = tracking.media.get(barcode), tracking.media.by_slot()
    last = max([MAX_SLOT, *by_slot])
    if not 1 <= slot <= last:
        raise UsageError(f"slot {slot} won't do; slots are numbered from 1 to {last:,}")
    if medium.slot == slot:
        return Change(medium, None, f"is in slot {slot} already")
    if (other := by_slot.get(slot)) is not None:
        raise UsageError(f"slot {slot} is that of {other}; choose an empty slot, or move {other} first")
    return _set_slot(tracking, barcode, slot, order)


def _set_slot(tracking: Tracking, barcode: str, slot: int, order: Order) -> Change:
    medium = tracking.media.get(barcode)
    tracking.media.set_slot(barcode, slot)
    change = Change(medium, "moved", f"moved from slot {medium.slot} to {slot}", {"slot": slot, "before": medium.slot})
    record(tracking, order, change)
    return change


# --- answers to programs that ask through a mount ---------------------------------------------------------------------


def answer(document: dict[str, Any]) -> bytes:
    """Return the answer to a request: `elements`, or `refused` and why; empty after a move that was made."""
    return json.dumps(document).encode() + b"\n"

"""The cartridge memory: what each disk remembers of a medium that no header of a member file tells. Its codec. Pure.

That a medium was erased and not written since, its state, its write-protect tab, its slot, its holds, what was said of
its retention, and its last events. `vtlfs.engine.media.cartridges` writes it after each such act, and a rebuild of the
tracking database reads it. docs/format.md specifies it.
"""

import json
from dataclasses import dataclass
from typing import Any

from vtlfs.config import MAX_SECONDS
from vtlfs.disks import values
from vtlfs.disks.headers import MAX_COMMITS, MAX_VOLUMES
from vtlfs.errors import VtlfsError
from vtlfs.model import MAX_SIZE, Event, Hold, MediumState, RetainMode, check_barcode

MAX_HOLDS = 10_000
MAX_SLOT = 1 << 31
MAX_EVENTS = 50  # the last ones of a medium
MOST_DETAILS = 2000  # characters of an event's details, as a JSON text
MOST_TEXT = 999  # characters of a name or a reason


@dataclass(frozen=True, slots=True)
class Cartridge:
    """What a disk remembers of a medium.

    `commits`: of the tracking database when it was so: of two memories, the one with more is newer. `event`: number of
    the last event of the medium, 0 without one. `retain_mode`, `retain_seconds` and `retain_until` are those of the
    current volume, whose number is `volume`. `events`: the last ones of the medium, the oldest first; their epoch is 0.
    """

    barcode: str
    commits: int
    event: int
    volume: int
    added_at: str
    begun_at: str
    state: MediumState = MediumState.IN_USE
    protected: bool = False
    capacity: int | None = None
    retain_mode: RetainMode | None = None
    retain_seconds: int | None = None
    retain_until: str | None = None
    holds: tuple[Hold, ...] = ()
    events: tuple[Event, ...] = ()
    slot: int | None = None  # of the changer; None: it was removed, or an older vtlfs wrote the memory


def document(library: str, cartridge: Cartridge) -> dict[str, Any]:
    """Return what is written into the file of a medium."""
    return {
        "library": library,
        "barcode": cartridge.barcode,
        "commits": cartridge.commits,
        "event": cartridge.event,
        "volume": cartridge.volume,
        "added_at": cartridge.added_at,
        "begun_at": cartridge.begun_at,
        "state": str(cartridge.state),
        "protected": cartridge.protected,
        "capacity": cartridge.capacity,
        "slot": cartridge.slot,
        "retain_mode": None if cartridge.retain_mode is None else str(cartridge.retain_mode),
        "retain_seconds": cartridge.retain_seconds,
        "retain_until": cartridge.retain_until,
        "holds": [
            {
                "name": hold.name[:MOST_TEXT],
                "reason": hold.reason[:MOST_TEXT],
                "placed_at": hold.placed_at,
                "uid": hold.uid,
                "host": hold.host[:MOST_TEXT],
            }
            for hold in cartridge.holds
        ],
        "events": [
            {
                "event": one.id,
                "at": one.at,
                "what": one.what,
                "volume": one.volume,
                "uid": one.uid,
                "host": one.host[:MOST_TEXT],
                "program": one.program[:MOST_TEXT],
                "reason": None if one.reason is None else one.reason[:MOST_TEXT],
                "details": one.details if len(json.dumps(one.details)) <= MOST_DETAILS else {},
            }
            for one in cartridge.events[-MAX_EVENTS:]
        ],
    }


def read(said: dict[str, Any], library: str, barcode: str) -> Cartridge | None:
    """Return what the file of a medium says; None where that can't be, or it is of another library or medium."""
    try:
        if (said["library"], said["barcode"]) != (library, check_barcode(barcode)):
            return None
        holds = said["holds"]
        if not isinstance(holds, list) or len(holds) > MAX_HOLDS or type(said["protected"]) is not bool:
            return None
        mode, seconds, until, capacity = (
            said[key] for key in ("retain_mode", "retain_seconds", "retain_until", "capacity")
        )
        slot = said.get("slot")
        if said["state"] not in list(MediumState):
            return None
        return Cartridge(
            barcode,
            values.number(said["commits"], MAX_COMMITS),
            values.number(said["event"], MAX_SIZE),
            values.number(said["volume"], MAX_VOLUMES, least=1),
            values.time(said["added_at"]),
            values.time(said["begun_at"]),
            MediumState(said["state"]),
            said["protected"],
            None if capacity is None else values.number(capacity, MAX_SIZE),
            None if mode is None else values.mode(mode),
            None if seconds is None else values.number(seconds, MAX_SECONDS),
            None if until is None else values.until(until),
            tuple(_hold(barcode, one) for one in holds),
            _events(barcode, said),
            None if slot is None else values.number(slot, MAX_SLOT, least=1),
        )
    except (KeyError, TypeError, VtlfsError):
        return None


def _hold(barcode: str, said: Any) -> Hold:
    if not isinstance(said, dict):
        raise TypeError
    return Hold(
        barcode,
        values.text(said["name"]),
        values.text(said["reason"], least=0),
        values.time(said["placed_at"]),
        values.number(said["uid"]),
        values.text(said["host"], least=0),
    )


def _events(barcode: str, said: dict[str, Any]) -> tuple[Event, ...]:
    """Return the events of a medium. Older memories have none, and one that can't be is none: the rest counts."""
    found = said.get("events", [])
    if not isinstance(found, list) or len(found) > MAX_EVENTS:
        return ()
    try:
        return tuple(_event(barcode, one) for one in found)
    except (KeyError, TypeError, RecursionError, VtlfsError):
        return ()


def _event(barcode: str, said: Any) -> Event:
    if not isinstance(said, dict) or not isinstance(said["details"], dict):
        raise TypeError
    volume, reason, details = said["volume"], said["reason"], said["details"]
    if len(json.dumps(details)) > MOST_DETAILS:
        raise TypeError
    return Event(
        values.number(said["event"], MAX_SIZE, least=1),
        values.time(said["at"]),
        0,
        values.text(said["what"]),
        barcode,
        None if volume is None else values.number(volume, MAX_VOLUMES),
        values.number(said["uid"]),
        values.text(said["host"], least=0),
        values.text(said["program"], least=0),
        None if reason is None else values.text(reason, least=0),
        details,
    )

"""The cartridge memory: what each disk remembers of a medium that no header of a member file tells. Its codec. Pure.

That a medium was erased and not written since, its state, its write-protect tab, its holds, and what was said of its
retention. `vtlfs.engine.cartridges` writes it after each such act, and a rebuild of the tracking database reads it.
docs/format.md specifies it.
"""

from dataclasses import dataclass
from typing import Any

from vtlfs.config import MAX_SECONDS
from vtlfs.disks import values
from vtlfs.disks.headers import MAX_VOLUMES
from vtlfs.errors import VtlfsError
from vtlfs.model import MAX_SIZE, Hold, MediumState, RetainMode, check_barcode

MAX_HOLDS = 10_000
MAX_COMMITS = 1 << 61  # the database goes on counting from there
MOST_TEXT = 999  # characters of a name or a reason


@dataclass(frozen=True, slots=True)
class Cartridge:
    """What a disk remembers of a medium.

    `commits`: of the tracking database when it was so: of two memories, the one with more is newer. `event`: number of
    the last event of the medium, 0 without one. `retain_mode`, `retain_seconds` and `retain_until` are those of the
    current volume, whose number is `volume`.
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

"""What the disks are to remember of media: the cartridge memory, as the tracking database has it."""

import json
from collections.abc import Sequence
from typing import Any

from vtlfs.disks.cartridges import MAX_EVENTS, Cartridge
from vtlfs.engine.tracking.rows import Row, contradiction
from vtlfs.engine.tracking.statements import Repository
from vtlfs.model import Event, Hold, MediumState, RetainMode

_CARTRIDGE = (
    "SELECT barcode, (SELECT commits FROM library),"
    " coalesce((SELECT max(id) FROM event WHERE event.medium = barcode), 0), medium.volume, added_at, medium.begun_at,"
    " state, protected, capacity, retain_mode, retain_seconds, retain_until,"
    " (SELECT json_group_array(json_array(name, reason, placed_at, uid, host)) FROM"
    " (SELECT * FROM hold WHERE hold.medium = barcode ORDER BY name)),"
    " (SELECT json_group_array(json_array(id, at, what, volume, uid, host, program, reason, details)) FROM"
    f" (SELECT * FROM event WHERE event.medium = barcode ORDER BY id DESC LIMIT {MAX_EVENTS})), slot"
    " FROM medium JOIN volume ON volume.medium = barcode AND volume.number = medium.volume"
)


class Cartridges(Repository):
    """Reads several tables; each call is one statement, so that it sees one state of the database."""

    def of(self, barcodes: Sequence[str]) -> list[Cartridge]:
        """Return what there is to remember of these media, also of ones that were removed."""
        return self._select("barcode IN (SELECT value FROM json_each(?))", json.dumps(list(barcodes)))

    def all(self) -> list[Cartridge]:
        """Return what there is to remember of all media to which more was done than that streams were written."""
        return self._select(
            "medium.volume > 1 OR state <> 'in use' OR protected OR capacity IS NOT NULL"
            " OR EXISTS (SELECT 1 FROM event WHERE event.medium = barcode)"
            " OR EXISTS (SELECT 1 FROM hold WHERE hold.medium = barcode)"
        )

    def _select(self, where: str, *values: object) -> list[Cartridge]:
        rows = self._sql.execute(f"{_CARTRIDGE} WHERE {where} ORDER BY barcode", *values)
        return [_cartridge(row) for row in rows]


def _cartridge(row: Row) -> Cartridge:
    barcode, commits, event, volume, added_at, begun_at, state, protected, capacity, mode, seconds, until, *more = row
    holds, events = map(json.loads, more[:2])
    try:
        return Cartridge(
            *(barcode, commits, event, volume, added_at, begun_at, MediumState(state), bool(protected), capacity),
            *(None if mode is None else RetainMode(mode), seconds, until),
            tuple(Hold(barcode, *hold) for hold in holds),
            tuple(_event(barcode, *event) for event in reversed(events)),
            more[2],
        )
    except (ValueError, TypeError):
        raise contradiction(f"medium {barcode}") from None


def _event(barcode: str, number: int, at: str, what: str, volume: int | None, *rest: Any) -> Event:
    uid, host, program, reason, details = rest
    return Event(number, at, 0, what, barcode, volume, uid, host, program, reason, json.loads(details))

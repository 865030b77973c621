"""The lives of media in a rebuild: their volumes, their states, and how they are retained.

There are three sources. The base (the old database or a copy) knows everything up to its last commit. The headers of
member files name the volume of each session, and how it is retained. The cartridge memory of the disks has the rest; of
several memories of a medium, the newest counts, if it is newer than the base.

Volumes are replayed in order: the sessions of a volume come to the medium while the volume is the current one; then the
volume ends and the next one begins, up to the highest volume that is known.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from vtlfs.disks.base import Disk
from vtlfs.disks.cartridges import Cartridge
from vtlfs.engine.rebuild.found import MAX_TOLD, ReplayReport
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.events import this_command
from vtlfs.errors import DiskError
from vtlfs.model import LAST_TIME, Medium, MediumState, RetainMode, format_time

MAX_EMPTY_VOLUMES = 1_000_000  # of all media, of which nothing was found; each gets a row
MAX_LATE = 1000  # sessions of volumes that the base has ended; each is put between tape files that came later
SPARE_EVENTS = 1000  # numbers that are left out: a disk that is not there may know of later events
AHEAD = timedelta(days=1)  # of this machine's clock: a time further ahead is told


def remember(tracking: Tracking, report: ReplayReport, disks: Mapping[int, Disk]) -> None:
    """Take in the cartridge memory of the disks. May block."""
    for number, disk in disks.items():
        try:
            for name, cartridge in disk.cartridges():
                if cartridge is None:
                    report.tell(
                        ignored=[f"disk {number}: what it remembers as {name!r} can't be read, or is another's"]
                    )
                else:
                    tracking.relived.remember(cartridge)
            tracking.relived.remember_deleted(disk.snapshots())
        except DiskError as error:
            report.tell([f"{error}; what it remembers of media is not used"])


class Lives:
    """The media of one rebuild. One thread uses it, that of the database."""

    def __init__(self, tracking: Tracking, report: ReplayReport, at: str, commits: int, latest: str) -> None:
        """`commits`: of the base, -1 without one. `latest`: the highest time that the disks' marks know."""
        self._tracking = tracking
        self._relived = tracking.relived
        self._scanned = tracking.scanned
        self._report = report
        self._at = at
        self._commits = commits
        self._latest = latest
        self._base: dict[str, Medium] = {}  # media that the replay changes, as the base has them

    def begin(self) -> None:
        """Add the media, and have all to which something is to come be writable. Comes before the sessions."""
        self._relived.forget_older_memory(self._commits)
        if deleted := self._relived.deleted_snapshots():
            self._tracking.snapshots.remove(deleted)
            numbers = ", ".join(map(str, deleted[:MAX_TOLD]))
            self._report.tell(ignored=[f"snapshots that were deleted since that database was made: {numbers}"])
        self._relived.add_media(self._at)
        self._leave_out_what_is_not_believed()
        self._note_time()
        for medium in self._relived.to_replay():
            self._base[medium.barcode] = medium
            self._leave_out_what_came_too_early(medium.barcode)
            is_older = self._relived.last_volume(medium.barcode) > medium.volume
            is_older = is_older or self._relived.memory(medium.barcode) is not None
            self._relived.open_medium(medium.barcode, unlimited=is_older)

    def _leave_out_what_is_not_believed(self) -> None:
        left = MAX_EMPTY_VOLUMES
        for barcode, volumes, sessions in self._relived.empty_volumes():
            if volumes > left:
                self._relived.leave_out_volumes(barcode, self._current(barcode))
                what = f"{sessions:,} sessions and a memory tell of {volumes:,} volumes of which nothing is there"
                self._report.tell([f"medium {barcode}: {what}; they are left out"])
            else:
                left -= volumes
        for session in self._relived.late_sessions(MAX_LATE):
            self._report.tell([f"session {session}: one of too many of volumes that have ended; it is left out"])
            self._scanned.leave_out(session)

    def _current(self, barcode: str) -> int:
        """Return the number of the base's current volume of a medium."""
        return self._tracking.volumes.of(barcode)[-1].number

    def _leave_out_what_came_too_early(self, barcode: str) -> None:
        """Believe no volume that begins before one ends whose retention nobody can end: compliance and WORM.

        The two times are of the kind by which retention is told: the highest that was ever recorded counts, so that
        no clock that was set back gets here.
        """
        current, last = self._current(barcode), self._relived.last_volume(barcode)
        for number in sorted({current, *self._relived.found_volumes(barcode)}):
            if not current <= number < last:
                continue
            mode, _, until = self._retention(barcode, number)
            is_for_ever = mode is RetainMode.WORM and self._relived.is_written(barcode, number)
            if is_for_ever or (mode is RetainMode.COMPLIANCE and until is not None and until > self._now):
                self._relived.leave_out_volumes(barcode, number)
                kept = "for ever" if is_for_ever else f"until {until}"
                what = f"volume {number} is retained {kept}, and the disks tell of volume {last}"
                self._report.tell([f"medium {barcode}: {what}; what came after it is left out"])
                return

    @property
    def _now(self) -> str:
        return self._tracking.volumes.now(self._at)

    def _note_time(self) -> None:
        """Have no retention be told by an earlier time than any that was recorded before.

        A time that is ahead of this clock may be that of a clock that was wrong, and it may be right: it is told.
        """
        latest = max(self._relived.latest(LAST_TIME), self._latest if self._latest <= LAST_TIME else "")
        self._tracking.volumes.note_time(latest)
        if latest > format_time(datetime.fromisoformat(self._at.rstrip("Z")) + AHEAD):
            self._report.tell(
                ignored=[f"the disks tell of the time {latest}, which is ahead of this clock; retention goes by it"]
            )

    def media(self) -> list[str]:
        """Return the barcodes of the media to which something may come."""
        return [*self._base]

    # --- volumes ----------------------------------------------------------------------------------------------------

    def ended_volumes(self, barcode: str) -> list[int]:
        """Return the volumes that the base has ended, and of which it lacks sessions."""
        current = self._base[barcode].volume
        return [number for number in self._relived.volumes_of(barcode) if number < current]

    def volumes(self, barcode: str) -> list[int]:
        """Return the volumes that are to be the current one, one after the other."""
        current = self._base[barcode].volume
        found = {number for number in self._relived.volumes_of(barcode) if number >= current}
        memory = self._relived.memory(barcode)
        return sorted(found.union({current, current if memory is None else max(current, memory.volume)}))

    def begin_volume(self, barcode: str, number: int) -> None:
        """Have a volume be the current one: it is, or those before it end."""
        if number > self._tracking.media.get(barcode).volume:
            began_at = self._relived.began_at(barcode, number)
            if began_at is None:
                memory = self._relived.memory(barcode)
                began_at = self._at if memory is None else memory.begun_at
            self._relived.begin_volume(barcode, number, began_at)
        self.retain(barcode, number)

    def retain(self, barcode: str, number: int) -> None:
        """Retain a volume as the strictest says and for as long as the longest: base, headers and memory."""
        mode, seconds, until = self._retention(barcode, number)
        if mode is not None:
            self._relived.retain(barcode, number, mode, seconds, until)

    def _retention(self, barcode: str, number: int) -> tuple[RetainMode | None, int | None, str | None]:
        """Return how a volume is retained: mode, seconds from each release, and until when."""
        told: list[tuple[RetainMode | None, int | None, str | None]] = [*self._relived.retentions(barcode, number)]
        for volume in self._tracking.volumes.of(barcode):
            if volume.number == number:
                told.append((volume.retain_mode, volume.retain_seconds, volume.retain_until))
        memory = self._relived.memory(barcode)
        if memory is not None and memory.volume == number:
            told.append((memory.retain_mode, memory.retain_seconds, memory.retain_until))
        modes = [mode for mode, _, _ in told if mode is not None]
        if not modes:
            return None, None, None
        mode = max(modes, key=lambda one: one.strictness)
        seconds = None if mode is RetainMode.WORM else max((one for _, one, _ in told if one is not None), default=None)
        until = max((one for _, _, one in told if one is not None), default=None)
        return mode, seconds, until

    # --- states -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Give the media their states, capacities and holds, when all tape files are on them; and tell of it."""
        number = self._relived.last_event() + 1 + SPARE_EVENTS
        for barcode in self._base:
            remembered = self._relived.memory(barcode)
            self._tracking.rebuilding.add_events(() if remembered is None else remembered.events)
        actor = this_command()
        self._tracking.events.add("rebuilt", actor, self._at, number=number)
        for barcode, base in self._base.items():
            memory = self._relived.memory(barcode)
            medium = self._tracking.media.get(barcode)
            if memory is not None:
                self._relived.set_holds(barcode, memory.holds)
            capacity = base.capacity if memory is None else memory.capacity
            if capacity is not None and capacity < medium.bytes:
                self._report.tell([f"medium {barcode}: there is more on it than its capacity of {capacity} bytes"])
                capacity = medium.bytes
            protected = base.protected if memory is None else memory.protected
            self._relived.close_medium(barcode, capacity, protected=protected)
            state = self._state(base, memory, medium)
            if state is not MediumState.IN_USE:
                self._tracking.media.set_state(barcode, state)
            if memory is not None:
                self._tracking.events.add("rebuilt", actor, self._at, medium=barcode, volume=medium.volume)
        self._give_slots()

    def _give_slots(self) -> None:
        """Give the media the slots that the disks remember, and the others the lowest that are free; and tell of it."""
        media = self._tracking.media
        remembered: list[tuple[int, str, int]] = []
        for barcode in self._base:
            memory = self._relived.memory(barcode)
            if memory is not None and memory.slot is not None and media.find(barcode) is not None:
                media.set_slot(barcode, None)  # media may have changed places
                remembered.append((memory.commits, barcode, memory.slot))
        taken = set(media.by_slot())
        for _, barcode, slot in sorted(remembered, reverse=True):
            if slot not in taken:
                taken.add(slot)
                media.set_slot(barcode, slot)
        if given := self._tracking.media.give_slots():
            which = "these media have the lowest that were free, in the order in which they were found"
            self._report.tell(
                ignored=[f"slots that are not known: {given:,}; {which}; `vtlfs media move` changes them"]
            )

    def _state(self, base: Medium, memory: Cartridge | None, medium: Medium) -> MediumState:
        """Return the state of a medium. One that was written to since it was removed has been added anew."""
        state, volume, size = (
            (base.state, base.volume, base.bytes) if memory is None else (memory.state, memory.volume, 0)
        )
        is_written = medium.volume > volume or (medium.volume == volume and medium.bytes > size)
        return MediumState.IN_USE if state is MediumState.REMOVED and is_written else state

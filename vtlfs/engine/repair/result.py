"""What a repair did, and what it could not do. Plain values."""

import signal
from dataclasses import dataclass, field

from vtlfs.model import format_size


@dataclass(slots=True)
class RepairResult:
    """What came of a repair; sizes are stored bytes.

    `stripes` were mended, for which `bytes_written` were written. A stripe that still lacks something is counted once:
    `needs_disk` more disks than are there would be needed; `no_room` those disks are full, and `bytes_missing` more
    would be; `lost` bytes are nowhere, `bytes_lost` of the streams. `postponed`: sessions of live mounts that have just
    ended, which the next repair looks at. `emptied`: retiring disks that have retired now. `followed`: what came of the
    repair of somebody else that was waited for, in words. `interrupted`: the signal that stopped this one.
    """

    stripes: int = 0
    bytes_written: int = 0
    needs_disk: int = 0
    no_room: int = 0
    bytes_missing: int = 0
    lost: int = 0
    bytes_lost: int = 0
    postponed: int = 0
    emptied: list[int] = field(default_factory=list)
    followed: str | None = None
    interrupted: signal.Signals | None = None

    def add(self, further: "RepairResult") -> None:
        """Take in a further repair: what it did comes on top, and what lacks something is what it says."""
        self.stripes += further.stripes
        self.bytes_written += further.bytes_written
        self.emptied += further.emptied
        self.needs_disk, self.no_room, self.bytes_missing = further.needs_disk, further.no_room, further.bytes_missing
        self.lost, self.bytes_lost, self.postponed = further.lost, further.bytes_lost, further.postponed

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing lacks anything any more, as far as this repair has looked."""
        return not (self.needs_disk or self.no_room or self.lost or self.postponed or self.interrupted)

    def in_words(self) -> str:
        """Return it as one line, for the log and the row of the job."""
        said = [f"{self.stripes} stripes mended, {format_size(self.bytes_written)} written"]
        if self.needs_disk:
            said.append(f"{self.needs_disk} stripes need another disk: add one with `vtlfs disk add`")
        if self.no_room:
            said.append(f"{self.no_room} stripes have no room: {format_size(self.bytes_missing)} are missing")
        if self.lost:
            said.append(f"{self.lost} stripes have lost {format_size(self.bytes_lost)}: `vtlfs verify` names them")
        if self.postponed:
            said.append(f"{self.postponed} sessions that have just ended are left for the next repair")
        said += [f"disk {number} is empty and has retired" for number in self.emptied]
        return "; ".join(said)

"""The result of a repair: what it mended, and what it could not mend. Plain values."""

import signal
from dataclasses import dataclass, field

from vtlfs.model import format_size


@dataclass(slots=True)
class RepairResult:
    """The result of one repair, or of several in a row. Sizes are stored bytes.

    `stripes`: how many were mended; `bytes_written`: for all of them. A stripe that still lacks something is counted
    in one of three ways: `needs_disk` if it needs more disks than the library has; `no_room` if the disks are full, and
    `bytes_missing` is the room that all of these lack; `lost` if bytes of its data can't be computed, and `bytes_lost`
    counts them. `postponed`: sessions of live mounts that have just ended; the next repair looks at them. `emptied`:
    disks that have retired. `followed`: the outcome, in words, of another process's repair that was waited for.
    `interrupted`: the signal that stopped this repair.
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
        """Take in a later repair: add what it did, and replace what still lacks something."""
        self.stripes += further.stripes
        self.bytes_written += further.bytes_written
        self.emptied += further.emptied
        self.needs_disk, self.no_room, self.bytes_missing = further.needs_disk, further.no_room, further.bytes_missing
        self.lost, self.bytes_lost, self.postponed = further.lost, further.bytes_lost, further.postponed

    @property
    def is_whole(self) -> bool:
        """Tell whether no stripe lacks anything any more, as far as this repair has looked."""
        return not (self.needs_disk or self.no_room or self.lost or self.postponed or self.interrupted)

    def in_words(self) -> str:
        """Return the result as one line, for users, the log and the job's row."""
        said = [f"{self.stripes} stripes mended, {format_size(self.bytes_written)} written"]
        if self.needs_disk:
            said.append(f"{self.needs_disk} stripes need another disk: add one with `vtlfs disk add`")
        if self.no_room:
            missing = format_size(self.bytes_missing)
            said.append(f"{self.no_room} stripes found no room: the disks lack {missing}; `vtlfs disk add` adds one")
        if self.lost:
            said.append(f"{self.lost} stripes have lost {format_size(self.bytes_lost)}: `vtlfs verify` names them")
        if self.postponed:
            said.append(f"{self.postponed} sessions that have just ended are left for the next repair")
        said += [f"disk {number} is empty and has retired" for number in self.emptied]
        return "; ".join(said)

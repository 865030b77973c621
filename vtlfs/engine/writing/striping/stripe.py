"""A stripe of one stream and its fragments, each with its state. Only `Stripes` changes them, in the trio loop."""

from dataclasses import dataclass, field
from enum import Enum, auto

from vtlfs.engine.writing.striping.extents import ExtentBuffer
from vtlfs.model import Extent


class State(Enum):
    """The state of a fragment; the docstring of `Stripes` has the table of transitions."""

    QUEUED = auto()
    WRITING = auto()
    WRITTEN = auto()
    DURABLE = auto()
    LOST = auto()


@dataclass(slots=True, eq=False)
class Fragment:
    """One extent of a stripe, and its disk. `buffer`: the bytes of a data extent; None for parity."""

    stripe: "Stripe"
    place: int
    disk: int
    buffer: ExtentBuffer | None
    state: State = State.QUEUED
    row: Extent | None = None  # the row for the tracking database, once the extent is written
    has_begun: bool = False  # the disk's thread has begun to write it

    @property
    def is_written(self) -> bool:
        """Tell whether the bytes are on the disk, synced or not."""
        return self.state in (State.WRITTEN, State.DURABLE)


@dataclass(slots=True, eq=False)
class Stripe:
    """Extents that follow each other in the stream, and their parity. An open stripe takes further extents."""

    number: int
    data: list[Fragment] = field(default_factory=list)
    parity: list[Fragment] = field(default_factory=list)
    is_open: bool = True
    is_replaced: bool = False  # its extents are in other stripes now
    is_counted: bool = True  # the dirty budget counts its bytes, if it keeps any

    @property
    def fragments(self) -> list[Fragment]:
        """All extents of the stripe."""
        return [*self.data, *self.parity]

    @property
    def offset(self) -> int:
        """Where the stripe begins in the stream."""
        assert self.data[0].buffer is not None
        return self.data[0].buffer.offset

    @property
    def end(self) -> int:
        """Where the stripe ends in the stream."""
        last = self.data[-1].buffer
        assert last is not None
        assert last.size is not None
        return last.offset + last.size

    @property
    def is_lost(self) -> bool:
        """Tell whether bytes of the stripe were lost."""
        return any(fragment.state is State.LOST for fragment in self.fragments)

    @property
    def is_written(self) -> bool:
        """Tell whether the whole stripe is written, its parity too."""
        return not self.is_open and all(fragment.is_written for fragment in self.fragments)

    @property
    def is_durable(self) -> bool:
        """Tell whether the whole stripe is durable, its parity too."""
        return not self.is_open and all(fragment.state is State.DURABLE for fragment in self.fragments)

    @property
    def rows(self) -> list[Extent]:
        """The rows of the extents that are written."""
        return [fragment.row for fragment in self.fragments if fragment.row is not None]

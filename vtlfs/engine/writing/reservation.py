"""The room on a medium with a capacity that one stream has reserved. Used in the trio loop."""

from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.writing.lazy_lock import LazyLock
from vtlfs.model import MIB

RESERVE_AHEAD = 64 * MIB  # bytes that a small write reserves at most; see `Reservation.reserve`
RESERVE_SHARE = 64  # at most this fraction (1/64) of the room left on the medium is reserved ahead
EXACT_BELOW = 64 * MIB  # with less left on the medium, nothing is reserved ahead


class Reservation:
    """See the module."""

    __slots__ = ("_barcode", "_catalogue", "_committer", "_reserved", "_reserving", "_session")

    def __init__(self, session: int, barcode: str, catalogue: Catalogue, committer: GroupCommitter) -> None:
        self._session = session
        self._barcode = barcode
        self._catalogue = catalogue
        self._committer = committer
        self._reserved = 0
        self._reserving = LazyLock()

    def begin_volume(self) -> None:
        """Note that the stream goes on in another volume, where nothing is reserved for it."""
        self._reserved = 0

    async def reserve(self, end: int) -> None:
        """Reserve the medium's room for the stream up to `end`. Raises MediumFull.

        A reservation goes beyond the write, so that not every write asks the database. With little room left on the
        medium, little is reserved ahead, for other sessions need the rest.
        """
        if end <= self._reserved:
            return
        async with self._reserving:
            need = end - self._reserved
            if need <= 0:
                return
            # A hint: the transaction decides. Requests of this stream wait for the lock, also during this read.
            left = (await self._catalogue.read(lambda tracking: tracking.media.get(self._barcode))).left or 0
            ahead = min(RESERVE_AHEAD, left // RESERVE_SHARE) if left >= EXACT_BELOW else 0
            self._reserved += await self._committer.call(
                lambda tracking: tracking.media.reserve(self._session, self._barcode, need, max(need, ahead)),
                durable=False,
            )

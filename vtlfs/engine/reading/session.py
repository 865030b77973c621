"""A read session: one `open()` for reading of a medium as it stood at that moment. Used in the trio loop of a mount."""

from vtlfs.engine.memory import Account
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.traffic import Traffic
from vtlfs.errors import VtlfsError


class ReadSession:
    """The session of one open file that is read. It is recorded in the database, but never waits for the database."""

    __slots__ = ("_account", "_reader", "bytes", "drive", "error", "number", "requests", "size", "traffic")

    def __init__(self, number: int, drive: int, reader: MediumReader, account: Account, traffic: Traffic) -> None:
        self.number = number
        self.drive = drive
        self.size = reader.size
        self.bytes = 0
        self.requests = 0
        self.error: VtlfsError | None = None
        self._reader = reader
        self._account = account
        self.traffic = traffic

    def reads(self, barcode: str, volume: int) -> bool:
        """Tell whether it reads this volume."""
        return self._reader.reads(barcode, volume)

    def close(self) -> None:
        """Let go of the loaded extents."""
        self._reader.close()
        self._account.close()

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return bytes of the medium at the offset; fewer only at its end. Raises DamagedExtent, DiskError."""
        try:
            data = await self._reader.read(offset, size)
        except VtlfsError as error:
            self.error = self.error or error
            raise
        self.bytes += len(data)
        self.requests += 1
        self.traffic.bytes += len(data)
        self.traffic.requests += 1
        return data

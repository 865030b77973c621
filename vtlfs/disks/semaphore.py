"""Places that many want, given to them in turn: who asks for hundreds at once gets no more than who asks for one."""

import trio


class FairSemaphore:
    """A semaphore that serves askers in turn, however many requests each has waiting. Used in the trio loop.

    A program that writes small blocks through the page cache has hundreds of requests on their way, and one that
    writes without it a single one. First come, first served, would give the first nearly all of a busy disk.
    """

    def __init__(self, places: int) -> None:
        self.value = places  # free
        self._waiting: dict[int, trio.lowlevel.ParkingLot] = {}  # by asker; the next to be served comes first

    def acquire_nowait(self) -> None:
        """Take a place. Raises WouldBlock where none is free."""
        if not self.value:
            raise trio.WouldBlock
        self.value -= 1

    async def acquire(self, who: int) -> None:
        """Wait for a place. Who gives up and soon comes again has kept its turn."""
        if self.value:
            self.value -= 1
        else:
            await self._waiting.setdefault(who, trio.lowlevel.ParkingLot()).park()

    def release(self) -> None:
        """Give a place back, to whoever is next. Who wants more places is behind all others then."""
        while self._waiting:
            who = next(iter(self._waiting))
            lot = self._waiting.pop(who)
            if lot.unpark():
                if lot:
                    self._waiting[who] = lot
                return
        self.value += 1

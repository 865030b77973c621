"""A lock that takes no memory while nobody holds it: an idle stream has several, and a trio.Lock is half a kilobyte."""

import trio


class LazyLock:
    """A lock like trio.Lock, only for `async with`. Used in the trio loop."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock: trio.Lock | None = None

    def locked(self) -> bool:
        """Tell whether a task holds the lock."""
        return self._lock is not None

    async def __aenter__(self) -> None:
        if self._lock is None:
            self._lock = trio.Lock()
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        assert self._lock is not None
        self._lock.release()
        if not self._lock.locked():  # no task was waiting, so the lock was not handed on
            self._lock = None

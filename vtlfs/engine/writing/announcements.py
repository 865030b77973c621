"""Announcements of close() calls: a mount makes them for its own streams, and its look-ups wait for those of others.

A stream that may be about to be released is announced in the tracking database, under a number that counts the
announcements of the whole library. A look-up in another mount waits for the release, or for the withdrawal: the close()
was not the last one. The wait has a limit, for the announcing mount may be hung or stopped. Each mount measures that
limit with its own monotonic clock; the wall clock, whose times are in the database, may have jumped. Used in the
mount's trio loop.
"""

from collections import deque
from typing import Protocol

import trio

GRAIN_SECONDS = 0.01  # the least time between two numbers that are kept, however many look-ups there are
ROUNDS = 5  # of the trio loop; an announcement is withdrawn if no release has come within them


class Stream(Protocol):
    """A stream that was announced: its `Recording`, as far as this module uses it."""

    def withdraw(self) -> None:
        """Withdraw the announcement in the tracking database, and call `OwnAnnouncements.end`."""


class OwnAnnouncements:
    """The streams of a mount that are announced to other mounts.

    Before the last close() of a stream returns, the kernel has the RELEASE ready for the mount. So a stream goes on if
    the trio loop has looked for requests several times (rounds, with a sleep between two) and found no RELEASE. Elapsed
    time would prove nothing: a process that is stopped or gets no processor reads no requests.
    """

    def __init__(self, round_seconds: float) -> None:
        """`round_seconds`: between two looks of the trio loop for requests, at least."""
        self._round_seconds = round_seconds
        self._rounds: dict[Stream, int] = {}
        self._begun = trio.Event()

    def has(self, stream: Stream) -> bool:
        """Tell whether the stream is announced, so that look-ups in other mounts may wait for it."""
        return stream in self._rounds

    def begin(self, stream: Stream) -> None:
        """Note that a close() of the stream is announced, perhaps again."""
        self._rounds[stream] = 0
        self._begun.set()

    def end(self, stream: Stream) -> None:
        """Note that the stream is being released, or goes on."""
        self._rounds.pop(stream, None)

    async def run(self) -> None:
        """Withdraw the announcements of streams that are not released within ROUNDS rounds."""
        while True:
            if not self._rounds:
                self._begun = trio.Event()
                await self._begun.wait()
            await trio.sleep(self._round_seconds)
            for stream, rounds in list(self._rounds.items()):
                self._rounds[stream] = rounds + 1
                if rounds == ROUNDS:
                    stream.withdraw()


class SeenAnnouncements:
    """The numbers of announcements that a mount has seen, and when; `seconds`: how long a look-up waits for each.

    One number is kept for each GRAIN_SECONDS of that time at most. Times are those of a monotonic clock.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waited_out = 0
        self._seen: deque[tuple[int, float]] = deque()

    def see(self, last: int, now: float) -> None:
        """Take in the number of the last announcement in the library."""
        newest, at = self._seen[-1] if self._seen else (self._waited_out, -self._seconds)
        if last > newest and now >= at + GRAIN_SECONDS:  # else the next look-up takes it in, and waits a little longer
            self._seen.append((last, now))

    def waited_out(self, now: float) -> int:
        """Return the highest number that was seen `seconds` ago: no look-up waits for announcements up to it."""
        while self._seen and self._seen[0][1] + self._seconds <= now:
            self._waited_out = self._seen.popleft()[0]
        return self._waited_out

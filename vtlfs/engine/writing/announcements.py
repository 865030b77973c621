"""The announcements of a close(): those of a mount's own streams, and those of others that a look-up waits for.

A stream that may be about to end says so in the tracking database, under a number that counts such announcements in
the whole library. A look-up in another mount waits for the release, or for the announcement to be withdrawn, where the
close() was not the last one; but not for ever, for that mount may be hung or stopped. How long a mount has known of a
number only its own monotonic clock tells: times in the database are those of a clock that may have jumped since. Used
in the mount's trio loop.
"""

from collections import deque
from typing import Protocol

import trio

GRAIN_SECONDS = 0.01  # between two numbers that are kept, so that they are few however many look-ups there are
ROUNDS = 5  # for which a release may follow a close()


class Stream(Protocol):
    """What is recorded of a stream, as far as this module wants to know it."""

    def withdraw(self) -> None:
        """Have other mounts no longer wait for the release, and call `Closing.end`."""


class Closing:
    """The streams of a mount that may be about to be released, as it has told others.

    Before the last close() of a stream returns, the kernel has the RELEASE ready for the mount. So what tells that the
    stream goes on is not how much time has passed, for a process that is stopped or gets no processor reads nothing,
    but how often the trio loop has looked for requests since: in rounds, between which it sleeps.
    """

    def __init__(self, round_seconds: float) -> None:
        """`round_seconds`: between two looks of the trio loop for requests, at least."""
        self._round_seconds = round_seconds
        self._rounds: dict[Stream, int] = {}
        self._begun = trio.Event()

    def has(self, stream: Stream) -> bool:
        """Tell whether others may be waiting for the stream."""
        return stream in self._rounds

    def begin(self, stream: Stream) -> None:
        """Note that a close() of the stream is announced, perhaps again."""
        self._rounds[stream] = 0
        self._begun.set()

    def end(self, stream: Stream) -> None:
        """Note that the stream is being released, or goes on."""
        self._rounds.pop(stream, None)

    async def run(self) -> None:
        """Withdraw what was announced of streams that are not released."""
        while True:
            if not self._rounds:
                self._begun = trio.Event()
                await self._begun.wait()
            await trio.sleep(self._round_seconds)
            for stream, rounds in list(self._rounds.items()):
                self._rounds[stream] = rounds + 1
                if rounds == ROUNDS:
                    stream.withdraw()


class Announcements:
    """What a mount has seen of the library's last announcement, and when; `seconds`: how long each is waited for.

    No more is kept than a number for each GRAIN_SECONDS of that time. Times are those of a monotonic clock.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waited_out = 0
        self._seen: deque[tuple[int, float]] = deque()

    def see(self, last: int, now: float) -> None:
        """Take in the number of the last announcement that there is."""
        newest, at = self._seen[-1] if self._seen else (self._waited_out, -self._seconds)
        if (
            last > newest and now >= at + GRAIN_SECONDS
        ):  # else the next look sees it, and it is waited for a little longer
            self._seen.append((last, now))

    def waited_out(self, now: float) -> int:
        """Return the number up to which announcements have been known for so long that nobody waits for them."""
        while self._seen and self._seen[0][1] + self._seconds <= now:
            self._waited_out = self._seen.popleft()[0]
        return self._waited_out

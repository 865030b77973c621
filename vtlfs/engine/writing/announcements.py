"""The announcements of a close() that a mount has waited out: how a look-up knows the new ones without a clock.

A stream that may be about to end says so in the tracking database, under a number that counts such announcements in
the whole library. A look-up in another mount waits for the release, but not for ever: the close() need not have been
the last one. How long a mount has known of a number only its own monotonic clock tells: times in the database are those
of a clock that may have jumped since. Used in the mount's trio loop.
"""

from collections import deque

GRAIN_SECONDS = 0.01  # between two numbers that are kept, so that they are few however many look-ups there are


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

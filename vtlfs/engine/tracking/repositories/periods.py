"""What happened since a time: for people, as clocks jump. Reads indexes, and few rows of large tables."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from vtlfs.engine.tracking.statements import Repository


@dataclass(frozen=True, slots=True)
class HostStreams:
    """The streams that a host has written. `streams` left a tape file, with `bytes` bytes on `media` media.

    `failed`: streams that failed, which may have left a tape file as well; `open`: those that are being written now.
    `last_at`: the last release.
    """

    host: str
    streams: int = 0
    bytes: int = 0
    media: int = 0
    failed: int = 0
    open: int = 0
    last_at: str | None = None

    def as_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Failure:
    """A session that failed. `error`: the name of the errno that its program was given; None: its mount died."""

    session: int
    at: str
    host: str
    program: str
    access: str
    medium: str
    error: str | None
    bytes: int

    def as_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Happened:
    """Events of one kind: how many, the media of the first ones, and when the last one was."""

    what: str
    count: int
    media: tuple[str, ...]
    at: str

    def as_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return asdict(self)


_FAILED = "FROM incident JOIN session ON session.id = incident.session WHERE incident.at >= ?"


class Periods(Repository):
    """What several tables tell of a period. `since`: a time of the tracking database."""

    def streams(self, since: str) -> list[HostStreams]:
        """Return the streams by host: those released since a time, and those that are open. By name."""
        rows = self._sql.execute(
            "SELECT host, sum(n), sum(b), sum(m), sum(f), sum(o), max(last) FROM ("
            " SELECT host, count(*) AS n, sum(bytes) AS b, count(DISTINCT medium) AS m, 0 AS f, 0 AS o,"
            " max(released_at) AS last FROM session WHERE tape_file IS NOT NULL AND released_at >= ?1 GROUP BY host"
            f" UNION ALL SELECT host, 0, 0, 0, count(*), 0, NULL {_FAILED}1 AND access = 'write' GROUP BY host"
            " UNION ALL SELECT host, 0, 0, 0, 0, count(*), NULL FROM session WHERE state = 'open' AND access = 'write'"
            " GROUP BY host) GROUP BY host ORDER BY host",
            since,
        )
        return [HostStreams(*row) for row in rows]

    def failures(self, since: str, limit: int) -> list[Failure]:
        """Return the sessions that failed since a time, the oldest first; the last `limit`."""
        rows = self._sql.execute(
            "SELECT session.id, incident.at, host, program, access, medium, error, bytes"
            f" {_FAILED} ORDER BY incident.number DESC LIMIT ?",
            *(since, limit),
        ).fetchall()
        return [Failure(*row) for row in rows][::-1]

    def count_failures(self, since: str) -> int:
        """Return how many sessions failed since a time."""
        return int(self._sql.one(f"SELECT count(*) {_FAILED}", since)[0])

    def happened(self, since: str, names: int) -> list[Happened]:
        """Return the events since a time by kind, in the order in which each came last; with the first `names` media.

        What programs do all the time, such as loading, is among them where it is an event.
        """
        found: dict[str, list[tuple[str | None, str]]] = {}
        for what, medium, at in self._sql.execute(
            "SELECT what, medium, at FROM event WHERE at >= ? ORDER BY id", since
        ):
            found.setdefault(what, []).append((medium, at))
        return [
            Happened(what, len(some), _first([medium for medium, _ in some if medium is not None], names), some[-1][1])
            for what, some in found.items()
        ]

    def new_hosts(self, since: str, hosts: Sequence[str]) -> list[str]:
        """Return which of some hosts have opened their first session of all since a time."""
        return [
            host
            for host in hosts
            if self._sql.first(
                "SELECT 1 FROM (SELECT opened_at FROM session WHERE host = ? ORDER BY id LIMIT 1) WHERE opened_at >= ?",
                *(host, since),
            )
        ]

    def filling(self, since: str) -> list[tuple[str, int]]:
        """Return the media that were written since a time, and how many bytes of streams each has got."""
        rows = self._sql.execute(
            "SELECT medium, sum(bytes) FROM session WHERE tape_file IS NOT NULL AND released_at >= ?"
            " GROUP BY medium ORDER BY medium",
            since,
        )
        return [(row[0], row[1]) for row in rows]

    def snapshots(self, since: str) -> tuple[int, int, str | None]:
        """Return how many snapshots there are, how many of them were taken since a time, and when the newest was."""
        row = self._sql.one(
            "SELECT count(*), coalesce(sum(taken_at >= ?), 0),"
            " (SELECT taken_at FROM snapshot ORDER BY id DESC LIMIT 1) FROM snapshot",
            since,
        )
        return int(row[0]), int(row[1]), row[2]


def _first(media: list[str], most: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(media))[:most]

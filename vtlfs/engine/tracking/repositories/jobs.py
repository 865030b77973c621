"""Jobs: background work that one mount or command does at a time, and its progress, which commands and the UI show."""

from dataclasses import asdict, dataclass

from vtlfs.engine.tracking.statements import Repository
from vtlfs.failpoints import reached


@dataclass(frozen=True, slots=True)
class JobRow:
    """How far a job is. `done` and `total` are bytes; `ended_at` is None while it is under way, or was interrupted."""

    name: str
    by: str
    begun_at: str
    ended_at: str | None
    done: int
    total: int
    result: str | None

    def as_json(self) -> dict[str, object]:
        """Return the job as a JSON object."""
        return asdict(self)


class Jobs(Repository):
    """The rows of the table `job`."""

    def get(self, name: str) -> JobRow | None:
        """Return how far a job is; None where it was never done."""
        row = self._sql.first("SELECT name, by, begun_at, ended_at, done, total, result FROM job WHERE name = ?", name)
        return None if row is None else JobRow(*row)

    def begin(self, name: str, by: str, total: int, at: str) -> None:
        """Record that a job begins, or goes on after an interruption."""
        self._sql.execute(
            "INSERT OR REPLACE INTO job (name, by, begun_at, done, total) VALUES (?, ?, ?, 0, ?)", name, by, at, total
        )
        reached("tracking.job_begun")

    def advance(self, name: str, done: int) -> None:
        """Record how many bytes are done."""
        self._sql.execute("UPDATE job SET done = ? WHERE name = ?", done, name)
        reached("tracking.job_advanced")

    def end(self, name: str, result: str, at: str) -> None:
        """Record that a job has ended, and what came of it."""
        self._sql.execute("UPDATE job SET ended_at = ?, result = ? WHERE name = ?", at, result, name)
        reached("tracking.job_ended")

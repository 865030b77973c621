"""Mounts: the processes that serve or have served the library."""

from vtlfs.engine.tracking.rows import text_of
from vtlfs.engine.tracking.statements import Repository
from vtlfs.failpoints import reached
from vtlfs.model import Mount

_MOUNT = "id, host, machine, pid, uid, mountpoint, options, state, mounted_at, unmounted_at"


class Mounts(Repository):
    """The rows of the table `mount`."""

    def add(self, mount: Mount) -> int:
        """Record a mount; its `id` is ignored. Return the new one."""
        cursor = self._sql.execute(
            "INSERT INTO mount (host, machine, pid, uid, mountpoint, options, state, mounted_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(mount.host, mount.machine, mount.pid, mount.uid),
            *(text_of(mount.mountpoint), text_of(mount.options), mount.state, mount.mounted_at),
        )
        reached("tracking.mount_added")
        return int(cursor.lastrowid or 0)

    def end(self, mount: int, state: str, at: str) -> None:
        """Record that a mount has ended, `unmounted` or `dead`. Does nothing for one that has ended before."""
        self._sql.execute(
            "UPDATE mount SET state = ?, unmounted_at = ? WHERE id = ? AND state = 'mounted'",
            *(state, at, mount),
        )
        reached("tracking.mount_ended")

    def live(self) -> list[Mount]:
        """Return the mounts that are not known to have ended, in the order of mounting."""
        rows = self._sql.execute(f"SELECT {_MOUNT} FROM mount WHERE state = 'mounted' ORDER BY id")
        return [Mount(*row) for row in rows]

    def all(self) -> list[Mount]:
        """Return all mounts that there ever were, in the order of mounting."""
        return [Mount(*row) for row in self._sql.execute(f"SELECT {_MOUNT} FROM mount ORDER BY id")]

"""The traffic of a mount by host, drive and access: sessions and how they ended, bytes and requests.

Counted since the mount began. Sessions count as they go, in the trio loop; metrics read there (docs/monitoring.md).
"""

from collections import Counter
from dataclasses import dataclass, field

from vtlfs.model import Access, State

MOST_HOSTS = 200  # that are told apart: anybody who may use ssh can bring new ones
OTHER_HOSTS = "(other)"  # all further ones together; no host can have this name


@dataclass(slots=True)
class Traffic:
    """What the sessions of one host, drive and access have done. All numbers only grow."""

    opened: int = 0
    bytes: int = 0  # written: by which the streams have grown; read: handed out
    requests: int = 0
    ended: Counter[State] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)  # sessions by the name of the errno that they ended with

    @property
    def open(self) -> int:
        """Sessions that are open now."""
        return self.opened - self.ended.total()

    def end(self, state: State, error: str | None) -> None:
        """Count a session that has ended."""
        self.ended[state] += 1
        if error is not None:
            self.errors[error] += 1


class TrafficTable:
    """The traffic of all hosts, drives and accesses that there were."""

    def __init__(self, most_hosts: int = MOST_HOSTS) -> None:
        self.rows: dict[tuple[str, int, Access], Traffic] = {}
        self._hosts: set[str] = set()
        self._most_hosts = most_hosts

    def open(self, host: str, drive: int, access: Access) -> Traffic:
        """Count a session that has begun, and return where it is to count the rest."""
        if host not in self._hosts:
            if len(self._hosts) < self._most_hosts:
                self._hosts.add(host)
            else:
                host = OTHER_HOSTS
        traffic = self.rows.setdefault((host, drive, access), Traffic())
        traffic.opened += 1
        return traffic

"""Facts about disks, as values."""

from vtlfs.engine.condition import DiskFacts
from vtlfs.engine.tracking.repositories.disks import Stored
from vtlfs.model import DiskRecord


def disk(number: int, fault: str | None = None) -> DiskFacts:
    """Return what is known of a disk that has something stored."""
    at = "2026-11-28T02:00:00.000000Z"
    record = DiskRecord(number, f"uuid-{number}", f"/disk{number}", at, fault=fault, fault_at=fault and at)
    return DiskFacts(record, record.path, stored=Stored(1, 1000))

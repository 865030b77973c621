"""A short run of the load test: a few dozen sessions for some seconds."""

from pathlib import Path

import pytest
from mounting import require_fuse

from soak.plan import Plan
from soak.run import run


@pytest.mark.timeout(240)
def test_many_sessions_at_once_with_readers_snapshots_and_verification_beside_them(tmp_path: Path) -> None:
    require_fuse()
    report = run(Plan(tmp_path, seconds=12, sessions=50, media=10, size=100 << 20, crowd=600))
    assert not report.problems, report.table()
    for name in ("streams", "idle files", "reads", "snapshots", "views", "commands", "streams compared"):
        assert report.counts[name], f"{name}: none\n{report.table()}"

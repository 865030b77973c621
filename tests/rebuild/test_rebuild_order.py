"""A rebuild orders by identifiers and places, and not by the times in the headers."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filling import fill, make

from vtlfs import model
from vtlfs.engine.rebuild.rebuild import rebuild
from vtlfs.engine.scrub.check import check
from vtlfs.model import utc_now

DAY = timedelta(days=1)


def test_rebuilt_order_is_taken_from_no_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = make(tmp_path / "lib")
    for days, barcode in ((4000, "T3"), (0, "T2"), (-4000, "T1"), (2000, "T2"), (-2000, "T3")):
        with monkeypatch.context() as clock:
            clock.setattr(model, "wall_clock", lambda days=days: datetime.now(UTC) + days * DAY)
            fill(library, (barcode, barcode.encode() * 1000))
    for file in library.path.glob("tracking.db*"):
        file.unlink()
    for disk in library.config.disks:
        for copy in disk.glob("tracking/*"):
            copy.unlink()
    rebuilt = rebuild(library.path, [], [], utc_now())
    with closing(rebuilt.library.tracking(read_only=True)) as tracking:
        assert [medium.barcode for medium in tracking.media.after(0, 9)] == ["T3", "T2", "T1"]
        on_t2 = [file.session for file in tracking.tape_files.of("T2")]
        assert on_t2 == sorted(on_t2)
        ordinals = [row[0] for row in tracking.sql.execute("SELECT ordinal FROM tape_file ORDER BY medium, number")]
        assert ordinals == [1, 2, 3, 4, 5]
    assert [str(finding) for finding in check(rebuilt.library).findings if finding.damage] == []


def test_old_database_is_kept_under_a_name_of_its_own_also_where_the_clock_stands_still(tmp_path: Path) -> None:
    """A rebuild names the old database after the time, and a clock may show the same time again."""
    library, at = make(tmp_path / "lib"), utc_now()
    fill(library, ("T1", b"data"))
    for text in ("one", "two", "three"):
        for file in library.path.glob("tracking.db-*"):
            file.unlink()
        (library.path / "tracking.db").write_text(text)
        rebuild(library.path, [], [], at)
    kept = {file.read_text() for file in library.path.glob("tracking.db.lost-*")}
    assert kept == {"one", "two", "three"}

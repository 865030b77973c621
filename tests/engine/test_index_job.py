"""The background job that indexes: what it leaves alone, and for how long."""

import io
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from scripted import make_library, rigged

from vtlfs.engine.jobs import background
from vtlfs.members.database import FILE_NAME, MemberIndex
from vtlfs.members.job import IndexJob
from vtlfs.model import utc_now


def an_archive(*names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return file.getvalue()


async def test_a_stream_that_can_not_be_read_is_left_alone_for_a_while(tmp_path: Path) -> None:
    """No transaction and no line in the log every ten seconds, for as long as the mount lasts."""
    library = make_library(tmp_path)
    async with rigged(library) as rig:
        session = await rig.write("T1", an_archive("a"))
        bad = rig.extents(session)[0]
        rig.disks[bad.disk].damage(bad)
        job, tracking = IndexJob(rig.engine), rig.engine.catalogue.tracking
        assert job.is_due(tracking, utc_now())
        await background.run_once(rig.engine, job)
        with closing(MemberIndex.open(library.path, library.config.uuid)) as index:
            assert index.pending() == [session.number]
        assert not job.is_due(tracking, utc_now())
        await rig.write("T2", an_archive("b"))
        assert job.is_due(tracking, utc_now())
        await background.run_once(rig.engine, job)
        assert not job.is_due(tracking, utc_now())


async def test_an_index_that_can_not_be_read_is_left_alone_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = make_library(tmp_path)
    MemberIndex.make(library.path, library.config.uuid).close()
    (library.path / f"{FILE_NAME}-wal").unlink(missing_ok=True)
    (library.path / f"{FILE_NAME}-wal").mkdir()
    async with rigged(library) as rig:
        await rig.write("T1", an_archive("a"))
        job = IndexJob(rig.engine)
        assert not job.is_due(rig.engine.catalogue.tracking, utc_now())
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]

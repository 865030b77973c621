"""Whether an errno is the fault of a disk or of a limit, and the consequences for the disk, the log and open()."""

import errno
import logging
import os
import resource
import sqlite3
import threading
from pathlib import Path

import outcome
import pytest

from vtlfs import blame, logs
from vtlfs.disks.executor import DiskExecutor
from vtlfs.disks.missing import MissingDisk
from vtlfs.disks.pool import DiskPool, PooledDisk
from vtlfs.engine.tracking.connection import errno_of, translated
from vtlfs.engine.writing import admission
from vtlfs.engine.writing.admission import Admission
from vtlfs.errors import DiskError, NoThread, TooManyStreams

OURS = [errno.EFBIG, errno.EMFILE, errno.EAGAIN, errno.ENFILE, errno.ENOMEM]


def disk_error(code: int) -> DiskError:
    return DiskError(0, "/disk0", OSError(code, os.strerror(code)))


@pytest.mark.parametrize("code", [*OURS, errno.EEXIST, errno.EINTR, errno.ECANCELED])
async def test_disk_is_not_blamed_for_a_limit(code: int) -> None:
    disk = PooledDisk(MissingDisk(0, "/disk0"), 2)
    assert not disk.note_fault(disk_error(code))
    disk._measured(outcome.Error(disk_error(code)))
    assert disk.usable
    assert disk.trouble is None


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC, errno.ENODEV, errno.EPERM])
async def test_disk_is_blamed_for_its_own_and_a_limit_in_a_trial_takes_nothing_back(code: int) -> None:
    disk = PooledDisk(MissingDisk(0, "/disk0"), 2)
    assert disk.note_fault(disk_error(code))
    disk._tried_out(outcome.Error(disk_error(errno.EMFILE)))
    assert disk.fault is not None
    assert disk.fault.errno == code


def record(code: int, text: str = "session %d: %s", level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("vtlfs", level, __file__, 1, text, (7, disk_error(code)), None)


def test_limit_is_told_once_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(logs, "monotonic", lambda: now[0])
    tells = logs._OneACause()
    first, again = record(errno.EFBIG), record(errno.EFBIG)
    assert tells.filter(first)
    assert "RLIMIT_FSIZE" in first.getMessage()
    assert "session 7" in first.getMessage()
    tells.filter(again)
    assert again.levelno == logging.DEBUG
    assert tells.filter(record(errno.EMFILE))  # another cause
    now[0] += logs.AGAIN_SECONDS + 1
    later = record(errno.EFBIG)
    assert tells.filter(later)
    assert later.levelno == logging.ERROR


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EEXIST])
def test_other_errors_are_all_told(code: int) -> None:
    tells = logs._OneACause()
    assert all(tells.filter(one) and one.levelno == logging.ERROR for one in (record(code), record(code)))


async def test_streams_are_admitted_as_descriptors_last(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = DiskPool([MissingDisk(number, f"/disk{number}") for number in range(2)], 1 << 20)
    monkeypatch.setattr(admission, "_open_now", lambda: 20)
    limit = [20 + admission.OTHERS + 2 * admission.A_DISK + 3 * 2 * admission.A_STREAM_A_DISK]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit[0], limit[0]))
    streams = Admission(pool)
    for _ in range(3):
        streams.admit()
    with pytest.raises(TooManyStreams) as refused:
        streams.admit()
    assert refused.value.errno == errno.EMFILE
    streams.leave()
    streams.admit()
    limit[0] = 10
    for _ in range(3):
        streams.leave()
    streams.admit()  # one is always possible


async def test_no_thread_is_an_error_of_the_job_and_no_disk_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    executor = DiskExecutor("test")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", cannot)
        with pytest.raises(NoThread) as told:
            await executor.run(lambda: 1)
    assert told.value.errno == errno.EAGAIN
    assert executor.pending == 0
    assert await executor.run(lambda: 1) == 1
    executor.close()


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


def test_file_size_limit_behind_an_error_of_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tracking.db"
    path.write_bytes(bytes(4096))
    (tmp_path / "tracking.db-wal").write_bytes(bytes(500_000))
    failed = sqlite_error(sqlite3.SQLITE_IOERR_WRITE)
    assert errno_of(failed, path) == errno.EIO
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 19, 1 << 19))
    assert str(translated(failed, path)) == "tracking database: File too large"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 30, 1 << 30))
    assert errno_of(failed, path) == errno.EIO  # the limit is far away: it is the device
    assert "a limit of this machine, no fault of a disk" in blame.explained(errno.ENOMEM)

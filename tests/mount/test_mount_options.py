"""Mount options, mounting in the background, and how a mount begins and ends."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from mounting import OnDisks, random_bytes, require_fuse, shell

NOBODY = 65534
AS_NOBODY = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups "


def test_mounting_returns_when_the_mount_is_usable(library: OnDisks) -> None:
    with library.mounted("host=alpha", background=True) as mounted:
        shell(f"echo data > {mounted.medium('T1')} && cat {mounted.medium('T1')}")
        assert mounted.file("T1", 0).read_bytes() == b"data\n"
    assert stat.S_IMODE(mounted.log.stat().st_mode) == 0o600
    with library.mounted(background=True) as mounted:
        assert mounted.medium("T1").read_bytes() == b"data\n"


def test_unmounting_returns_when_everything_is_written(library: OnDisks) -> None:
    data = random_bytes(1, 5_000_000)
    for number in range(3):
        with library.mounted("sync=none", background=True) as mounted:
            mounted.medium("T1").write_bytes(data)
        assert library.extract("T1", number) == data
    assert [one["state"] for one in library.listed()] == ["released"] * 3


def test_read_only_mount_reads_and_refuses_to_write(library: OnDisks) -> None:
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(b"data")
    with library.mounted("ro") as mounted:
        for flags in (os.O_WRONLY, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND):
            with pytest.raises(OSError, match="Read-only") as refused:
                os.open(mounted.medium("T1"), flags)
            assert refused.value.errno == errno.EROFS
        for script in ("rm {0}/media/T1", "mkdir {0}/x", "mv {0}/media/T1 {0}/media/T2", "touch {0}/media/T1"):
            assert "Read-only file system" in shell(script.format(mounted.path), status=1).stderr
        assert mounted.medium("T1").read_bytes() == b"data"
        assert mounted.file("T1", 0).read_bytes() == b"data"
    assert [one["access"] for one in library.listed()] == ["write", "read", "read"]


@pytest.mark.usefixtures("_no_descriptor_left")
@pytest.mark.parametrize(("disks", "parity", "gone"), [(2, 0, [0]), (3, 0, [2]), (3, 1, [0, 1]), (2, 0, [0, 1])])
def test_more_disks_missing_than_parity_are_mounted_read_only(
    tmp_path: Path, disks: int, parity: int, gone: list[int]
) -> None:
    """Extents on the other disks can be read, the rest is an error; only a read-only mount is possible."""
    require_fuse()
    library = OnDisks(tmp_path, disks, unit=64 << 10, parity=parity)
    data = random_bytes(1, 2_000_000)
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(data)
    for number in gone:
        shutil.rmtree(library.disks[number])
    assert f"disk {library.disks[gone[0]]}: " in library.vtlfs("mount", library.path, tmp_path / "mnt", status=1)
    with library.mounted("ro", expects=["disk "], allows=["extents that can't be read"], checked=False) as mounted:
        found, lost, errors = bytearray(), 0, set()
        with open(mounted.file("T1", 0), "rb", buffering=0) as file:
            for offset in range(0, len(data), 4096):
                try:
                    found += os.pread(file.fileno(), 4096, offset)
                except OSError as error:
                    errors.add(error.errno)
                    found += data[offset : offset + 4096]
                    lost += 1
        assert found == data
        assert errors == {errno.EIO}
        assert (lost * 4096 >= len(data)) == (len(gone) == disks)
        with pytest.raises(OSError, match="Read-only"):
            os.open(mounted.medium("T1"), os.O_WRONLY)
        shell(f"ls -lR {mounted.path} > /dev/null")
        size = os.statvfs(mounted.path)
        assert (size.f_blocks > 0) == (len(gone) < disks)
        assert (size.f_bavail > 0) == (disks - len(gone) > 1)


def test_without_sync_streams_come_back_as_well(library: OnDisks) -> None:
    streams = [random_bytes(seed, 2_000_000 + seed) for seed in range(4)]
    with library.mounted("sync=none") as mounted:
        for stream in streams:
            mounted.medium("T1").write_bytes(stream)
            assert mounted.medium("T1").read_bytes().endswith(stream)
        descriptor = os.open(mounted.medium("T1"), os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, b"synced")
        os.fsync(descriptor)
        assert library.session(os.fstat(descriptor).st_ino).bytes == 6
        os.close(descriptor)
        assert [mounted.file("T1", number).read_bytes() for number in range(5)] == [*streams, b"synced"]


def test_other_users_are_shut_out_unless_allowed(open_library: OnDisks) -> None:
    with open_library.mounted("mode=0666") as mounted:
        assert "Permission denied" in shell(f"{AS_NOBODY} ls {mounted.path}", status=2).stderr
        assert "Permission denied" in shell(f"{AS_NOBODY} cat {mounted.medium('T1')}", status=1).stderr


def test_mode_says_what_other_users_may(open_library: OnDisks) -> None:
    with open_library.mounted("allow_other,mode=0644") as mounted:
        mounted.medium("T1").write_bytes(b"data\n")
        assert shell(f"{AS_NOBODY} cat {mounted.medium('T1')}").stdout == "data\n"
        denied = shell(f"{AS_NOBODY} sh -c 'echo x > {mounted.medium('T1')}'", status=2)
        assert "Permission denied" in denied.stderr
    with open_library.mounted("allow_other,mode=0640") as mounted:
        assert "Permission denied" in shell(f"{AS_NOBODY} cat {mounted.medium('T1')}", status=1).stderr
    with open_library.mounted("allow_other,mode=0666") as mounted:
        shell(f"{AS_NOBODY} sh -c 'echo more > {mounted.medium('T1')}'")
        assert shell(f"{AS_NOBODY} cat {mounted.file('T1', 1)}").stdout == "more\n"
        refused = shell(f"{AS_NOBODY} rm -f {mounted.medium('T1')}", status=1).stderr
        assert "Operation not permitted" in refused or "Permission denied" in refused
    sessions = open_library.listed()
    assert [(one["uid"], one["program"]) for one in sessions if one["access"] == "write"][1:] == [(NOBODY, "sh")]
    assert open_library.extract("T1") == b"data\nmore\n"


def test_owner_of_everything_can_be_chosen(open_library: OnDisks) -> None:
    with open_library.mounted(f"allow_other,uid={NOBODY},gid=nogroup,mode=0600") as mounted:
        status = mounted.medium("T1").stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, NOBODY, 0o600)
        shell(f"{AS_NOBODY} sh -c 'echo mine > {mounted.medium('T1')}; cat {mounted.medium('T1')}'")
    (written, read) = open_library.listed()
    assert (written["uid"], read["uid"]) == (NOBODY, NOBODY)


def test_files_of_other_users_programs_are_identified(open_library: OnDisks) -> None:
    """If the mount may not read a process's /proc, the program is `?`; root may read all."""
    with open_library.mounted("allow_other,mode=0666") as mounted:
        shell(f"{AS_NOBODY} dd if=/dev/zero of={mounted.medium('T1')} bs=1k count=1")
    assert open_library.listed()[0]["program"] == "dd"


def test_source_and_type_are_those_of_fstab(library: OnDisks) -> None:
    with library.mounted("nosuid,nodev,noexec") as mounted:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        (line,) = [line for line in lines if line.split(" ")[4] == str(mounted.path)]
        fields, _, rest = line.partition(" - ")
        assert rest.split(" ")[:2] == ["fuse.vtlfs", str(library.path)]
        assert {"nosuid", "nodev", "noexec"} <= set(fields.split(" ")[5].split(","))


def test_second_mount_at_the_same_place_is_refused(library: OnDisks) -> None:
    with library.mounted() as mounted:
        assert "is mounted here already" in library.vtlfs("mount", library.path, mounted.path, status=1)
        mounted.medium("T1").write_bytes(b"still alive")
        assert mounted.medium("T1").read_bytes() == b"still alive"


def test_busy_mount_is_not_unmounted_and_says_who_holds_it(library: OnDisks) -> None:
    with library.mounted() as mounted:
        with open(mounted.medium("T1"), "wb", buffering=0) as held:
            held.write(b"one")
            said = library.vtlfs("umount", mounted.path, status=1)
            assert f"pid {os.getpid()}" in said
            held.write(b", two")
        assert mounted.medium("T1").read_bytes() == b"one, two"


def test_mount_point_with_strange_name(library: OnDisks, tmp_path: Path) -> None:
    at = tmp_path / "a b,c\\d\N{SNOWMAN}"
    with library.mounted(at=at) as mounted:
        mounted.medium("T1").write_bytes(b"data")
        assert mounted.medium("T1").read_bytes() == b"data"


def test_library_in_a_directory_with_a_strange_name(tmp_path: Path) -> None:
    require_fuse()
    root = tmp_path / "a b,c\\d\N{SNOWMAN}"
    root.mkdir()
    library = OnDisks(root)
    with library.mounted(at=tmp_path / "mnt") as mounted:
        mounted.medium("T1").write_bytes(b"data")
    assert library.extract("T1") == b"data"


def test_disks_beside_the_library_are_found_from_everywhere(library: OnDisks) -> None:
    path = library.path / "library.toml"
    text = path.read_text()
    for disk in library.disks:
        text = text.replace(f'"{disk}"', f'"../{disk.name}"')
    path.write_text(text)
    assert text.count('"../disk') == 2
    with library.mounted(background=True) as mounted:
        mounted.medium("T1").write_bytes(b"data")
    assert library.extracted("T1") == b"data"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("io", ["direct", "cached"])
def test_signal_ends_the_mount_and_keeps_what_was_written(library: OnDisks, number: signal.Signals, io: str) -> None:
    with library.mounted(f"io={io}") as mounted:
        mounted.medium("T1").write_bytes(b"before")
        descriptor = os.open(mounted.medium("T1"), os.O_WRONLY | os.O_TRUNC)
        session = os.fstat(descriptor).st_ino
        data = random_bytes(1, 3_000_001)
        os.write(descriptor, data)
        os.fsync(descriptor)
        os.write(descriptor, b"more")
        assert mounted.stop(number) == 0
        with suppress(OSError):  # nobody is there any more
            os.close(descriptor)
    assert library.extract("T1", 0) == b"before"
    assert library.extract("T1", 1) in (data, data + b"more")
    known = library.session(session)
    assert (known.state, known.error) == ("failed", "ESHUTDOWN")
    assert library.vtlfs("recover", library.path).startswith("nothing to recover")


def test_mount_fails_with_the_reason(library: OnDisks, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    assert "not empty" in library.vtlfs("mount", library.path, full, status=1)
    assert "No such file" in library.vtlfs("mount", library.path, tmp_path / "none", status=1)
    assert "not a directory" in library.vtlfs("mount", library.path, full / "file", status=1)
    assert "unknown mount option" in library.vtlfs("mount", library.path, full, "-o", "speed=high", status=2)
    library.disks[1].rename(tmp_path / "gone")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no such directory" in library.vtlfs("mount", library.path, empty, status=1)
    assert subprocess.run(["mountpoint", "-q", empty], check=False).returncode != 0


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("mount -t tmpfs none /dev", "start a container with `--device /dev/fuse"),
        ("touch {0}/fuse && chmod 0 {0}/fuse && mount --bind {0}/fuse /dev/fuse", "/dev/fuse: Permission denied"),
    ],
)
def test_mount_without_a_usable_fuse_device_says_so(
    library: OnDisks, tmp_path: Path, prepare: str, reason: str
) -> None:
    """The test uses a mount namespace, and drops root's right to override permissions."""
    (tmp_path / "empty").mkdir()
    script = prepare.format(tmp_path) + ' && exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
    words: list[str | Path] = [sys.executable, "-m", "vtlfs", "mount", library.path, tmp_path / "empty"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("vtlfs: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1

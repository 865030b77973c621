"""What each call of a program means for a medium with `on_truncate` append, or erase: the table of docs/programs.md."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mounting import OnDisks, random_bytes, require_fuse, shell
from truncated import RULES as TEXT
from truncated import Media, Truncated

APPEND, ERASE, RETAINED = "append", "erase", "retained"
RULES = (APPEND, ERASE)
OLD, NEW = b"old" * 1000, b"new" * 700

# Programs whose O_TRUNC means that their archive begins anew.
ARCHIVERS = {
    "tar cf": "tar cf {out} -C {tree} .",
    "tar czf": "tar czf {out} -C {tree} .",
    "bsdtar -cf": "bsdtar -cf {out} -C {tree} .",
    "bsdcpio -o": "cd {tree} && ls | bsdcpio -o -O {out}",
    "cpio -o": "cd {tree} && ls | cpio -o -O {out}",
    "pax -w": "cd {tree} && pax -w -f {out} .",
    "afio -o": "cd {tree} && ls | afio -o {out}",
    "dump": "dump -0 -f {out} {mounted}",
}
# Other programs with O_TRUNC, or whose output a shell has opened with it.
OTHERS = {
    ">": "echo more > {out}",
    "tar cf - >": "tar cf - -C {tree} . > {out}",
    "cat >": "cat {tree}/a > {out}",
    "dd": "dd if={tree}/a of={out}",
    "cp": "cp {tree}/a {out}",
    "tee": "tee {out} < {tree}/a > /dev/null",
    "Python's open(w)": 'python3 -c \'import sys; open(sys.argv[1], "w").write("more")\' {out}',
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Files to be archived in `tree`, and an ext4 file system at `mounted`."""
    root = tmp_path_factory.mktemp("tree")
    (root / "tree").mkdir()
    (root / "tree" / "a").write_bytes(random_bytes(1, 100_000))
    with open(root / "image", "wb") as file:
        file.truncate(4 << 20)
    subprocess.run(["mkfs.ext4", "-q", root / "image"], check=True)
    (root / "mounted").mkdir()
    done = subprocess.run(["mount", "-o", "loop", root / "image", root / "mounted"], check=False)
    yield root
    if not done.returncode:
        subprocess.run(["umount", root / "mounted"], check=True)


def run(command: str, tape: Truncated, tree: Path) -> None:
    """Run a command of one of the tables; skip dump's where no file system can be mounted."""
    if "{mounted}" in command and not os.path.ismount(tree / "mounted"):
        assert not os.environ.get("CI"), "no loop device can be had, and CI refuses to skip"
        pytest.skip("no loop device can be had here")
    shell(command.format(out=tape.path, tree=tree / "tree", mounted=tree / "mounted"))


# --- programs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ARCHIVERS.values(), ids=ARCHIVERS)
def test_archiver_begins_anew_where_the_rule_is_erase(truncating: Media, tree: Path, command: str) -> None:
    tape = truncating(ERASE)
    run(command, tape, tree)
    assert tape.volume() == 1  # nothing was there to be erased
    first = tape.streams()
    run(command, tape, tree)
    assert tape.volume() == 2
    assert len(tape.streams()) == len(first) == 1
    [event] = tape.events()
    assert (event.what, event.volume, event.uid, event.host) == ("erased", 1, os.getuid(), os.uname().nodename)
    assert event.program in command
    assert event.details["by"] == "O_TRUNC"


@pytest.mark.parametrize("command", ARCHIVERS.values(), ids=ARCHIVERS)
def test_archiver_appends_where_the_rule_is_append(truncating: Media, tree: Path, command: str) -> None:
    tape = truncating(APPEND)
    run(command, tape, tree)
    run(command, tape, tree)
    assert tape.volume() == 1
    assert len(tape.streams()) == 2
    assert tape.events() == []


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("command", OTHERS.values(), ids=OTHERS)
def test_truncation_that_a_shell_or_another_program_sends_appends(
    truncating: Media, tree: Path, command: str, rule: str
) -> None:
    tape = truncating(rule)
    tape.path.write_bytes(OLD)
    run(command, tape, tree)
    assert tape.volume() == 1
    assert len(tape.streams()) == 2
    assert tape.streams()[0] == OLD


def test_dar_overwrites_where_the_rule_is_erase_and_reads_back_the_newer(truncating: Media, tmp_path: Path) -> None:
    tape = replace(truncating(ERASE), barcode="E.1.dar")
    run_dar(tape, tmp_path, 1)
    run_dar(tape, tmp_path, 2)
    assert (tape.volume(), len(tape.streams())) == (2, 1)
    assert restored_by_dar(tape, tmp_path) == b"2"


def test_dar_is_refused_where_the_rule_is_append_and_what_is_there_stays_whole(
    truncating: Media, tmp_path: Path
) -> None:
    """It reads slices by their names only, so that it would find the older archive and never the one behind that."""
    tape = replace(truncating(APPEND), barcode="A.1.dar")
    run_dar(tape, tmp_path, 1)
    assert "Operation not permitted" in run_dar(tape, tmp_path, 2, status=5)
    assert (tape.volume(), len(tape.streams())) == (1, 1)
    assert restored_by_dar(tape, tmp_path) == b"1"
    assert "refusing dar to overwrite medium A.1.dar; to let programs begin it anew, set" in tape.mounted.said()


def test_dar_is_refused_while_another_session_writes_to_the_medium(truncating: Media, tmp_path: Path) -> None:
    tape = replace(truncating(APPEND), barcode="A2.1.dar")
    with open(tape.path, "wb", buffering=0) as other:
        assert "Device or resource busy" in run_dar(tape, tmp_path, 1, status=5)
        other.write(OLD)
    assert tape.streams() == [OLD]


def run_dar(tape: Truncated, folder: Path, number: int, *, status: int = 0) -> str:
    """Have dar write an archive of a file that contains a number to a medium; return its errors."""
    (folder / "name").write_bytes(b"%d" % number)
    basename = tape.path.parent / tape.barcode.removesuffix(".1.dar")
    return shell(f"dar -Q -w -c {basename} -R {folder} -g name", status=status).stderr


def restored_by_dar(tape: Truncated, folder: Path) -> bytes:
    """Return what the file contains in the archive that dar finds on the medium."""
    (folder / "new").mkdir()
    shell(f"dar -Q -x {tape.path.parent / tape.barcode.removesuffix('.1.dar')} -R {folder}/new")
    return (folder / "new" / "name").read_bytes()


# --- calls ----------------------------------------------------------------------------------------------------------


def error_of(call: Callable[..., object], *arguments: object) -> str | None:
    """Return the name of the errno that a call fails with; None if it succeeds."""
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


HANDLES = {
    "O_RDWR": os.O_RDWR,
    "O_RDWR|O_TRUNC": os.O_RDWR | os.O_TRUNC,
    "O_WRONLY": os.O_WRONLY,
    "O_WRONLY|O_TRUNC": os.O_WRONLY | os.O_TRUNC,
    "O_WRONLY|O_APPEND": os.O_WRONLY | os.O_APPEND,
}


@pytest.mark.parametrize("flags", HANDLES.values(), ids=HANDLES)
def test_ftruncate_to_nothing_erases_where_the_rule_is_erase(truncating: Media, flags: int) -> None:
    tape = truncating(ERASE)
    tape.path.write_bytes(OLD)
    with open(tape.path, "rb", buffering=0) as reader:
        assert reader.read(10) == OLD[:10]
        descriptor = os.open(tape.path, flags)
        os.ftruncate(descriptor, 0)
        assert os.fstat(descriptor).st_size == 0
        assert tape.path.stat().st_size == 0
        assert tape.streams() == []
        if flags & os.O_ACCMODE == os.O_RDWR:
            assert os.read(descriptor, 100) == b""
            assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        os.write(descriptor, NEW)
        assert os.fstat(descriptor).st_size == len(NEW)
        os.close(descriptor)
        assert OLD[:10] + reader.read() == OLD  # of the old volume, to its end
    assert tape.streams() == [NEW]
    assert (tape.volume(), [one.volume for one in tape.tape_files()]) == (2, [2])
    assert [one.bytes for one in tape.tape_files(volume=1)] == [len(OLD)]
    [event] = tape.events()
    assert (event.what, event.volume, event.details["by"]) == ("erased", 1, "ftruncate")


@pytest.mark.parametrize("flags", HANDLES.values(), ids=HANDLES)
def test_ftruncate_to_nothing_is_refused_where_the_rule_is_append(truncating: Media, flags: int) -> None:
    tape = truncating(APPEND)
    tape.path.write_bytes(OLD)
    descriptor = os.open(tape.path, flags)
    if not flags & os.O_TRUNC:
        assert error_of(os.ftruncate, descriptor, 0) == "EPERM"
        assert (
            f"to truncate medium {tape.barcode}; to let programs begin it anew, set on_truncate" in tape.mounted.said()
        )
    os.write(descriptor, NEW) if flags != os.O_RDWR else os.pwrite(descriptor, NEW, len(OLD))
    assert error_of(os.ftruncate, descriptor, 0) == "EPERM"
    os.close(descriptor)
    assert tape.streams() == [OLD, NEW]
    assert tape.volume() == 1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("flags", HANDLES.values(), ids=HANDLES)
def test_ftruncate_to_the_length_that_there_is_succeeds_and_no_other(truncating: Media, flags: int, rule: str) -> None:
    tape = truncating(rule)
    tape.path.write_bytes(OLD)
    descriptor = os.open(tape.path, flags)
    if flags == os.O_RDWR:
        os.lseek(descriptor, 0, os.SEEK_END)
    for _ in range(3):
        os.write(descriptor, NEW)
        os.fsync(descriptor)
        size = os.fstat(descriptor).st_size
        assert error_of(os.ftruncate, descriptor, size) is None
        assert os.fstat(descriptor).st_size == size
        if flags != os.O_WRONLY | os.O_TRUNC:  # else a hole at the end becomes zeros
            assert error_of(os.ftruncate, descriptor, size + 1) == "EPERM"
        assert error_of(os.ftruncate, descriptor, size - 1) == "EPERM"
        assert os.fstat(descriptor).st_size == size
    os.close(descriptor)
    assert tape.streams() == [OLD, NEW * 3]
    assert tape.volume() == 1


@pytest.mark.parametrize("rule", RULES)
def test_truncation_by_the_path_sets_the_length_that_there_is_and_no_other(truncating: Media, rule: str) -> None:
    tape = truncating(rule)
    tape.path.write_bytes(OLD)
    assert error_of(os.truncate, tape.path, len(OLD)) is None
    for size in (0, 1, len(OLD) - 1, len(OLD) + 1):
        assert error_of(os.truncate, tape.path, size) == "EPERM"
    assert error_of(os.open, tape.path, os.O_RDONLY | os.O_TRUNC) == "EPERM"
    assert error_of(os.unlink, tape.path) == "EPERM"
    assert error_of(os.open, tape.path, os.O_RDWR | os.O_CREAT | os.O_EXCL) == "EEXIST"
    assert tape.streams() == [OLD]
    assert tape.volume() == 1


def test_write_at_the_beginning_erases_where_the_rule_is_erase(truncating: Media) -> None:
    """So does Amanda with its diskflat: and Bacula over a label of its console; a header, then its length is set."""
    tape = truncating(ERASE)
    tape.path.write_bytes(OLD)
    descriptor = os.open(tape.path, os.O_RDWR | os.O_CREAT, 0o600)
    assert os.read(descriptor, 1 << 20) == OLD
    os.lseek(descriptor, 0, os.SEEK_SET)
    header = random_bytes(1, 32_768)
    assert os.write(descriptor, header) == 32_768
    assert error_of(os.ftruncate, descriptor, 32_768) is None
    os.write(descriptor, NEW)
    os.close(descriptor)
    assert tape.streams() == [header + NEW]
    assert [event.details["by"] for event in tape.events()] == ["a write at the medium's beginning"]
    assert tape.volume() == 2


def test_write_at_the_beginning_is_refused_where_the_rule_is_append(truncating: Media) -> None:
    tape = truncating(APPEND)
    tape.path.write_bytes(OLD)
    descriptor = os.open(tape.path, os.O_RDWR)
    for _ in range(2):
        assert error_of(os.pwrite, descriptor, NEW, 0) == "ESPIPE"
    assert os.pwrite(descriptor, OLD[:210], 0) == 210  # the same bytes
    os.close(descriptor)
    assert tape.streams() == [OLD]
    assert tape.mounted.said().count(f"to overwrite medium {tape.barcode}; to let programs begin it anew") == 1


def test_after_its_own_writes_a_session_erases_nothing_by_a_write_at_the_beginning(truncating: Media) -> None:
    tape = truncating(ERASE)
    tape.path.write_bytes(OLD)
    descriptor = os.open(tape.path, os.O_RDWR)
    os.pwrite(descriptor, NEW, len(OLD))
    assert error_of(os.pwrite, descriptor, NEW, 0) == "ESPIPE"
    os.close(descriptor)
    assert tape.streams() == [OLD, NEW]


def test_own_bytes_that_nobody_has_seen_go_with_the_volume_and_others_keep_it(truncating: Media) -> None:
    tape = truncating(ERASE)
    tape.path.write_bytes(OLD)
    descriptor = os.open(tape.path, os.O_RDWR)
    os.pwrite(descriptor, b"own", len(OLD))
    os.ftruncate(descriptor, 0)
    assert os.pread(descriptor, 100, 0) == b""
    os.write(descriptor, b"label")
    os.fsync(descriptor)  # from here on it is durable
    assert error_of(os.ftruncate, descriptor, 0) == "EPERM"
    assert os.fstat(descriptor).st_size == 5
    os.write(descriptor, NEW)
    os.close(descriptor)
    assert tape.streams() == [b"label" + NEW]
    assert tape.volume() == 2


def test_nobody_erases_what_another_session_writes_to(truncating: Media) -> None:
    tape = truncating(ERASE)
    tape.path.write_bytes(OLD)
    other = os.open(tape.path, os.O_WRONLY)
    number = os.fstat(other).st_ino
    descriptor = os.open(tape.path, os.O_RDWR)
    assert error_of(os.ftruncate, descriptor, 0) == "EBUSY"
    assert error_of(os.pwrite, descriptor, NEW, 0) == "EBUSY"
    assert "Device or resource busy" in shell(f"tar cf {tape.path} /etc/hostname", status=2).stderr
    assert f"medium {tape.barcode}: session {number} of " in tape.mounted.said()
    os.write(other, NEW)
    os.close(other)
    os.close(descriptor)
    assert tape.streams() == [OLD, NEW]
    assert tape.volume() == 1


def test_empty_medium_needs_no_new_volume(truncating: Media) -> None:
    tape = truncating(ERASE)
    descriptor = os.open(tape.path, os.O_RDWR)
    os.write(descriptor, OLD)
    os.ftruncate(descriptor, 0)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, NEW, 0)
    os.close(descriptor)
    assert tape.streams() == [NEW]
    assert (tape.volume(), tape.events()) == (1, [])


# --- what is refused, and what follows ------------------------------------------------------------------------------


def begin_anew_in_each_way(tape: Truncated) -> None:
    """Want each call that would erase to be refused."""
    with_tar = shell(f"tar cf {tape.path} /etc/hostname", status=2).stderr
    assert "Operation not permitted" in with_tar
    descriptor = os.open(tape.path, os.O_RDWR)
    assert error_of(os.ftruncate, descriptor, 0) == "EPERM"
    assert error_of(os.pwrite, descriptor, NEW, 0) == "EPERM"
    assert os.fstat(descriptor).st_size == len(OLD)
    assert os.read(descriptor, 1 << 20) == OLD
    os.write(descriptor, NEW)
    os.close(descriptor)
    assert tape.streams() == [OLD, NEW]
    assert tape.volume() == 1
    assert [event for event in tape.events() if event.what == "erased"] == []


def test_what_is_retained_is_not_erased(truncating: Media) -> None:
    tape = truncating(RETAINED)
    tape.path.write_bytes(OLD)
    begin_anew_in_each_way(tape)
    assert f"medium {tape.barcode} can't be erased: it is retained until " in tape.mounted.said()


def test_what_is_held_is_not_erased(truncating: Media) -> None:
    tape = truncating(ERASE)
    tape.path.write_bytes(OLD)
    tape.library.vtlfs("media", "hold", tape.library.path, tape.barcode, "--name", "audit", "--reason", "why")
    begin_anew_in_each_way(tape)
    assert f"medium {tape.barcode} can't be erased: it is under legal hold: audit (why)" in tape.mounted.said()


def test_what_is_erased_stays_in_snapshots(truncating: Media) -> None:
    tape = truncating(ERASE)
    tape.path.write_bytes(OLD)
    name = tape.barcode.lower()
    tape.library.vtlfs("snapshot", "take", tape.library.path, "--name", name)
    numbers = [path.name for path in (tape.mounted.path / "snapshots").iterdir()]
    newest = tape.mounted.path / "snapshots" / max(numbers, key=int) / "media" / tape.barcode
    descriptor = os.open(tape.path, os.O_WRONLY)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, NEW)
    os.close(descriptor)
    assert newest.read_bytes() == OLD
    assert tape.streams() == [NEW]
    assert tape.library.extract(tape.barcode) == NEW


def test_capacity_is_that_of_the_new_volume_and_headers_name_it(tmp_path: Path) -> None:
    """What is reserved goes with the volume; a rebuild finds the streams in their volumes."""
    require_fuse()
    library = OnDisks(tmp_path, media="E1", unit=65536)
    library.add("E2", capacity=300_000)
    with open(library.path / "library.toml", "a") as file:
        file.write(TEXT)
    with library.mounted() as mounted:
        for number in range(3):
            data = random_bytes(number, 300_000)
            descriptor = os.open(mounted.medium("E2"), os.O_RDWR)
            if number:
                os.ftruncate(descriptor, 0)
            os.write(descriptor, data)
            assert error_of(os.pwrite, descriptor, b"x", 300_000) == "ENOSPC"
            os.close(descriptor)
            assert mounted.medium("E2").read_bytes() == data
    (library.path / "tracking.db").rename(tmp_path / "tracking.db")
    library.vtlfs("rebuild", library.path, *(word for disk in library.disks for word in ("--disk", disk)))
    [left] = library.tape_files("E2")
    assert (left.number, left.volume, left.bytes) == (0, 3, 300_000)
    assert library.extract("E2") == random_bytes(2, 300_000)


def test_after_a_refused_write_at_the_end_a_write_at_the_beginning_erases_nothing(tmp_path: Path) -> None:
    """A handle that only writes erases by ftruncate() alone; its stream may still begin."""
    require_fuse()
    library = OnDisks(tmp_path, media="E1", unit=65536)
    library.add("E2", capacity=100_000)
    with open(library.path / "library.toml", "a") as file:
        file.write(TEXT)
    with library.mounted() as mounted:
        mounted.medium("E2").write_bytes(OLD)
        descriptor = os.open(mounted.medium("E2"), os.O_WRONLY)
        os.lseek(descriptor, 0, os.SEEK_END)
        assert error_of(os.write, descriptor, bytes(100_000)) == "ENOSPC"
        assert os.pwrite(descriptor, NEW, 0) == len(NEW)
        os.close(descriptor)
        assert mounted.medium("E2").read_bytes() == OLD + NEW

"""Operations on an open file: seeking, reading its own bytes, copies of a descriptor, reopening, fsync."""

import errno
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from mounting import OnDisks, Tape, random_bytes, require_fuse, shell, wait_until

WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def error_of(function: Callable[..., object], *arguments: object) -> int | None:
    """Return the errno with which the call fails."""
    try:
        function(*arguments)
    except OSError as error:
        return error.errno
    return None


# --- write-only handles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [WRITE, os.O_WRONLY])
def test_write_only_handle_may_ask_where_it_is_and_go_nowhere_else(tape: Tape, flags: int) -> None:
    tape.path.write_bytes(b"before")
    descriptor = os.open(tape.path, flags)
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    os.write(descriptor, b"one")
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 3
    assert os.lseek(descriptor, 3, os.SEEK_SET) == 3
    if flags == WRITE:
        assert os.lseek(descriptor, 0, os.SEEK_END) == 3
    os.fsync(descriptor)  # nobody may replace the bytes from here on
    if tape.io != "cached" or flags != WRITE:  # of a stream that is gathered, close() tells
        for offset in (0, 1, 2):
            assert error_of(os.pwrite, descriptor, b"x", offset) == errno.ESPIPE
            copy = os.dup(descriptor)
            os.lseek(copy, offset, os.SEEK_SET)
            assert error_of(os.write, descriptor, b"x") == errno.ESPIPE
            os.close(copy)
            os.lseek(descriptor, 3, os.SEEK_SET)
    assert error_of(os.read, descriptor, 1) == errno.EBADF
    assert error_of(os.ftruncate, descriptor, 0) == errno.EPERM
    assert os.pwrite(descriptor, b"t", 3) == 1
    os.lseek(descriptor, 4, os.SEEK_SET)
    os.write(descriptor, b"wo")
    os.close(descriptor)
    assert tape.streams() == [b"before", b"onetwo"]


def test_stream_may_begin_at_the_end_of_the_medium(tape: Tape) -> None:
    """So do vsftpd and `curl --append`. A program that has begun at 0 can't go to the end, nor the other way round."""
    tape.path.write_bytes(b"before")
    descriptor = os.open(tape.path, os.O_WRONLY)
    assert os.lseek(descriptor, 0, os.SEEK_END) == 6
    os.write(descriptor, b"one")
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == os.lseek(descriptor, 0, os.SEEK_END) == 9
    assert os.fstat(descriptor).st_size == 9
    for offset in (0, 3, 6, 8):
        assert error_of(os.pwrite, descriptor, b"x" if offset < 6 else b"!", offset) == (
            errno.ESPIPE if offset < 6 else None
        )
        os.pwrite(descriptor, b"one"[max(0, offset - 6) :], 9 - len(b"one"[max(0, offset - 6) :]))
    assert error_of(os.pwrite, descriptor, bytes(6), 0) == errno.ESPIPE  # zeros are not what is there, either
    os.write(descriptor, b"two")
    os.close(descriptor)
    assert tape.streams() == [b"before", b"onetwo"]
    again = os.open(tape.path, os.O_WRONLY)
    os.write(again, b"three")
    os.lseek(again, 0, os.SEEK_END)
    assert error_of(os.write, again, b"x") == errno.ESPIPE
    os.close(again)
    for offset in (1, 5, 100):
        elsewhere = os.open(tape.path, os.O_WRONLY)
        assert error_of(os.pwrite, elsewhere, b"x", offset) == errno.ESPIPE
        os.close(elsewhere)
    assert tape.streams() == [b"before", b"onetwo", b"three"]


def test_handle_that_appends_appends_wherever_it_was(tape: Tape) -> None:
    """The kernel sends such writes, also those of pwrite(), to the end of the file."""
    tape.path.write_bytes(b"before")
    descriptor = os.open(tape.path, os.O_WRONLY | os.O_APPEND)
    assert os.lseek(descriptor, 0, os.SEEK_END) == 6
    os.write(descriptor, b"one")
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 9
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, b"two")
    assert os.pwrite(descriptor, b"three", 1) == 5
    os.close(descriptor)
    assert tape.streams() == [b"before", b"onetwothree"]


def test_what_a_shell_opens_is_like_a_pipe(tape: Tape) -> None:
    """`pg_dump -Fc > TAPE` and `zip - . > TAPE` would come back to write a header if they could seek."""
    script = f"python3 -c 'import os; os.lseek(1, 0, os.SEEK_CUR)' > {tape.path}"
    assert "Illegal seek" in shell(script, status=1).stderr
    script = f'python3 -c \'import os; os.write(1, b"a"); os.pwrite(1, b"b", 1)\' > {tape.path}'
    assert "Illegal seek" in shell(script, status=1).stderr
    assert tape.streams() == [b"a"]


# --- holes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", ["auto", "direct"], indirect=True)
def test_seek_forward_becomes_zeros(tape: Tape) -> None:
    tape.path.write_bytes(b"before")
    one, two = random_bytes(1, 70_000), random_bytes(2, 5000)
    descriptor = os.open(tape.path, WRITE)
    os.lseek(descriptor, 1_234_567, os.SEEK_SET)
    os.write(descriptor, one)
    os.pwrite(descriptor, two, 5_000_001)
    assert os.fstat(descriptor).st_size == 5_005_001
    assert error_of(os.pwrite, descriptor, b"x", 4_000_000) == errno.ESPIPE  # it was written, and is zeros
    assert error_of(os.pwrite, descriptor, b"x", 1 << 60) == errno.ESPIPE
    assert error_of(os.ftruncate, descriptor, 1 << 60) == errno.ESPIPE
    os.ftruncate(descriptor, 6_000_000)
    assert os.fstat(descriptor).st_size == 6_000_000
    os.close(descriptor)
    whole = bytes(1_234_567) + one
    whole += bytes(5_000_001 - len(whole)) + two
    assert tape.streams() == [b"before", whole + bytes(6_000_000 - len(whole))]


@pytest.mark.parametrize("shared", ["auto", "direct"], indirect=True)
def test_stream_that_begins_at_the_end_of_the_medium_has_holes_too(tape: Tape) -> None:
    tape.path.write_bytes(b"before")
    descriptor = os.open(tape.path, os.O_WRONLY)
    os.pwrite(descriptor, b"one", 6)
    os.pwrite(descriptor, b"two", 100_000)
    os.close(descriptor)
    assert tape.streams() == [b"before", b"one" + bytes(99_991) + b"two"]


@pytest.mark.parametrize("shared", ["direct"], indirect=True)
def test_end_of_what_another_handle_of_the_inode_has_written_is_no_hole(tape: Tape) -> None:
    first = os.open(tape.path, WRITE)
    second = os.open(f"/dev/fd/{first}", os.O_WRONLY)
    os.write(first, b"first")
    assert os.lseek(second, 0, os.SEEK_END) == 5
    assert error_of(os.write, second, b"x") == errno.ESPIPE
    os.lseek(second, 0, os.SEEK_SET)
    os.write(second, b"second")
    assert error_of(os.pwrite, first, b"x", 6) == errno.ESPIPE
    os.pwrite(first, b"!", 5)
    os.close(second)
    os.close(first)
    assert tape.streams() == [b"second", b"first!"]


@pytest.mark.parametrize("shared", ["auto", "direct"], indirect=True)
def test_hole_that_does_not_fit_is_refused_as_a_whole(tape: Tape) -> None:
    tape.library.add(f"C{tape.barcode}", capacity=100_000)
    descriptor = os.open(tape.mounted.medium(f"C{tape.barcode}"), WRITE)
    os.write(descriptor, b"one")
    assert error_of(os.pwrite, descriptor, b"two", 99_998) == errno.ENOSPC
    assert error_of(os.ftruncate, descriptor, 100_001) == errno.ENOSPC
    os.pwrite(descriptor, b"two", 99_997)
    os.close(descriptor)
    assert tape.mounted.medium(f"C{tape.barcode}").read_bytes() == b"one" + bytes(99_994) + b"two"


def test_hole_leaves_no_zeros_where_others_have_taken_the_room_or_a_pool_does_not_span(tmp_path: Path) -> None:
    """The medium's room at the open() says nothing of its room at the seek."""
    require_fuse()
    library = OnDisks(tmp_path)
    library.add("C1", "P1", capacity=10_000_000)
    with open(library.path / "library.toml", "a") as file:
        file.write('[pools.p]\nmedia = "P*"\n')
    with library.mounted("io=direct") as mounted:
        one, other = (os.open(mounted.medium("C1"), WRITE) for _ in range(2))
        os.write(one, b"one")
        os.write(other, bytes(8_000_000))
        assert error_of(os.pwrite, one, b"two", 5_000_000) == errno.ENOSPC
        os.close(one)
        os.close(other)
        wait_until(lambda: len(library.tape_files("C1")) == 2, "the releases")
        assert sorted(file.bytes for file in library.tape_files("C1")) == [3, 8_000_000]
        pooled = os.open(mounted.path / "pools" / "p", WRITE)
        os.write(pooled, b"one")
        assert error_of(os.pwrite, pooled, b"two", 50_000_000) == errno.ENOSPC
        os.close(pooled)
        wait_until(lambda: len(library.tape_files("P1")) == 1, "the release")
        assert mounted.medium("P1").read_bytes() == b"one"


@pytest.mark.parametrize("synced", [True, False])
def test_of_a_gathered_stream_fsync_and_close_tell_of_a_write_elsewhere(tmp_path: Path, synced: bool) -> None:
    """The page cache takes each write; and it does not tell a seek forward from a page that has not come yet."""
    require_fuse()
    library = OnDisks(tmp_path)
    with library.mounted("io=cached", expects=["a tape is written at its end only", "it has a gap"]) as mounted:
        for barcode, offset in (("T1", 0), ("T2", 1_000_000)):
            descriptor = os.open(mounted.medium(barcode), WRITE)
            os.write(descriptor, b"one")
            os.fsync(descriptor)
            os.pwrite(descriptor, b"two", offset)
            if synced:
                assert error_of(os.fsync, descriptor) == errno.ESPIPE
            assert error_of(os.close, descriptor) == errno.ESPIPE
            wait_until(lambda barcode=barcode: library.tape_files(barcode), "the release")  # type: ignore[misc]
            assert mounted.medium(barcode).read_bytes() == b"one"


def test_of_a_gathered_stream_a_file_server_is_told_of_a_hole_too(tmp_path: Path) -> None:
    require_fuse()
    library = OnDisks(tmp_path)
    server = tmp_path / "sftp-server"  # by whose name the mount knows file servers
    shutil.copy(os.path.realpath(sys.executable), server)
    script = "import os; os.write(1, b'one'); os.pwrite(1, b'two', 1_000_000); os.close(1)"
    with library.mounted("io=cached", expects=["it has a gap"]) as mounted:
        opens = f"import os, sys; os.dup2(os.open(sys.argv[1], {WRITE}), 1); {script}"
        done = subprocess.run([server, "-c", opens, mounted.medium("T1")], capture_output=True, text=True, check=False)
        assert "Illegal seek" in done.stderr
        wait_until(lambda: library.tape_files("T1"), "the release")


# --- attributes -----------------------------------------------------------------------------------------------------


def test_attributes_can_be_set_to_what_they_are_and_to_nothing_else(tape: Tape) -> None:
    tape.path.write_bytes(b"before")
    descriptor = os.open(tape.path, WRITE)
    for where in (tape.path, descriptor):
        now = os.stat(tape.path)
        os.chmod(where, now.st_mode & 0o7777)
        os.chown(where, now.st_uid, now.st_gid)
        os.chown(where, -1, now.st_gid)
        os.utime(where, ns=(now.st_atime_ns, now.st_mtime_ns))
        assert error_of(os.chmod, where, 0o777) == errno.EPERM
        assert error_of(os.chown, where, 1, now.st_gid) == errno.EPERM
        assert error_of(os.chown, where, -1, 1) == errno.EPERM
        for times in ((now.st_atime_ns, now.st_mtime_ns + 1), (1, now.st_mtime_ns), (1, 1)):
            assert error_of(lambda where, times: os.utime(where, ns=times), where, times) == errno.EPERM
        assert error_of(os.utime, where) == errno.EPERM
    os.write(descriptor, b"own")
    os.close(descriptor)
    assert tape.streams() == [b"before", b"own"]


# --- the number of an open file -------------------------------------------------------------------------------------


def test_number_of_the_open_file_is_the_session(tape: Tape) -> None:
    tape.path.write_bytes(b"before")
    descriptor = os.open(tape.path, WRITE)
    number = os.fstat(descriptor).st_ino
    document = tape.mounted.session(number)
    assert document["id"] == number
    assert document["state"] == "open"
    assert document["pid"] == os.getpid()
    assert document["medium"] == tape.barcode
    assert str(number) in os.listdir(tape.mounted.path / "sessions")
    os.write(descriptor, b"x" * 5000)
    assert os.fstat(descriptor).st_ino == number
    os.close(descriptor)
    assert tape.path.stat().st_ino != number
    assert tape.mounted.session(number)["state"] == "released"
    assert str(number) not in os.listdir(tape.mounted.path / "sessions")


def test_shell_gets_its_session_from_the_descriptor(tape: Tape) -> None:
    script = f"exec 3>{tape.path}; id=$(stat -Lc %i /dev/fd/3); echo data >&3; cat {tape.mounted.path}/sessions/$id"
    said = shell(script).stdout
    assert f'"medium": "{tape.barcode}"' in said
    assert '"program": "bash"' in said
    assert '"state": "open"' in said
    assert tape.streams() == [b"data\n"]


def test_empty_session_leaves_no_tape_file(tape: Tape) -> None:
    for flags in (WRITE, os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR):
        descriptor = os.open(tape.path, flags)
        number = os.fstat(descriptor).st_ino
        os.write(descriptor, b"")
        os.fsync(descriptor)
        os.close(descriptor)
        os.stat(tape.path)
        known = tape.library.session(number)
        assert (known.state, known.error, known.bytes, known.tape_file, known.disks) == ("released", None, 0, None, ())
    shell(f": > {tape.path}; : >> {tape.path}; dd if=/dev/null of={tape.path}")
    assert tape.streams() == []


# --- read-write handles ---------------------------------------------------------------------------------------------


def test_read_write_handle_reads_anywhere_and_writes_at_the_end(tape: Tape) -> None:
    before, own = random_bytes(1, 1_500_000), random_bytes(2, 2_500_000)
    tape.path.write_bytes(before)
    descriptor = os.open(tape.path, os.O_RDWR)
    os.lseek(descriptor, 0, os.SEEK_END)
    for start in range(0, len(own), 99_991):
        os.write(descriptor, own[start : start + 99_991])
        whole = before + own[: start + 99_991]
        for offset in (0, len(before) - 7, len(before), start // 2, len(whole) - 5000):
            assert os.pread(descriptor, 20_000, offset) == whole[offset : offset + 20_000]
    assert os.pread(descriptor, 10, len(before + own)) == b""
    assert os.fstat(descriptor).st_size == len(before + own)
    os.fsync(descriptor)
    assert os.pread(descriptor, 5 << 20, 0) == before + own
    os.close(descriptor)
    assert tape.streams() == [before, own]


def test_rewriting_the_same_bytes_is_accepted_and_does_nothing(tape: Tape) -> None:
    before, own = random_bytes(1, 70_000), random_bytes(2, 1_200_000)
    tape.path.write_bytes(before)
    whole = before + own
    descriptor = os.open(tape.path, os.O_RDWR)
    assert os.pwrite(descriptor, own, len(before)) == len(own)
    for offset, size in ((0, 70_000), (0, 210), (69_000, 2000), (1_000_000, 200_000), (len(whole) - 1, 1)):
        assert os.pwrite(descriptor, whole[offset : offset + size], offset) == size
    more = random_bytes(3, 50_000)
    assert os.pwrite(descriptor, whole[-1000:] + more, len(whole) - 1000) == 51_000
    os.close(descriptor)
    assert tape.streams() == [before, own + more]


def test_any_other_write_is_refused_and_changes_nothing(tape: Tape) -> None:
    before, own = random_bytes(1, 70_000), random_bytes(2, 1_200_000)
    tape.path.write_bytes(before)
    whole = before + own
    descriptor = os.open(tape.path, os.O_RDWR)
    os.pwrite(descriptor, own, len(before))
    number = os.fstat(descriptor).st_ino
    kept = len(before) + (1 << 20)  # whole stripe units can't be replaced
    for offset in (0, 1, 69_999, 70_000, 1_000_000, kept - 1, len(whole) + 1, len(whole) + (5 << 20)):
        other = bytes([255 - whole[offset]]) if offset < len(whole) else b"x"
        assert error_of(os.pwrite, descriptor, other, offset) == errno.ESPIPE
    assert error_of(os.ftruncate, descriptor, 0) == errno.EPERM
    assert os.pread(descriptor, len(whole) + 10, 0) == whole
    os.pwrite(descriptor, b"end", len(whole))
    os.close(descriptor)
    assert tape.streams() == [before, own + b"end"]
    assert tape.library.session(number).state == "released"


def test_read_write_handle_with_truncation_begins_empty(tape: Tape) -> None:
    tape.path.write_bytes(b"before")
    descriptor = os.open(tape.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    assert os.read(descriptor, 100) == b""
    os.write(descriptor, b"own")
    assert os.pread(descriptor, 100, 0) == b"own"
    assert os.lseek(descriptor, 0, os.SEEK_END) == 3
    os.write(descriptor, b" and more")
    os.close(descriptor)
    assert tape.streams() == [b"before", b"own and more"]


def test_read_write_handle_does_not_see_what_others_release(tape: Tape) -> None:
    tape.path.write_bytes(b"before")
    descriptor = os.open(tape.path, os.O_RDWR)
    tape.path.write_bytes(b"other")
    assert os.pread(descriptor, 100, 0) == b"before"
    os.lseek(descriptor, 0, os.SEEK_END)
    os.write(descriptor, b"own")
    assert os.pread(descriptor, 100, 0) == b"beforeown"
    os.close(descriptor)
    assert tape.streams() == [b"before", b"other", b"own"]


# --- one open file, several descriptors -----------------------------------------------------------------------------


def test_copies_of_a_descriptor_are_one_session(tape: Tape) -> None:
    descriptor = os.open(tape.path, WRITE)
    data = random_bytes(1, 3_000_000)
    for start in range(0, len(data), 250_000):
        copy = os.dup(descriptor)
        os.write(copy, data[start : start + 250_000])
        os.close(copy)
    os.close(descriptor)
    assert tape.streams() == [data]


def test_shell_passes_its_descriptor_to_many_programs(tape: Tape) -> None:
    shell(f"exec 3>{tape.path}; echo a >&3; (echo b >&3); seq 3 | cat >&3; exec 4>&3 3>&-; echo c >&4; exec 4>&-")
    assert tape.streams() == [b"a\nb\n1\n2\n3\nc\n"]


def test_child_that_outlives_its_parent_keeps_the_session_open(tape: Tape) -> None:
    reading, writing = os.pipe()
    script = f"exec 3>{tape.path}; echo a >&3; (read -r line; echo $line >&3) & "
    subprocess.run(["bash", "-c", script.replace("(read", f"(exec <&{reading}; read")], pass_fds=[reading], check=True)
    os.close(reading)
    assert tape.streams() == []
    os.write(writing, b"b\n")
    os.close(writing)
    shell(f"until [ -s {tape.path} ]; do sleep 0.02; done")
    assert tape.streams() == [b"a\nb\n"]


def test_what_fsync_has_confirmed_is_recorded_while_the_stream_goes_on(tape: Tape) -> None:
    data = random_bytes(1, 3 << 20)
    descriptor = os.open(tape.path, WRITE)
    number = os.fstat(descriptor).st_ino
    done = 0
    for size in (1, 5000, 4096, 1 << 20, 777, 1_000_000):
        done += os.write(descriptor, data[done : done + size])
        (os.fsync if done % 2 else os.fdatasync)(descriptor)
        assert tape.library.session(number).bytes == done
        assert tape.mounted.session(number)["received"] == done
    done += os.write(descriptor, data[done:])
    os.close(descriptor)
    assert tape.streams() == [data]


# --- opening the open file once more --------------------------------------------------------------------------------


def test_program_that_reopens_its_output_gets_a_further_session(tape: Tape) -> None:
    script = f"echo data | tee /dev/stdout > {tape.path}"
    if tape.io != "direct":
        assert "busy" in shell(script, status=1).stderr.lower()
        assert tape.streams() == [b"data\n"]
    else:
        shell(script)
        assert tape.streams() == [b"data\n", b"data\n"]


def test_shell_that_reopens_its_output_gets_a_further_session(tape: Tape) -> None:
    script = f"(echo a; echo b >/dev/stdout; echo c) > {tape.path}"
    if tape.io != "direct":
        assert "busy" in shell(script).stderr.lower()
        assert tape.streams() == [b"a\nc\n"]
    else:
        shell(script)
        assert sorted(tape.streams()) == [b"a\nc\n", b"b\n"]  # their releases may overlap


@pytest.mark.parametrize(
    "flags", [os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_RDWR, os.O_RDWR | os.O_TRUNC]
)
def test_opening_the_open_file_again_never_harms_its_stream(tape: Tape, flags: int) -> None:
    """An open through /proc makes no look-up, so both handles have one inode."""
    descriptor = os.open(tape.path, WRITE)
    data = random_bytes(1, 1_000_000)
    os.write(descriptor, data[:123_456])
    if tape.io == "cached":
        assert error_of(os.open, f"/proc/self/fd/{descriptor}", flags) == errno.EBUSY
    else:
        again = os.open(f"/proc/self/fd/{descriptor}", flags)
        os.write(again, b"again")
        os.write(descriptor, data[123_456:200_000])
        os.write(again, b" and again")
        os.close(again)
    os.write(descriptor, data[123_456 if tape.io == "cached" else 200_000 :])
    os.close(descriptor)
    assert tape.streams() == ([data] if tape.io == "cached" else [b"again and again", data])


def test_what_was_written_can_be_read_by_way_of_the_same_inode(tape: Tape) -> None:
    """The kernel takes the length and the pages of the stream for those of the file."""
    tape.path.write_bytes(b"A" * 1000)
    descriptor = os.open(tape.path, os.O_PATH)
    again = f"/proc/self/fd/{descriptor}"
    writer = os.open(again, os.O_WRONLY | os.O_TRUNC)
    os.write(writer, b"B" * 10)
    os.close(writer)
    assert Path(again).read_bytes() == b"A" * 1000 + b"B" * 10
    os.close(descriptor)
    assert tape.streams() == [b"A" * 1000, b"B" * 10]


def test_opening_what_was_looked_up_before_sees_what_was_closed_since(tape: Tape) -> None:
    tape.path.write_bytes(b"A" * 5000)
    descriptor = os.open(tape.path, os.O_PATH)
    tape.path.write_bytes(b"B" * 5000)
    assert Path(f"/proc/self/fd/{descriptor}").read_bytes() == b"A" * 5000 + b"B" * 5000
    os.close(descriptor)


def test_truncating_by_a_descriptor_path_never_harms_the_stream(tape: Tape) -> None:
    """Such a truncate() names the inode, but no handle. The kernel would zero what it then believes to be a hole."""
    tape.path.write_bytes(b"before")
    data = random_bytes(1, 10_000)
    for flags in (WRITE, os.O_WRONLY | os.O_APPEND):
        descriptor = os.open(tape.path, flags)
        os.write(descriptor, data[:5000])
        for size in (0, 6, 100, 20_000):
            with suppress(PermissionError):
                os.truncate(f"/proc/self/fd/{descriptor}", size)
        os.write(descriptor, data[5000:])
        os.close(descriptor)
    assert tape.streams() == [b"before", data, data]


@pytest.mark.parametrize("flags", [os.O_WRONLY | os.O_TRUNC, os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR])
def test_opening_for_writing_never_harms_a_reader_of_the_same_inode(tape: Tape, flags: int) -> None:
    data = random_bytes(1, 300_000)
    tape.path.write_bytes(data)
    with open(tape.path, "rb", buffering=0) as reader:
        assert reader.read(1000) == data[:1000]
        if tape.io != "direct":
            assert error_of(os.open, f"/proc/self/fd/{reader.fileno()}", flags) == errno.EBUSY
        else:
            writer = os.open(f"/proc/self/fd/{reader.fileno()}", flags)
            os.lseek(writer, 0, os.SEEK_END) if flags == os.O_RDWR else None
            os.write(writer, b"more")
            os.close(writer)
        assert b"".join(iter(lambda: reader.read(1 << 20), b"")) == data[1000:]


def test_opening_for_reading_never_harms_a_stream_of_the_same_inode(tape: Tape) -> None:
    """The reader gets the medium, as it was when the writer looked it up, unless the kernel gathers the stream.

    Pages that a reader maps into its memory would become pages of the stream.
    """
    tape.path.write_bytes(b"before")
    descriptor = os.open(tape.path, WRITE)
    os.write(descriptor, b"own")
    path = f"/proc/self/fd/{descriptor}"
    if tape.io == "cached":
        assert error_of(os.open, path, os.O_RDONLY) == errno.EBUSY
    else:
        with (
            open(path, "rb", buffering=0) as reader,
            mmap.mmap(reader.fileno(), 3, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped,
        ):
            assert mapped[:] == b"bef"  # the kernel takes the stream's length for the file's
            assert reader.read() in (b"before", b"bef")
    os.write(descriptor, b" goes on")
    os.close(descriptor)
    assert tape.streams() == [b"before", b"own goes on"]

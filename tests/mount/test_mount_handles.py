"""Operations on an open file: seeking, reading its own bytes, copies of a descriptor, reopening, fsync."""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from mounting import Tape, random_bytes, shell

WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def error_of(function: Callable[..., object], *arguments: object) -> int | None:
    """Return the errno with which the call fails."""
    try:
        function(*arguments)
    except OSError as error:
        return error.errno
    return None


# --- write-only handles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [WRITE, os.O_WRONLY, os.O_WRONLY | os.O_APPEND])
def test_write_only_handle_cannot_seek(tape: Tape, flags: int) -> None:
    tape.path.write_bytes(b"before")
    descriptor = os.open(tape.path, flags)
    os.write(descriptor, b"one")
    for whence in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
        assert error_of(os.lseek, descriptor, 0, whence) == errno.ESPIPE
    assert error_of(os.pwrite, descriptor, b"x", 0) == errno.ESPIPE
    assert error_of(os.pwrite, descriptor, b"x", 3) == errno.ESPIPE
    assert error_of(os.pread, descriptor, 1, 0) == errno.ESPIPE
    assert error_of(os.read, descriptor, 1) == errno.EBADF
    assert error_of(os.ftruncate, descriptor, 0) == errno.EPERM
    assert error_of(os.ftruncate, descriptor, 100) == errno.EPERM
    os.write(descriptor, b"two")
    os.close(descriptor)
    assert tape.streams() == [b"before", b"onetwo"]


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
    if tape.io == "cached":
        assert "not supported" in shell(script, status=1).stderr.lower()
        assert tape.streams() == [b"data\n"]
    else:
        shell(script)
        assert tape.streams() == [b"data\n", b"data\n"]


def test_shell_that_reopens_its_output_gets_a_further_session(tape: Tape) -> None:
    script = f"(echo a; echo b >/dev/stdout; echo c) > {tape.path}"
    if tape.io == "cached":
        shell(script)
        assert tape.streams() == [b"a\nc\n"]
    else:
        shell(script)
        assert tape.streams() == [b"b\n", b"a\nc\n"]


@pytest.mark.parametrize(
    "flags", [os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_RDWR, os.O_RDWR | os.O_TRUNC]
)
def test_opening_the_open_file_again_never_harms_its_stream(tape: Tape, flags: int) -> None:
    """An open through /proc makes no look-up, so both handles have one inode. With io=auto, the second is direct."""
    descriptor = os.open(tape.path, WRITE)
    data = random_bytes(1, 1_000_000)
    os.write(descriptor, data[:123_456])
    if tape.io == "cached":
        assert error_of(os.open, f"/proc/self/fd/{descriptor}", flags) == errno.ENOTSUP
    else:
        again = os.open(f"/proc/self/fd/{descriptor}", flags)
        os.write(again, b"again")
        os.write(descriptor, data[123_456:200_000])
        os.write(again, b" and again")
        os.close(again)
    os.write(descriptor, data[200_000 if tape.io != "cached" else 123_456 :])
    os.close(descriptor)
    assert tape.streams() == ([b"again and again", data] if tape.io != "cached" else [data])


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


@pytest.mark.parametrize("flags", [os.O_WRONLY | os.O_TRUNC, os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR])
def test_opening_for_writing_never_harms_a_reader_of_the_same_inode(tape: Tape, flags: int) -> None:
    data = random_bytes(1, 300_000)
    tape.path.write_bytes(data)
    with open(tape.path, "rb", buffering=0) as reader:
        assert reader.read(1000) == data[:1000]
        if tape.io != "direct":
            assert error_of(os.open, f"/proc/self/fd/{reader.fileno()}", flags) == errno.ENOTSUP
        else:
            writer = os.open(f"/proc/self/fd/{reader.fileno()}", flags)
            os.lseek(writer, 0, os.SEEK_END) if flags == os.O_RDWR else None
            os.write(writer, b"more")
            os.close(writer)
        assert b"".join(iter(lambda: reader.read(1 << 20), b"")) == data[1000:]


def test_stream_under_way_can_be_opened_for_reading(tape: Tape) -> None:
    """The reader gets the medium, as it was when the writer looked it up."""
    tape.path.write_bytes(b"before")
    descriptor = os.open(tape.path, WRITE)
    os.write(descriptor, b"own")
    with open(f"/proc/self/fd/{descriptor}", "rb", buffering=0) as reader:
        assert reader.read() in (b"before", b"bef")  # the kernel takes the stream's length for the file's
    os.write(descriptor, b" goes on")
    os.close(descriptor)
    assert tape.streams() == [b"before", b"own goes on"]

"""What a shell opens, and programs that are not known: the page cache gathers their writes, and none is lost."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import OnDisks, Tape, random_bytes, require_fuse, shell

from vtlfs.model import MIB

BLOCK = 10_240  # of GNU tar
REFUSED = "refusing to open session"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of some MiB."""
    root = tmp_path_factory.mktemp("tree")
    for number in range(60):
        (root / f"file{number}").write_bytes(random_bytes(number, 70_000 + number))
    return root


@pytest.fixture(scope="module")
def archive(tree: Path) -> bytes:
    """The tree, archived by tar."""
    return subprocess.run(["tar", "cf", "-", "-C", tree, "."], capture_output=True, check=True).stdout


@pytest.fixture(params=["", "reopen=allow", "io=direct"])
def tape(request: pytest.FixtureRequest, library: OnDisks, _no_descriptor_left: None) -> Iterator[Tape]:
    """A medium of a mount that gathers what a shell opens, and of mounts that do not."""
    require_fuse()
    with library.mounted(request.param) as mounted:
        yield Tape(library, mounted, "T1", request.param)


def assert_gathered(tape: Tape) -> None:
    """Assert that the writes came in fewer requests than blocks where the mount gathers, and else that they did not."""
    for session in tape.library.listed("--medium", tape.barcode):
        if session["access"] == "write" and session["bytes"] > MIB:
            gathered = session["requests"] < session["bytes"] / BLOCK / 2
            assert gathered is not bool(tape.io), session


def test_archive_through_a_redirection(tape: Tape, tree: Path, archive: bytes) -> None:
    shell(f"tar cf - -C {tree} . > {tape.path}")
    assert tape.streams() == [archive]
    assert_gathered(tape)


def test_archives_that_are_appended(tape: Tape, tree: Path, archive: bytes) -> None:
    for number in range(3):
        shell(f"head -c {number * 1000 + 1} /dev/zero >> {tape.path}; tar cf - -C {tree} . >> {tape.path}")
    assert tape.streams() == [stream for number in range(3) for stream in (bytes(number * 1000 + 1), archive)]
    assert_gathered(tape)


def test_several_programs_write_to_what_the_shell_has_opened(tape: Tape, tree: Path, archive: bytes) -> None:
    shell(f"(echo a; tar cf - -C {tree} .; echo b) > {tape.path}")
    shell(f"exec 3> {tape.path}; echo c >&3; tar cf - -C {tree} . >&3; (echo d) >&3")
    assert tape.streams() == [b"a\n" + archive + b"b\n", b"c\n" + archive + b"d\n"]
    assert_gathered(tape)


def test_program_that_is_not_known_may_seek_so_its_blocks_are_taken_one_by_one(tape: Tape) -> None:
    data = random_bytes(1, 3 * MIB + 5)
    with open(tape.path, "wb", buffering=0) as file:
        for start in range(0, len(data), BLOCK):
            assert file.write(data[start : start + BLOCK]) == len(data[start : start + BLOCK])
    assert tape.streams() == [data]
    (session,) = [one for one in tape.library.listed("--medium", tape.barcode) if one["access"] == "write"]
    assert session["requests"] == -(-len(data) // BLOCK)


def test_output_that_is_opened_again(tape: Tape, tree: Path, archive: bytes) -> None:
    """Where the page cache gathers the output, the program fails and says why; the log names the way out."""
    scripts = {
        f"tar cf /dev/stdout -C {tree} . > {tape.path}": [archive],
        f"(echo a; echo b > /dev/stdout) > {tape.path}": [b"b\n", b"a\n"],
        f"(echo a; echo b >> /dev/stdout) > {tape.path}": [b"b\n", b"a\n"],
        f"exec 3>> {tape.path}; echo a >&3; echo b > /dev/fd/3": [b"b\n", b"a\n"],
        f"echo a | tee /dev/stdout > {tape.path}": [b"a\n", b"a\n"],
    }
    streams: list[bytes] = []
    for script, expected in scripts.items():
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        if tape.io:
            assert done.returncode == 0, done
            streams += expected
        else:
            assert done.returncode > 0, done
            assert "Device or resource busy" in done.stderr
            streams += [b"a\n"] if b"a\n" in expected else []
    assert sorted(tape.streams()) == sorted(streams)  # the releases of two that are closed at once may overlap
    told = re.findall(f"{REFUSED} .*", tape.mounted.said())
    assert len(told) == (0 if tape.io else len(scripts))
    assert all("mount with reopen=allow" in line for line in told)


def test_refusal_is_logged_once_for_a_stream(library: OnDisks) -> None:
    require_fuse()
    with library.mounted() as mounted:
        shell(f"(for i in 1 2 3 4 5; do echo x > /dev/stdout; done; true) > {mounted.medium('T1')}")
        assert mounted.said().count(REFUSED) == 1
        shell(f"exec 3> {mounted.medium('T1')}; cat /dev/fd/3; true")
        assert mounted.said().count(REFUSED) == 2


def test_known_program_is_gathered_also_where_outputs_may_be_opened_again(library: OnDisks, tree: Path) -> None:
    require_fuse()
    with library.mounted("reopen=allow") as mounted:
        shell(f"tar cf {mounted.medium('T1')} -C {tree} .")
        assert_gathered(Tape(library, mounted, "T1", ""))


@pytest.mark.parametrize("program", ["python", "shell", "tar -M"])
def test_no_room_is_told_by_the_write_itself(library: OnDisks, tmp_path: Path, program: str, tree: Path) -> None:
    """With little room a stream goes direct; a tar that changes media goes direct also with much."""
    require_fuse()
    library.add("FULL", capacity=2 * MIB + 100)
    if program == "tar -M":
        settings = library.path / "library.toml"
        settings.write_text(re.sub(r'low_space = ".*?"', 'low_space = "1MiB"', settings.read_text()))
    with library.mounted() as mounted:
        path = mounted.medium("FULL")
        if program == "python":
            with open(path, "wb", buffering=0) as file:
                for _ in range(2 * MIB // BLOCK):
                    assert file.write(bytes(BLOCK)) == BLOCK
                with pytest.raises(OSError, match="No space"):
                    file.write(bytes(BLOCK))
        elif program == "shell":
            said = shell(f"(dd if=/dev/zero bs=10k count=300; true) > {path}").stderr
            assert "error writing 'standard output': No space left on device" in said
        else:
            volumes = f"--file {path} --file {mounted.medium('T1')} --file {mounted.medium('T2')}"
            shell(f"tar -c -M {volumes} -C {tree} .")
            assert path.stat().st_size > MIB
            shell(f"mkdir {tmp_path}/back; tar -x -M {volumes} -C {tmp_path}/back; diff -r {tree} {tmp_path}/back")


def test_much_is_gathered_to_where_a_stream_of_another_open_ended(library: OnDisks) -> None:
    """Streams that append begin anywhere in a page, while others have gone on since their look-up."""
    require_fuse()
    with library.mounted() as mounted:
        path = mounted.medium("T1")
        streams = [random_bytes(seed, size) for seed, size in enumerate((1, 4095, 4097, 70_001, 2 * MIB + 9))]
        first = os.open(path, os.O_WRONLY | os.O_APPEND)
        for stream in streams:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            for start in range(0, len(stream), 1000):
                os.write(descriptor, stream[start : start + 1000])
                os.write(first, b"%04d" % (start % 10_000))
            os.close(descriptor)
        os.close(first)
        own = b"".join(b"%04d" % (start % 10_000) for stream in streams for start in range(0, len(stream), 1000))
        assert Tape(library, mounted, "T1", "").streams() == [*streams, own]

"""Real programs with their usual flags write and read, and get an error for what a tape can't do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from mounting import Shared, Tape, random_bytes, shell

MIB = 1 << 20

# Each command is run with {out} as a medium, and with an ordinary file, which shows the expected content.
WRITERS = {
    "tar": "tar cf {out} -C {tree} .",
    "tar -z": "tar czf {out} -C {tree} .",
    "tar -b 1": "tar -b 1 -cf {out} -C {tree} .",
    "tar -b 512": "tar -b 512 -cf {out} -C {tree} .",
    "tar -M": "tar -M -cf {out} -C {tree} .",
    "tar through rmt": "tar --rsh-command={rsh} --rmt-command=/usr/sbin/rmt-tar -cf localhost:{out} -C {tree} .",
    "cpio -O": "cd {tree} && find . | LC_ALL=C sort | cpio -o -H newc -O {out}",
    "bsdtar": "bsdtar -cf {out} -C {tree} .",
    "cat >": "cat {data} > {out}",
    "cat >>": "cat {data} >> {out}",
    "cat | cat": "cat {data} | cat > {out}",
    "tee": "tee {out} < {data} > /dev/null",
    "tee -a": "tee -a {out} < {data} > /dev/null",
    "dd bs=512": "dd if={data} of={out} bs=512 count=2000",
    "dd bs=4095": "dd if={data} of={out} bs=4095",
    "dd bs=64k conv=notrunc": "dd if={data} of={out} bs=64k conv=notrunc",
    "dd bs=1M": "dd if={data} of={out} bs=1M",
    "dd obs=10k": "dd if={data} of={out} ibs=7000 obs=10k",
    "dd conv=fsync": "dd if={data} of={out} bs=1M conv=fsync",
    "dd conv=fdatasync": "dd if={data} of={out} bs=64k conv=fdatasync,notrunc",
    "dd oflag=append": "dd if={data} of={out} bs=64k oflag=append",
    "dd oflag=append conv=notrunc": "dd if={data} of={out} bs=5000 oflag=append conv=notrunc",
    "dd oflag=sync": "dd if={data} of={out} bs=1M oflag=sync",
    "mbuffer -f -o": "mbuffer -q -f -i {data} -o {out}",
    "mbuffer --append -o": "touch {reference}; mbuffer -q --append -i {data} -o {out}",
    "pv >": "pv -q {data} > {out}",
    "pv >>": "pv -q {data} >> {out}",
    "cp": "cp {data} {out}",
    "cp --sparse=never": "cp --sparse=never --reflink=never {data} {out}",
    "head -c": "head -c 1234567 {data} > {out}",
    "sh -c in between": "sh -c 'cat {data}; echo end' > {out}",
    "bzip2 -c": "head -c 100000 {data} | bzip2 -c > {out}",
}

# Programs that try something that a tape can't do, and their error messages.
REFUSED = {
    "dd seek=": ("dd if=/dev/zero of={out} bs=512 count=1 seek=3", 1, "Operation not permitted"),
    "dd seek= conv=notrunc": ("dd if=/dev/zero of={out} bs=512 count=1 seek=3 conv=notrunc", 1, ""),
    "tar -r": ("tar -rf {out} {tree}", 2, "Illegal seek"),
    "bsdtar -r": ("bsdtar -rf {out} {tree}", 1, ""),
    "truncate": ("truncate -s 0 {out}", 1, "Operation not permitted"),
    "truncate to more": ("truncate -s +5 {out}", 1, "Operation not permitted"),
    "rm": ("rm -f {out}", 1, "Operation not permitted"),
    "rm of a tape file": ("rm -f {file}", 1, "Operation not permitted"),
    "mv": ("mv {out} {out}.old", 1, "Operation not permitted"),
    "mv over it": ("mv {out} {mnt}/media/S400", 1, "Operation not permitted"),
    "touch": ("touch {out}", 1, "Operation not permitted"),
    "chmod": ("chmod 600 {out}", 1, "Operation not permitted"),
    "chown": ("chown 1 {out}", 1, "Operation not permitted"),
    "mkdir": ("mkdir {mnt}/media/folder", 1, "Operation not permitted"),
    "mkdir below the root": ("mkdir {mnt}/folder", 1, "Operation not permitted"),
    "rmdir": ("rmdir {mnt}/drives/0", 1, "Operation not permitted"),
    "ln": ("ln {out} {mnt}/media/link", 1, "Operation not permitted"),
    "ln -s": ("ln -s {out} {mnt}/media/link", 1, "Operation not permitted"),
    "new medium": ("echo x > {mnt}/media/NEW1", 1, "No such file or directory"),
    "new medium in a drive": ("cp {data} {mnt}/drives/0/NEW1", 1, "No such file or directory"),
    "new file elsewhere": ("echo x > {mnt}/files/NEW1", 1, "Operation not permitted"),
    "new tape file": ("echo x > {mnt}/files/{barcode}/0007", 1, "Operation not permitted"),
    "writing a tape file": ("echo x > {file}", 1, "Operation not permitted"),
    "writing a session": ("echo x > {mnt}/sessions/1", 1, "Operation not permitted"),
    "reading no medium": ("cat {mnt}/media/NONE", 1, "No such file or directory"),
    "reading through no drive": ("cat {mnt}/drives/99/{barcode}", 1, "No such file or directory"),
    "drive with another name": ("cat {mnt}/drives/00/{barcode}", 1, "No such file or directory"),
    "reading no tape file": ("cat {mnt}/files/{barcode}/0009", 1, "No such file or directory"),
    "nothing loaded": ("cat {mnt}/drives/3/loaded", 1, "No such file or directory"),
    "writing to nothing loaded": ("echo x > {mnt}/drives/3/loaded", 1, "No such file or directory"),
    "mbuffer -o without -f": ("mbuffer -q -i {data} -o {out}", 1, ""),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `tree`, to be archived, `data`, to be copied, and a stand-in for rsh."""
    root = tmp_path_factory.mktemp("source")
    (root / "data").write_bytes(random_bytes(0, 2 * MIB + 777))
    for number in range(12):
        folder = root / "tree" / f"folder{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file{number}").write_bytes(random_bytes(number, number * 20_011))
    (root / "tree/empty").touch()
    (root / "tree/link").symlink_to("folder1/file1")
    (root / "rsh").write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    (root / "rsh").chmod(0o755)
    return root


def names(source: Path, out: Path, reference: Path) -> dict[str, Path]:
    return {"out": out, "reference": reference, **{name: source / name for name in ("data", "tree", "rsh")}}


def needs(script: str) -> None:
    for program in ("bsdtar", "mbuffer", "pv", "cpio", "/usr/sbin/rmt-tar", "rsync"):
        if program in script and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize("program", WRITERS)
def test_program_leaves_on_tape_what_it_leaves_in_a_file(
    tape: Tape, source: Path, tmp_path: Path, program: str
) -> None:
    needs(WRITERS[program])
    reference = tmp_path / "reference"
    wanted = []
    for out in (reference, tape.path, tape.mounted.drive(2, tape.barcode)):
        shell(WRITERS[program].format_map(names(source, out, reference)))
        wanted.append(reference.read_bytes())
    assert len(wanted[0]) > 20_000
    assert tape.streams() == wanted[1:]


@pytest.mark.parametrize("shared", ["auto"], indirect=True)
@pytest.mark.parametrize("case", REFUSED)
def test_program_is_refused_and_nothing_changes(tape: Tape, source: Path, tmp_path: Path, case: str) -> None:
    script, status, message = REFUSED[case]
    needs(script)
    shell(f"tar cf {tape.path} -C {source}/tree .")
    before = tape.streams()
    media = sorted(os.listdir(tape.mounted.path / "media"))
    more = {"mnt": tape.mounted.path, "barcode": tape.barcode, "file": tape.mounted.file(tape.barcode, 0)}
    done = shell(script.format_map(names(source, tape.path, tmp_path) | more), status=status)
    assert message in done.stderr
    assert tape.streams() == before
    assert sorted(os.listdir(tape.mounted.path / "media")) == media


@pytest.mark.parametrize("shared", ["auto", "direct"], indirect=True)
@pytest.mark.parametrize(
    "reader",
    [
        "tar xf {tape} -C {there}",
        "cat {tape} | tar x -C {there}",
        "tar -b 1 -xf {tape} -C {there}",
        "bsdtar -xf {tape} -C {there}",
        "dd if={tape} bs=10k | tar x -C {there}",
        "cp {tape} {there}.copy && tar xf {there}.copy -C {there}",
        "mbuffer -q -i {tape} | tar x -C {there}",
        "rsync {tape} {there}.copy && tar xf {there}.copy -C {there}",
        "tar --rsh-command={rsh} --rmt-command=/usr/sbin/rmt-tar -xf localhost:{tape} -C {there}",
    ],
)
def test_archive_is_read_back(tape: Tape, source: Path, tmp_path: Path, reader: str) -> None:
    needs(reader)
    shell(f"tar cf {tape.path} -C {source}/tree .")
    there = tmp_path / "there"
    there.mkdir()
    shell(reader.format(tape=tape.path, there=there, rsh=source / "rsh"))
    shell(f"diff -r --no-dereference {source}/tree {there}")


def test_second_archive_on_a_tape_is_found(tape: Tape, source: Path) -> None:
    shell(f"tar -b 20 -cf {tape.path} -C {source}/tree folder0 && tar cf {tape.path} -C {source}/tree folder1")
    first, second = tape.streams()
    assert "folder1" not in shell(f"tar tf {tape.path}").stdout
    assert "folder1/file1\n" in shell(f"tar tif {tape.path}").stdout
    listed = shell(f"tar tf {tape.mounted.file(tape.barcode, 1)}").stdout
    assert "folder0" not in listed
    assert "folder1/file1\n" in listed
    assert len(first) % 10240 == 0
    command = ["dd", f"if={tape.path}", "bs=10240", f"skip={len(first) // 10240}", "status=none"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == second


def test_parts_of_a_tape_are_read(tape: Tape, source: Path) -> None:
    data = (source / "data").read_bytes()
    shell(f"cat {source}/data > {tape.path}")

    def output(*command: object) -> bytes:
        return subprocess.run([*map(str, command)], capture_output=True, check=True).stdout

    assert output("tail", "-c", 5000, tape.path) == data[-5000:]
    assert output("tail", "-c", "+1000001", tape.path) == data[1_000_000:]
    assert output("head", "-c", 5000, tape.path) == data[:5000]
    assert output("dd", f"if={tape.path}", "bs=512", "skip=100", "count=3", "status=none") == data[51200:52736]
    assert output("cmp", tape.path, source / "data") == b""
    assert output("cmp", tape.path, tape.mounted.file(tape.barcode, 0)) == b""
    assert output("stat", "-c", "%s %F", tape.path) == f"{len(data)} regular file\n".encode()


def test_tape_is_written_through_a_pipe_from_another_tape(tape: Tape, shared: Shared, source: Path) -> None:
    other = tape.mounted.medium(next(shared[2]))
    shell(f"cat {source}/data > {tape.path}; cp {tape.path} {other}; cat {other} >> {tape.path}")
    data = (source / "data").read_bytes()
    assert other.read_bytes() == data
    assert tape.streams() == [data, data]

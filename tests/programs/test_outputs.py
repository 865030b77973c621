"""Real programs that open their output themselves: those that ask where they are, leave holes, or set attributes.

docs/programs.md has a row for each program.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import SECONDS, OnDisks, Tape, random_bytes, require_fuse, shell, wait_until

MEDIA = 99
DENSE = bytes(2_000_000) + random_bytes(1, 70_000) + bytes(3_000_000) + random_bytes(2, 5000)
PROGRAMS = "zstd lz4 xz rsync ddrescue zip rclone tcpdump lsof fuser curl".split()
NOT_PERMITTED = "peration not permitted"  # with a large letter or a small one

# Each command with {out} as a medium leaves there what it leaves in a file.
SAME = {
    "tarfile": 'python3 -c \'import tarfile; t = tarfile.open("{out}", "w"); t.add("tree"); t.close()\'',
    "TarFile over a file": 'python3 -c \'import tarfile; f = open("{out}", "wb"); '
    't = tarfile.TarFile(fileobj=f, mode="w"); t.add("tree"); t.close(); f.close()\'',
    "open(wb).tell": 'python3 -c \'f = open("{out}", "wb"); f.write(b"x" * 99999); assert f.tell() == 99999\'',
    "open(w).tell": 'python3 -c \'f = open("{out}", "w"); f.write("x" * 99999); assert f.tell() == 99999\'',
    "open(ab).tell": 'python3 -c \'f = open("{out}", "ab"); f.write(b"x" * 99999); f.tell()\'',
    "perl's tell": "perl -e 'open F, q(>), q({out}); print F q(x) x 99999; die unless tell(F) == 99999'",
    "cp": "cp dense {out}",
    "cp of a sparse file": "cp sparse {out}",
    "cp --sparse=always": "cp --sparse=always dense {out}",
    "cp of a sparse file with a hole at its end": "cp ending {out}",
    "zstd -d -o": "zstd -qfd dense.zst -o {out}",
    "zstd -o": "zstd -qf dense -o {out}",
    "lz4 -d": "lz4 -qfd dense.lz4 {out}",
    "xz -dc >": "xz -dc dense.xz > {out}",
    "rsync --inplace": "rsync --inplace dense {out}",
    "rsync --inplace -S": "rsync --inplace -S sparse {out}",
    "ddrescue": "ddrescue -q --force sparse {out}",
    "dd conv=sparse": "dd if=dense of={out} bs=64k conv=sparse status=none",
    "dd conv=sparse >": "dd if=dense bs=64k conv=sparse status=none > {out}",
    "cp --preserve=ownership": "cp --preserve=ownership dense {out}",
    "rsync -a without times and modes": "rsync -a --no-times --no-perms --inplace dense {out}",
    "copyfile": 'python3 -c \'import shutil; shutil.copyfile("dense", "{out}")\'',
    "rclone copyto": "rclone -q copyto --local-no-set-modtime dense {out}",
    "rclone cat": "rclone -q cat dense > {out}",
    "curl -R": "curl -sR -o {out} file://$PWD/dense",
}
# These keep each byte, and then say that they can't keep the times or the mode: status and message.
WHOLE_BUT_REFUSED = {
    "cp -p": ("cp -p dense {out}", 1, "preserving times"),
    "cp -a": ("cp -a dense {out}", 1, "preserving times"),
    "cp --preserve=mode": ("cp --preserve=mode dense {out}", 1, "preserving permissions"),
    "rsync -t": ("rsync -t --inplace dense {out}", 23, "failed to set times"),
    "rsync -a": ("rsync -a --inplace dense {out}", 23, "failed to set"),
    "copy2": ('python3 -c \'import shutil; shutil.copy2("dense", "{out}")\'', 1, "PermissionError"),
    "copy": ('python3 -c \'import shutil; shutil.copy("dense", "{out}")\'', 1, "PermissionError"),
    "rclone copyto": ("rclone -q copyto dense {out} --retries 1", 1, "chtimes"),
    "touch -d": ("cp dense {out}; touch -d 2001-01-01 {out}", 1, "setting times"),
    "touch -m": ("cp dense {out}; touch -m -d 2001-01-01 {out}", 1, "setting times"),
    "touch of an open file": (
        "exec 3>{out}; cat dense >&3; touch -c -d 2001-01-01 /proc/self/fd/3",
        1,
        "setting times",
    ),
}


@pytest.fixture(scope="module", params=["auto", "direct"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Tape]]:
    """Fresh media of a mount."""
    require_fuse()
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    assert not missing, f"missing: {missing}; `make packages` installs them"
    found = OnDisks(tmp_path_factory.mktemp(request.param), media=f"S01..S{MEDIA}", unit=65536)
    with found.mounted(f"io={request.param}") as mounted:
        yield (Tape(found, mounted, f"S{number:02d}", request.param) for number in range(1, MEDIA + 1))


@pytest.fixture
def tape(library: Iterator[Tape]) -> Tape:
    """A medium that no other test uses."""
    return next(library)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `dense`, full of zeros, `sparse`, which has holes there, compressed copies, and a `tree`."""
    root = tmp_path_factory.mktemp("source")
    (root / "dense").write_bytes(DENSE)
    (root / "tree").mkdir()
    (root / "tree" / "file").write_bytes(random_bytes(3, 700_000))
    shell(
        f"cd {root}; chmod 644 dense; cp --sparse=always dense sparse; truncate -s +3M sparse; cp sparse ending;"
        " echo end >> sparse; zstd -qk dense; lz4 -q dense dense.lz4; xz -k0 dense"
    )
    return root


def run(script: str, source: Path, out: Path, status: int = 0) -> str:
    """Run a command in `source`; return its errors."""
    return shell(script.format(out=out), status=status, cwd=source).stderr


@pytest.mark.parametrize("script", SAME.values(), ids=SAME)
def test_program_leaves_on_tape_what_it_leaves_in_a_file(tape: Tape, source: Path, tmp_path: Path, script: str) -> None:
    reference = tmp_path / "reference"
    run(script, source, reference)
    run(script, source, tape.path)
    assert tape.streams() == [reference.read_bytes()]


@pytest.mark.parametrize(("script", "status", "message"), WHOLE_BUT_REFUSED.values(), ids=WHOLE_BUT_REFUSED)
def test_program_says_that_attributes_are_not_kept_and_all_bytes_are(
    tape: Tape, source: Path, script: str, status: int, message: str
) -> None:
    said = run(script, source, tape.path, status)
    assert message in said
    assert NOT_PERMITTED in said
    wait_until(lambda: tape.path.stat().st_size == len(DENSE), "the release")
    assert tape.streams() == [DENSE]


def test_files_that_are_not_media_keep_their_attributes_too(tape: Tape, source: Path) -> None:
    run("cp dense {out}", source, tape.path)
    for path in (tape.mounted.file(tape.barcode, 0), tape.mounted.path / "media", tape.mounted.path):
        assert NOT_PERMITTED in run("touch -d 2001-01-01 {out}", source, path, 1)
        assert NOT_PERMITTED in run("chmod 0777 {out}", source, path, 1)
        run("chmod $(stat -c %a {out}) {out}; chown $(stat -c %u:%g {out}) {out}", source, path)


def test_tcpdump_gives_its_file_the_owner_that_it_has(tape: Tape, tmp_path: Path) -> None:
    with open(tmp_path / "said", "wb") as said:
        dump = subprocess.Popen(
            ["tcpdump", "-Z", "root", "-i", "lo", "-c", "3", "-U", "-w", tape.path, "udp"], stderr=said
        )
    wait_until(lambda: b"listening on" in (tmp_path / "said").read_bytes() or dump.poll() is not None, "tcpdump")
    send = "import socket; s = socket.socket(2, 2); [s.sendto(b'x', ('127.0.0.1', 9)) for _ in range(9)]"
    subprocess.run(["python3", "-c", send], check=True)
    assert dump.wait(SECONDS) == 0, (tmp_path / "said").read_text()
    (stream,) = tape.streams()
    assert stream[:4] == b"\xd4\xc3\xb2\xa1"
    shell(f"tcpdump -r {tape.path} | wc -l | grep -qx 3")


def test_zip_to_standard_output_can_be_read(tape: Tape, source: Path) -> None:
    """zip would come back to each member's header if it could seek."""
    run("zip -qr - tree dense > {out}", source, tape.path)
    script = "import sys, zipfile; assert not zipfile.ZipFile(sys.argv[1]).testzip()"
    subprocess.run(["python3", "-c", script, tape.path], check=True)
    assert len(tape.streams()) == 1


def test_program_that_comes_back_is_refused_at_the_write(tape: Tape, source: Path) -> None:
    """A zipfile over a file that Python has opened comes back to each header. Without seeking, it needs not.

    Where the page cache gathers the stream, such a write is in time if the kernel has the page; else close() fails.
    """
    script = 'python3 -c \'import zipfile; z = zipfile.ZipFile(%s, "w"); z.write("dense"); z.close()\''
    if tape.io != "cached":
        assert "Illegal seek" in run(script % 'open("{out}", "wb")', source, tape.path, 1)
    run(script % 'open("/dev/stdout", "wb")' + " | cat > {out}", source, tape.path)
    script = "import sys, zipfile; assert zipfile.ZipFile(sys.argv[1]).read('dense') == open('dense', 'rb').read()"
    last = tape.mounted.file(tape.barcode, len(tape.streams()) - 1)
    subprocess.run(["python3", "-c", script, last], check=True, cwd=source)


def test_programs_that_name_who_has_a_file_open_ask_about_the_mount(tape: Tape) -> None:
    """The number of an open file is its session's, so the path's number is another: fuser and lsof compare them."""
    with open(tape.path, "wb") as file:
        file.write(b"x")
        file.flush()
        assert subprocess.run(["lsof", tape.path], capture_output=True, check=False).stdout == b""
        listed = shell(f"lsof +f -- {tape.mounted.path} 2>/dev/null", status=0).stdout
        assert any(str(os.getpid()) in line and str(tape.path) in line for line in listed.splitlines())
        assert str(os.getpid()) in shell(f"fuser -m {tape.mounted.path} 2>/dev/null").stdout.split()
        assert tape.library.listed("--open", "--medium", tape.barcode)[0]["pid"] == os.getpid()


def test_tail_follows_the_released_streams_by_the_path(tape: Tape) -> None:
    """An open file shows the medium as it stood. What is released later, a reader finds by opening the path again."""
    tape.path.write_bytes(b"one\n")
    with subprocess.Popen(["tail", "-n", "+1", "-f", "-s", "0.05", tape.path], stdout=subprocess.PIPE) as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline() == b"one\n"
        tape.path.write_bytes(b"two\n")
        tail.terminate()
        assert tail.stdout.read() == b""
    follow = f"seen=0; until tail -c +$((seen + 1)) {tape.path} | grep -m 1 three; do seen=4; sleep 0.02; done"
    with subprocess.Popen(["bash", "-c", follow], stdout=subprocess.PIPE) as loop:
        tape.path.write_bytes(b"three\n")
        assert loop.communicate(timeout=SECONDS)[0] == b"three\n"


def test_locks_are_those_of_one_open_file(tape: Tape) -> None:
    """Each open file has an inode of its own, where the kernel keeps locks. Copies of a descriptor share them."""
    shell(f"flock -n {tape.path} flock -n {tape.path} true")
    shell(f"exec 3>{tape.path}; flock -n 3; flock -n 3")
    if tape.io == "direct":
        script = f"exec 3>{tape.path}; flock -n 3; (exec 4>/proc/self/fd/3; flock -n 4)"
        assert shell(script, status=1).stdout == ""
    other = tape.library.root / "lock"
    shell(f"flock -n {other} flock -n {other} true", status=1)  # the way out: a lock file beside


def test_extract_writes_a_further_tape_file(tape: Tape, source: Path) -> None:
    run("cp dense {out}", source, tape.path)
    tape.library.vtlfs("extract", tape.library.path, tape.barcode, "0", "-o", tape.path)
    assert tape.streams() == [DENSE, DENSE]
    said = tape.library.vtlfs("extract", tape.library.path, tape.barcode, "-o", tape.mounted.medium("NONE"), status=1)
    assert "NONE: No such file or directory" in said

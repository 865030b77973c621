"""`vtlfs restore`: from archives of the real programs, and from hostile ones."""

import io
import os
import re
import signal
import sqlite3
import stat
import subprocess
import tarfile
import time
from contextlib import closing
from pathlib import Path

import pytest
import trees
from unmounted import PROGRAM, PROJECT, Done, Refused, Run, Shelf

from vtlfs.members.values import ArchiveMember, Kind
from vtlfs.restore.extracting import AS_USER, Extraction

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")
EVERYTHING = ("/", "--from", "A00001L9")


class Tape:
    """A library, a directory to restore to, and what restoring said."""

    def __init__(self, shelf: Shelf, run: Run, done: Done) -> None:
        self.shelf = shelf
        self.path = shelf.path
        self.out = shelf.root / "out"
        self.out.mkdir()
        self.said = ""
        self._run = run
        self._done = done

    def write(self, archive: bytes, barcode: str = "A00001L9") -> None:
        """Have a tape file with these bytes, and index it."""
        self.shelf.write(barcode, archive)
        self._done("index", self.path)

    def restore(self, *words: object, status: int = 0) -> list[str]:
        """Restore; return the lines about failures."""
        result = self._run("restore", self.path, *words, "-C", self.out)
        self.said = str(result.stderr)
        assert result.returncode == status, self.said
        assert result.stdout == ""
        assert not [path for path in self.out.rglob("*") if path.name.startswith(".vtlfs")]
        lines = [line.removeprefix("vtlfs: ") for line in self.said.splitlines()]
        return [line for line in lines if not line.startswith(("from ", "restored "))]


@pytest.fixture
def tape(shelf: Shelf, run: Run, done: Done) -> Tape:
    return Tape(shelf, run, done)


def shell(command: str, directory: Path) -> bytes:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=directory, capture_output=True, check=True
    ).stdout


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return a tar archive of members as they are, whatever their names."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def file(name: str, data: bytes = b"data", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.uid, member.gid = os.getuid(), os.getgid()
    for key, value in more.items():
        setattr(member, key, value)
    return member, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return file(name, b"", linkname=target, type=kind)


# --- what comes back ------------------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("compress", ["cat", "gzip", "zstd", "xz"])
def test_everything_that_pax_keeps_comes_back(tape: Tape, tmp_path: Path, compress: str) -> None:
    trees.make(tmp_path / "tree")
    tape.write(
        shell(f"tar --format=posix --xattrs --xattrs-include='*' --acls -S -cf - . | {compress}", tmp_path / "tree")
    )
    tape.restore(*EVERYTHING)
    restored, wanted = trees.read(tape.out), trees.read(tmp_path / "tree")
    assert restored == wanted
    assert restored[b"sparse"].data != ((0, trees.SPARSE),)
    assert trees.LATIN in restored
    assert len(restored[b"file"].xattrs) == 3


@needs_root
@pytest.mark.parametrize(
    ("command", "has_seconds", "is_dense"),
    [
        ("tar --format=gnu -S -cf - .", True, False),
        ("tar --format=ustar -cf - .", True, True),
        ("tar --format=oldgnu -S -cf - .", True, False),
        ("bsdtar -cf - .", True, False),
        ("find . -depth | cpio --quiet -o -H newc", True, True),
        ("find . -depth | cpio --quiet -o -H odc", True, True),
        ("setfacl -b file && find . -depth | bsdcpio --quiet -o -H newc | gzip", True, True),
    ],
)
def test_what_other_formats_keep_comes_back(
    tape: Tape, tmp_path: Path, command: str, has_seconds: bool, is_dense: bool
) -> None:
    trees.make(tmp_path / "tree")
    tape.write(shell(command, tmp_path / "tree"))
    tape.restore(*EVERYTHING)
    kept = trees.plain(trees.read(tape.out), seconds=has_seconds, dense=is_dense)
    assert kept == trees.plain(trees.read(tmp_path / "tree"), seconds=has_seconds, dense=is_dense)


@needs_root
def test_a_level_of_an_incremental_backup_comes_back(tape: Tape, tmp_path: Path) -> None:
    trees.make(tmp_path / "tree")
    tape.write(shell("tar -g ../state -S -cf - .", tmp_path / "tree"))
    tape.restore(*EVERYTHING)
    kept = trees.plain(trees.read(tape.out), seconds=True)
    assert kept == trees.plain(trees.read(tmp_path / "tree"), seconds=True)


@pytest.mark.parametrize("spelling", ["a/b/c", "./a/b/c", "/a/b/c"])
@pytest.mark.parametrize("word", ["a/b/c", "./a/b/c", "/a/b/c", "a//b/./c"])
def test_one_file_by_any_spelling(tape: Tape, spelling: str, word: str) -> None:
    tape.write(archive(file("other"), file(spelling, b"wanted"), file("a/b/d")))
    assert tape.restore(word) == []
    assert [path for path in tape.out.rglob("*") if path.is_file()] == [tape.out / "a/b/c"]
    assert (tape.out / "a/b/c").read_bytes() == b"wanted"


def test_a_directory_comes_with_all_that_lies_in_it(tape: Tape) -> None:
    directory = file("a/b/", b"", type=tarfile.DIRTYPE, mode=0o750, mtime=1000)
    tape.write(archive(directory, file("a/b/one"), file("a/bother"), file("a/b/two/three")))
    tape.restore("a/b/")
    assert sorted(str(path.relative_to(tape.out)) for path in tape.out.rglob("*")) == [
        *("a", "a/b", "a/b/one", "a/b/two", "a/b/two/three")
    ]
    status = (tape.out / "a/b").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o750, 1000)
    assert "restored 2 files, 1 directory" in tape.said


def test_a_pattern_brings_the_newest_of_each_file(tape: Tape) -> None:
    tape.write(archive(file("x/one.odt", b"old"), file("x/two.odt", b"two"), file("x/three.txt")))
    tape.write(archive(file("./x/one.odt", b"new")), "A00002L9")
    tape.restore("*.odt")
    assert {path.name: path.read_bytes() for path in (tape.out / "x").iterdir()} == {
        "one.odt": b"new",
        "two.odt": b"two",
    }
    assert re.search(r"from A00002L9/0000, written by alpha, released 20.*: \./x/one\.odt", tape.said)
    assert "from A00001L9/0000" in tape.said


def test_a_member_with_the_letters_of_a_pattern_is_found_by_its_name(tape: Tape) -> None:
    tape.write(archive(file("a[1]"), file("a1")))
    tape.restore("a[1]")
    assert [path.name for path in tape.out.iterdir()] == ["a[1]"]


def test_a_directory_comes_from_one_tape_file(tape: Tape) -> None:
    tape.write(archive(file("d/deleted since"), file("d/kept", b"old")))
    tape.write(archive(file("d/kept", b"new")))
    tape.restore("d")
    assert {path.name: path.read_bytes() for path in (tape.out / "d").iterdir()} == {"kept": b"new"}


def test_the_newest_version_of_an_archive_that_was_appended_to(tape: Tape, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for version in ("first", "second"):
        (tree / "file").write_text(version)
        shell(f"tar {'c' if version == 'first' else 'r'}f ../archive.tar file", tree)
    tape.write((tmp_path / "archive.tar").read_bytes())
    assert tape.restore("file") == []
    assert (tape.out / "file").read_text() == "second"


def test_from_tells_the_tape_file(tape: Tape) -> None:
    for version in (b"0", b"1", b"2"):
        tape.write(archive(file("file", version)))
    tape.write(archive(file("file", b"elsewhere")), "A00002L9")
    for where, wanted in (
        ("A00001L9/1", b"1"),
        ("A00001L9/0000", b"0"),
        ("A00001L9", b"2"),
        ("A00002L9", b"elsewhere"),
    ):
        tape.restore("file", "--from", where, "--overwrite")
        assert (tape.out / "file").read_bytes() == wanted


def test_an_older_version_out_of_a_snapshot(tape: Tape, done: Done) -> None:
    tape.write(archive(file("file", b"then")))
    done("snapshot", "take", tape.path, "--name", "then")
    done("media", "erase", tape.path, "A00001L9", "--yes")
    tape.write(archive(file("file", b"now")))
    tape.restore("file")
    assert (tape.out / "file").read_bytes() == b"now"
    tape.restore("file", "--snapshot", "then", "--overwrite")
    assert (tape.out / "file").read_bytes() == b"then"


def test_what_is_erased_is_found_in_snapshots_only(tape: Tape, done: Done) -> None:
    tape.write(archive(file("file", b"then")))
    done("snapshot", "take", tape.path)
    done("media", "erase", tape.path, "A00001L9", "--yes")
    assert "no archive member 'file'" in tape.restore("file", status=1)[-1]
    tape.restore("file", "--snapshot", "latest")


# --- hard links -----------------------------------------------------------------------------------------------------


def test_a_hard_link_alone_comes_with_its_data(tape: Tape) -> None:
    tape.write(archive(file("first", b"data"), link("second", "first", tarfile.LNKTYPE), file("third")))
    tape.restore("second")
    assert (tape.out / "second").read_bytes() == b"data"
    assert [path.name for path in tape.out.iterdir()] == ["second"]


def test_hard_links_to_what_is_not_wanted_are_one_file(tape: Tape) -> None:
    links = [link(name, "first", tarfile.LNKTYPE) for name in ("d/a", "d/b")]
    tape.write(archive(file("first", b"data"), *links))
    tape.restore("d")
    assert (tape.out / "d/a").stat().st_ino == (tape.out / "d/b").stat().st_ino
    assert (tape.out / "d/a").read_bytes() == b"data"


@pytest.mark.parametrize("compress", ["cat", "gzip"])
@pytest.mark.parametrize("word", ["a", "b", "c", "*"])
def test_cpio_has_the_data_with_the_last_link(tape: Tape, tmp_path: Path, word: str, compress: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_text("data")
    for name in "bc":
        os.link(tree / "a", tree / name)
    tape.write(shell(f"printf '%s\\n' a b c | cpio --quiet -o -H newc | {compress}", tree))
    assert tape.restore(word) == []
    assert [(path.name, path.read_text()) for path in sorted(tape.out.iterdir())] == [
        (name, "data") for name in ("abc" if word == "*" else word)
    ]
    assert len({path.stat().st_ino for path in tape.out.iterdir()}) == 1


def test_a_hard_link_to_nothing_is_told(tape: Tape) -> None:
    tape.write(archive(link("a", "/etc/passwd", tarfile.LNKTYPE), file("b")))
    (failure,) = tape.restore(*EVERYTHING, status=1)
    assert failure.startswith("a: ")
    assert [path.name for path in tape.out.iterdir()] == ["b"]


def test_a_hard_link_to_what_was_not_restored_is_not_made(tape: Tape) -> None:
    tape.write(archive(file("a", b"tape"), link("b", "a", tarfile.LNKTYPE)))
    (tape.out / "a").write_text("mine")
    failures = tape.restore(*EVERYTHING, status=1)
    assert [failure.partition(":")[0] for failure in failures] == ["a", "b"]
    assert [path.name for path in tape.out.iterdir()] == ["a"]


# --- what is there already ------------------------------------------------------------------------------------------


def test_what_is_there_is_not_replaced(tape: Tape) -> None:
    tape.write(archive(file("a", b"tape"), file("b", b"tape")))
    (tape.out / "a").write_text("mine")
    (failure,) = tape.restore(*EVERYTHING, status=1)
    assert failure.startswith("a: exists already")
    assert ((tape.out / "a").read_text(), (tape.out / "b").read_text()) == ("mine", "tape")
    tape.restore("a", "--overwrite")
    assert (tape.out / "a").read_text() == "tape"


def test_a_directory_that_is_there_keeps_its_attributes(tape: Tape) -> None:
    tape.write(archive(file("d/", b"", type=tarfile.DIRTYPE, mode=0o700), file("d/a")))
    (tape.out / "d").mkdir(mode=0o755)
    tape.restore("d")
    assert stat.S_IMODE((tape.out / "d").stat().st_mode) == 0o755
    tape.restore("d", "--overwrite")
    assert stat.S_IMODE((tape.out / "d").stat().st_mode) == 0o700


# --- hostile archives -----------------------------------------------------------------------------------------------


def test_absolute_paths_end_beneath_the_directory(tape: Tape, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    tape.write(archive(file(str(victim))))
    tape.restore(str(victim))
    assert not victim.exists()
    assert (tape.out / str(victim).lstrip("/")).read_bytes() == b"data"


@pytest.mark.parametrize("name", ["../victim", "a/../../victim", "/../victim", "./../victim", "a/.."])
def test_a_path_that_leads_out_is_refused(tape: Tape, name: str) -> None:
    tape.write(archive(file(name), file("harmless")))
    (failure,) = tape.restore(*EVERYTHING, status=3)
    assert "has `..`" in failure
    assert [path.name for path in tape.out.iterdir()] == ["harmless"]
    assert not (tape.out.parent / "victim").exists()


@pytest.mark.parametrize("target", ["../away", "{away}", "."])
def test_no_link_of_the_archive_is_followed(tape: Tape, tmp_path: Path, target: str) -> None:
    away = tmp_path / "away"
    away.mkdir()
    tape.write(archive(link("d", target.format(away=away)), file("d/file"), file("d/e/file"), file("harmless")))
    failures = tape.restore(*EVERYTHING, status=1)
    assert len(failures) == 2
    assert all("is on the way, and is a link" in failure for failure in failures)
    assert list(away.iterdir()) == []
    assert (tape.out / "d").is_symlink()
    assert sorted(path.name for path in tape.out.iterdir()) == ["d", "harmless"]


def test_no_link_that_is_there_is_followed(tape: Tape, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "file").write_text("mine")
    (tape.out / "d").symlink_to(away)
    (tape.out / "f").symlink_to(away / "file")
    directory = file("d/", b"", type=tarfile.DIRTYPE, mode=0o777)
    tape.write(archive(directory, file("d/file"), file("d/new"), file("f", b"tape")))
    tape.restore(*EVERYTHING, "--overwrite", status=1)
    assert [(path.name, path.read_text()) for path in away.iterdir()] == [("file", "mine")]
    assert stat.S_IMODE(away.stat().st_mode) != 0o777
    assert (tape.out / "f").read_text() == "tape"
    assert not (tape.out / "f").is_symlink()


def test_a_directory_that_others_exchange_for_a_link_leads_nowhere(tape: Tape, tmp_path: Path) -> None:
    """Another program has a link in the place of a directory, now and then, while files are restored into it."""
    away = tmp_path / "away"
    away.mkdir()
    directory, aside = tape.out / "d", tape.out / "aside"
    tape.write(archive(file("d/", b"", type=tarfile.DIRTYPE), *(file(f"d/{number}") for number in range(400))))
    command = [*PROGRAM, "restore", tape.path, "d", "-C", str(tape.out)]
    exchanges = 0
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=PROJECT) as program:
        while program.poll() is None:
            try:
                directory.rename(aside)
                directory.symlink_to(away)
                exchanges += 1
                directory.unlink()
                aside.rename(directory)
            except OSError:  # not made yet, or made again by the program
                if directory.is_symlink():
                    directory.unlink()
    assert exchanges
    assert list(away.iterdir()) == []


def test_a_hard_link_through_a_link_is_refused(tape: Tape, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "file").write_text("mine")
    (tape.out / "d").symlink_to(away)
    tape.write(archive(file("d/file", b"tape"), link("stolen", "d/file", tarfile.LNKTYPE)))
    assert len(tape.restore(*EVERYTHING, status=1)) == 2
    assert not (tape.out / "stolen").exists()


def test_a_directory_in_the_place_of_a_file_and_the_other_way_round(tape: Tape) -> None:
    tape.write(archive(file("a"), file("a/b"), file("c/d"), file("c")))
    failures = tape.restore(*EVERYTHING, "--overwrite", status=1)
    assert [failure.partition(":")[0] for failure in failures] == ["a/b", "c"]
    assert sorted(path.name for path in tape.out.rglob("*")) == ["a", "c", "d"]


@pytest.mark.parametrize("compress", ["cat", "gzip", "zstd", "xz"])
def test_a_truncated_archive_gives_what_is_whole(tape: Tape, tmp_path: Path, compress: str) -> None:
    noise = os.urandom(200_000)
    (tmp_path / "whole.tar").write_bytes(archive(file("a", noise), file("b", os.urandom(200_000))))
    packed = shell(f"{compress} < whole.tar", tmp_path)
    tape.write(packed[: len(packed) - 20_000])
    failures = tape.restore(*EVERYTHING, status=3)
    assert failures[0].startswith("b: ")
    assert failures[1].startswith("A00001L9/0000: not all of it could be indexed, so files may be missing: ")
    assert [path.name for path in tape.out.iterdir()] == ["a"]
    assert (tape.out / "a").read_bytes() == noise


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "there already"])
@pytest.mark.parametrize("has_header", [False, True], ids=["only in paths", "with a header"])
def test_a_directory_of_a_truncated_archive_is_not_told_to_be_whole(
    tape: Tape, has_header: bool, is_there: bool
) -> None:
    directory = [file("d/", b"", type=tarfile.DIRTYPE, mode=0o755)] if has_header else []
    first = [*directory, file("d/a")]
    whole = archive(*first, file("d/b"))
    tape.write(whole[: len(first) * 1024 - 512 * has_header + 100])
    if is_there:
        (tape.out / "d").mkdir()
    (failure,) = tape.restore("d", status=3)
    assert "so files may be missing" in failure
    assert (tape.out / "d/a").read_bytes() == b"data"


def test_a_directory_of_a_tape_file_that_is_half_indexed_is_not_told_to_be_whole(tape: Tape) -> None:
    tape.write(archive(file("d/a"), file("d/b")))
    with closing(sqlite3.connect(f"{tape.path}/members.db")) as index, index:
        index.execute("UPDATE stream SET state = 'pending', bytes = 0, members = 1, last = last - 1")
    failures = tape.restore("d", status=3)
    assert any("files may be missing" in failure for failure in failures)
    assert (tape.out / "d/a").read_bytes() == b"data"


def test_a_bomb_is_not_unpacked_further_than_needed(tape: Tape, tmp_path: Path) -> None:
    """A GiB of zeros behind a small file takes little on the tape: nobody unpacks it, and nobody holds it in memory."""
    head = archive(file("small"))[:1024]
    (tmp_path / "head").write_bytes(head)
    bomb = tarfile.TarInfo("bomb")
    bomb.size = 1 << 30
    (tmp_path / "bomb").write_bytes(bomb.tobuf())
    tape.write(shell("(cat head bomb; head -c 1G /dev/zero) | zstd -1", tmp_path))
    command = [*PROGRAM, "restore", tape.path, "small", "-C", str(tape.out)]
    limited = ["prlimit", "--fsize=1000000", "--as=1500000000", *command]
    subprocess.run(limited, check=True, capture_output=True, cwd=PROJECT)
    assert (tape.out / "small").read_bytes() == b"data"


def test_garbage_where_the_index_has_a_member_is_told(tape: Tape) -> None:
    """The index is of other bytes than those on the tape."""
    tape.write(archive(file("a"), file("b")))
    index = sqlite3.connect(f"{tape.path}/members.db")
    index.execute("UPDATE member SET start = start + 512 WHERE start = 0")
    index.commit()
    index.close()
    (failure,) = tape.restore("a", status=3)
    assert "where the index says" in failure or "can't be read" in failure
    assert list(tape.out.iterdir()) == []


# --- damage ---------------------------------------------------------------------------------------------------------


def damage(shelf: Shelf, disk: int) -> None:
    (member,) = shelf.disks[disk].glob("sessions/*/*.member")
    with member.open("r+b") as opened:
        opened.seek(member.stat().st_size * 3 // 4)  # behind that come the zeros at the archive's end
        opened.write(bytes(8192))


def test_a_damaged_extent_is_named_and_the_rest_comes_back(tape: Tape) -> None:
    noise = [os.urandom(20_000) for _ in range(3)]
    tape.write(archive(*(file(f"f{number}", data) for number, data in enumerate(noise))))
    damage(tape.shelf, 1)
    (failure,) = tape.restore(*EVERYTHING, status=3)
    assert re.match(r"f2: session 1, the extent at offset \d+ on disk 1: ", failure)
    assert sorted(path.name for path in tape.out.iterdir()) == ["f0", "f1"]
    assert (tape.out / "f1").read_bytes() == noise[1]


def test_parity_makes_up_for_a_dead_disk(tmp_path: Path, run: Run, done: Done) -> None:
    tape = Tape(Shelf(tmp_path, disks=3, parity=1), run, done)
    data = os.urandom(100_000)
    tape.write(archive(file("a", data)))
    tape.shelf.disks[1].rename(tmp_path / "gone")
    tape.restore("a")
    assert (tape.out / "a").read_bytes() == data


# --- how much is read -----------------------------------------------------------------------------------------------


def test_only_the_extents_of_the_member_are_read(tape: Tape, tmp_path: Path) -> None:
    """What the program reads of the disks, as strace sees it, is the member, and not the 8 MiB around it."""
    noise = [os.urandom(1 << 20) for _ in range(8)]
    tape.write(archive(*(file(f"f{number}", data) for number, data in enumerate(noise))))
    log = tmp_path / "strace"
    command = [*PROGRAM, "restore", tape.path, "f4", "-C", str(tape.out)]
    calls = "trace=read,pread64,preadv,preadv2,readv,mmap"
    subprocess.run(
        ["strace", "-f", "-y", "-e", calls, "-o", log, *command], check=True, cwd=PROJECT, capture_output=True
    )
    lines = [line for line in log.read_text().splitlines() if ".member>" in line]
    assert not [line for line in lines if "mmap(" in line]
    total = sum(int(line.rpartition("=")[2]) for line in lines)
    assert (1 << 20) < total < 1.2 * (1 << 20)
    assert (tape.out / "f4").read_bytes() == noise[4]


# --- what a user may do wrong ---------------------------------------------------------------------------------------


def test_without_an_index(shelf: Shelf, refused: Refused) -> None:
    shelf.write("A00001L9", archive(file("a")))
    assert "nothing is indexed yet; `vtlfs index`" in refused(1, "restore", shelf.path, "a", "-C", shelf.root)


def test_a_tape_file_that_is_not_indexed_yet(tape: Tape, run: Run) -> None:
    tape.write(archive(file("a", b"old")))
    tape.shelf.write("A00001L9", archive(file("a", b"new"), file("b")))
    (line,) = tape.restore("a")
    assert line.startswith("1 tape file not indexed yet")
    assert (tape.out / "a").read_bytes() == b"old"
    failures = tape.restore("b", "--from", "A00001L9/1", status=1)
    assert "A00001L9/0001, which is not indexed yet; run `vtlfs index` first" in failures[-1]


def test_a_tape_file_that_is_no_archive(tape: Tape) -> None:
    tape.write(b"no archive" * 100)
    (line,) = tape.restore("b", "--from", "A00001L9/0", status=1)
    assert "`vtlfs extract` gets all of it" in line


def test_wrong_words(tape: Tape, refused: Refused) -> None:
    tape.write(archive(file("a")))
    assert "no archive member 'nothing'" in refused(1, "restore", tape.path, "nothing", "-C", tape.out)
    assert "--from MEDIUM/FILE" in refused(2, "restore", tape.path, "/", "-C", tape.out)
    assert "write it like" in refused(2, "restore", tape.path, "a", "--from", "A00001L9/x", "-C", tape.out)
    assert "no medium 'X1'" in refused(1, "restore", tape.path, "a", "--from", "X1", "-C", tape.out)
    assert "no tape file 7" in refused(1, "restore", tape.path, "a", "--from", "A00001L9/7", "-C", tape.out)
    assert "does not exist" in refused(2, "restore", tape.path, "a", "-C", tape.out / "nowhere")
    assert "no snapshot" in refused(1, "restore", tape.path, "a", "--snapshot", "9", "-C", tape.out)


def test_what_can_not_be_written_is_told(tape: Tape, full_disk: Path) -> None:
    tape.write(archive(file("a", os.urandom(100_000)), file("b", os.urandom(50_000))))
    tape.out = full_disk
    failures = tape.restore(*EVERYTHING, status=1)
    assert [failure.partition(":")[0] for failure in failures] == ["a", "b"]
    assert all("No space left" in failure for failure in failures)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_restore_leaves_whole_files(tape: Tape, number: signal.Signals) -> None:
    noise = os.urandom(1 << 20)
    tape.write(archive(*(file(f"f{place:02d}", noise) for place in range(40))))
    command = [*PROGRAM, "restore", tape.path, *EVERYTHING, "-C", str(tape.out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=PROJECT) as program:
        while program.poll() is None and len(list(tape.out.iterdir())) < 2:
            time.sleep(0.001)
        program.send_signal(number)
        _, said = program.communicate()
    left = list(tape.out.iterdir())
    assert all(path.read_bytes() == noise for path in left)
    assert len(left) == 40 or (program.returncode == 128 + number and "interrupted; restored" in said)


@needs_root
def test_who_is_not_root_gets_the_file_and_keeps_the_umask(tmp_path: Path) -> None:
    """The flags of a user, with what only root could do: nothing of it is done."""
    trees.make(tmp_path / "tree")
    (tmp_path / "out").mkdir()
    before = os.umask(0o027)
    try:
        for name in ("file", "suid"):
            data = shell(f"tar --format=posix --xattrs --xattrs-include='*' --acls -cf - {name}", tmp_path / "tree")
            member = ArchiveMember(1, 1, name, Kind.FILE, 0, None, None, 0, len(data), 0, "tar", "none")
            with closing(Extraction(member, iter((data, b"")).__next__)) as extraction:
                assert extraction.write(os.fsencode(tmp_path / "out" / name), AS_USER) == []
    finally:
        os.umask(before)
    restored = trees.read(tmp_path / "out")
    assert {name for name, _ in restored[b"file"].xattrs} <= {"user.colour", "system.posix_acl_access"}
    assert restored[b"file"].owner == (os.getuid(), os.getgid())
    assert stat.S_IMODE(restored[b"suid"].mode) == 0o750
    assert restored[b"file"].content == trees.read(tmp_path / "tree")[b"file"].content


@needs_root
@pytest.mark.parametrize("flag", ["i", "a"])
def test_a_file_that_must_not_change_comes_back_without_that_flag(tape: Tape, tmp_path: Path, flag: str) -> None:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/a").write_text("data")
    os.link(tree / "d/a", tree / "d/b")
    if subprocess.run(["chattr", f"+{flag}", tree / "d", tree / "d/a"], capture_output=True).returncode:
        pytest.skip("this file system has no such flags")
    try:
        tape.write(shell("bsdtar -cf - d", tree))
        (failure,) = tape.restore(*EVERYTHING, status=1)
        assert "restored, but not immutable or append-only" in failure
        assert [(tape.out / "d" / name).read_text() for name in "ab"] == ["data"] * 2
        assert flag in shell(f"lsattr -d {tape.out / 'd'}", tree).decode().split()[0]
    finally:
        subprocess.run(["chattr", "-R", f"-{flag}", tree, tape.out], check=True, capture_output=True)


# --- where nothing is restored to -----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["library", "library/mounts", "disk0", "link"])
def test_nothing_is_restored_into_the_library_or_its_disks(tape: Tape, refused: Refused, where: str) -> None:
    tape.write(archive(file("a")))
    (tape.shelf.root / "link").symlink_to(tape.shelf.disks[1])
    directory = tape.shelf.root / where
    before = set(directory.iterdir())
    assert "is inside the library" in refused(2, "restore", tape.path, "a", "-C", directory)
    assert set(directory.iterdir()) == before


@pytest.mark.parametrize("name", ["library/tracking.db", "library/mounts/x", "disk0/x", "library/"])
def test_no_archive_leads_into_the_library_from_a_directory_above_it(tape: Tape, name: str) -> None:
    member = file(name, b"", type=tarfile.DIRTYPE, mode=0o777) if name.endswith("/") else file(name, b"not SQLite")
    tape.write(archive(member, file("harmless")))
    tape.out = tape.shelf.root
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tape.shelf.library.path, *tape.shelf.disks)]
    (failure,) = tape.restore(*EVERYTHING, "--overwrite", status=3)
    assert "would lie inside the library or one of its disks" in failure
    assert modes == [stat.S_IMODE(path.stat().st_mode) for path in (tape.shelf.library.path, *tape.shelf.disks)]
    assert (tape.shelf.root / "harmless").read_bytes() == b"data"
    tape.out = tape.shelf.root / "out"
    tape.restore("harmless")  # the catalogue is as it was


def test_nothing_is_extracted_into_the_library(tape: Tape, refused: Refused) -> None:
    tape.write(b"not SQLite")
    target = f"{tape.path}/tracking.db"
    assert "is inside the library" in refused(2, "extract", tape.path, "A00001L9", "-o", target)


# --- a crash --------------------------------------------------------------------------------------------------------


def test_a_crash_of_what_reads_archives_ends_nobody_else(tape: Tape) -> None:
    """The process that runs libarchive dies, as by a fault in it: a member is told, and the others come back."""
    tape.write(archive(*(file(f"f{number:04d}", os.urandom(5000)) for number in range(2000))))
    command = [*PROGRAM, "restore", tape.path, *EVERYTHING, "-C", str(tape.out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=PROJECT) as program:
        while not any(tape.out.iterdir()):
            assert program.poll() is None
        (worker,) = workers(program)
        os.kill(int(worker), signal.SIGSEGV)
        _, said = program.communicate()
    failures = [line for line in said.splitlines() if "died by signal 11: the archive is damaged" in line]
    assert (len(failures), program.returncode) == (1, 3)
    assert len(list(tape.out.iterdir())) == 1999


def workers(program: "subprocess.Popen[str]") -> list[str]:
    """Return the children of all threads of a process."""
    return [
        child
        for task in Path(f"/proc/{program.pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


# --- what tar itself has split, and what holds for all members -------------------------------------------------------


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_file_that_tar_has_split_is_refused_and_tar_puts_it_together(
    tape: Tape, tmp_path: Path, done: Done, form: str
) -> None:
    """The parts are two tape files of one medium. What lies whole in one of them comes back."""
    noise = os.urandom(200_000)
    (tmp_path / "big").write_bytes(noise)
    (tmp_path / "small").write_bytes(b"small")
    shell(f"tar --format={form} -cM -L 150 -f v0 -f v1 big small", tmp_path)
    for part in ("v0", "v1"):
        tape.write((tmp_path / part).read_bytes())
    (failure,) = tape.restore("big", status=3)
    assert ("`tar -xM` puts it together" if form == "gnu" else "can't be read to its end") in failure
    assert list(tape.out.iterdir()) == []
    assert tape.restore("small") == []
    assert (tape.out / "small").read_bytes() == b"small"
    for number in (0, 1):
        done("extract", tape.path, "A00001L9", number, "-o", tmp_path / f"t{number}")
    (tmp_path / "together").mkdir()
    shell("tar -xM -f ../t0 -f ../t1", tmp_path / "together")
    assert (tmp_path / "together" / "big").read_bytes() == noise


@pytest.mark.parametrize("compress", ["cat", "gzip"])
def test_a_pax_global_header_is_told_and_not_applied(tape: Tape, tmp_path: Path, compress: str) -> None:
    """`git archive` writes a comment, which nobody needs."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("data")
    tape.write(shell(f"tar --format=posix --pax-option=mtime=@5 -cf - d | {compress}", tmp_path))
    (failure,) = tape.restore("d", status=3)
    assert "not applied is what a pax global header at byte 0 says of all members: mtime" in failure
    assert (tape.out / "d" / "file").read_text() == "data"
    tape.write(shell(f"tar --format=posix --pax-option=comment=abc -cf - d | {compress}", tmp_path))
    assert tape.restore("d", "--overwrite") == []

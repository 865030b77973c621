"""What is found in archives that real programs have made, and in hostile ones."""

import gzip
import os
import random
import subprocess
from pathlib import Path

import pytest
from archives import LONG, MAKERS, NOT_UTF8, FileSource, begun, header, make_tree, members, remarks, walk

from vtlfs.members import archive
from vtlfs.members.values import Kind

PLAIN = [name for name in MAKERS if "." not in name]
END = bytes(1024)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"))


def names_of(tree: Path) -> set[str]:
    found = {"tree"}
    for directory, folders, files in os.walk(os.fsencode(tree.parent)):
        relative = os.path.relpath(directory, os.fsencode(tree.parent))
        found |= {os.fsdecode(os.path.normpath(os.path.join(relative, name))) for name in (*folders, *files)}
    return found


@pytest.mark.parametrize("form", MAKERS)
def test_every_member_is_found_with_its_kind_and_size(form: str, tree: Path, tmp_path: Path) -> None:
    MAKERS[form](tree, tmp_path / "a")
    found = walk(tmp_path / "a")
    assert remarks(found) == []
    assert [(one.format, one.compression == "none") for one in begun(found)] == [
        ("cpio" if form.startswith(("cpio", "newc", "odc", "crc")) else "tar", "." not in form)
    ]
    known = {member.path: member for member in members(found)}
    wanted = names_of(tree)
    if form in ("v7", "ustar"):
        wanted = {name for name in wanted if LONG not in name} - ({"tree/fifo"} if form == "v7" else set())
    assert known.keys() == wanted
    assert len(members(found)) == len(known)
    assert known["tree/big"].size == 3_000_001
    assert known["tree/sparse"].size == 5_000_013
    assert known["tree/sub"].kind is Kind.DIRECTORY
    assert (known["tree/link"].kind, known["tree/link"].link) == (Kind.SYMLINK, "sub/deeper")
    hard = next(known[name] for name in ("tree/hard", "tree/small") if known[name].kind is Kind.HARD_LINK)
    assert hard.link in {"tree/hard", "tree/small"} - {hard.path}
    assert known["tree/big"].mtime == int((tree / "big").stat().st_mtime)
    assert "tree/sub/" + os.fsdecode(NOT_UTF8) in known


@pytest.mark.parametrize("form", [form for form in PLAIN if form not in ("newc", "odc", "crc")])
def test_the_bytes_between_start_and_end_are_a_tar_of_that_member_alone(form: str, tree: Path, tmp_path: Path) -> None:
    MAKERS[form](tree, tmp_path / "a")
    raw = (tmp_path / "a").read_bytes()
    for member in members(walk(tmp_path / "a")):
        piece = raw[member.start : member.end] + END
        listed = subprocess.run(
            ["tar", "--quoting-style=literal", "-tf", "-"], input=piece, capture_output=True, check=True
        )
        assert listed.stdout.rstrip(b"/\n") == os.fsencode(member.path).rstrip(b"\n")
        if member.kind is Kind.FILE:
            out = subprocess.run(["tar", "-xOf", "-"], input=piece, capture_output=True, check=True).stdout
            with open(os.fsencode(tree.parent) + b"/" + os.fsencode(member.path), "rb") as file:
                assert out == file.read()


def test_archives_behind_one_another_are_found_with_where_they_are(tree: Path, tmp_path: Path) -> None:
    for name in ("gnu", "newc", "pax", "tar.gzip"):
        MAKERS[name](tree, tmp_path / name)
    whole = b"".join((tmp_path / name).read_bytes() for name in ("gnu", "newc", "pax", "tar.gzip"))
    (tmp_path / "all").write_bytes(whole)
    found = walk(tmp_path / "all")
    assert remarks(found) == []
    assert [(one.format, one.compression) for one in begun(found)] == [
        *(("tar", "none"), ("cpio", "none"), ("tar", "none"), ("tar", "gzip"))
    ]
    starts = [
        sum((tmp_path / name).stat().st_size for name in ("gnu", "newc", "pax", "tar.gzip")[:n]) for n in range(4)
    ]
    assert [one.start for one in begun(found)] == starts
    assert len(members(found)) == 4 * len(names_of(tree))


def test_archives_behind_one_another_in_compressed_data_are_found(tree: Path, tmp_path: Path) -> None:
    MAKERS["gnu"](tree, tmp_path / "one")
    MAKERS["newc"](tree, tmp_path / "two")
    one, two = (tmp_path / "one").read_bytes(), (tmp_path / "two").read_bytes()
    (tmp_path / "a.gz").write_bytes(gzip.compress(one) + gzip.compress(two))
    found = walk(tmp_path / "a.gz")
    assert [(one.start, one.format, one.compression) for one in begun(found)] == [
        (0, "tar", "gzip"),
        (0, "cpio", "gzip"),
    ]
    second = members(found)[len(names_of(tree)) :]
    assert second[0].start == len(one)
    assert remarks(found) == []


def test_the_data_of_large_members_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as file:
        for number in range(20):
            file.write(header(f"large/{number}", 64 << 20))
            file.seek(64 << 20, os.SEEK_CUR)
        file.write(END)
    source = FileSource(tmp_path / "a")
    assert len(members(list(archive.walk(source)))) == 20
    assert source.handed < 20 * (2 << 20)


@pytest.mark.parametrize("kept", [100, 512, 513, 700_000, 3_000_000])
def test_a_truncated_archive_is_read_as_far_as_it_goes(kept: int, tree: Path, tmp_path: Path) -> None:
    MAKERS["gnu"](tree, tmp_path / "a")
    whole = members(walk(tmp_path / "a"))
    os.truncate(tmp_path / "a", kept)
    found = walk(tmp_path / "a")
    assert len(remarks(found)) == (kept != 512)  # which is a tar of one directory, without its end
    known = members(found)
    assert [member.path for member in known] == [member.path for member in whole][: len(known)]
    assert len(known) >= sum(member.end <= kept for member in whole)
    assert all(member.end <= kept for member in known)


@pytest.mark.parametrize("junk", [512, 5120, 51200])
def test_an_archive_behind_something_else_in_whole_blocks_is_found(junk: int, tree: Path, tmp_path: Path) -> None:
    """As that of Amanda, which writes a header of 32 KiB, and tars behind what is damaged."""
    MAKERS["gnu"](tree, tmp_path / "a")
    raw = (tmp_path / "a").read_bytes()
    noise = random.Random(junk).randbytes(junk)
    (tmp_path / "b").write_bytes(b"AMANDA: FILE".ljust(32768) + raw + b"#" + noise[1:] + raw)
    found = walk(tmp_path / "b")
    assert [one.start for one in begun(found)] == [32768, 32768 + len(raw) + junk]
    assert len(members(found)) == 2 * len(names_of(tree))


def test_a_damaged_header_costs_its_own_member_and_no_other(tree: Path, tmp_path: Path) -> None:
    MAKERS["gnu"](tree, tmp_path / "a")
    raw = bytearray((tmp_path / "a").read_bytes())
    whole = members(walk(tmp_path / "a"))
    hurt = next(member for member in whole if member.path == "tree/small" and member.start)
    raw[hurt.start + 148] ^= 0x7F  # its checksum
    (tmp_path / "b").write_bytes(raw)
    found = walk(tmp_path / "b")
    assert {member.path for member in members(found)} == {member.path for member in whole} - {hurt.path}
    assert remarks(found)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"age-encryption.org/v1\n" + bytes(5000), "it is encrypted: age"),
        (b"Salted__" + bytes(range(256)) * 20, "it is encrypted: openssl enc"),
        (b"-----BEGIN PGP MESSAGE-----\n", "it is encrypted: OpenPGP"),
        (b"\x8c\x0d\x04\x09\x03\x02" + bytes(range(256)), "it is encrypted: OpenPGP"),
        (
            bytes(8) + b"\x01\x02\x03\x04BB02" + bytes(range(200)),
            "it is a Bacula volume, which only Bacula reads (`bls`)",
        ),
        (b"PGDMP\x01", "it is a dump of pg_dump, which pg_restore reads"),
        (b"random text, and nothing else\n" * 1000, "it begins with none of the formats that are read"),
        (bytes(20_000), "it is only zeros"),
        (gzip.compress(b"text\n" * 1000), "in gzip: it begins with none of the formats that are read"),
        (gzip.compress(b"PGDMP\x01"), "in gzip: it is a dump of pg_dump, which pg_restore reads"),
        (b"\x1f\x8b\x08" + b"no deflate" * 10, None),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 100, None),
    ],
    ids="age openssl pgp gpg bacula pg_dump text zeros text.gz pg_dump.gz no.gz no.zst".split(),
)
def test_what_is_no_archive_is_unknown_with_the_reason(content: bytes, reason: str | None, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    found = walk(tmp_path / "a")
    assert members(found) == []
    assert [one.is_unknown for one in remarks(found)] == [True]
    assert reason in (None, remarks(found)[0].text)


def test_a_real_dump_is_named(tmp_path: Path) -> None:
    image, where = tmp_path / "image", tmp_path / "mounted"
    with open(image, "wb") as file:
        file.truncate(4 << 20)
    where.mkdir()
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, where], check=False).returncode:
        pytest.skip("no loop device can be had here")
    try:
        subprocess.run(["dump", "-0", "-f", tmp_path / "a", where], check=True, capture_output=True)
    finally:
        subprocess.run(["umount", where], check=True)
    assert [one.text for one in remarks(walk(tmp_path / "a"))] == ["it is a dump, which only restore(8) reads"]


def test_hostile_names_are_found_as_they_are(tmp_path: Path) -> None:
    names = ["/etc/passwd", "../../up", "./here", "a//b", "-rf", "\x1b[31m", "new\nline", "trailing "]
    (tmp_path / "a").write_bytes(b"".join(map(header, names)) + END)
    assert [member.path for member in members(walk(tmp_path / "a"))] == names


def test_a_name_that_no_system_call_takes_is_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(header("x/" * 3000 + "x") + header("y") + END)
    found = walk(tmp_path / "a")
    assert [member.path for member in members(found)] == ["y"]
    assert [one.text for one in remarks(found)] == [
        "members without a name of 1 to 4096 bytes are left out, from byte 0 on"
    ]


@pytest.mark.parametrize("form", [form for form in PLAIN if form not in ("newc", "odc", "crc")])
def test_a_walk_goes_on_at_any_header(form: str, tree: Path, tmp_path: Path) -> None:
    """As after an interruption: the rest is what the whole walk has found there."""
    MAKERS[form](tree, tmp_path / "a")
    whole = members(walk(tmp_path / "a"))
    for place in range(1, len(whole)):
        rest = list(archive.walk(FileSource(tmp_path / "a"), whole[place].start))
        assert [one.start for one in begun(rest)] == [whole[place].start]
        assert (members(rest), remarks(rest)) == (whole[place:], [])


def test_a_size_that_is_not_there_ends_the_archive(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(header("huge", 8**11 - 1) + b"few bytes")
    found = walk(tmp_path / "a")
    assert [(member.path, member.end) for member in members(found)] == [("huge", 512 + 9)]
    assert len(remarks(found)) == 1


@pytest.mark.parametrize("seed", range(int(os.environ.get("VTLFS_FUZZ", "3")) * 10))
def test_a_damaged_archive_never_takes_the_walk_out_of_the_file(seed: int, tree: Path, tmp_path: Path) -> None:
    chance = random.Random(seed)
    form = chance.choice(list(MAKERS))
    MAKERS[form](tree, tmp_path / "a")
    raw = bytearray((tmp_path / "a").read_bytes())
    for _ in range(chance.randint(1, 30)):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    place = chance.randrange(len(raw))
    raw[place : place + chance.randrange(2000)] = chance.randbytes(chance.randrange(2000))
    (tmp_path / "b").write_bytes(raw)
    for member in members(walk(tmp_path / "b")):
        assert 0 <= member.start <= member.end
        assert "." in form or member.end <= len(raw)

"""Media are exported, imported and copied beside live mounts, while streams run."""

import json
import subprocess
from pathlib import Path

from mounting import PROGRAM, PROJECT, SECONDS, Mounted, OnDisks, random_bytes, shell, wait_until

MIB = 1 << 20
DATA = [random_bytes(number, size) for number, size in enumerate((5 * MIB + 17, 1, 3 * MIB))]


def other_library(root: Path) -> OnDisks:
    root.mkdir()
    return OnDisks(root, disks=3, parity=1, unit=65536, media="U1..U2")


def write(mounted: Mounted, barcode: str, data: bytes) -> None:
    subprocess.run(["dd", f"of={mounted.medium(barcode)}", "bs=64K", "status=none"], input=data, check=True)


def want_released(library: OnDisks, barcode: str, count: int) -> None:
    wait_until(lambda: len(library.tape_files(barcode)) == count, "the releases")


def test_export_and_import_under_live_mounts_with_streams(library: OnDisks, tmp_path: Path) -> None:
    other = other_library(tmp_path / "other")
    with library.mounted("host=alpha") as mounted, other.mounted("host=beta", at=tmp_path / "there") as there:
        for data in DATA:
            write(mounted, "T1", data)
        want_released(library, "T1", len(DATA))
        with open(mounted.medium("T1"), "wb", 0) as stream, open(there.medium("U1"), "wb", 0) as stream_there:
            stream.write(DATA[0])
            stream_there.write(DATA[0])
            library.vtlfs("media", "export", library.path, "T1", "T2", "-o", tmp_path / "out")
            files = [(tmp_path / "out" / "T1" / f"{number:04d}").read_bytes() for number in range(len(DATA))]
            assert files == DATA, "without the stream that is open"
            other.vtlfs("media", "import", other.path, tmp_path / "out")
            assert there.medium("T1").read_bytes() == b"".join(DATA)
            stream.write(DATA[1])
            stream_there.write(DATA[1])
        want_released(other, "U1", 1)
        assert there.medium("U1").read_bytes() == DATA[0] + DATA[1]
        want_released(library, "T1", len(DATA) + 1)
        library.vtlfs("media", "copy", library.path, "T1", other.path)
        for number in range(len(DATA) + 1):
            shell(f"cmp {mounted.file('T1', number)} {there.file('T1', number)}")
        hosts = [one["host"] for one in other.listed("--medium", "T1") if one["access"] == "write"]
        assert hosts == ["alpha"] * (len(DATA) + 1)
        assert json.loads((there.path / "sessions" / str(other.tape_files("T1")[0].session)).read_text())["origin"]
    other.vtlfs("verify", other.path)


def test_a_stream_that_comes_between_ends_the_import(library: OnDisks, tmp_path: Path) -> None:
    """The next tape file that is to come would get another number."""
    other = other_library(tmp_path / "other")
    with library.mounted() as mounted:
        for data in DATA:
            write(mounted, "T1", data)
        want_released(library, "T1", len(DATA))
    stream = subprocess.run(
        [*PROGRAM, "media", "export", library.path, "T1", "-o", "-"], capture_output=True, cwd=PROJECT, check=True
    ).stdout
    other.add("T1")
    words = [*PROGRAM, "media", "import", str(other.path), "-"]
    with other.mounted(at=tmp_path / "there") as there:
        with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT) as process:
            assert process.stdin
            process.stdin.write(stream[: 4 * MIB])
            process.stdin.flush()
            wait_until(lambda: other.listed("--open", "--medium", "T1"), "the import's session")
            write(there, "T1", b"x")
            want_released(other, "T1", 1)
            _, said = process.communicate(stream[4 * MIB :], timeout=SECONDS)
        assert process.returncode == 2
        assert b"another stream was written to it meanwhile" in said
        assert there.medium("T1").read_bytes() == b"x"
    other.vtlfs("verify", other.path)

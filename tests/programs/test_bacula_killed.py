"""The real Bacula whose mount is killed in the middle of a job: the repair that docs/programs.md tells of.

The daemon has noted more bytes of its volume than a mount has kept. What is kept ends where one of its blocks ends.
"""

import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

from bacula import Bacula, require_bacula, termination
from mounting import OnDisks, random_bytes, require_fuse, wait_until
from test_bacula import change, tool, want_same

from vtlfs.model import MIB

RULE = '\n[media."VOL*"]\non_truncate = "erase"\n'
LARGE = 60_000_000  # bytes of the source, at 4 MB a second
HEADER = 24  # bytes of a block's header; its length stands in bytes 4 to 7
BLOCK = 64_512  # the largest block


def blocks(volume: bytes) -> int:
    """Return how many blocks a volume of Bacula's has. Want it to end with the last one."""
    offset = number = 0
    while offset < len(volume):
        header = volume[offset : offset + HEADER]
        assert header[12:16] == b"BB02", (number, offset)
        length = int.from_bytes(header[4:8], "big")
        assert HEADER < length <= BLOCK
        offset, number = offset + length, number + 1
    assert offset == len(volume)
    return number


def volume_bytes(bacula: Bacula, name: str) -> int:
    """Return how many bytes the catalogue says a volume has."""
    said = bacula.console("sql", f"SELECT VolBytes FROM Media WHERE VolumeName='{name}';", "")
    found = re.search(r"^\| +([0-9,]+) +\|$", said, re.MULTILINE)
    assert found is not None, said
    return int(found[1].replace(",", ""))


def test_a_volume_whose_mount_was_killed_is_repaired_and_goes_on(tmp_path: Path) -> None:
    require_fuse()
    require_bacula()
    library = OnDisks(tmp_path, media="VOL0001..VOL0002")
    library.checkpoint_every("0.1s")
    with open(library.path / "library.toml", "a") as file:
        file.write(RULE)
    with ExitStack() as daemons:
        with library.mounted(checked=False) as mounted:
            bacula = Bacula(tmp_path / "bacula", mounted.path / "media", volume_bytes=1_000_000_000)
            slow = bacula.root / "bacula-fd.conf"
            slow.write_text(
                slow.read_text().replace("FileDaemon {", "FileDaemon {\n Maximum Bandwidth Per Job = 4mb/s")
            )
            daemons.enter_context(bacula.running())
            change(bacula, 1)
            assert termination(bacula.back_up()) == "Backup OK"
            (bacula.source / "large").write_bytes(random_bytes(2, LARGE))
            bacula.console("run job=Backup yes")
            wait_until(lambda: recorded(library) > 3 * MIB, "a stream that is recorded in part")
            mounted.kill()
            wait_until(lambda: "Full" in bacula.console("list volume=VOL0001"), "the volume that has failed")
            bacula.console("cancel jobid=2 yes", "wait")
            subprocess.run(["umount", "-l", mounted.path], check=True)  # the daemon may have it open
        noted = volume_bytes(bacula, "VOL0001")

        with library.mounted(expects=["1 of its sessions were ended"]) as mounted:
            [whole, cut] = library.tape_files("VOL0001")
            assert library.session(cut.session).state == "recovered"
            volume = mounted.medium("VOL0001").read_bytes()
            assert 3 * MIB < cut.bytes < LARGE
            assert len(volume) == whole.bytes + cut.bytes <= noted  # less, unless it died at a checkpoint
            assert blocks(volume) > blocks(volume[: whole.bytes]) + 3 * MIB // BLOCK

            said = tool(
                bacula, "bscan", "-v", "-m", "-n", "bacula", "-w", bacula.root / "work", "-V", "VOL0001", "Tape"
            )
            assert "Updated Media record at end of Volume: VOL0001" in said
            assert 0 < volume_bytes(bacula, "VOL0001") <= len(volume)
            for name in ("VOL0001", "VOL0002"):
                bacula.console(f"update volume={name} volstatus=Append")

            (bacula.source / "large").unlink()
            change(bacula, 3)
            report = bacula.back_up()
            assert termination(report) == "Backup OK", report
            assert 'Volume "VOL0001" previously written, moving to end of data' in report
            assert mounted.medium("VOL0001").read_bytes()[: len(volume)] == volume
            blocks(mounted.medium("VOL0001").read_bytes())
            assert termination(report := bacula.restore()) == "Restore OK", report
            want_same(bacula.source, bacula.what_was_restored())
            listed = tool(bacula, "bls", "-j", "-V", "VOL0001", "Tape")
            assert re.findall(r"Begin Job Session Record: .* JobId=([0-9]+)", listed) == ["1", "2", "3"]
            assert re.findall(r"End Job Session Record: .* JobId=([0-9]+)", listed) == ["1", "3"]


def recorded(library: OnDisks) -> int:
    """Return how many bytes are recorded of the stream that is open."""
    return sum(one["bytes"] for one in library.listed("--open") if one["access"] == "write")

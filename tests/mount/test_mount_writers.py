"""`vtlfs sessions` shows the program that writes, which is not always the one that opened the file."""

import subprocess

import pytest
from mounting import OnDisks


@pytest.mark.parametrize("io", ["auto", "cached", "direct"])
@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("tar cf - -C /etc hostname > {0}", "tar"),
        ("head -c 3000000 /dev/zero | gzip > {0}", "gzip"),
        ("{{ head -c 3000000 /dev/zero; sleep 0; }} > {0}; :", "head"),
        ("exec 3> {0}; head -c 3000000 /dev/zero | tee /dev/null >&3; :", "tee"),
        ("echo a line of the shell itself > {0}; :", "bash"),
        ("tar cf {0} -C /etc hostname", "tar"),
    ],
)
def test_program_of_a_redirection_is_the_one_that_writes(library: OnDisks, io: str, script: str, wanted: str) -> None:
    with library.mounted(f"io={io}") as mount:
        subprocess.run(["bash", "-c", script.format(mount.path / "drives/0/T1")], check=True, timeout=60)
        assert [one["program"] for one in library.listed()] == [wanted]
    assert [one["program"] for one in library.listed()] == [wanted]
    library.vtlfs("check", library.path)


def test_rebuild_knows_the_program_that_wrote(library: OnDisks) -> None:
    with library.mounted() as mount:
        subprocess.run(["bash", "-c", f"head -c 3000000 /dev/zero > {mount.path}/drives/0/T1"], check=True, timeout=60)
    for name in ("tracking.db", "tracking.db-wal", "tracking.db-shm"):
        (library.path / name).unlink(missing_ok=True)
    for copy in (path for disk in library.disks for path in disk.rglob("*.db*")):
        copy.unlink()
    library.vtlfs("rebuild", library.path, status=3)  # media that nobody wrote to are lost
    assert [one["program"] for one in library.listed()] == ["head"]

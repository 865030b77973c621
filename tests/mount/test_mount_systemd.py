"""systemd's own generator and check of units, run on the line that `vtlfs fstab` prints."""

import os
import shlex

import pytest
from machine import Machine

GENERATOR = "/lib/systemd/system-generators/systemd-fstab-generator"


@pytest.fixture
def disks(machine: Machine, name: str) -> list[str]:
    """A library and two disks, each on a file system of its own; return the mount points."""
    if not os.path.exists(GENERATOR):
        assert not os.environ.get("CI"), "there is no systemd, and CI refuses to skip"
        pytest.skip("there is no systemd")
    mounted = [f"/mnt/{name}/{one}" for one in ("srv", "disk 1", "disk,2")]
    for place in mounted:
        machine.run(f"mkdir -p '{place}'; mount -t tmpfs tmpfs '{place}'")
    machine.run(f"mkdir '{mounted[1]}/a' {name}/vtl")
    machine.vtlfs(f"init {name}/srv/library --disk '{mounted[1]}/a' --disk '{mounted[2]}'")
    return mounted


def units(machine: Machine, name: str, line: str) -> dict[str, dict[str, str]]:
    """Return the units that the generator makes of a line of fstab; assert that systemd accepts them."""
    (machine.root / "mnt" / name / "fstab").write_text(line)
    machine.run(f"cd {name}; mkdir -p units; SYSTEMD_FSTAB=$PWD/fstab {GENERATOR} units units units")
    assert machine.run(f"cd {name}; systemd-analyze verify --man=no units/*.mount") == ""
    found = {}
    for path in sorted((machine.root / "mnt" / name / "units").rglob("*")):
        where = str(path.relative_to(machine.root / "mnt" / name / "units"))
        if path.is_symlink():
            found[where] = {"link": os.readlink(path)}
        elif path.is_file():
            found[where] = dict(text.split("=", 1) for text in path.read_text().splitlines() if "=" in text)
    return found


def unit_name(machine: Machine, path: str, suffix: str = "mount") -> str:
    """Return systemd's name for the mount at a path."""
    return machine.run(f"systemd-escape --path --suffix={suffix} {shlex.quote(path)}").strip()


def test_line_makes_a_unit_that_waits_for_the_disks(machine: Machine, name: str, disks: list[str]) -> None:
    line = machine.vtlfs(f"fstab {name}/srv/library {name}/vtl -o host=alpha,x-systemd.mount-timeout=3min")
    made = units(machine, name, line)
    unit = unit_name(machine, f"/mnt/{name}/vtl")
    mount = made[unit]
    assert (mount["What"], mount["Where"], mount["Type"]) == (
        f"/mnt/{name}/srv/library",
        f"/mnt/{name}/vtl",
        "vtlfs",
    )
    assert mount["Options"].startswith("host=alpha,x-systemd.mount-timeout=3min,nofail,_netdev,")
    assert shlex.split(mount["RequiresMountsFor"]) == disks
    assert mount["TimeoutSec"] == "3min"
    assert "Before" not in mount  # nofail: nothing waits for it
    assert f"remote-fs.target.wants/{unit}" in made  # _netdev: with the remote ones, after all local ones
    assert not any("requires" in path for path in made)


def test_with_parity_the_unit_waits_for_the_disks_and_needs_none(machine: Machine, name: str, disks: list[str]) -> None:
    toml = machine.root / "mnt" / name / "srv/library/library.toml"
    toml.write_text(toml.read_text().replace("parity = 0", "parity = 1"))
    line = machine.vtlfs(f"fstab {name}/srv/library {name}/vtl")
    made = units(machine, name, line)
    mount = made[unit_name(machine, f"/mnt/{name}/vtl")]
    assert shlex.split(mount["RequiresMountsFor"]) == disks[:1]  # that of the library
    text = (machine.root / "mnt" / name / "units" / unit_name(machine, f"/mnt/{name}/vtl")).read_text()
    after = [unit for one in text.splitlines() if one.startswith("After=") for unit in one[len("After=") :].split()]
    assert sorted(after) == sorted(unit_name(machine, disk) for disk in disks[1:])
    assert not [one for one in text.splitlines() if one.startswith(("Requires=", "BindsTo=", "Wants="))]
    machine.fstab(line.strip())
    machine.run(f"umount '{disks[1]}'")
    machine.run("mount -a")  # without the disk
    machine.run(f"cat {name}/vtl/sessions/* > /dev/null; umount {name}/vtl")


def test_mount_makes_of_the_same_line_what_it_should(machine: Machine, name: str, disks: list[str]) -> None:
    machine.fstab(machine.vtlfs(f"fstab {name}/srv/library {name}/vtl").strip())
    assert machine.run("mount -a; mount -a") == ""
    assert len(machine.mounts()) == 1
    places = " ".join(f"'{disk}'" for disk in disks)
    machine.run(f"umount {name}/vtl && umount {places}")


def test_mount_on_demand(machine: Machine, name: str, disks: list[str]) -> None:
    line = machine.vtlfs(f"fstab {name}/srv/library {name}/vtl -o x-systemd.automount,x-systemd.idle-timeout=60")
    made = units(machine, name, line)
    automount = unit_name(machine, f"/mnt/{name}/vtl", "automount")
    assert made[automount]["Where"] == f"/mnt/{name}/vtl"
    assert made[automount]["TimeoutIdleSec"] == "1min"
    assert f"remote-fs.target.wants/{automount}" in made
    assert shlex.split(made[unit_name(machine, f"/mnt/{name}/vtl")]["RequiresMountsFor"]) == disks


def test_mount_on_demand_is_there_for_the_first_who_looks(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs x-systemd.automount 0 0")
    look = f"sh -c 'echo data > /mnt/{name}/vtl/media/T1; cat /mnt/{name}/vtl/files/T1/0000'"
    assert machine.run(f"venv/bin/python project/tests/automount.py /mnt/{name}/vtl {look}") == "data\n"
    assert [entry.path for entry in machine.mounts()] == [f"/mnt/{name}/vtl"]
    machine.run(f"umount /mnt/{name}/vtl")
    assert not machine.servers()
    machine.run(f"umount /mnt/{name}/vtl")  # autofs


def test_mount_by_hand(machine: Machine, name: str, disks: list[str]) -> None:
    made = units(machine, name, machine.vtlfs(f"fstab {name}/srv/library {name}/vtl -o noauto,user"))
    assert [path for path in made if ".target" in path and "vtl" in path] == []


def test_mount_that_no_option_can_name_is_reported(machine: Machine, name: str) -> None:
    machine.run(
        f"mkdir -p '{name}/\"' {name}/disk {name}/vtl; mount -t tmpfs tmpfs '{name}/\"'; mkdir '{name}/\"/disk'"
    )
    machine.vtlfs(f"init {name}/library --disk {name}/disk --disk '{name}/\"/disk'")
    line, said = machine.vtlfs(f"fstab {name}/library {name}/vtl").splitlines()
    assert line.endswith(" nofail,_netdev,x-systemd.requires-mounts-for=/mnt 0 0")
    assert said == f"vtlfs: the line can't name the mount on /mnt/{name}/\"; see that it is mounted first"


def test_mount_point_with_a_strange_name(machine: Machine, name: str, disks: list[str]) -> None:
    machine.run(f"mkdir '{name}/a b\N{SNOWMAN}%'")
    made = units(machine, name, machine.vtlfs(f"fstab {name}/srv/library '{name}/a b\N{SNOWMAN}%'"))
    unit = unit_name(machine, f"/mnt/{name}/a b\N{SNOWMAN}%")
    assert made[unit]["Where"] == f"/mnt/{name}/a b\N{SNOWMAN}%%"

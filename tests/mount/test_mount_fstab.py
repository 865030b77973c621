"""fstab, mount(8) and umount(8): the real programs, in an empty environment, as at boot."""

import os
import signal
import sys
from pathlib import Path

import pytest
from machine import Machine
from mounting import wait_until

NOBODY, DAEMON = 65534, 1


def sessions(machine: Machine, name: str) -> str:
    """Return what `vtlfs sessions` prints."""
    return machine.vtlfs(f"sessions {name}/library")


@pytest.mark.parametrize("kind", ["vtlfs", "fuse.vtlfs"])
def test_mount_a_mounts_once_and_umount_unmounts(machine: Machine, name: str, line: str, kind: str) -> None:
    machine.fstab(f"{line} {kind} host=alpha,allow_other,nofail,_netdev,x-systemd.automount,comment=tapes 0 0")
    assert machine.run("/bin/mount -a; /bin/mount -a") == ""
    (entry,) = machine.mounts()
    assert (entry.path, entry.source, entry.kind) == (f"/mnt/{name}/vtl", f"/mnt/{name}/library", "fuse.vtlfs")
    source = f"/mnt/{name}/library"
    assert machine.run(f"findmnt -no SOURCE,FSTYPE {name}/vtl").split() == [source, "fuse.vtlfs"]
    assert machine.run(f"findmnt -no TARGET {source}").split() == [f"/mnt/{name}/vtl"]
    assert machine.run(f"df --output=source,fstype {name}/vtl | tail -1").split() == [source, "fuse.vtlfs"]
    machine.run(f"echo data > {name}/vtl/drives/0/T1 && cat {name}/vtl/media/T1")
    assert machine.run(f"umount /mnt/{name}/vtl") == ""
    assert not machine.mounts()
    assert " alpha " in sessions(machine, name)


def test_table_of_mount_has_what_umount_and_systemd_go_by(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs nofail,_netdev 0 0")
    machine.run("mount -a")
    assert machine.run("cat /run/mount/utab").endswith(" OPTS=uhelper=fuse.vtlfs,_netdev\n")
    machine.run(f"umount {name}/vtl")
    machine.vtlfs(f"mount {name}/library {name}/vtl")
    assert machine.run("cat /run/mount/utab").endswith(" OPTS=uhelper=fuse.vtlfs\n")
    machine.run(f"umount /mnt/{name}/vtl")
    assert not machine.servers()
    assert machine.run("cat /run/mount/utab") == ""


def test_mount_a_with_another_table(machine: Machine, name: str, line: str) -> None:
    machine.run(f"echo '{line} vtlfs defaults 0 0' > {name}/fstab; mount -a -T {name}/fstab; mount -a -T {name}/fstab")
    assert len(machine.mounts()) == 1


@pytest.mark.parametrize("what", ["vtl", "library"])
def test_mount_wants_only_the_mount_point_or_the_library(machine: Machine, name: str, line: str, what: str) -> None:
    machine.fstab(f"{line} vtlfs noauto,host=beta 0 0")
    machine.run("mount -a")
    assert not machine.mounts()
    machine.run(f"mount /mnt/{name}/{what} && echo data > {name}/vtl/media/T1 && umount {name}/vtl")
    assert " beta " in sessions(machine, name)


@pytest.mark.parametrize("strange", ["a b", "tab\there", "\N{SNOWMAN}\N{HAIR SPACE}ü", "c,omma", "back\\slash", "#h#"])
def test_strange_names_are_mounted_once(machine: Machine, name: str, strange: str) -> None:
    machine.library(name)
    machine.run(f"mv {name} '{name} {strange}'; mv '{name} {strange}/vtl' '{name} {strange}/{strange}'")
    place = f"/mnt/{name} {strange}"
    machine.run(f"cd '{place}'; sed -i \"s|/mnt/{name}/|../|g\" library/library.toml")
    toml = machine.root / place[1:] / "library/library.toml"
    absolute = str(place).replace("\\", "\\\\").replace("\t", "\\t")
    toml.write_text(toml.read_text().replace("../", f"{absolute}/"))
    machine.fstab(machine.vtlfs(f"fstab '{place}/library' '{place}/{strange}'").strip())
    assert machine.run("mount -a; mount -a") == ""
    (entry,) = machine.mounts()
    assert (entry.path, entry.source) == (f"{place}/{strange}", f"{place}/library")
    machine.run(f"cd '{place}/{strange}'; echo data > media/T1; test $(stat -c %s files/T1/0000) = 5")
    machine.run(f"umount '{place}/{strange}'")
    assert not machine.servers()


def test_other_names_of_the_library_and_the_mount_point_are_the_same(machine: Machine, name: str, line: str) -> None:
    machine.run(f"ln -s {name} {name}.link")
    machine.fstab(f"/mnt/{name}.link/library/ /mnt/{name}.link/vtl/ vtlfs defaults 0 0")
    machine.run("mount -a; mount -a")
    assert [entry.source for entry in machine.mounts()] == [f"/mnt/{name}/library"]
    machine.run(f"umount {name}.link/vtl; cd {name}.link; mount -t vtlfs library vtl; mount -a")
    assert [entry.source for entry in machine.mounts()] == [f"/mnt/{name}/library"]
    machine.run(f"umount {name}.link/vtl")
    machine.vtlfs(f"mount {name}.link/library {name}/vtl")
    machine.run("mount -a")
    assert [entry.source for entry in machine.mounts()] == [f"/mnt/{name}/library"]


def test_disks_can_be_unmounted_right_after_umount(machine: Machine, name: str, line: str) -> None:
    places = [f"/mnt/{name}/{one}" for one in ("disk0", "disk1", "library")]
    for place in places:
        machine.run(f"mkdir {place}.new; mount -t tmpfs tmpfs {place}.new; cp -a {place}/. {place}.new")
        machine.run(f"mount --move {place}.new {place}")
    machine.fstab(f"{line} vtlfs sync=none 0 0")
    for _ in range(3):
        machine.run(f"mount /mnt/{name}/vtl; head -c 9M /dev/zero > {name}/vtl/media/T1; umount /mnt/{name}/vtl")
        assert not machine.servers()
        assert " open " not in sessions(machine, name)
    machine.run(
        f"mount /mnt/{name}/vtl; head -c 9M /dev/zero > {name}/vtl/media/T1;"
        f" umount /mnt/{name}/vtl && umount {' '.join(places)}"
    )


def test_umount_of_a_mount_in_use_says_who_uses_it(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs defaults 0 0")
    script = f"mount -a; cd {name}/vtl/media; exec 3> T1; umount /mnt/{name}/vtl; echo status $?; echo data >&3; cat T1"
    said = machine.run(script)
    assert f"umount.fuse.vtlfs: /mnt/{name}/vtl: in use by sh (pid " in said
    assert "status 32" in said
    assert len(machine.mounts()) == 1
    machine.run(f"umount /mnt/{name}/vtl")
    assert "released" in sessions(machine, name)


def test_lazy_umount_does_not_wait_and_loses_nothing(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs defaults 0 0")
    machine.run(f"mount -a; exec 3> {name}/vtl/media/T1; umount -l /mnt/{name}/vtl && echo data >&3")
    wait_until(lambda: not machine.servers(), "the end of the process")
    assert "released" in sessions(machine, name)


def test_umount_does_not_wait_where_a_part_is_bound_elsewhere(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs defaults 0 0")
    machine.run(f"mkdir {name}/guest; mount -a; mount --bind {name}/vtl/drives/0 {name}/guest; umount /mnt/{name}/vtl")
    machine.run(f"echo data > {name}/guest/T1; umount {name}/guest")
    wait_until(lambda: not machine.servers(), "the end of the process")
    assert "released" in sessions(machine, name)


def test_remount_is_refused_and_leaves_the_mount_as_it_is(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs host=alpha 0 0")
    machine.run("mount -a")
    before = machine.run(f"findmnt -no OPTIONS {name}/vtl")
    for options in ("remount,ro", "remount,host=beta", "remount"):
        said = machine.run(f"mount -o {options} /mnt/{name}/vtl", status=1)
        assert said.startswith(
            "mount.vtlfs: mount option 'remount': options can't be changed while mounted; umount and "
        )
        assert said.count("\n") == 1
    assert machine.run(f"findmnt -no OPTIONS {name}/vtl") == before
    machine.run(f"echo data > {name}/vtl/media/T1")


def test_remount_of_the_mount_point_alone_can_forbid_writing(machine: Machine, name: str, line: str) -> None:
    """The kernel remounts by itself; it refuses as long as a file is open for writing."""
    machine.fstab(f"{line} vtlfs defaults 0 0")
    busy = machine.run(f"mount -a; exec 3> {name}/vtl/media/T1; mount -o remount,bind,ro {name}/vtl", status=32)
    assert "busy" in busy
    machine.run(f"mount -o remount,bind,ro {name}/vtl")
    assert "Read-only file system" in machine.run(f"echo x > {name}/vtl/media/T1", status=2)
    machine.run(f"mount -o remount,bind,rw {name}/vtl; echo x > {name}/vtl/media/T1")


@pytest.mark.parametrize(
    ("wrong", "wanted"),
    [
        ("/mnt/nothing /mnt/{0}/vtl vtlfs defaults", "/mnt/nothing: no vtlfs library here"),
        ("/mnt/{0}/library /mnt/{0}/library/library.toml vtlfs defaults", "library.toml: not a directory"),
        ("/mnt/{0}/library /mnt/{0}/disk0 vtlfs defaults", "/mnt/{0}/disk0: not empty"),
        ("/mnt/{0}/library /mnt/{0}/vtl vtlfs host=alpha,speed=high", "unknown mount option 'speed'"),
        ("/mnt/{0}/library /mnt/{0}/vtl vtlfs io=fast", "mount option io=fast: auto, cached or direct"),
        ("/mnt/{0}/library /mnt/{0}/vtl vtlfs bind=1", "mount option 'bind'"),
        ("/mnt/{0}/library /mnt/{0}/vtl vtlfs nonempty", "mount option 'nonempty'"),
    ],
)
def test_mistake_in_fstab_is_told_in_one_line(machine: Machine, name: str, line: str, wrong: str, wanted: str) -> None:
    machine.library(f"{name}.right")
    wrong = wrong.format(name)
    machine.fstab(f"{wrong} 0 0")
    said = machine.run("mount -a", status=32)
    assert said.startswith("mount.vtlfs: ")
    assert wanted.format(name) in said
    assert said.count("\n") == 1
    machine.fstab(f"{wrong} 0 0", f"/mnt/{name}.right/library /mnt/{name}.right/vtl vtlfs defaults 0 0")
    assert machine.run("mount -a", status=64) == said
    assert [entry.path for entry in machine.mounts()] == [f"/mnt/{name}.right/vtl"]


def test_missing_disk_and_mount_point_are_told(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs defaults 0 0")
    machine.run(f"mv {name}/disk1 {name}/gone")
    assert f"disk /mnt/{name}/disk1: no such directory" in machine.run("mount -a", status=32)
    machine.run(f"mv {name}/gone {name}/disk1; rmdir {name}/vtl")
    assert f"{name}/vtl: No such file or directory" in machine.run("mount -a", status=32)


def test_flags_of_mount(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs host=alpha,colour=red 0 0")
    assert "'colour'" in machine.run(f"mount -f /mnt/{name}/vtl", status=1)
    assert "can be mounted" in machine.run(f"mount -f -s -v /mnt/{name}/vtl")
    assert not machine.mounts()
    machine.run(f"mount -s -n -r /mnt/{name}/vtl")
    assert "Read-only" in machine.run(f"echo x > {name}/vtl/media/T1", status=2)
    machine.run(f"umount -n -v /mnt/{name}/vtl; mount -s -w {name}/vtl; echo x > {name}/vtl/media/T1")
    assert "the arguments must be SOURCE DIRECTORY" in machine.run("/sbin/mount.vtlfs", status=1)
    assert "option -x not recognized" in machine.run(f"/sbin/mount.vtlfs {name}/library {name}/vtl -x", status=1)
    assert "nsenter" in machine.run(f"/sbin/mount.vtlfs {name}/library {name}/vtl -N x", status=1)


def test_dead_mount_is_replaced(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs defaults 0 0")
    machine.run("mount -a")
    (server,) = machine.servers()
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not machine.servers(), "its end")
    machine.run(f"mount /mnt/{name}/vtl; echo x > {name}/vtl/media/T1")
    assert len(machine.mounts()) == 1


def test_dead_mount_can_be_unmounted(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs defaults 0 0")
    machine.run("mount -a")
    (server,) = machine.servers()
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not machine.servers(), "its end")
    machine.run(f"umount /mnt/{name}/vtl")
    assert not machine.mounts()


# --- mounts of users ------------------------------------------------------------------------------------------------


def test_user_mounts_and_unmounts_a_library_of_the_users_own(machine: Machine, name: str) -> None:
    machine.library(name, uid=NOBODY)
    machine.fstab(f"/mnt/{name}/library /mnt/{name}/vtl vtlfs user,noauto,nofail 0 0")
    machine.run(f"mount /mnt/{name}/vtl; echo data > {name}/vtl/drives/0/T1", uid=NOBODY)
    (entry,) = machine.mounts()
    assert (entry.kind, entry.source) == ("fuse.vtlfs", f"/mnt/{name}/library")
    options = machine.run(f"findmnt -no OPTIONS {name}/vtl").strip().split(",")
    assert {"nosuid", "nodev", "noexec", f"user_id={NOBODY}"} <= set(options)
    machine.run(f"mount -a; ls {name}/vtl", status=2)  # not even root may look, without allow_other
    assert len(machine.mounts()) == 1
    machine.run(f"umount /mnt/{name}/vtl", status=32, uid=DAEMON)
    assert len(machine.mounts()) == 1
    machine.run(f"umount /mnt/{name}/vtl", uid=NOBODY)
    assert not machine.mounts()
    assert not machine.servers()
    assert f"{Path(machine.root / f'mnt/{name}/library').stat().st_uid}" == str(NOBODY)
    assert "released" in machine.vtlfs(f"sessions {name}/library", uid=NOBODY)


def test_user_needs_no_fstab_for_a_library_of_the_users_own(machine: Machine, name: str) -> None:
    """Current versions of mount(8) drop their privileges and go on, as if the user had run `vtlfs mount`."""
    machine.library(name, uid=NOBODY)
    machine.run(f"mount -t vtlfs {name}/library {name}/vtl; echo data > {name}/vtl/media/T1", uid=NOBODY)
    machine.run(f"umount {name}/vtl", uid=NOBODY)
    assert "released" in machine.vtlfs(f"sessions {name}/library", uid=NOBODY)


def test_user_may_not_mount_a_library_of_root(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs user,noauto 0 0")
    said = machine.run(f"mount /mnt/{name}/vtl", status=32, uid=NOBODY)
    assert said.startswith("mount.vtlfs: ")
    assert "Permission denied" in said


# --- the scripts ----------------------------------------------------------------------------------------------------


def test_without_its_interpreter_nothing_is_mounted_but_all_unmounted(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs defaults 0 0")
    machine.run("mount -a; mv venv venv.gone")
    try:
        machine.run(f"umount {name}/vtl")
        assert not machine.mounts()
        said = machine.run("mount -a", status=32)
    finally:
        machine.run("mv venv.gone venv")
    assert said.startswith("mount.vtlfs: /mnt/venv/bin/python or its vtlfs is gone")
    assert said.count("\n") == 1


def test_with_a_vtlfs_that_does_not_start_all_is_unmounted(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs defaults 0 0")
    machine.run("mount -a; mv venv/lib/*/site-packages/vtlfs.pth .")
    try:
        machine.run(f"umount /mnt/{name}/vtl")
        assert not machine.mounts()
        assert "No module named 'vtlfs'" in machine.run("mount -a", status=32)
    finally:
        machine.run("mv vtlfs.pth venv/lib/*/site-packages/")


def test_system_wide_installation(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs defaults 0 0")
    python = os.path.realpath(sys.executable)
    packages = machine.run(f"{python} -I -c 'import site; print(site.getsitepackages()[0])'").strip()
    try:
        machine.run(f"mount -t tmpfs tmpfs /usr/local/lib; mkdir -p {packages}")
        machine.run(f"cp venv/lib/*/site-packages/vtlfs.pth {packages}")
        assert machine.run(f"{python} -I -m vtlfs install").count("wrote /sbin/") == 3
        assert f"python={python}" in machine.run("cat /sbin/mount.vtlfs")
        machine.run("mv venv venv.gone; mount -a")
        assert len(machine.mounts()) == 1
        machine.run(f"umount {name}/vtl")
    finally:
        machine.run("mv venv.gone venv; umount -l /usr/local/lib")
        machine.vtlfs("install")


def test_uninstalling_leaves_mounts_that_can_be_unmounted(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs defaults 0 0")
    try:
        assert machine.run("mount -a") == ""
        assert machine.vtlfs("uninstall").count("removed /sbin/") == 3
        machine.run(f"umount /mnt/{name}/vtl")
        assert "unknown filesystem type 'vtlfs'" in machine.run("mount -a", status=32)
    finally:
        machine.vtlfs("install")

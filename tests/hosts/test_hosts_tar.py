"""GNU tar's own way to a tape on another machine: `tar -f HOST:PATH`, with ssh and Debian's rmt."""

import pytest
from network import ADDRESSES, SERVER
from site_of_tests import Site

GATE = '--checkpoint=1 --checkpoint-action=exec="$WAIT"'


def remote(site: Site, path: object) -> str:
    """Return tar's words for a path on the server. tar wants a name that resolves, and one word for ssh."""
    return f"-f {SERVER}:{path} --rsh-command={site.ssh.command}"


@pytest.mark.parametrize("more", ["", "--rmt-command=/usr/sbin/rmt-tar", "-b 2048"])
def test_two_hosts_archive_to_one_drive_and_one_medium_at_once(site: Site, more: str) -> None:
    tape, tree = site.tape(), site.tree()
    drive = tape.mounted.drive(0, tape.barcode)
    sessions = site.together(tape, f"tar -c {more} {GATE} {remote(site, drive)} -C {tree} HOST")
    assert sorted(one["host"] for one in sessions) == sorted(ADDRESSES.values())
    assert {(one["drive"], one["access"]) for one in sessions} == {(0, "write")}
    names = {address: host for host, address in ADDRESSES.items()}
    for one in sessions:
        file = tape.mounted.file(tape.barcode, one["tape_file"])
        listed = site.ssh.run("beta", f"tar -t {remote(site, file)}").decode().split()
        assert set(listed) == {f"{names[one['host']]}/{name}" for name in ("", "0", "1", "2")}
    for host in ADDRESSES:
        site.ssh.run(host, f"tar -di {remote(site, drive)} -C {tree}")
    assert len(tape.streams()) == len(ADDRESSES)


def test_archives_are_extracted_by_the_other_host(site: Site) -> None:
    tape, tree = site.tape(), site.tree()
    site.together(tape, f"tar -c {GATE} {remote(site, tape.path)} -C {tree} HOST")
    for host in ADDRESSES:
        restored = site.root / f"restored-{host}"
        site.ssh.run(host, f"mkdir {restored} && tar -xi {remote(site, tape.path)} -C {restored}")
        site.ssh.run(host, f"diff -r {tree} {restored}")
    assert {one["host"] for one in site.library.listed("--medium", tape.barcode)} == set(ADDRESSES.values())


def test_compressed_archive(site: Site) -> None:
    tape, tree = site.tape(), site.tree()
    site.ssh.run("alpha", f"tar -cz {remote(site, tape.path)} -C {tree} alpha")
    site.ssh.run("beta", f"tar -dz {remote(site, tape.path)} -C {tree}")


def test_archive_goes_on_with_the_next_medium_where_one_is_full(site: Site) -> None:
    tape, tree = site.tape(), site.tree()
    small = site.mounted.medium("SMALL")
    (tree / "big").write_bytes(b"x" * 3_000_000)
    first, second = (remote(site, path).split()[1] for path in (small, tape.path))
    both = f"-M -f {first} -f {second} --rsh-command={site.ssh.command}"
    site.ssh.run("alpha", f"tar -c {both} -C {tree} alpha big")
    site.ssh.run("beta", f"tar -d {both} -C {tree}")
    assert small.stat().st_size > 1_000_000
    assert len(tape.streams()) == 1


@pytest.mark.parametrize("words", ["-r", "-cW"])
def test_what_seeks_back_is_refused(site: Site, words: str) -> None:
    tape, tree = site.tape(), site.tree()
    site.ssh.run("alpha", f"tar -c {remote(site, tape.path)} -C {tree} alpha")
    before = tape.streams()
    said = site.ssh.run("alpha", f"tar {words} {remote(site, tape.path)} -C {tree} beta", status=2)
    assert b"Illegal seek" in said
    assert tape.streams() == before


def test_medium_that_the_library_lacks(site: Site) -> None:
    said = site.ssh.run("alpha", f"tar -c {remote(site, site.mounted.medium('NONE'))} -C / etc/hostname", status=2)
    assert b"No such file or directory" in said

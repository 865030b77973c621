"""Hosts that stream to a drive through `ssh`: what they write, and under which name the tracking database has it."""

import pytest
from network import ADDRESSES, ADDRESSES_V6, SERVER_V6, USER
from site_of_tests import Site


@pytest.mark.parametrize(
    "command",
    [
        "cat > DRIVE",
        "cat >> DRIVE",
        "dd of=DRIVE bs=64k",
        "dd of=DRIVE bs=1M iflag=fullblock oflag=append conv=notrunc,fsync",
        "exec env -i dd of=DRIVE bs=10k conv=fsync",
    ],
)
def test_two_hosts_stream_to_one_drive_and_one_medium_at_once(site: Site, command: str) -> None:
    tape = site.tape()
    script = f"SEND | ssh vtl '{command.replace('DRIVE', str(tape.mounted.drive(0, tape.barcode)))}'"
    sessions = site.together(tape, script)
    site.check(tape, sessions)
    assert {one["drive"] for one in sessions} == {0}


def test_hosts_with_addresses_of_the_sixth_version(site: Site) -> None:
    tape = site.tape()
    sessions = site.together(tape, f"SEND | ssh -o HostName={SERVER_V6} vtl 'cat > {tape.path}'")
    site.check(tape, sessions, ADDRESSES_V6)


def test_hosts_read_what_was_written_and_are_named_too(site: Site) -> None:
    tape = site.tape()
    site.check(tape, site.together(tape, f"SEND | ssh vtl 'cat > {tape.path}'"))
    whole = tape.path.read_bytes()
    for host in ADDRESSES:
        assert site.ssh.run(host, f"ssh vtl cat {tape.mounted.drive(1, tape.barcode)}") == whole
    reading = [one for one in site.library.listed("--drive", "1") if one["medium"] == tape.barcode]
    assert {one["host"] for one in reading} >= set(ADDRESSES.values())


def test_tar_of_two_hosts_is_read_back_by_the_other(site: Site) -> None:
    tape, tree = site.tape(), site.tree()
    action = '--checkpoint=1 --checkpoint-action=exec="$WAIT"'
    site.together(tape, f"tar cf - {action} -C {tree} HOST | ssh vtl 'cat > {tape.path}'")
    for host in ADDRESSES:
        site.ssh.run(host, f"ssh vtl cat {tape.path} | tar dif - -C {tree}")
    assert len(tape.streams()) == len(ADDRESSES)


def test_key_that_may_do_nothing_but_write_to_one_drive(site: Site) -> None:
    """The forced command takes only the name of the medium from the request."""
    tape, other = site.tape(), site.tape()
    folder = tape.mounted.path / "drives" / "0"
    site.ssh.authorize(f'restrict,command="exec cat > \\"{folder}/${{SSH_ORIGINAL_COMMAND##*/}}\\""')
    try:
        site.check(tape, site.together(tape, f"SEND | ssh vtl {tape.barcode}"))
        site.ssh.run("alpha", f"echo data | ssh vtl ../1/{other.barcode}")
        for refused in ("nothing", f"{other.barcode}; id", "$(id)", "..", ""):
            site.ssh.run("alpha", f"ssh vtl '{refused}' < {site.root}/alpha.data", status=1)
        site.ssh.run("alpha", f"sftp -F {site.ssh.root}/ssh_config vtl:{other.path} {site.root}/got", status=255)
    finally:
        site.ssh.authorize()
    assert other.streams() == [b"data\n"]
    assert {one["drive"] for one in site.written(other)} == {0}


def test_ordinary_user_writes_through_ssh_to_the_mount_that_is_his(site: Site) -> None:
    tape = site.tape()
    script = f"SEND | ssh {USER}@vtl 'cat > {site.own.drive(0, tape.barcode)}'"
    own = type(tape)(tape.library, site.own, tape.barcode, tape.io)
    sessions = site.together(own, script)
    site.check(own, sessions)
    assert {one["uid"] for one in sessions} == {4711}


def test_user_without_permission_leaves_no_session_behind(site: Site) -> None:
    tape = site.tape()
    before = len(site.library.listed())
    for path in (tape.path, tape.mounted.drive(0, tape.barcode)):
        said = site.ssh.run("alpha", f"echo x | ssh {USER}@vtl 'cat > {path}'", status=2)
        assert b"Permission denied" in said
    assert len(site.library.listed()) == before


def test_full_medium_is_an_error_at_the_host(site: Site) -> None:
    site.stream("alpha")
    said = site.ssh.run(
        "alpha", f"ssh vtl dd bs=64k of={site.mounted.medium('SMALL')} < {site.root}/alpha.data", status=1
    )
    assert b"No space left on device" in said

"""Mount options: every one that mount(8) may pass, and refusals that name the option."""

import os

import pytest

from vtlfs.errors import UsageError
from vtlfs.fs.options import DEFAULT_MODE, REFUSED, parse, without_unknown
from vtlfs.model import IoMode, SyncMode


def test_nothing_said() -> None:
    options = parse("")
    assert (options.host, options.io, options.sync, options.mode) == (None, IoMode.AUTO, SyncMode.CLOSE, DEFAULT_MODE)
    assert (options.allow_other, options.uid, options.gid, options.read_only) == (False, None, None, False)
    assert options.check
    assert options.metrics is None


def test_everything_said() -> None:
    options = parse("host=alpha-1.example,io=direct,sync=none,allow_other,uid=12,gid=34,mode=0640,check=off,ro")
    assert (options.host, options.io, options.sync) == ("alpha-1.example", IoMode.DIRECT, SyncMode.NONE)
    assert (options.allow_other, options.uid, options.gid, options.mode) == (True, 12, 34, 0o640)
    assert options.read_only
    assert not options.check
    assert options.text.startswith("host=alpha-1.example,io=direct")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9471", "127.0.0.1", 9471),
        ("[::1]:0", "::1", 0),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535),
        ("backup-1.example:80", "backup-1.example", 80),
    ],
)
def test_address_of_metrics(text: str, host: str, port: int) -> None:
    found = parse(f"ro,metrics={text}").metrics
    assert found is not None
    assert (found.host, found.port, str(found)) == (host, port, text)


def test_users_and_groups_by_name() -> None:
    options = parse("uid=root,gid=root")
    assert (options.uid, options.gid) == (0, 0)


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", "fe80::1%eth0", "a", "under_score"])
def test_addresses_are_hosts(host: str) -> None:
    assert parse(f"host={host}").host == host


def test_options_of_mount_are_passed_on_or_left() -> None:
    text = (
        "defaults,rw,suid,dev,exec,auto,nouser,async,relatime,_netdev,nofail,x-systemd.automount,x-gvfs-hide,comment=a"
    )
    assert parse(text).passed_on == ()
    assert parse("nosuid,nodev,noexec,noatime").passed_on == ("nosuid", "nodev", "noexec", "noatime")
    assert parse("nodev,,nodev,").passed_on == ("nodev",)
    assert parse("X-mount.mkdir,x-systemd.requires-mounts-for=/a,users,group,strictatime,nodiratime").passed_on == ()


def test_last_word_of_two_that_contradict_each_other_counts() -> None:
    assert parse("nosuid,nodev,noexec,noatime,sync,suid,dev,exec,atime,async").passed_on == ()
    assert parse("exec,noexec").passed_on == ("noexec",)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_option_that_asks_for_what_is_not_done_is_refused(name: str) -> None:
    for text in (name, f"{name}=x", f"user_id=0,{name},host=alpha"):
        with pytest.raises(UsageError) as refused:
            parse(text)
        assert str(refused.value) == f"mount option {name!r}: {REFUSED[name]}"


def test_sloppy_mount_leaves_out_what_nobody_knows_and_nothing_else() -> None:
    assert (
        without_unknown("host=alpha,colour=red,,ro,x-a=b,bold,remount,io=fast") == "host=alpha,ro,x-a=b,remount,io=fast"
    )


def test_last_of_ro_and_rw_counts() -> None:
    assert not parse("ro,rw").read_only
    assert parse("rw,ro").read_only
    assert not parse("ro,nodev,rw").read_only


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("speed=high", "'speed'"),
        ("direct", "'direct'"),
        ("io", "'io' needs a value"),
        ("io=fast", "auto, cached or direct"),
        ("reopen=perhaps", "allow or refuse"),
        ("metrics", "needs a value"),
        ("metrics=", "an address and a port"),
        ("metrics=9471", "an address and a port"),
        ("metrics=:9471", "an address and a port"),
        ("metrics=127.0.0.1", "an address and a port"),
        ("metrics=127.0.0.1:65536", "an address and a port"),
        ("metrics=::1:9471", "[::1]:9471"),
        ("metrics=[localhost]:9471", "[::1]:9471"),
        ("metrics=a b:1", "an address and a port"),
        ("metrics=127.0.0.1:\N{ARABIC-INDIC DIGIT ONE}", "an address and a port"),
        ("reopen", "needs a value"),
        ("io=cached,reopen=allow", "io=auto"),
        ("sync=always", "close or none"),
        ("mode=99", "octal"),
        ("mode=7777", "octal"),
        ("mode=-1", "octal"),
        ("uid=nobody-of-that-name", "user"),
        ("uid=4294967295", "user"),
        ("gid=4294967296", "group"),
        ("gid=", "group"),
        ("allow_other=yes", "takes no value"),
        ("check=maybe", "on or off"),
        ("ro=1", "takes no value"),
        ("host=", "host"),
        ("host=a b", "host"),
        ("nodev,io=direct,bogus", "'bogus'"),
    ],
)
def test_wrong_option_is_named(text: str, word: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert word in str(refused.value)
    assert os.linesep not in str(refused.value)

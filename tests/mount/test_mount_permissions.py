"""Permissions to read and write: real users, whom the kernel admits or refuses."""

import errno
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from mounting import PROJECT, Mounted, OnDisks, clean_up, shell, wait_until

from vtlfs.engine.library import Library
from vtlfs.permissions import READ, WRITE, Rights

ALPHA, BETA, GAMMA = 4001, 4002, 4003  # users that no machine's /etc/passwd has, nor needs to have
BACKUP, RESTORE, NONE = 5001, 5002, 5009
USERS = [
    (user, groups)
    for user in (ALPHA, BETA, GAMMA)
    for groups in ((), (BACKUP,), (RESTORE,), (BACKUP, RESTORE))
]  # fmt: skip

RULES = f"""
[permissions.drives.1]
owner = {BETA}
group = {BACKUP}
mode = "0620"

[permissions.drives.2]
group = "{RESTORE}"
mode = "0440"

[permissions.drives.3]
owner = {GAMMA}
mode = "0600"

[permissions.media."A*"]
owner = {BETA}
group = {BACKUP}
mode = "0660"

[permissions.media."B1"]
group = {BACKUP}
mode = "0664"

[permissions.media."B*"]
owner = {GAMMA}
group = {RESTORE}
mode = "0640"
"""
MOUNT = Rights(ALPHA, NONE, 0o640)  # uid=, gid= and mode= of the mount
DRIVES = {1: Rights(BETA, BACKUP, 0o620), 2: Rights(ALPHA, RESTORE, 0o440), 3: Rights(GAMMA, NONE, 0o600)}
MEDIA = {
    "A1": Rights(BETA, BACKUP, 0o660),
    "B1": Rights(ALPHA, BACKUP, 0o664),
    "B2": Rights(GAMMA, RESTORE, 0o640),
    "C1": MOUNT,
}
OPTIONS = f"allow_other,uid={ALPHA},gid={NONE},mode=0640"
T = TypeVar("T")
MORE_THAN_KERNEL_CAN_TELL = {(1, "B1"), (1, "B2"), (1, "C1")}  # one owner and one group are not enough


@pytest.fixture
def library(open_library: OnDisks) -> OnDisks:
    """A library with rules for drives 1 to 3 and for some media."""
    open_library.add("A1", "B1", "B2", "C1")
    with open(open_library.path / "library.toml", "a") as file:
        file.write(RULES)
    return open_library


def as_user(user: int, groups: Sequence[int], does: Callable[[], T]) -> T:
    """Call a function in a process of the user, and return its result, which must be JSON."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups(list(groups))
            os.setresgid(NONE + 1, NONE + 1, NONE + 1)
            os.setresuid(user, user, user)
            os.write(writing, json.dumps(does()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    returned: T = json.loads(said)
    return returned


def opening(path: Path, flags: int) -> int:
    """Open and close; return the session's identifier for a writer, 0 for a reader, or the errno, negative."""
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        return -(error.errno or errno.EIO)
    number = os.fstat(descriptor).st_ino if flags & os.O_ACCMODE else 0
    os.close(descriptor)
    return number


def all_opened(paths: Sequence[Path], flags: int) -> list[int]:
    return [opening(path, flags) for path in paths]


def what_is_let(path: Path) -> int:
    """Return which of READ and WRITE the opener gets; assert that access(2) says the same."""
    rights = 0
    for right, flags, mode in ((READ, os.O_RDONLY, os.R_OK), (WRITE, os.O_WRONLY | os.O_TRUNC, os.W_OK)):
        number = opening(path, flags)
        assert number >= 0 or number == -errno.EACCES, (path, number)
        assert os.access(path, mode) == (number >= 0), path
        rights |= right if number >= 0 else 0
    return rights


def all_that_is_let(paths: Sequence[Path]) -> list[int]:
    return [what_is_let(path) for path in paths]


def test_kernel_lets_through_a_drive_whom_its_rule_and_the_mediums_allow(library: OnDisks) -> None:
    with library.mounted(OPTIONS, expects=["permissions.drives.1 with"]) as mounted:
        paths = [(drive, barcode) for drive in range(4) for barcode in MEDIA]
        for user, groups in USERS:
            found = as_user(user, groups, lambda: [what_is_let(mounted.drive(*path)) for path in paths])
            for (drive, barcode), rights in zip(paths, found, strict=True):
                allowed = MEDIA[barcode].of(user, frozenset(groups))
                if drive in DRIVES:
                    allowed &= DRIVES[drive].of(user, frozenset(groups))
                assert rights & ~allowed == 0, (user, groups, drive, barcode)
                if (drive, barcode) not in MORE_THAN_KERNEL_CAN_TELL:
                    assert rights == allowed, (user, groups, drive, barcode)


def test_other_paths_follow_the_mediums_rule(library: OnDisks) -> None:
    with library.mounted(expects=["permissions.drives.1 with"]) as mounted:
        for barcode in MEDIA:
            mounted.medium(barcode).write_bytes(b"data")
    library.vtlfs("snapshot", "take", library.path)
    with library.mounted(OPTIONS, expects=["permissions.drives.1 with"]) as mounted:
        past = mounted.path / "snapshots/1"
        for user, groups in USERS:
            for barcode, rule in MEDIA.items():
                paths = [
                    mounted.medium(barcode),
                    mounted.file(barcode, 0),
                    past / "media" / barcode,
                    past / "files" / barcode / "0000",
                ]
                found = as_user(user, groups, partial(all_that_is_let, paths))
                allowed = rule.of(user, frozenset(groups))
                assert found == [allowed, *[allowed & READ] * 3], (user, groups, barcode)


def test_refused_writer_leaves_no_session(library: OnDisks) -> None:
    with library.mounted(OPTIONS, expects=["permissions.drives.1 with"]) as mounted:
        paths = [mounted.drive(1, "A1"), mounted.drive(0, "A1"), mounted.medium("B2"), mounted.drive(2, "A1")]
        for flags in (os.O_WRONLY | os.O_TRUNC | os.O_CREAT, os.O_WRONLY | os.O_APPEND, os.O_RDWR):
            refused = as_user(GAMMA, (), partial(all_opened, paths[:2], flags))
            refused += as_user(BETA, (BACKUP,), partial(all_opened, paths[2:], flags))
            assert refused == [-errno.EACCES] * 4
        assert library.listed("--all") == []
        number = as_user(BETA, (), lambda: opening(paths[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        (session,) = library.listed("--all")
        assert (session["id"], session["uid"], session["drive"]) == (number, BETA, 1)


def test_programs_say_permission_denied(library: OnDisks) -> None:
    """The programs are a shell, tar, test(1), ls and stat."""
    beta = f"setpriv --reuid={BETA} --regid={NONE + 1} --groups={BACKUP} "
    gamma = f"setpriv --reuid={GAMMA} --regid={NONE + 1} --clear-groups "
    with library.mounted(OPTIONS, expects=["permissions.drives.1 with"]) as mounted:
        through, medium = mounted.drive(1, "A1"), mounted.medium("A1")
        shell(f"{beta} tar cf {through} -C /etc hostname && {beta} tar tf {medium}")
        for refused in (f"tar cf {through} /etc/hostname", f"sh -c 'echo x > {medium}'", f"ls {through}"):
            assert "Permission denied" in shell(f"{gamma} {refused}", status=2).stderr
        shell(f"{beta} test -w {through} && ! {gamma} test -w {through} && ! {gamma} test -r {medium}")
        listed = shell(f"ls -lnd {mounted.path}/drives/1 {through} {mounted.file('A1', 0)} {mounted.path}/drives/2")
        assert [line.split()[0] for line in listed.stdout.splitlines()] == [
            "drwx-wx---",
            "-rw--w----",
            "dr-xr-x---",
            "-r--r-----",
        ]
        assert shell(f"stat -c '%u %g %a' {mounted.path}/drives/3/A1").stdout == f"{BETA} {BACKUP} 60\n"
        for unknown in (mounted.medium("A9"), mounted.drive(0, "A9"), mounted.drive(3, "A9")):
            assert "No such file" in shell(f"{gamma} tar cf {unknown} /etc/hostname", status=2).stderr
    assert {one["uid"] for one in library.listed()} == {BETA}


def test_media_are_led_through_drives_that_shut_nobody_out(library: OnDisks) -> None:
    with library.mounted(OPTIONS, expects=["permissions.drives.1 with"]) as mounted:
        held = [os.open(mounted.drive(0, "A1"), os.O_WRONLY | os.O_TRUNC) for _ in range(3)]
        number = as_user(BETA, (), lambda: opening(mounted.medium("A1"), os.O_WRONLY | os.O_TRUNC))
        assert library.session(number).drive == 0
        for descriptor in held:
            os.close(descriptor)
    with open(library.path / "library.toml", "a") as file:
        file.write('[permissions.drives.0]\nmode = "0000"\n')
    with library.mounted(OPTIONS, expects=["permissions.drives.1 with"]) as mounted:
        assert stat.S_IMODE(mounted.medium("A1").stat().st_mode) == 0
        assert as_user(BETA, (BACKUP,), lambda: what_is_let(mounted.medium("A1"))) == 0
        assert as_user(BETA, (BACKUP,), lambda: what_is_let(mounted.drive(1, "A1"))) == WRITE | READ
        mounted.medium("A1").write_bytes(b"root may all")


def test_session_can_be_read_by_its_opener_and_by_the_mediums_readers(library: OnDisks) -> None:
    with library.mounted(OPTIONS, expects=["permissions.drives.1 with"]) as mounted:
        for opener, groups, barcode in ((BETA, (), "A1"), (0, (), "B2"), (ALPHA, (), "C1"), (GAMMA, (BACKUP,), "A1")):
            path = mounted.medium(barcode)
            number = as_user(opener, groups, partial(opening, path, os.O_WRONLY | os.O_TRUNC))
            document = mounted.path / "sessions" / str(number)
            assert mounted.session(number)["uid"] == opener
            for user, others in USERS:
                readable = MEDIA[barcode].of(user, frozenset(others)) & READ
                found = as_user(user, others, partial(what_is_let, document))
                if user == opener:
                    assert found == READ
                elif user != MEDIA[barcode].owner:
                    assert found == readable, (user, others, barcode)
        assert document.name not in as_user(ALPHA, (), lambda: os.listdir(mounted.path / "sessions"))


def test_library_without_rules_goes_by_the_mount_alone(library: OnDisks) -> None:
    (library.path / "library.toml").write_text((library.path / "library.toml").read_text().replace(RULES, ""))
    with library.mounted(f"allow_other,uid={ALPHA},gid={BACKUP},mode=0750") as mounted:
        mounted.medium("A1").write_bytes(b"data")
        for path in (mounted.medium("A1"), mounted.drive(3, "A1"), mounted.file("A1", 0)):
            for user, groups in USERS:
                may = READ | WRITE if user == ALPHA else READ if BACKUP in groups else 0
                may &= READ if path.parts[-3] == "files" else READ | WRITE
                assert as_user(user, groups, partial(what_is_let, path)) == may
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (mounted.path, *mounted.path.iterdir())}
        assert modes == {0o750}
        assert stat.S_IMODE(mounted.medium("A1").stat().st_mode) == 0o640


def test_nobody_but_root_writes_where_the_mode_is_for_reading(library: OnDisks) -> None:
    (library.path / "library.toml").write_text((library.path / "library.toml").read_text().replace(RULES, ""))
    with library.mounted(f"allow_other,uid={ALPHA},mode=0444") as mounted:
        for user, groups in USERS:
            assert as_user(user, groups, lambda: what_is_let(mounted.drive(0, "A1"))) == READ


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[permissions.drives.0]\nowner = "no-such"\n', "permissions.drives.0.owner: this machine has no user"),
        ('[permissions.media."Z*"]\ngroup = "no-such"\n', "permissions.media.\"Z*\".group: this machine has no group"),
    ],
)  # fmt: skip
def test_unknown_user_or_group_is_an_error_at_the_mount(library: OnDisks, text: str, says: str) -> None:
    with open(library.path / "library.toml", "a") as file:
        file.write(text)
    (library.root / "mnt").mkdir()
    for way in ([], ["--foreground"]):
        said = library.vtlfs("mount", library.path, library.root / "mnt", *way, status=1)
        assert f"library.toml: {says}" in said
        assert said.count("\n") == 1
    assert not os.path.ismount(library.root / "mnt")
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        assert tracking.sql.one("SELECT count(*) FROM mount") == (0,)


COUNTING = """
import vtlfs.daemon, vtlfs.fs.operations as adapter
from vtlfs.cli.main import main

class Counting(adapter.Operations):
    async def statfs(self, ctx):
        answer = await super().statfs(ctx)
        answer.f_files = len(self._inodes)
        return answer

vtlfs.daemon.Operations = Counting
main()
"""


@contextmanager
def counting_inodes(library: OnDisks) -> Iterator[Mounted]:
    """Mount with a statfs() that returns how many inodes the adapter knows."""
    path, log = library.root / "mnt", library.root / "log"
    path.mkdir()
    words: list[str | Path] = [
        sys.executable, "-c", COUNTING, "mount", library.path, path, "--foreground", "-o", OPTIONS
    ]  # fmt: skip
    with open(log, "wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, cwd=PROJECT)
    mounted = Mounted(path, process.pid, log)
    mounted.process = process
    try:
        wait_until(lambda: process.poll() is not None or " is mounted " in log.read_text(), "a live mount")
        yield mounted
    finally:
        clean_up(mounted)


def test_refused_opens_leave_no_inodes_behind(library: OnDisks) -> None:
    with counting_inodes(library) as mounted:
        paths = [mounted.drive(0, "A1"), mounted.drive(1, "A1"), mounted.medium("B2")]

        def refused() -> list[int]:
            return [opening(path, os.O_WRONLY | os.O_TRUNC) for _ in range(200) for path in paths]

        assert as_user(GAMMA, (RESTORE,), lambda: [opening(path, os.O_WRONLY) for path in paths])[:2] == [-13, -13]
        before = os.statvfs(mounted.path).f_files
        assert set(as_user(BETA, (RESTORE,), refused)[2::3]) == {-errno.EACCES}
        wait_until(lambda: os.statvfs(mounted.path).f_files <= before + len(paths), "the kernel to forget")


def test_table_in_the_documentation_is_true(library: OnDisks) -> None:
    text = (PROJECT / "docs/configuration.md").read_text()
    text = text[text.index("## Who may read and write") :]
    shown = re.search(r"```toml\n(.*?)```", text, re.S)
    assert shown is not None
    rules = shown[1]
    numbers = {"alpha": ALPHA, "beta": BETA, "backup": BACKUP, "restore": RESTORE}
    for name, number in numbers.items():
        rules = rules.replace(f'"{name}"', str(number))
    configuration = (library.path / "library.toml").read_text()
    (library.path / "library.toml").write_text(configuration.replace(RULES, rules))
    library.add("A00001", "B00001")
    table = re.search(r"\| user \|.*?\n\n", text, re.S)
    assert table is not None
    header, _, *rows = table[0].strip().splitlines()
    paths = re.findall("`/([^`]+)`", header)
    with library.mounted(f"allow_other,gid={RESTORE}") as mounted:
        mounted.medium("A00001").write_bytes(b"data")
        for row in rows:
            user, *cells = (cell.strip() for cell in row.strip("|").split("|"))
            uid = next((numbers[name] for name in ("alpha", "beta") if name in user), GAMMA)
            groups = [numbers[name] for name in ("backup", "restore") if name in user]
            found = as_user(uid, groups, lambda: [what_is_let(mounted.path / path) for path in paths])
            assert ["".join(word for bit, word in ((READ, "r"), (WRITE, "w")) if bit & one) for one in found] == cells
    assert len(rows) == 6

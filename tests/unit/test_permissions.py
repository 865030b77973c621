"""How the rules of a drive and of a medium are combined, and which rules are valid."""

import os
import re
import stat
from itertools import combinations, product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vtlfs.permissions import READ, WRITE, Rights, as_directory, lets_all_in, says_all, through

SEARCH = 1
modes = st.builds(lambda *classes: classes[0] << 6 | classes[1] << 3 | classes[2], *[st.sampled_from([0, 2, 4, 6])] * 3)
rights = st.builds(Rights, st.integers(0, 3), st.integers(10, 12), modes)
users = st.tuples(st.integers(0, 4), st.frozensets(st.integers(10, 13)))

ROOT, BETA, GAMMA = 0, 1, 2
BACKUP, RESTORE = 10, 11
EVERYBODY = [
    (user, frozenset(groups))
    for user, size in product((ROOT, BETA, GAMMA, 9), range(3))
    for groups in combinations((BACKUP, RESTORE), size)
]


def kernel(file: Rights, user: int, groups: frozenset[int], wanted: int) -> bool:
    """Return the rights that path_resolution(7) gives a process without capabilities."""
    if user == file.owner:
        bits = file.mode >> 6
    elif file.group in groups:
        bits = file.mode >> 3
    else:
        bits = file.mode
    return bits & wanted == wanted


def reached(drive: Rights, medium: Rights, who: tuple[int, frozenset[int]]) -> int:
    """Return the rights that the kernel gives a user through the drive's directory."""
    if not kernel(as_directory(drive), *who, SEARCH):
        return 0
    return sum(right for right in (READ, WRITE) if kernel(through(drive, medium), *who, right))


def allowed(drive: Rights, medium: Rights, who: tuple[int, frozenset[int]]) -> int:
    """Return the rights that both rules allow."""
    return sum(right for right in (READ, WRITE) if kernel(drive, *who, right) and kernel(medium, *who, right))


@given(rights, rights, users)
@example(Rights(BETA, BACKUP, 0o620), Rights(ROOT, BACKUP, 0o640), (BETA, frozenset({BACKUP})))
def test_nobody_gets_what_one_of_the_two_rules_does_not_allow(
    drive: Rights, medium: Rights, who: tuple[int, frozenset[int]]
) -> None:
    assert reached(drive, medium, who) & ~allowed(drive, medium, who) == 0


@given(rights, rights)
def test_it_is_known_whether_everybody_gets_what_both_rules_allow(drive: Rights, medium: Rights) -> None:
    users = product(range(5), (frozenset(some) for size in range(5) for some in combinations(range(10, 14), size)))
    exact = all(reached(drive, medium, who) == allowed(drive, medium, who) for who in users)
    assert says_all(drive, medium) == exact


@given(rights, rights, users)
def test_rules_of_one_owner_and_group_come_together_exactly(
    drive: Rights, medium: Rights, who: tuple[int, frozenset[int]]
) -> None:
    medium = Rights(drive.owner, drive.group, medium.mode)
    assert reached(drive, medium, who) == allowed(drive, medium, who)


@given(rights, rights, users, st.sampled_from([READ, WRITE, READ | WRITE]))
def test_drive_that_gives_the_same_to_all_it_lets_in_comes_together_exactly(
    drive: Rights, medium: Rights, who: tuple[int, frozenset[int]], same: int
) -> None:
    mode = sum(same << shift for shift in (6, 3, 0) if drive.mode >> shift & 6)
    drive = Rights(drive.owner, drive.group, mode)
    assert reached(drive, medium, who) == allowed(drive, medium, who)


@given(rights, rights)
def test_drives_for_media_shut_nobody_out(drive: Rights, medium: Rights) -> None:
    users = product(range(1, 5), (frozenset(some) for size in range(5) for some in combinations(range(10, 14), size)))
    everybody = all(allowed(drive, medium, who) == sum(r for r in (4, 2) if kernel(medium, *who, r)) for who in users)
    assert lets_all_in(drive, medium) == everybody


@pytest.mark.parametrize("drive_mode", [0o660, 0o640, 0o620, 0o600, 0o440, 0o220, 0o666, 0o444, 0o060, 0])
@pytest.mark.parametrize("medium_mode", [0o660, 0o640, 0o620, 0o600, 0o440, 0o220, 0o666, 0o444, 0o060, 0])
@pytest.mark.parametrize("drive_owner", [ROOT, BETA])
@pytest.mark.parametrize("drive_group", [BACKUP, RESTORE])
def test_all_pairs_of_usual_modes(drive_mode: int, medium_mode: int, drive_owner: int, drive_group: int) -> None:
    drive, medium = Rights(drive_owner, drive_group, drive_mode), Rights(ROOT, BACKUP, medium_mode)
    for who in EVERYBODY:
        got, both = reached(drive, medium, who), allowed(drive, medium, who)
        assert got == both if says_all(drive, medium) else got & ~both == 0


@pytest.mark.parametrize(
    ("drive", "medium", "file", "exact"),
    [
        (Rights(BETA, BACKUP, 0o660), Rights(ROOT, BACKUP, 0o640), Rights(ROOT, BACKUP, 0o640), True),
        (Rights(BETA, BACKUP, 0o600), Rights(ROOT, BACKUP, 0o640), Rights(ROOT, BACKUP, 0o040), True),
        (Rights(ROOT, RESTORE, 0o440), Rights(ROOT, BACKUP, 0o660), Rights(ROOT, BACKUP, 0o440), True),
        (Rights(ROOT, BACKUP, 0o620), Rights(ROOT, BACKUP, 0o640), Rights(ROOT, BACKUP, 0o600), True),
        (Rights(BETA, BACKUP, 0o620), Rights(BETA, BACKUP, 0o660), Rights(BETA, BACKUP, 0o620), True),
        (Rights(BETA, BACKUP, 0o640), Rights(ROOT, BACKUP, 0o660), Rights(ROOT, BACKUP, 0o440), False),
    ],
)
def test_what_the_file_shows(drive: Rights, medium: Rights, file: Rights, exact: bool) -> None:
    assert through(drive, medium) == file
    assert says_all(drive, medium) == exact


@pytest.mark.parametrize(("mode", "directory"), [(0o660, 0o770), (0o620, 0o730), (0o604, 0o705), (0, 0)])
def test_directory_is_searched_by_whoever_may_read_or_write(mode: int, directory: int) -> None:
    assert as_directory(Rights(1, 2, mode)) == Rights(1, 2, directory)


def test_the_model_is_what_the_kernel_does(tmp_path: Path) -> None:
    """The tests above rely on the function `kernel`: here it is compared with the real kernel, on an ordinary file."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user wants root")
    path = tmp_path / "file"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    descriptor = os.open(path, os.O_PATH)
    os.chmod(path, 0)
    for mode, who in product((0o640, 0o620, 0o604, 0o062, 0o460, 0o006), EVERYBODY):
        os.chown(path, BETA, BACKUP)
        os.chmod(path, mode)
        assert stat.S_IMODE(os.stat(path).st_mode) == mode
        if who[0] != ROOT:
            assert _asked(descriptor, *who) == sum(
                right for right in (READ, WRITE) if kernel(Rights(BETA, BACKUP, mode), *who, right)
            )
    os.close(descriptor)


def _asked(descriptor: int, user: int, groups: frozenset[int]) -> int:
    """Return the result of access(2) in a process of this user."""
    if (child := os.fork()) == 0:
        try:
            os.setgroups(list(groups))
            os.setgid(99)
            os.setuid(user)
            path = f"/proc/self/fd/{descriptor}"
            os._exit((READ if os.access(path, os.R_OK) else 0) | (WRITE if os.access(path, os.W_OK) else 0))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_table_in_the_documentation_is_true() -> None:
    text = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    numbers = {"root": ROOT, "beta": BETA, "backup": BACKUP, "restore": RESTORE}

    def read(cell: str) -> Rights:
        owner, group, mode = re.split("[: ]", cell.strip(" `"))
        return Rights(numbers[owner], numbers[group], int(mode, 8))

    rows = re.findall(r"^\|(.* 0\d+`) \|(.* 0\d+`) \|(.* 0\d+`) \| (yes|no)\b", text, re.M)
    assert len(rows) == 5
    for drive, medium, file, exact in rows:
        assert through(read(drive), read(medium)) == read(file)
        assert says_all(read(drive), read(medium)) == (exact == "yes")

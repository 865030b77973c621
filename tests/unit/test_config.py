"""Reading, checking and writing library.toml."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtlfs import config as configuration
from vtlfs.care_rules import CareRule, NotifyRule
from vtlfs.config import (
    FILE_NAME,
    MAX_DRIVES,
    MAX_MEMORY,
    MAX_STRIPE_UNIT,
    MIN_MEMORY,
    MIN_STRIPE_UNIT,
    SNAPSHOT_RULES,
    Config,
    ConfigError,
    load,
    render,
)
from vtlfs.errors import LibraryError, UsageError
from vtlfs.model import GIB, MAX_PARITY, MIB
from vtlfs.permissions import MAX_ID, Rule

GOOD = """\
[library]
uuid = "u"
disks = ["/a", "/b"]
drives = 3

[stripe]
unit = "64KiB"

[io]
low_space = 0

[tracking]
checkpoint = "1.5min"
"""
SNAPSHOTS = """
[snapshots]
every = "2h"
keep = { last = 10, yearly = 0 }
"""
PERMISSIONS = """
[permissions.drives.1]
owner = "beta"
group = 1000
mode = "0620"
[permissions.media."A[0-9]*"] # ]
mode = "640"
[permissions]
media.B1 = { owner = "0", group = "backup" }
"""
who = st.none() | st.integers(0, MAX_ID) | st.text(st.characters(categories=["L"]), min_size=1, max_size=9)
rules = st.builds(Rule, who, who, st.none() | st.integers(0, 0o777))
paths = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30).map(
    lambda name: Path("/", name)
)


def put(library: Path, text: str) -> Path:
    (library / FILE_NAME).write_text(text)
    return library


def test_every_key_is_read(tmp_path: Path) -> None:
    assert load(put(tmp_path, GOOD)) == Config(
        "u", (Path("/a"), Path("/b")), 3, 64 << 10, parity=0, low_space=0, checkpoint=90.0
    )
    assert load(put(tmp_path, GOOD.replace("unit =", "parity = 1\nunit ="))).parity == 1


def test_relative_disks_are_those_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "library").mkdir()
    put(tmp_path / "library", GOOD.replace("/a", "a").replace("/b", "../b"))
    monkeypatch.chdir(tmp_path)
    assert load(Path("library")).disks == (tmp_path / "library/a", tmp_path / "library/../b")


def test_snapshots_are_read(tmp_path: Path) -> None:
    config = load(put(tmp_path, GOOD + SNAPSHOTS))
    assert (config.snapshot_every, config.snapshot_keep) == (7200.0, {"last": 10, "yearly": 0})
    config = load(put(tmp_path, GOOD + "[snapshots.keep]\ndaily = 7\n"))
    assert (config.snapshot_every, config.snapshot_keep) == (None, {"daily": 7})
    config = load(put(tmp_path, GOOD))
    assert (config.snapshot_every, config.snapshot_keep) == (None, {})


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    config = load(put(tmp_path, '[library]\nuuid = "u"\ndisks = ["/a", "/b"]\n'))
    assert config == Config("u", (Path("/a"), Path("/b")), 4, MIB, parity=0, low_space=GIB, checkpoint=5.0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    disks=st.lists(paths, min_size=2, max_size=4),
    drives=st.integers(1, MAX_DRIVES),
    stripe_unit=st.integers(1, MAX_STRIPE_UNIT // MIN_STRIPE_UNIT).map(lambda count: count * MIN_STRIPE_UNIT),
    parity=st.integers(0, MAX_PARITY),
    low_space=st.integers(0, 2**40),
    checkpoint=st.integers(1, 86400),
    every=st.none() | st.integers(1, 10**9).map(float) | st.floats(1, 100).map(lambda seconds: round(seconds, 2)),
    keep=st.just({})
    | st.dictionaries(st.sampled_from(SNAPSHOT_RULES), st.integers(0, 99)).filter(lambda keep: any(keep.values())),
    memory_limit=st.integers(MIN_MEMORY, MAX_MEMORY),
    drive_rules=st.dictionaries(st.integers(0, 999), rules, max_size=3),
    media_rules=st.dictionaries(st.text("AZaz09_.-*?", min_size=1, max_size=9), rules, max_size=3),
)
def test_what_is_rendered_is_loaded(
    tmp_path: Path,
    disks: list[Path],
    drives: int,
    stripe_unit: int,
    parity: int,
    low_space: int,
    checkpoint: int,
    every: float | None,
    keep: dict[str, int],
    memory_limit: int,
    drive_rules: dict[int, Rule],
    media_rules: dict[str, Rule],
) -> None:
    drive_rules = {number: rule for number, rule in drive_rules.items() if number < drives}
    config = Config(
        "some-uuid", tuple(disks), drives, stripe_unit, min(parity, len(disks) - 1), low_space, float(checkpoint),
        every, keep, drive_rules, media_rules, memory_limit=memory_limit,
    )  # fmt: skip
    (tmp_path / FILE_NAME).write_bytes(render(config).encode())
    assert load(tmp_path) == config
    assert list(load(tmp_path).media_rules) == list(media_rules)


def test_indexing_in_the_background_is_on_and_can_be_set(tmp_path: Path) -> None:
    known = load(put(tmp_path, GOOD))
    assert (known.index_background, known.index_limit) == (True, 100 * MIB)
    off = load(put(tmp_path, GOOD + '[index]\nbackground = false\nlimit = "none"\n'))
    assert (off.index_background, off.index_limit) == (False, None)
    with pytest.raises(ConfigError, match=r"line 15: index\.background: .* true or false"):
        load(put(tmp_path, GOOD + "[index]\nbackground = 1\n"))


def test_the_memory_limit_has_bounds(tmp_path: Path) -> None:
    assert load(put(tmp_path, GOOD + '[memory]\nlimit = "64MiB"\n')).memory_limit == 64 * MIB
    for wrong in ('"63MiB"', "1", '"2TiB"', '"much"', "true"):
        with pytest.raises(ConfigError, match=r"line 15: memory\.limit: "):
            load(put(tmp_path, GOOD + f"[memory]\nlimit = {wrong}\n"))


def test_rules_for_drives_and_media_are_read_in_their_order(tmp_path: Path) -> None:
    config = load(put(tmp_path, GOOD + PERMISSIONS))
    assert config.drive_rules == {1: Rule("beta", 1000, 0o620)}
    assert list(config.media_rules.items()) == [
        ("A[0-9]*", Rule(None, None, 0o640)),
        ("B1", Rule(0, "backup", None)),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("drives.1", "drives.3", 15, "permissions.drives.3"),
        ("drives.1", "drives.01", 15, "permissions.drives.01"),
        ("drives.1", "drives.one", 15, "permissions.drives.one"),
        ("drives.1", "drive.1", 15, "permissions.drive"),
        ("drives.1", "tapes.1", 15, "permissions.tapes"),
        ('"beta"', '""', 16, "permissions.drives.1.owner"),
        ('"beta"', "true", 16, "permissions.drives.1.owner"),
        ('"beta"', "-1", 16, "permissions.drives.1.owner"),
        ('"beta"', "4294967295", 16, "permissions.drives.1.owner"),
        ("owner", "user", 16, "permissions.drives.1.user"),
        ("1000", "1.5", 17, "permissions.drives.1.group"),
        ('"0620"', "620", 18, "permissions.drives.1.mode"),
        ('"0620"', '"u=rw"', 18, "permissions.drives.1.mode"),
        ('"0620"', '"0680"', 18, "permissions.drives.1.mode"),
        ('"0620"', '"1620"', 18, "permissions.drives.1.mode"),
        ('"640"', '"rw"', 20, 'permissions.media."A[0-9]*".mode'),
        ("A[0-9]*", "A[0-9*", 19, 'permissions.media."A[0-9*"'),
        ("A[0-9]*", "A 1", 19, 'permissions.media."A 1"'),
        ("A[0-9]*", "", 19, 'permissions.media.""'),
        ('{ owner = "0", group = "backup" }', '"0640"', 22, "permissions.media.B1"),
        ('"0", group', '"0", gruop', 22, "permissions.media.B1.gruop"),
    ],
)
def test_an_error_in_a_rule_names_line_and_key(tmp_path: Path, old: str, new: str, line: int, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(put(tmp_path, GOOD + PERMISSIONS.replace(old, new, 1)))
    assert f"{tmp_path / FILE_NAME}: line {line}: {key}: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("uuid =", "uid =", 2, "library.uid"),
        ('"u"', "7", 2, "library.uuid"),
        ('"u"', '""', 2, "library.uuid"),
        ('["/a", "/b"]', '["/a"]', 3, "library.disks"),
        ('["/a", "/b"]', '["/a", 5]', 3, "library.disks"),
        ('["/a", "/b"]', '["/a", ""]', 3, "library.disks"),
        ('["/a", "/b"]', '"/a"', 3, "library.disks"),
        ('["/a", "/b"]', '[\n"/a",\n]', 3, "library.disks"),
        ("drives = 3", "drives = 0", 4, "library.drives"),
        ("drives = 3", "drives = 1001", 4, "library.drives"),
        ("drives = 3", "drives = true", 4, "library.drives"),
        ("drives = 3", 'drives = "3"', 4, "library.drives"),
        ("drives = 3", "drives = 3.5", 4, "library.drives"),
        ("drives = 3", "drive = 3", 4, "library.drive"),
        ("drives = 3", "drives.most = 3", 4, "library.drives"),
        ("unit =", "size =", 7, "stripe.size"),
        ("64KiB", "4095", 7, "stripe.unit"),
        ("64KiB", "128MiB", 7, "stripe.unit"),
        ("64KiB", "big", 7, "stripe.unit"),
        ('"64KiB"', "-4096", 7, "stripe.unit"),
        ('"64KiB"', '"64KiB"\nparity = 2', 8, "stripe.parity"),  # with two disks
        ('"64KiB"', '"64KiB"\nparity = 3', 8, "stripe.parity"),
        ('"64KiB"', '"64KiB"\nparity = -1', 8, "stripe.parity"),
        ('"64KiB"', '"64KiB"\nparity = true', 8, "stripe.parity"),
        ("= 0", '= "much"', 10, "io.low_space"),
        ("= 0", "= -1", 10, "io.low_space"),
        ("1.5min", "1.5m", 13, "tracking.checkpoint"),
        ("1.5min", "0s", 13, "tracking.checkpoint"),
        ('"1.5min"', "90", 13, "tracking.checkpoint"),
        ('checkpoint = "1.5min"', "check-point = 5", 13, "tracking.check-point"),
        ("[io]", "[io.more]", 9, "io.more"),
        ("low_space", '"low space"', 10, 'io."low space"'),
        ('"2h"', '"2"', 16, "snapshots.every"),
        ('"2h"', '"0.5s"', 16, "snapshots.every"),
        ('"2h"', "7200", 16, "snapshots.every"),
        ("every", "evry", 16, "snapshots.evry"),
        ("{ last = 10, yearly = 0 }", "10", 17, "snapshots.keep"),
        ("{ last = 10, yearly = 0 }", "{}", 17, "snapshots.keep"),
        ("{ last = 10, yearly = 0 }", "{ last = 0 }", 17, "snapshots.keep"),
        ("last", "latest", 17, "snapshots.keep"),
        ("last = 10", "last = -1", 17, "snapshots.keep"),
        ("last = 10", 'last = "10"', 17, "snapshots.keep"),
        ("last = 10", "last = true", 17, "snapshots.keep"),
        ("last = 10", "last = 10000000", 17, "snapshots.keep"),
        ("keep = { last = 10, yearly = 0 }", "[snapshots.keep]\nday = 1", 17, "snapshots.keep"),
    ],
)
def test_an_error_names_line_and_key(tmp_path: Path, old: str, new: str, line: int, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(put(tmp_path, (GOOD + SNAPSHOTS).replace(old, new, 1)))
    assert f"{tmp_path / FILE_NAME}: line {line}: {key}: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        (GOOD + "[snapshot]\nevery = 1\n", 14, "snapshot"),
        (GOOD.replace("[io]", "[IO]"), 9, "IO"),
        ("colour = 1\n" + GOOD, 1, "colour"),
        ("\n" + "io = 1\n" + GOOD.replace("[io]\nlow_space = 0\n", ""), 2, "io"),
        (GOOD.replace("[stripe]", "[[stripe]]"), 6, "stripe"),
    ],
)
def test_an_unknown_section_is_named_with_its_line(tmp_path: Path, text: str, line: int, name: str) -> None:
    with pytest.raises(ConfigError, match=f"line {line}: .*'{name}'"):
        load(put(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "line"), [(GOOD + "oops\n", 14), (GOOD.replace('"u"', "u"), 2), (GOOD + GOOD, 14), ('a = "\n', 1)]
)
def test_what_is_no_toml_is_named_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=f"line {line},"):
        load(put(tmp_path, text))


@pytest.mark.parametrize("key", ["uuid", "disks"])
def test_a_required_key_that_is_missing_is_named(tmp_path: Path, key: str) -> None:
    text = "".join(line for line in GOOD.splitlines(keepends=True) if not line.startswith(key))
    with pytest.raises(ConfigError, match=rf"library\.{key} is missing"):
        load(put(tmp_path, text))


def test_an_empty_configuration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is missing"):
        load(put(tmp_path, ""))


def test_a_directory_without_a_library_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="vtlfs init"):
        load(tmp_path)


def test_a_configuration_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b'[library]\nuuid = "\xff"\n')
    with pytest.raises(LibraryError, match="not UTF-8"):
        load(tmp_path)
    os.unlink(tmp_path / FILE_NAME)
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(LibraryError, match="directory"):
        load(tmp_path)


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5), ("15min", 900), ("1h", 3600), ("2d", 172800), ("0.5 s", 0.5)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert configuration.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1m", "1 month", "1e3s", "1.s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        configuration.parse_duration(text)


NOTIFY = """
[notify]
command = ["/usr/local/bin/tell", "admins"]
url = "https://hooks.example.org/vtl"
headers = { Authorization = "Bearer x" }
kinds = ["disk", "stream"]
limit = "10s"
gather = "1min"
remind = "never"
space = "5%"
copy = "2d"

[care]
verify = "30d"
rehearse = "weekly"
files = 5
limit = "none"
"""


def test_notify_and_care_are_read(tmp_path: Path) -> None:
    config = load(put(tmp_path, GOOD + NOTIFY))
    rule = config.notify
    assert rule is not None
    assert (rule.command, rule.url) == (("/usr/local/bin/tell", "admins"), "https://hooks.example.org/vtl")
    assert (rule.headers, rule.kinds) == ({"Authorization": "Bearer x"}, ("disk", "stream"))
    assert (rule.limit, rule.gather, rule.remind, rule.copy) == (10.0, 60.0, None, 172_800.0)
    assert (rule.space, rule.space_is_share) == (5, True)
    assert config.care == CareRule(verify=30 * 86_400.0, limit=None, rehearse=7 * 86_400.0, files=5)
    config = load(put(tmp_path, f'{GOOD}[notify]\ncommand = "/bin/true"\nspace = "1TiB"\n'))
    assert config.notify == NotifyRule(command=("/bin/true",), space=1 << 40, space_is_share=False)
    config = load(put(tmp_path, GOOD))
    assert (config.notify, config.care) == (None, CareRule())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[notify]\nspace = "5%"', "notify: command or url is missing"),
        ('[notify]\ncommand = "tell"', "notify.command: 'tell' is not the absolute path of a program"),
        ("[notify]\ncommand = []", "notify.command: the value must be a program, or a list"),
        ('[notify]\nurl = "ftp://x"', "notify.url: the value must be a URL"),
        ('[notify]\nurl = "https://x y"', "notify.url: the value must be a URL"),
        ('[notify]\nurl = "https://x:99999999"', "notify.url: the value must be a URL"),
        ('[notify]\nurl = "https://x"\nheaders = { A = "b\\nC: d" }', "notify.headers: the value must be a table"),
        ('[notify]\ncommand = "/x"\nheaders = { A = "b" }', "notify.headers: headers go with url"),
        ('[notify]\ncommand = "/x"\nkinds = ["disks"]', "notify.kinds: the value must be a list of some of disk"),
        ('[notify]\ncommand = "/x"\nlimit = "1h"', "notify.limit: the value must be 1s to 10min"),
        ('[notify]\ncommand = "/x"\nremind = "never ever"', "notify.remind: 'never ever' is not a duration"),
        ('[notify]\ncommand = "/x"\nspace = "200%"', "notify.space: "),
        ('[notify]\ncommand = "/x"\nmail = "root"', "notify.mail: unknown key; there are command, url"),
        ("notify = 3", "notify: the value must be a table"),
        ('[care]\nverify = "yearly"', "care.verify: 'yearly' is not a duration"),
        ("[care]\nfiles = 0", "care.files: the value must be a number from 1 to 1000"),
        ('[care]\nlimit = "0"', "care.limit: the value must be more than 0"),
    ],
)
def test_notify_and_care_that_are_wrong_are_refused(tmp_path: Path, text: str, said: str) -> None:
    before = f"{text}\n{GOOD}" if text.startswith("notify") else f"{GOOD}{text}\n"
    with pytest.raises(ConfigError) as caught:
        load(put(tmp_path, before))
    assert said in str(caught.value)
    assert "line " in str(caught.value)

"""`[notify]` on real mounts: a real command and a real HTTP server are told what goes wrong, once, and reminded."""

import json
import os
import shlex
import signal
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from faked_clock import as_words, faked, require_faketime, set_offset
from filling import flip_at
from mounting import PROGRAM, PROJECT, Mounted, OnDisks, random_bytes, require_fuse, wait_until
from telling import Command, by_command, configure, fail, serving

from vtlfs import failpoints
from vtlfs.care import notify_job
from vtlfs.disks.local.opening import member_path
from vtlfs.disks.records import BLOCK
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.repositories.incidents import Telling, Untold
from vtlfs.model import MIB

QUIET = 'gather = "1s"\nspace = "never"'
SMALL = 64 * 1024
FULL = ["stream has failed", "WARNING"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def small(library: OnDisks) -> OnDisks:
    """A library with media of 64 KiB, too: S1 to S9."""
    library.add("S1..S9", capacity=SMALL)
    return library


def untold(library: OnDisks, way: str = "command") -> list[Untold]:
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        return tracking.incidents.untold(way)


def tellings(library: OnDisks, way: str = "command") -> dict[str, Telling]:
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        return tracking.incidents.tellings(way)


def wait_heard(command: Command, number: int) -> list[dict[str, Any]]:
    """Wait for so many messages, and return them."""
    wait_until(lambda: len(command.heard()) >= number, f"{number} messages")
    return command.heard()


def wait_settled(library: OnDisks, way: str = "command") -> None:
    """Wait until all is told, and that is recorded."""
    wait_until(lambda: not untold(library, way), "the record of what was told")


def wait_begun(library: OnDisks, way: str = "command") -> None:
    """Wait until a mount tells what comes from now on."""
    wait_until(lambda: tellings(library, way), "the begin of telling")


def assert_died(library: OnDisks, mounted: Mounted) -> None:
    """Wait until a mount dies at its failpoint, and unmount what is left."""
    assert mounted.ended() == failpoints.STATUS
    mounted.has_ended = True
    library.vtlfs("umount", mounted.path)


def test_command_is_told_of_a_stream_that_failed(
    small: OnDisks, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTLFS_SECRET", "of the starter")
    monkeypatch.setenv("TZ", "UTC")
    configure(small, f"{by_command(command)}\n{QUIET}")
    with small.mounted("host=alpha") as mounted:
        wait_begun(small)
        fail(mounted.medium("S1"), 2 * SMALL)
        (told,) = wait_heard(command, 1)
        assert (told["kind"], told["group"], told["severity"]) == ("stream failed", "stream", "error")
        assert (told["about"], told["count"], told["is_reminder"], told["lasts"]) == ("streams", 1, False, False)
        assert told["what"].startswith("1 stream has failed; ")
        assert "of alpha, medium S1, session " in told["what"]
        assert told["what"].endswith("ENOSPC (No space left on device)")
        assert told["advice"] == f"vtlfs report {small.path}"
        assert (told["library"], told["uuid"]) == (str(small.path), Library.open(small.path).config.uuid)
        (incident,) = told["incidents"]
        assert (incident["of"]["medium"], incident["of"]["host"], incident["of"]["error"]) == ("S1", "alpha", "ENOSPC")
        environment = command.environment()
        assert environment["VTLFS_KIND"] == "stream failed"
        assert environment["VTLFS_WHAT"] == told["what"]
        assert environment["VTLFS_LIBRARY"] == str(small.path)
        names = {name for name in environment if not name.startswith("VTLFS_")} - {"PWD", "OLDPWD", "SHLVL", "_"}
        assert names == {"PATH", "HOME", "USER", "LOGNAME", "LANG"}
        assert "VTLFS_SECRET" not in environment
        assert (command.heard_at / "directory").read_text() == "/\n"
        open_files = (command.heard_at / "descriptors").read_text()
        assert str(small.root / "disk0") not in open_files
        assert "tracking.db" not in open_files
        wait_settled(small)
    assert len(command.heard()) == 1


def test_names_from_hosts_reach_the_command_as_text(small: OnDisks, command: Command) -> None:
    configure(small, f"{by_command(command)}\n{QUIET}")
    with small.mounted() as mounted:
        wait_begun(small)
        program = small.root / "$(touch bad);\n'x"
        program.symlink_to("/bin/dd")
        words = [str(program), "if=/dev/zero", f"of={mounted.medium('S1')}", f"bs={2 * SMALL}", "count=1"]
        pid = os.spawnv(os.P_NOWAIT, str(program), words)
        os.waitpid(pid, 0)
        (told,) = wait_heard(command, 1)
        assert "\n" not in command.environment()["VTLFS_WHAT"]
        assert told["incidents"][0]["of"]["program"].startswith("$(touch bad)")
        wait_settled(small)
    assert not Path("/bad").exists()


def test_url_is_told_again_until_it_takes_the_message(small: OnDisks) -> None:
    with serving([500, 503]) as server:
        configure(small, f'url = "{server.url}"\nheaders = {{ Authorization = "Bearer x" }}\n{QUIET}')
        expects = ["telling by url failed, and is tried again: 127.0.0.1: HTTP status 500"]
        with small.mounted(expects=expects, allows=["HTTP status 503"]) as mounted:
            wait_begun(small, "url")
            fail(mounted.medium("S1"), 2 * SMALL)
            wait_until(lambda: server.heard, "a message")
            wait_settled(small, "url")
            assert "secret-token" not in mounted.said()
        assert [told["kind"] for told in server.refused] == ["stream failed", "stream failed"]
        assert [told["number"] for told in server.heard] == [told["number"] for told in server.refused[:1]]
        assert server.headers[0]["Content-Type"] == "application/json"
        assert server.headers[0]["Authorization"] == "Bearer x"
        assert server.headers[0]["User-Agent"] == "vtlfs"


def test_one_of_several_mounts_tells_and_another_goes_on_when_it_dies(small: OnDisks, command: Command) -> None:
    configure(small, f"{by_command(command)}\n{QUIET}")
    second = small.root / "second"
    with small.mounted("host=one") as one, small.mounted("host=two", at=second, allows=[" died; "]) as two:
        wait_begun(small)
        for number, mounted in enumerate((one, two), 1):
            fail(mounted.medium(f"S{number}"), 2 * SMALL)
            wait_heard(command, number)
            wait_settled(small)
        one.kill()
        small.vtlfs("umount", one.path)
        fail(two.medium("S3"), 2 * SMALL)
        wait_heard(command, 3)
        wait_settled(small)
    numbers = [told["number"] for told in command.heard()]
    assert numbers == sorted(set(numbers)), "each once"


@pytest.mark.parametrize("where", ["tracking.incident_added", "transaction.committed"])
def test_disk_that_fails_is_told_although_the_mount_dies_before(tmp_path: Path, command: Command, where: str) -> None:
    """Either the incident is recorded or the next mount records it: it is told once."""
    require_fuse()
    library = OnDisks(tmp_path, 3, parity=1)
    configure(library, f"{by_command(command)}\n{QUIET}\nkinds = ['disk']")
    with library.mounted():
        wait_begun(library)
    after = "tracking.incident_added" if where.startswith("transaction") else ""
    library.serving = ["env", f"{failpoints.ENVIRONMENT}={after and f'{after}>'}{where}", *PROGRAM]
    allows = ["disk 1", "degraded", "recover", "died"]
    with library.mounted(checked=False, allows=allows) as mounted:
        library.disks[1].rename(tmp_path / "away")
        assert_died(library, mounted)
    library.serving = PROGRAM
    with library.mounted(checked=False, allows=allows):
        (told,) = wait_heard(command, 1)
        assert (told["kind"], told["about"], told["lasts"]) == ("disk failed", "disk 1", True)
        wait_settled(library)
    assert len(command.heard()) == 1


@pytest.mark.parametrize("where", ["care.told", "tracking.incident_told"])
def test_mount_that_dies_before_it_records_that_it_has_told_tells_the_same_again(
    small: OnDisks, command: Command, where: str
) -> None:
    configure(small, f"{by_command(command)}\n{QUIET}")
    small.serving = ["env", f"{failpoints.ENVIRONMENT}={where}", *PROGRAM]
    with small.mounted(checked=False) as mounted:
        wait_begun(small)
        fail(mounted.medium("S1"), 2 * SMALL)
        assert_died(small, mounted)
    first = command.heard()
    small.serving = PROGRAM
    with small.mounted(allows=[" died; "]) as mounted:
        told = wait_heard(command, 2)
        wait_settled(small)
        fail(mounted.medium("S2"), 2 * SMALL)
        wait_heard(command, 3)
        wait_settled(small)
    assert [one["number"] for one in told] == 2 * [first[0]["number"]]
    assert len(command.heard()) == 3


@pytest.mark.parametrize("where", ["tracking.telling_begun", "tracking.telling_failed"])
def test_mount_that_dies_while_it_records_how_far_it_has_told_loses_nothing(
    small: OnDisks, command: Command, where: str
) -> None:
    configure(small, f"{by_command(command)}\n{QUIET}")
    if where.endswith("failed"):
        command.write("exit 3")
    if where.endswith("begun"):  # a mount would die before it is known to be usable
        words = ["env", f"{failpoints.ENVIRONMENT}={where}", *PROGRAM, "notify", str(small.path)]
        assert subprocess.run(words, capture_output=True, cwd=PROJECT, check=False).returncode == failpoints.STATUS
    else:
        small.serving = ["env", f"{failpoints.ENVIRONMENT}={where}", *PROGRAM]
        with small.mounted(checked=False, allows=["telling by command failed"]) as mounted:
            wait_begun(small)
            fail(mounted.medium("S1"), 2 * SMALL)
            assert_died(small, mounted)
    command.write()
    small.serving = PROGRAM
    with small.mounted(allows=[" died; "]) as mounted:
        wait_begun(small)
        if where.endswith("begun"):
            fail(mounted.medium("S1"), 2 * SMALL)
        (told,) = wait_heard(command, 1)
        assert told["kind"] == "stream failed"
        wait_settled(small)


def test_stream_whose_mount_died_is_told_by_the_next_one(small: OnDisks, command: Command) -> None:
    configure(small, f"{by_command(command)}\n{QUIET}")
    with small.mounted(checked=False) as mounted:
        wait_begun(small)
        descriptor = os.open(mounted.medium("T1"), os.O_WRONLY)
        os.write(descriptor, random_bytes(1, MIB))
        os.fsync(descriptor)
        mounted.kill()
        with suppress(OSError):
            os.close(descriptor)
        small.vtlfs("umount", mounted.path)
    with small.mounted(expects=[" died; "]):
        (told,) = wait_heard(command, 1)
        assert told["what"].endswith("medium T1, session 1: its mount died")
        wait_settled(small)


def test_command_that_hangs_is_killed_with_its_children_and_streams_go_on(small: OnDisks, command: Command) -> None:
    pids = small.root / "pids"
    command.write(f"echo $$ >> {pids}; sleep 1000 & echo $! >> {pids}; wait")
    configure(small, f'{by_command(command)}\n{QUIET}\nlimit = "1s"')
    with small.mounted(expects=["did not end within 1 s, and was killed"]) as mounted:
        wait_begun(small)
        fail(mounted.medium("S1"), 2 * SMALL)
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) >= 2, "the command")
        data = random_bytes(7, MIB)
        mounted.medium("T1").write_bytes(data)
        assert mounted.medium("T1").read_bytes() == data
        first = [Path(f"/proc/{pid}") for pid in pids.read_text().split()[:2]]
        wait_until(lambda: not any(path.exists() for path in first), "the end of both")
        assert command.heard() == []
        command.write()
        (told,) = wait_heard(command, 1)
        assert told["kind"] == "stream failed"
        wait_settled(small)


def test_command_that_fails_or_is_not_there_is_tried_again(small: OnDisks, command: Command) -> None:
    command.path.unlink()
    configure(small, f"{by_command(command)}\n{QUIET}")
    with small.mounted(expects=["tell: No such file or directory"], allows=["exit status 3: oh dear"]) as mounted:
        wait_begun(small)
        fail(mounted.medium("S1"), 2 * SMALL)
        wait_until(lambda: any(one.tries for one in tellings(small).values()), "a failure")
        command.write("echo oh dear; exit 3")
        wait_until(lambda: any(one.tries > 1 for one in tellings(small).values()), "another one")
        command.write()
        wait_heard(command, 1)
        wait_settled(small)
        assert all(one.tries == 0 for one in tellings(small).values())


def test_failures_are_gathered(small: OnDisks, command: Command) -> None:
    require_faketime()
    clock = small.root / "clock"
    set_offset(clock, "+0")
    small.serving = [
        *as_words(faked(FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1")),
        *PROGRAM,
    ]
    configure(small, f'{by_command(command)}\ngather = "2h"\nspace = "never"')
    with small.mounted() as mounted:
        wait_begun(small)
        fail(mounted.medium("S1"), 2 * SMALL)
        wait_heard(command, 1)
        wait_settled(small)
        for number in range(2, 6):
            fail(mounted.medium(f"S{number}"), 2 * SMALL)
        wait_until(lambda: [one.count for one in untold(small)] == [4], "four that wait")
        assert len(command.heard()) == 1, "for two hours of its clock"
        set_offset(clock, "+3h")
        told = wait_heard(command, 2)[-1]
        assert told["count"] == 4
        assert told["what"].startswith("4 streams have failed; the last: ")
        assert [one["of"]["medium"] for one in told["incidents"]] == ["S2", "S3", "S4", "S5"]
        wait_settled(small)


def test_disk_that_fails_is_told_once_reminded_of_a_day_later_and_told_when_it_is_back(
    tmp_path: Path, command: Command
) -> None:
    require_fuse()
    require_faketime()
    library = OnDisks(tmp_path, 3, parity=1)
    clock = tmp_path / "clock"
    set_offset(clock, "+0")
    library.serving = [*as_words(faked(FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1")), *PROGRAM]
    configure(library, f"{by_command(command)}\n{QUIET}\nkinds = ['disk']")
    configure(library, "background = false", "index")  # libfaketime's sleep fails where the indexer is started
    with library.mounted(allows=["disk 1", "degraded", "copying"]) as mounted:
        wait_begun(library)
        library.disks[1].rename(tmp_path / "away")
        (told,) = wait_heard(command, 1)
        assert (told["kind"], told["lasts"], told["is_reminder"]) == ("disk failed", True, False)
        assert told["what"].startswith("disk 1 (")
        wait_settled(library)
        set_offset(clock, "+25h")
        told = wait_heard(command, 2)[-1]
        assert (told["kind"], told["is_reminder"]) == ("disk failed", True)
        set_offset(clock, "+26h")
        (tmp_path / "away").rename(library.disks[1])
        told = wait_heard(command, 3)[-1]
        assert (told["kind"], told["lasts"], told["severity"]) == ("disk back", False, "info")
        wait_settled(library)
        set_offset(clock, "+60h")
        mounted.medium("T1").write_bytes(b"x")
        wait_settled(library)
    assert [told["kind"] for told in command.heard()] == ["disk failed", "disk failed", "disk back"]


def test_little_space_is_told_and_that_there_is_enough_again(library: OnDisks, command: Command) -> None:
    configure(library, f'{by_command(command)}\ngather = "1s"\nspace = "1000000TiB"\nkinds = ["space"]')
    with library.mounted():
        (told,) = wait_heard(command, 1)
        assert (told["kind"], told["about"], told["lasts"]) == ("space low", "space", True)
        assert "vtlfs disk add" in told["advice"]
        wait_settled(library)
    text = (library.path / "library.toml").read_text()
    (library.path / "library.toml").write_text(text.replace("1000000TiB", "1KiB"))
    with library.mounted():
        told = wait_heard(command, 2)[-1]
        assert (told["kind"], told["lasts"]) == ("space back", False)
        wait_settled(library)


def test_verification_that_finds_something_is_told(library: OnDisks, command: Command) -> None:
    configure(library, f"{by_command(command)}\n{QUIET}\nkinds = ['verification']")
    with library.mounted(checked=False, allows=["degraded", "damage", "repair"]) as mounted:
        wait_begun(library)
        mounted.medium("T1").write_bytes(random_bytes(3, 2 * MIB))
        wait_until(lambda: library.tape_files("T1"), "a release")
        extent = library.extents("T1", 0)[0]
        flip_at(member_path(library.disks[extent.disk], extent.session), extent.position + BLOCK + 100)
        library.vtlfs("verify", library.path, status=3)
        (told,) = wait_heard(command, 1)
        assert (told["kind"], told["severity"]) == ("verification found", "error")
        assert told["what"].startswith("verification 1 has found 1 defects")
        wait_settled(library)


def test_refusal_by_retention_is_told_and_is_an_event(library: OnDisks, command: Command) -> None:
    configure(library, f"{by_command(command)}\n{QUIET}\nkinds = ['retention']")
    configure(library, 'retain = "90d"\non_truncate = "erase"', 'media."T*"')
    with library.mounted("host=alpha", expects=["can't be erased: it is retained until"]) as mounted:
        wait_begun(library)
        mounted.medium("T1").write_bytes(b"once")
        wait_until(lambda: library.tape_files("T1"), "a release")
        for _ in range(3):
            library.vtlfs("media", "erase", library.path, "T1", "-y", status=1)
            descriptor = os.open(mounted.medium("T1"), os.O_WRONLY)
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)
        told = wait_heard(command, 1)[0]
        assert (told["kind"], told["about"]) == ("retention refused", "retention")
        wait_until(lambda: sum(one["count"] for one in command.heard()) == 2, "both refusals")
        wait_settled(library)
    events = json.loads(library.vtlfs("events", library.path, "--json"))
    refused = [one for one in events if one["what"] == "refused"]
    assert [one["medium"] for one in refused] == ["T1", "T1"], "once a day for each user and host"
    assert {one["program"] for one in refused} >= {"vtlfs"}
    assert all("it is retained until" in one["reason"] for one in refused)


@pytest.mark.parametrize("what", ["library.toml", ""])
def test_command_of_a_library_that_others_can_change_is_not_run(small: OnDisks, command: Command, what: str) -> None:
    configure(small, f"{by_command(command)}\n{QUIET}")
    (small.path / what).chmod(0o666 if what else 0o777)
    with small.mounted(expects=["can be changed by others than its owner"]) as mounted:
        wait_begun(small)
        fail(mounted.medium("S1"), 2 * SMALL)
        wait_until(lambda: any(one.tries for one in tellings(small).values()), "a refusal")
        assert command.heard() == []
        assert not (command.heard_at / "environment").exists()


def test_what_went_wrong_before_there_was_notify_is_not_told(small: OnDisks, command: Command) -> None:
    with small.mounted() as mounted:
        fail(mounted.medium("S1"), 2 * SMALL)
    configure(small, f"{by_command(command)}\n{QUIET}")
    with small.mounted() as mounted:
        wait_begun(small)
        fail(mounted.medium("S2"), 2 * SMALL)
        (told,) = wait_heard(command, 1)
        assert told["count"] == 1
        wait_settled(small)


def test_something_unexpected_ends_no_mount(small: OnDisks) -> None:
    """The lease can't be had: a directory is in its place."""
    configure(small, f'command = "/bin/true"\n{QUIET}')
    (small.path / "mounts").mkdir(exist_ok=True)
    (small.path / "mounts" / "notify.work").mkdir()
    with small.mounted(expects=["telling what goes wrong"]) as mounted:
        wait_until(lambda: "telling what goes wrong" in mounted.said(), "the error")
        mounted.medium("T1").write_bytes(b"all the same")
        assert mounted.medium("T1").read_bytes() == b"all the same"


def test_mount_that_is_unmounted_while_a_command_runs_ends_and_kills_it(small: OnDisks, command: Command) -> None:
    pid = small.root / "pid"
    command.write(f"echo $$ > {pid}; exec sleep 1000")
    configure(small, f'{by_command(command)}\n{QUIET}\nlimit = "10min"')
    with small.mounted() as mounted:
        wait_begun(small)
        fail(mounted.medium("S1"), 2 * SMALL)
        wait_until(lambda: pid.exists() and pid.read_text().strip(), "the command")
    wait_until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(), "the end of the command")
    assert [one.count for one in untold(small)] == [1]
    command.write()
    assert small.vtlfs("notify", small.path) == "1 message told\n"
    assert [told["kind"] for told in command.heard()] == ["stream failed"]


def test_signal_that_stops_a_mount_while_it_tells_is_no_error(small: OnDisks, command: Command) -> None:
    command.write(f"touch {small.root}/runs; exec sleep 1000")
    configure(small, f'{by_command(command)}\n{QUIET}\nlimit = "10min"')
    with small.mounted() as mounted:
        wait_begun(small)
        fail(mounted.medium("S1"), 2 * SMALL)
        wait_until((small.root / "runs").exists, "the command")
        assert mounted.stop(signal.SIGTERM) == 0


# --- vtlfs notify -----------------------------------------------------------------------------------------------------


@pytest.fixture
def failed(small: OnDisks, command: Command) -> OnDisks:
    """A library without a mount, in which a stream has failed that nobody was told of."""
    configure(small, f"{by_command(command)}\n{QUIET}")
    assert small.vtlfs("notify", small.path) == "0 messages told\n"
    text = (small.path / "library.toml").read_text()
    (small.path / "library.toml").write_text(text.split("[notify]")[0])
    with small.mounted() as mounted:
        fail(mounted.medium("S1"), 2 * SMALL)
    (small.path / "library.toml").write_text(text)
    return small


def test_command_tells_what_is_due_of_a_library_that_is_not_mounted(failed: OnDisks, command: Command) -> None:
    (due,) = json.loads(failed.vtlfs("notify", failed.path, "--dry-run", "--json"))
    assert (due["way"], due["kind"], due["count"]) == ("command", "stream failed", 1)
    assert "command: error: 1 stream has failed" in failed.vtlfs("notify", failed.path, "--dry-run")
    assert command.heard() == []
    assert json.loads(failed.vtlfs("notify", failed.path, "--json")) == {"told": 1, "failed": 0, "by_a_mount": False}
    assert failed.vtlfs("notify", failed.path) == "0 messages told\n"
    assert failed.vtlfs("notify", failed.path, "--dry-run") == "nothing is due\n"
    assert [told["kind"] for told in command.heard()] == ["stream failed"]


def test_command_leaves_it_to_a_mount_that_tells(failed: OnDisks, command: Command) -> None:
    with failed.mounted():
        wait_heard(command, 1)
        wait_settled(failed)
        assert failed.vtlfs("notify", failed.path) == "a mount of this library tells what goes wrong\n"


def test_command_tries_out_each_way(small: OnDisks, command: Command) -> None:
    with serving() as server:
        configure(small, f'{by_command(command)}\nurl = "{server.url}"')
        assert small.vtlfs("notify", small.path, "--test") == "command: told\nurl: told\n"
        assert [told["kind"] for told in (*command.heard(), *server.heard)] == ["test", "test"]
        server.answers = [404]
        said = small.vtlfs("notify", small.path, "--test", status=1)
        assert "url: not told: 127.0.0.1: HTTP status 404\n" in said
        assert "vtlfs: not told by url: 127.0.0.1: HTTP status 404" in said


def test_command_without_a_section_says_what_is_missing(library: OnDisks) -> None:
    assert "no section [notify]" in library.vtlfs("notify", library.path, status=2)
    configure(library, 'command = "/bin/true"')
    assert "choose one" in library.vtlfs("notify", library.path, "--test", "--dry-run", status=2)


def test_script_sees_the_words_of_its_command(small: OnDisks, command: Command) -> None:
    words = small.root / "words"
    command.write(f'for word; do echo "$word"; done > {shlex.quote(str(words))}')
    configure(small, f'command = ["{command.path}", "a b", "$HOME", "*"]')
    small.vtlfs("notify", small.path, "--test")
    assert words.read_text() == "a b\n$HOME\n*\n"


def test_looks_are_often_enough_for_a_person() -> None:
    assert notify_job.LOOK_SECONDS <= 5

"""Metrics of mounts: real streams, and real scrapes by HTTP."""

import errno
import shutil
import socket
import sys
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import pytest
from machine import Machine
from mounting import OnDisks, mountpoints, random_bytes, require_fuse, wait_until
from scraping import ANY_PORT, SERVED, check_by_promtool, scrape, scrape_until, url_of

from vtlfs.engine.library import Library
from vtlfs.logs import FILE as LOG
from vtlfs.metrics.server import AT_ONCE
from vtlfs.model import MIB

WRITTEN = "vtlfs_mount_session_bytes_total"
ENDED = "vtlfs_mount_sessions_ended_total"
REQUESTS = "vtlfs_mount_request_duration_seconds_count"


@pytest.fixture
def mirrored(tmp_path: Path, _no_descriptor_left: None) -> OnDisks:
    """A library on three disks of which any one may die."""
    require_fuse()
    return OnDisks(tmp_path, 3, parity=1)


def test_values_are_those_of_what_was_written_and_read(mirrored: OnDisks) -> None:
    with mirrored.mounted(f"host=alpha,io=direct,{ANY_PORT}") as mounted:
        url = url_of(mounted)
        mounted.drive(1, "T1").write_bytes(random_bytes(1, 3 * MIB))
        mounted.drive(2, "T2").write_bytes(random_bytes(2, 5))
        assert len(mounted.drive(2, "T1").read_bytes()) == 3 * MIB
        found = scrape_until(url, lambda now: sum(now.values(ENDED)) == 3, "the end of three sessions")
        of_library = {"library": str(mirrored.path)}
        one, two = ({"host": "alpha", "drive": drive, **of_library} for drive in (1, 2))
        assert found.value(WRITTEN, **one, access="write") == 3 * MIB
        assert found.value(WRITTEN, **two, access="write") == 5
        assert found.value(WRITTEN, **two, access="read") == 3 * MIB
        assert found.value(ENDED, **one, access="write", state="released") == 1
        assert found.value(ENDED, **one, access="write", state="failed") == 0
        assert found.values("vtlfs_mount_open_sessions") == [0, 0, 0]
        for session in mirrored.listed():
            labels = {"host": session["host"], "drive": session["drive"], "access": session["access"]}
            assert found.value("vtlfs_mount_session_requests_total", **labels) == session["requests"]
        assert found.value(REQUESTS, request="open") == 3
        assert found.value(REQUESTS, request="release") == 3
        assert found.value(REQUESTS, request="write") == sum(
            session["requests"] for session in mirrored.listed() if session["access"] == "write"
        )
        assert found.value(REQUESTS, request="flush") >= 2
        assert found.value("vtlfs_mount_request_duration_seconds_sum", request="flush") > 0
        with closing(Library.open(mirrored.path).tracking(read_only=True)) as tracking:
            stored = tracking.disks.stored()
        assert sum(one.bytes for one in stored.values()) >= 4 * MIB  # with parity
        for disk, own in stored.items():
            assert found.value("vtlfs_mount_disk_write_duration_seconds_count", disk=disk) == own.extents
            assert found.value("vtlfs_mount_disk_written_bytes_total", disk=disk) == own.bytes
            assert found.value("vtlfs_library_disk_stored_bytes", disk=disk) == own.bytes
            assert found.value("vtlfs_mount_disk_usable", disk=disk) == 1
        assert sum(found.values("vtlfs_mount_disk_sync_duration_seconds_count")) >= 2
        assert sum(found.values("vtlfs_mount_disk_read_bytes_total")) >= 3 * MIB
        assert found.value("vtlfs_mount_commit_duration_seconds_count", synced="yes") >= 2
        assert found.value("vtlfs_library_tape_files_total") == 2
        assert found.value("vtlfs_library_media_bytes") == 3 * MIB + 5
        assert found.value("vtlfs_library_condition", condition="fine") == 1
        assert found.value("process_resident_memory_bytes") > 0
        check_by_promtool(found.text)


def test_running_stream_is_seen_before_it_ends(library: OnDisks) -> None:
    with library.mounted(f"host=alpha,io=direct,{ANY_PORT}") as mounted:
        with open(mounted.drive(0, "T1"), "wb", buffering=0) as stream:
            stream.write(bytes(MIB))
            found = scrape(url_of(mounted))
            assert found.value("vtlfs_mount_open_sessions", host="alpha", drive=0, access="write") == 1
            assert found.value(WRITTEN, access="write") == MIB
            assert found.value("vtlfs_library_open_sessions", drive=0) == 1
            assert found.value("vtlfs_library_open_sessions", drive=1) == 0
            assert found.value("vtlfs_mount_memory_bytes") > 0
        scrape_until(url_of(mounted), lambda now: now.values("vtlfs_mount_open_sessions") == [0], "the end")


def test_errors_are_counted_by_host_and_drive(library: OnDisks) -> None:
    library.add("FULL", capacity=MIB)
    with library.mounted(f"host=alpha,io=direct,{ANY_PORT}") as mounted:
        with open(mounted.drive(3, "FULL"), "wb", buffering=0) as stream:
            stream.write(bytes(MIB))
            with pytest.raises(OSError, match="No space") as caught:
                stream.write(b"more")
        assert caught.value.errno == errno.ENOSPC
        found = scrape_until(url_of(mounted), lambda now: sum(now.values(ENDED)), "the end of the session")
        labels = {"host": "alpha", "drive": 3, "access": "write", "error": "ENOSPC"}
        assert found.value("vtlfs_mount_session_errors_total", **labels) == 1
        assert found.value("vtlfs_mount_request_errors_total", request="write", error="ENOSPC") == 1
        assert found.value(WRITTEN, drive=3) == MIB


def test_lost_disk_is_seen_and_what_it_costs(mirrored: OnDisks) -> None:
    fault = "disk 2"
    with mirrored.mounted(f"io=direct,{ANY_PORT}", expects=[fault], allows=["degraded"], checked=False) as mounted:
        url = url_of(mounted)
        mounted.medium("T1").write_bytes(random_bytes(1, 3 * MIB))
        assert scrape(url).value("vtlfs_library_degraded_bytes") == 0
        shutil.move(mirrored.disks[2], mirrored.root / "away")
        found = scrape_until(
            url, lambda now: now.value("vtlfs_library_disk_works", disk=2) == 0, "the loss of the disk"
        )
        assert found.value("vtlfs_mount_disk_usable", disk=2) == 0
        assert found.value("vtlfs_mount_disk_errors_total", disk=2) > 0
        assert found.value("vtlfs_mount_disk_errors_total", disk=1) == 0
        assert found.value("vtlfs_library_condition", condition="degraded") == 1
        assert found.value("vtlfs_library_condition", condition="fine") == 0
        assert found.value("vtlfs_library_disk_fault_timestamp_seconds", disk=2) > 0
        assert found.value("vtlfs_library_away_bytes") == found.value("vtlfs_library_disk_stored_bytes", disk=2) > 0


def test_stripes_without_parity_are_degraded_bytes(tmp_path: Path) -> None:
    require_fuse()
    library = OnDisks(tmp_path, 3, parity=2)
    shutil.move(library.disks[1], tmp_path / "away")
    with library.mounted(f"io=direct,{ANY_PORT}", allows=["disk 1", "degraded"], checked=False) as mounted:
        mounted.medium("T1").write_bytes(random_bytes(1, 3 * MIB))
        found = scrape(url_of(mounted))
        assert found.value("vtlfs_library_degraded_bytes") == 3 * MIB
        assert not found.values("vtlfs_library_disk_size_bytes", disk=1)


def test_mounts_have_counters_of_their_own_and_say_the_same_of_the_library(library: OnDisks, tmp_path: Path) -> None:
    with (
        library.mounted(f"host=alpha,{ANY_PORT}") as one,
        library.mounted(f"host=beta,{ANY_PORT}", at=tmp_path / "other") as two,
    ):
        one.drive(0, "T1").write_bytes(b"12345")
        two.drive(0, "T1").write_bytes(b"123")
        first = scrape_until(url_of(one), lambda now: sum(now.values(ENDED)), "the end of the first stream")
        second = scrape_until(url_of(two), lambda now: sum(now.values(ENDED)), "the end of the second stream")
        assert (first.values(WRITTEN), second.values(WRITTEN)) == ([5.0], [3.0])
        assert first.value("vtlfs_mount_info", host="alpha", mountpoint=one.path) == 1
        assert second.value("vtlfs_mount_info", host="beta", mountpoint=two.path) == 1
        assert second.value("vtlfs_library_mounts", state="alive") == 2

        measured = {"vtlfs_library_disk_free_bytes", "vtlfs_library_available_bytes"}  # each mount at its own time

        def differ() -> set[str]:
            found = scrape(url_of(one)).library() ^ scrape(url_of(two)).library()
            return {name for name, _, _ in found} - measured

        wait_until(lambda: not differ(), "two scrapes that say the same of the library")


def test_taken_port_refuses_the_mount_before_it_begins(library: OnDisks, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        said = library.vtlfs("mount", library.path, tmp_path / "mnt", "-o", f"metrics=127.0.0.1:{port}", status=1)
    assert len(said.splitlines()) == 1
    assert f"metrics=127.0.0.1:{port}: can't listen there: Address already in use" in said
    assert str(tmp_path / "mnt") not in mountpoints()
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        assert not tracking.mounts.live()
        assert tracking.library.watermark().commits == 1  # of the media: no mount was recorded
    assert not list((library.path / "mounts").glob("*"))


def test_address_that_there_is_not_is_one_line(library: OnDisks, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    for address, why in (("192.0.2.1:9471", "Cannot assign requested address"), ("no.such.invalid:1", "not known")):
        said = library.vtlfs("mount", library.path, tmp_path / "mnt", "-o", f"metrics={address}", status=1)
        assert len(said.splitlines()) == 1
        assert why in said or "Temporary failure in name resolution" in said


def test_address_of_ipv6_and_the_port_is_closed_by_unmounting(library: OnDisks) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with library.mounted("metrics=[::1]:0") as mounted:
        url = url_of(mounted)
        assert url.startswith("http://[::1]:")
        assert scrape(url).value("vtlfs_library_mounts", state="alive") == 1
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(url, timeout=10)


def test_connections_are_bounded_and_idle_ones_end(library: OnDisks) -> None:
    with library.mounted(ANY_PORT) as mounted:
        url = url_of(mounted)
        port = int(url.rpartition(":")[2].partition("/")[0])
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(AT_ONCE + 1)]
        ended = 0
        for one in idle:  # one is refused at once, the others after they have sent nothing for a while
            one.settimeout(60)
            with suppress(ConnectionResetError):
                assert one.recv(1) == b""
            ended += 1
            one.close()
        assert ended == AT_ONCE + 1
        mounted.medium("T1").write_bytes(b"data")
        assert mounted.medium("T1").read_bytes() == b"data"

        def answers() -> bool:
            with suppress(OSError):
                return bool(scrape(url).values("vtlfs_mount_info"))
            return False

        wait_until(answers, "an answer after all others have gone")


def test_strange_requests_harm_nothing(library: OnDisks) -> None:
    with library.mounted(ANY_PORT) as mounted:
        url = url_of(mounted)
        address = ("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))
        for request in (b"\x00\xff\r\n\r\n", b"POST /metrics HTTP/1.0\r\n\r\n", b"GET " + b"x" * 100_000):
            with socket.create_connection(address, timeout=60) as connection, suppress(ConnectionError):
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                assert b" 200 " not in connection.recv(1000)
        only = f"{url}?name[]=vtlfs_mount_info"
        assert {name for name, _, _ in scrape(only).samples} == {"vtlfs_mount_info"}


def test_unreadable_database_leaves_the_metrics_of_the_mount(library: OnDisks) -> None:
    with library.mounted(ANY_PORT, expects=["metrics of the library"], allows=["tracking.db"]) as mounted:
        database = library.path / "tracking.db"
        database.rename(library.path / "aside")
        try:
            found = scrape(url_of(mounted))
            scrape(url_of(mounted))
        finally:
            (library.path / "aside").rename(database)
        assert found.value("vtlfs_library_readable") == 0
        assert not found.values("vtlfs_library_media")
        assert found.value("vtlfs_mount_info") == 1
        assert mounted.said().count("metrics of the library") == 1
        assert scrape(url_of(mounted)).value("vtlfs_library_readable") == 1


def test_only_a_mount_with_the_option_loads_the_client(tmp_path: Path) -> None:
    require_fuse()
    marker = tmp_path / "loaded"
    (tmp_path / "path").mkdir()
    (tmp_path / "path/prometheus_client.py").write_text(
        f"open({str(marker)!r}, 'x').close()\nraise SystemError('fake')\n"
    )
    library = OnDisks(tmp_path)
    library.serving = ["env", f"PYTHONPATH={tmp_path / 'path'}", sys.executable, "-m", "vtlfs"]
    with library.mounted() as mounted:
        mounted.medium("T1").write_bytes(b"data")
        assert mounted.medium("T1").read_bytes() == b"data"
    assert not marker.exists()
    with pytest.raises(AssertionError), library.mounted(ANY_PORT):
        pass
    assert marker.exists()  # so the fake is what a mount would have loaded


def test_fstab_and_mount(machine: Machine, name: str, line: str) -> None:
    machine.fstab(f"{line} vtlfs host=alpha,metrics=127.0.0.1:0,nofail 0 0")
    assert machine.run("mount -a") == ""
    (url,) = SERVED.findall(machine.run(f"cat {name}/library/{LOG}"))
    machine.run(f"echo data > {name}/vtl/drives/0/T1")
    found = scrape_until(url, lambda now: sum(now.values(ENDED)), "the end of the stream")
    assert found.value(WRITTEN, host="alpha", drive=0, access="write") == 5
    machine.run(f"umount /mnt/{name}/vtl")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=10)
    said = machine.run(f"mount -t vtlfs /mnt/{name}/library /mnt/{name}/vtl -o metrics=9471", status=1)
    assert "an address and a port" in said


def test_mount_in_the_background_serves_too(library: OnDisks) -> None:
    with library.mounted(f"host=alpha,{ANY_PORT}", background=True) as mounted:
        assert scrape(url_of(mounted)).value("vtlfs_mount_info", host="alpha") == 1

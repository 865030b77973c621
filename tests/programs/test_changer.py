"""The real Bacula with an autochanger of two drives, and the real Amanda with `chg-robot`, each as its own user.

Neither may open the library: both use the changer of the mount, by `vtlfs changer` and `vtlfs mtx`.
"""

import pwd
import re
from contextlib import closing

import pytest
from amanda import USER as AMANDA
from amanda import amanda, date_of
from bacula import Autochanger, Bacula, require_bacula, termination
from chosen_by_changer import changing, program
from mounting import OnDisks, random_bytes
from test_amanda_diskflat import change, members
from test_bacula import want_same

from vtlfs.engine.library import Library

FULL = 2_000_000  # bytes of a volume of Bacula's
BACULA = "bacula"  # Debian's user of the storage daemon


def content(bacula: Bacula, number: int, size: int) -> None:
    """Have the source be another."""
    (bacula.source / "data").write_bytes(random_bytes(number, size))
    (bacula.source / f"small {number}").write_bytes(random_bytes(number, 1000))


def restore(bacula: Bacula) -> str:
    """Restore the last backup, which must be the source; return the report."""
    report = bacula.restore()
    assert termination(report) == "Restore OK", report
    want_same(bacula.source, bacula.what_was_restored())
    return report


def acts(library: OnDisks) -> set[tuple[str, int, int]]:
    """Return which users have loaded which slots into which drives, as the events tell."""
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        events = [event for event in tracking.events.find() if event.what == "loaded"]
    return {
        (pwd.getpwuid(one.uid).pw_name, int(str(one.details["slot"])), int(str(one.details["drive"]))) for one in events
    }


@pytest.mark.timeout(1200)
def test_bacula_changes_media_by_itself(open_library: OnDisks) -> None:
    require_bacula()
    library = open_library
    library.vtlfs("media", "remove", library.path, "T1..T9", "-y")
    library.add("BAC001..BAC005")
    rule = '[media."BAC*"]\non_truncate = "erase"'
    command = program(library.root, BACULA, "changer")
    with changing(library, BACULA, rule) as mounted:
        changer = Autochanger(command, library.path, [mounted.path / f"drives/{n}/loaded" for n in (0, 1)], BACULA)
        bacula = Bacula(library.root / "bacula", mounted.path, volume_bytes=FULL, autochanger=changer)
        with bacula.running():
            _label_and_list(bacula)
            _fill_and_restore(bacula)
            _write_through_two_drives(bacula)
        assert {user for user, _, _ in acts(library)} == {BACULA}
        assert {drive for _, _, drive in acts(library)} == {0, 1}
        written = {(one["drive"], one["medium"]) for one in library.listed() if one["access"] == "write"}
        assert {drive for drive, _ in written} == {0, 1}


def _label_and_list(bacula: Bacula) -> None:
    said = bacula.console("status slots storage=sd drive=0")
    for slot in range(1, 6):
        assert re.search(rf"\b{slot}\b.*BAC00{slot}", said), said
    said = bacula.console("label barcodes storage=sd pool=Vols drive=0 slots=1-4", "yes")
    for slot in range(1, 5):
        assert f'Volume "BAC00{slot}"' in said, said
    said = bacula.console("update slots storage=sd drive=0")
    assert "BAC001" in said, said


def _fill_and_restore(bacula: Bacula) -> None:
    content(bacula, 1, 3_000_000)
    report = bacula.back_up()
    assert termination(report) == "Backup OK", report
    volumes = re.search(r"Volume name\(s\): +(.*)", report)
    assert volumes is not None
    assert len(volumes[1].split("|")) == 2
    assert "3304 Issuing autochanger" in report
    restore(bacula)


def _write_through_two_drives(bacula: Bacula) -> None:
    content(bacula, 2, 1_500_000)
    bacula.console("run job=Backup yes", "run job=Backup yes", "wait", "messages")
    assert (bacula.root / "log").read_text().count("Backup OK") == 3
    restore(bacula)


@pytest.mark.timeout(600)
def test_amanda_finds_its_tapes_with_chg_robot(open_library: OnDisks) -> None:
    library = open_library
    library.vtlfs("media", "remove", library.path, "T1..T9", "-y")
    library.add("TAPE-001..TAPE-003")
    mtx = program(library.root, AMANDA, "mtx")
    with changing(library, AMANDA, '[media."TAPE-*"]\non_truncate = "erase"') as mounted:
        devices = " ".join(f'"{n}=diskflat:{mounted.path}/drives/{n}/loaded"' for n in (0, 1))
        changer = (
            f' tpchanger "chg-robot:{library.path}"\n property "tape-device" {devices}\n property "mtx" "{mtx}"\n'
            ' property "load-poll" "0s poll 1s until 5s"\n property "eject-before-unload" "no"'
        )
        with amanda(library.root / "amanda", changer, labels="^TAPE-[0-9][0-9][0-9]$") as one:
            for slot in (1, 2):
                assert "Success!" in one.label(f"TAPE-00{slot}", slot)
            kept: dict[str, dict[str, bytes]] = {}
            for run in range(4):
                files = change(one, run)
                log = one.dump()
                assert f"tape TAPE-00{1 + run % 2} kb" in log
                kept[date_of(log)] = files
                for date in sorted(kept)[-2:]:
                    assert members(one.fetch(date)) == kept[date]
            inventory = one.run("amtape", one.name, "inventory")
            assert b"slot 2: label TAPE-002 barcode TAPE-002 (in drive 1)" in inventory.stdout
        assert acts(library) >= {(AMANDA, 1, 0), (AMANDA, 2, 1)}

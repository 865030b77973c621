"""The real Amanda with `diskflat:` tapes in /media: labels, two cycles over the same tapes, and what a rule forbids.

Its tapes are media of the same barcodes. `on_truncate` and retention are those of `library.toml`.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from amanda import USER, Amanda, amanda, date_of
from mounting import Mounted, OnDisks, random_bytes

from vtlfs.engine.library import Library

LABEL = 32_768  # bytes of a label, and of the header of a dump
OPTIONS = f"allow_other,uid={USER},gid={USER}"


@contextmanager
def dumping(
    library: OnDisks, rule: str, more: str = "", expects: Sequence[str] = ()
) -> Iterator[tuple[Amanda, Mounted]]:
    """Have Amanda know media TAPE-001 and TAPE-002 of a rule of `library.toml`, in slots 1 and 2."""
    library.add("TAPE-001..TAPE-002")
    with open(library.path / "library.toml", "a") as file:
        file.write(f'\n[media."TAPE-*"]\n{rule}\n')
    with library.mounted(OPTIONS, expects=expects) as mounted:
        changer = f' tpchanger "chg-multi:diskflat:{mounted.path}/media/TAPE-{{001..002}}"'
        more = f"max-dle-by-volume 1\n{more}"
        with amanda(library.root / "amanda", changer, labels="^TAPE-[0-9][0-9][0-9]$", more=more) as one:
            yield one, mounted


def change(one: Amanda, number: int) -> dict[str, bytes]:
    """Have the source be another; return the bytes of its files by name."""
    files = {"data": random_bytes(number, 3_000_000), f"file {number}": b"%d" % number}
    for name, data in files.items():
        (one.source / name).write_bytes(data)
    return {path.name: path.read_bytes() for path in one.source.iterdir()}


def members(dump: bytes) -> dict[str, bytes]:
    """Return the bytes of a dump's files by name, as GNU tar restores them."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-xf", "-", "-C", folder], input=dump, check=True)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def erasures(library: OnDisks) -> list[tuple[str, int, str, str]]:
    """Return which volumes were erased, by whom and by what call."""
    with closing(Library.open(library.path).tracking(read_only=True)) as tracking:
        events = [event for event in tracking.events.find() if event.what == "erased"]
    return [(str(one.medium), one.volume or 0, one.program, str(one.details["by"])) for one in events]


def test_amanda_uses_its_tapes_again_and_fetches_what_it_dumped(open_library: OnDisks) -> None:
    with dumping(open_library, 'on_truncate = "erase"') as (one, mounted):
        for slot in (1, 2):
            assert "Success!" in one.label(f"TAPE-00{slot}", slot)
            assert mounted.medium(f"TAPE-00{slot}").stat().st_size == LABEL
        assert "Will write to volume 'TAPE-001' in slot 1." in one.check()
        assert "Success!" in one.label("TAPE-001", 1, "-f")  # over its own label
        kept: dict[str, dict[str, bytes]] = {}
        for run in range(4):
            was = mounted.medium(tape := f"TAPE-00{1 + run % 2}").read_bytes()
            open_library.vtlfs("snapshot", "take", open_library.path, "--name", f"before-{run}")
            files = change(one, run)
            log = one.dump()
            assert f"tape {tape} kb" in log
            kept[date_of(log)] = files
            for date in sorted(kept)[-2:]:  # those whose tape was not used again
                assert members(one.fetch(date)) == kept[date]
            stream = mounted.medium(tape).read_bytes()
            assert stream.startswith(b"AMANDA: TAPESTART DATE " + date_of(log).encode())
            assert stream[2 * LABEL :].rstrip(b"\0") == one.fetch(date_of(log)).rstrip(b"\0")
            assert (mounted.path / "snapshots" / f"before-{run}" / "media" / tape).read_bytes() == was
        volumes = [("TAPE-001", 1), ("TAPE-001", 2), ("TAPE-002", 1), ("TAPE-001", 3), ("TAPE-002", 2)]
        assert [(tape, number) for tape, number, _, _ in erasures(open_library)] == volumes
        assert {(program, by) for _, _, program, by in erasures(open_library)} == {
            ("amlabel", "open"),
            ("taper", "open"),
        }
        assert len(open_library.tape_files("TAPE-001")) == len(open_library.tape_files("TAPE-002")) == 1


def test_amanda_is_refused_where_a_medium_only_appends(open_library: OnDisks) -> None:
    with dumping(open_library, 'on_truncate = "append"') as (one, mounted):
        for slot in (1, 2):
            one.label(f"TAPE-00{slot}", slot)
        labels = [mounted.medium(f"TAPE-00{slot}").read_bytes() for slot in (1, 2)]
        change(one, 1)
        assert "FAIL taper" in one.dump(fails=True)
        said = one.label("TAPE-001", 1, "-f", status=1)
        assert f"Error writing label: Can't open file {mounted.medium('TAPE-001')}: Operation not permitted" in said
        assert "refusing taper to overwrite medium TAPE-001; to let programs begin it anew, set" in mounted.said()
        assert "refusing amlabel to overwrite medium TAPE-001; to let programs begin it anew, set" in mounted.said()
        assert [mounted.medium(f"TAPE-00{slot}").read_bytes() for slot in (1, 2)] == labels
        assert erasures(open_library) == []


def test_amanda_is_refused_by_a_pool_which_appends(open_library: OnDisks) -> None:
    with open(open_library.path / "library.toml", "a") as file:
        file.write('\n[pools.daily]\nmedia = "T*"\n')
    with open_library.mounted(OPTIONS) as mounted:
        pool = mounted.path / "pools" / "daily"
        with amanda(open_library.root / "amanda", f' tpchanger "chg-single:diskflat:{pool}"', labels=".*") as one:
            said = one.run("amlabel", one.name, "T1", status=1)
            assert f"Can't open file {pool}: Operation not permitted" in (said.stdout + said.stderr).decode()
        assert "refusing amlabel to overwrite pool daily, which appends" in mounted.said()
        assert [mounted.medium(f"T{number}").stat().st_size for number in range(1, 10)] == [0] * 9


def test_amanda_cannot_use_again_what_is_retained(open_library: OnDisks) -> None:
    """With `autolabel`, a tape is labelled in the open of its first dump, so that the label alone is never retained."""
    refusal = "medium TAPE-001 can't be erased: it is retained until "
    rule = 'on_truncate = "erase"\nretain = "1d"'
    with dumping(open_library, rule, 'autolabel "TAPE-$3s" empty volume-error', [refusal]) as (one, mounted):
        kept = {}
        for run in range(2):
            files = change(one, run)
            kept[date_of(one.dump())] = files
        before = mounted.medium("TAPE-001").read_bytes()
        change(one, 3)
        assert "FAIL taper" in one.dump(fails=True)
        assert mounted.medium("TAPE-001").read_bytes() == before
        for date, files in kept.items():
            assert members(one.fetch(date)) == files

"""More commands of the real Amanda: `amflush`, `amvault`, `amrecover`, and `amcheck -w`, which writes."""

import subprocess
from pathlib import Path

from amanda import Amanda
from mounting import SECONDS, Mounted, OnDisks
from test_amanda_diskflat import LABEL, change, dumping, erasures, members

VAULT = """
define changer vault-changer {{
 tpchanger "chg-multi:diskflat:{media}/VAULT-{{001..002}}"
 changerfile "{root}/vault-changer"
}}
define storage vault {{
 tpchanger "vault-changer"
 tapepool "vault"
 tapetype "TAPE"
 labelstr "^VAULT-[0-9][0-9][0-9]$"
 autolabel "VAULT-$3s" empty volume-error
 runtapes 1
 max-dle-by-volume 1
}}
"""


def add_vault(library: OnDisks, one: Amanda, mounted: Mounted) -> None:
    """Give Amanda a second storage of media VAULT-001 and VAULT-002."""
    library.add("VAULT-001..VAULT-002")
    with open(one.root / "etc" / "amanda.conf", "a") as file:
        file.write(VAULT.format(media=mounted.path / "media", root=one.root))


def recover(one: Amanda, name: str, into: Path) -> str:
    """Restore a file of the last dump into a directory with `amrecover`, which wants root; return what it says."""
    answers = f"sethost localhost\nsetdisk {one.source}\nadd {name}\nextract\ny\ny\ny\nquit\n"
    done = subprocess.run(
        ["amrecover", one.name, "-s", "localhost", "-t", "localhost", "-o", "auth=local"],
        cwd=into,
        input=answers.encode(),
        capture_output=True,
        env={"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        timeout=SECONDS,
        check=False,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said
    return said


def test_amanda_flushes_what_no_tape_took_copies_it_to_a_vault_and_recovers_a_file(open_library: OnDisks) -> None:
    protect = ("media", "protect", open_library.path, "TAPE-001..TAPE-002")
    more = 'reserve 0\nholdingdisk "hold"\nvault-storage "vault"\n'
    with dumping(open_library, 'on_truncate = "erase"', more) as (one, mounted):
        add_vault(open_library, one, mounted)
        for slot in (1, 2):
            one.label(f"TAPE-00{slot}", slot)
        files = change(one, 1)
        open_library.vtlfs(*protect)
        assert "taper found no tape" in one.dump(fails=True)
        assert [mounted.medium(f"TAPE-00{slot}").stat().st_size for slot in (1, 2)] == [LABEL, LABEL]
        [held] = [path for path in (one.root / "hold").rglob("*") if path.is_file() and path.name != "pid"]
        dump = held.read_bytes()[LABEL:]
        open_library.vtlfs(*protect, "--off")
        one.run("amflush", "-b", "-f", one.name)
        assert not held.exists()
        assert mounted.medium("TAPE-001").read_bytes()[2 * LABEL :].rstrip(b"\0") == dump.rstrip(b"\0")
        said = one.run("amvault", "--src-timestamp", "latest", one.name).stdout
        assert b"Wrote VAULT-001:1" in said
        vault = mounted.medium("VAULT-001").read_bytes()
        assert vault[2 * LABEL :].rstrip(b"\0") == dump.rstrip(b"\0")
        assert members(dump) == files
        into = one.root / "recovered"
        into.mkdir()
        assert "Restoring files into directory" in recover(one, "data", into)
        assert {path.name: path.read_bytes() for path in into.iterdir()} == {"data": files["data"]}


def test_amcheck_that_writes_begins_the_tape_anew_where_it_may(open_library: OnDisks) -> None:
    with dumping(open_library, 'on_truncate = "erase"') as (one, mounted):
        one.label("TAPE-001", 1)
        assert "Volume 'TAPE-001' is writeable." in one.check("-w", status=None)
        assert erasures(open_library) == [("TAPE-001", 1, "amcheck-device", "open")]
        assert mounted.medium("TAPE-001").stat().st_size == LABEL


def test_amcheck_says_that_a_medium_only_appends(open_library: OnDisks) -> None:
    with dumping(open_library, 'on_truncate = "append"') as (one, mounted):
        one.label("TAPE-001", 1)
        before = mounted.medium("TAPE-001").read_bytes()
        refusal = f"writing to volume: Can't open file {mounted.medium('TAPE-001')}: Operation not permitted"
        assert refusal in one.check("-w", status=None)
        assert "refusing amcheck-device to overwrite medium TAPE-001" in mounted.said()
        assert mounted.medium("TAPE-001").read_bytes() == before
        assert erasures(open_library) == []

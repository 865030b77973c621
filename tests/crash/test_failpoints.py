"""The process dies at each failpoint there is. What was acknowledged is kept, and the books are right.

`scenario.py` is what dies. Every durable step of the product is to have a failpoint; that is looked at here too.
"""

import ast
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import scenario
import trio

import vtlfs
from vtlfs import failpoints
from vtlfs.disks import records
from vtlfs.engine import recover
from vtlfs.engine.check import check
from vtlfs.engine.engine import running
from vtlfs.engine.extract import extract
from vtlfs.engine.library import Library, create
from vtlfs.engine.rebuild import rebuild
from vtlfs.engine.tracking import SessionFilter
from vtlfs.errors import LibraryError
from vtlfs.model import Mount, Session, utc_now
from vtlfs.snap import store
from vtlfs.snap.export import export
from vtlfs.snap.view import open_view

SCENARIO = Path(__file__).with_name("scenario.py")
COMMITTED = ">transaction.committed"
# How far into the run those that are reached often are looked at too.
LATER = {
    "directory.synced": (12, 30),
    "member.made": (9, 17),
    "member.synced": (13, 29, 41),
    "unit.written": (12, 31),
    "unit.grown": (7, 15),
    "unit.described": (7, 15),
    "member.cut": (5, 11),
    "member.finished": (6, 15, 23),
    "lock.made": (2,),
    "lock.removed": (2, 3, 4),
    "tracking.mount_ended": (2, 3),
    "tracking.progress_recorded": (9, 18),
    "tracking.session_released": (3, 6, 7, 9),
    "transaction.commit": (6, 17, 38, 59),
    "transaction.committed": (6, 17, 38, 59),
}
WHERE = [
    *failpoints.NAMES,
    *(f"{name}:{count}" for name, counts in LATER.items() for count in counts),
    *(f"{name}{COMMITTED}" for name in failpoints.NAMES if name.startswith("tracking.")),
    *(f"tracking.session_released:{count}{COMMITTED}" for count in (3, 6, 7, 9)),
    *(f"tracking.progress_recorded:{count}{COMMITTED}" for count in (9, 18)),
]


@pytest.fixture(scope="session")
def run() -> Iterator[Callable[..., int]]:
    """Return what runs the scenario in a directory and returns its exit status."""
    environment = os.environ | {"PYTHONPATH": str(Path(vtlfs.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, SCENARIO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdin
        assert server.stdout

        def ask(**words: str) -> int:
            assert server.stdin
            assert server.stdout
            print(json.dumps(words), file=server.stdin, flush=True)
            return int(server.stdout.readline())

        yield ask
        server.stdin.close()


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory, in memory where there is enough: nothing here survives more than a process."""
    roomy = Path("/dev/shm")
    is_roomy = roomy.is_dir() and shutil.disk_usage(roomy).free > 1 << 30
    path = Path(tempfile.mkdtemp(prefix="vtlfs-crash-", dir=roomy if is_roomy else None))
    yield path
    shutil.rmtree(path)


class Aftermath:
    """What a run has left, and what the library had promised it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "library"
        acknowledged = root / "acknowledged"
        lines = acknowledged.read_text().splitlines() if acknowledged.exists() else []
        self.promised = [tuple(json.loads(line)) for line in lines]

    def of(self, kind: str) -> list[tuple]:
        """Return the promises of a kind, without that word."""
        return [tuple(rest) for word, *rest in self.promised if word == kind]

    def check(self, *, by_mount: bool = False) -> None:
        """Want everything that was promised, and books that are right. `by_mount`: after mounting, not `recover`."""
        if not self.of("rebuilding") and not (self.path / "library.toml").exists():
            assert not self.of("made")
            self.check_init()
            return
        self.rebuild()
        library = Library.open(self.path)
        if by_mount:
            trio.run(self.mount_for_a_moment, library)
        else:
            recover.recover(library)
        self.check_books(library)
        self.check_second_recovery(library)
        self.check_media(library)
        self.check_streams(library)
        self.check_snapshots(library)
        self.check_copies()
        trio.run(self.go_on, library)
        self.check_books(library)

    def check_init(self) -> None:
        """Want `vtlfs init` to work as if nothing had been."""
        disks = [self.root / f"disk{number}" for number in range(scenario.DISKS)]
        for disk in disks:
            disk.mkdir(exist_ok=True)
        library = create(self.path, disks, drives=4, stripe_unit=scenario.UNIT, at=utc_now())
        assert sorted(path.name for path in self.path.iterdir()) == ["library.toml", "mounts", "tracking.db"]
        assert [finding.problem for finding in check(library).findings] == []
        assert len(library.disks()) == scenario.DISKS

    def rebuild(self) -> None:
        """Rebuild the library if the run died before it had."""
        try:
            Library.open(self.path).tracking(read_only=True).close()
        except LibraryError:
            assert self.of("rebuilding")
            disks = [self.root / f"disk{number}" for number in range(scenario.DISKS)]
            rebuilt = rebuild(self.path, disks, (), utc_now())
            assert (rebuilt.findings.lost, rebuilt.findings.damaged) == ([], [])

    def check_books(self, library: Library) -> None:
        """Want nothing to be wrong, and nothing to do."""
        assert [str(finding) for finding in check(library).findings] == []
        assert not [path.name for path in (self.path / "mounts").glob("*")]

    def check_second_recovery(self, library: Library) -> None:
        """Want it to change nothing."""
        before = self.everything()
        assert recover.recover(library) == []
        assert self.everything() == before

    def everything(self) -> tuple[list[str], dict[str, str]]:
        """Return what is in the database, and what is on the disks."""
        with closing(sqlite3.connect(self.path / "tracking.db")) as connection:
            rows = list(connection.iterdump())
        files = sorted(path for disk in self.root.glob("disk*") for path in disk.rglob("*") if path.is_file())
        return rows, {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def check_media(self, library: Library) -> None:
        """Want the media that were added, and what was loaded."""
        with closing(library.tracking(read_only=True)) as tracking:
            there = {medium.barcode for medium in tracking.media()}
            assert there >= {barcode for barcodes in self.of("media") for barcode in barcodes}
            for number, barcode in self.of("loaded"):
                assert tracking.drive(number).loaded == barcode

    def check_streams(self, library: Library) -> None:
        """Want every stream up to what was acknowledged, and no byte that was not sent."""
        seeds = {session: (barcode, seed) for session, barcode, seed in self.of("opened")}
        with closing(library.tracking(read_only=True)) as tracking:
            sessions = {session.id: session for session in tracking.sessions(SessionFilter())}
            kept = [tape_file for medium in tracking.media() for tape_file in tracking.tape_files(medium.barcode)]
        for tape_file in kept:
            barcode, seed = seeds[tape_file.session]
            assert tape_file.medium == barcode
            content = extracted(library, barcode, tape_file.number)
            assert content == scenario.stream(seed, tape_file.bytes)
        for number in seeds:
            self.check_stream(sessions[number])

    def check_stream(self, session: Session) -> None:
        """Want a session to have ended, with what was promised."""
        flushed = max((size for number, size in self.of("flushed") if number == session.id), default=0)
        assert session.state in ("released", "failed", "recovered")
        assert session.bytes >= flushed
        assert (session.tape_file is not None) == (session.bytes > 0)
        for file in self.root.glob(f"disk*/sessions/*/{session.id:012d}.member"):
            header = records.decode(file.read_bytes()[: records.BLOCK])
            if session.state == "recovered" and header is not None:
                assert header[0]["state"] == "recovered"
        if (session.id,) in self.of("released"):
            assert session.state in ("released", "failed")
            assert session.bytes == flushed

    def check_snapshots(self, library: Library) -> None:
        """Want the snapshots that were taken, whole; and an exported one that is there to be whole."""
        with closing(library.tracking(read_only=True)) as tracking:
            taken = {snapshot.id: snapshot for snapshot in store.snapshots(tracking)}
        going = set() if (3,) not in self.of("snapshot") else {2}  # which the run may have pruned
        assert set(taken) >= {number for (number,) in self.of("snapshot")} - going
        assert not set(taken) & {number for (number,) in self.of("pruned")}
        for number, snapshot in taken.items():
            with closing(open_view(library, number)) as view:
                media = view.media()
                files = [one for medium in media for one in view.tape_files(medium.barcode)]
            assert (len(media), len(files)) == (snapshot.media, snapshot.tape_files)
            assert sum(one.bytes for one in files) == snapshot.bytes
        file = self.root / "then.db"
        if 1 in taken and not file.exists():
            assert not self.of("exported")
            export(library, 1, file)
        if file.exists():
            with closing(sqlite3.connect(file)) as exported:
                assert exported.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert exported.execute("SELECT count(*) FROM tape_file").fetchone()[0] == taken[1].tape_files

    def check_copies(self) -> None:
        """Want every copy of the database that has its name to be whole."""
        for file in self.root.glob("disk*/tracking/0*.db"):
            with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as copy:
                assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    async def mount_for_a_moment(self, library: Library) -> None:
        """Mount and unmount."""
        async with running(library, a_mount()):
            pass

    async def go_on(self, library: Library) -> None:
        """Want the next mount to serve."""
        if "T1" not in {barcode for barcodes in self.of("media") for barcode in barcodes}:
            return
        async with running(library, a_mount()) as engine:
            before = engine.tracking.medium("T1").bytes
            session = await engine.open_writer("T1", 0, scenario.OPENER)
            await session.write(0, b"after" * 2000)
            await session.flush(closing=True)
            await engine.release_writer(session)
            medium = engine.tracking.medium("T1")
            assert medium.bytes == before + 10_000
            reader = engine.medium_reader("T1", medium.bytes)
            assert bytes(await reader.read(before, 10_000)) == b"after" * 2000


def a_mount() -> Mount:
    """Return a mount for `running`."""
    return Mount(0, "beta", "machine", os.getpid(), 0, "/mnt/vtl", "", "mounted", utc_now(), None)


def extracted(library: Library, barcode: str, number: int) -> bytes:
    """Return a tape file."""
    pieces: list[bytes] = []
    extract(library, barcode, number, lambda piece: pieces.append(bytes(piece)), lambda _: None)
    return b"".join(pieces)


@pytest.mark.parametrize("where", WHERE)
def test_nothing_is_lost_when_the_process_dies(run: Callable[..., int], place: Path, where: str):
    status = run(root=str(place), failpoint=where)
    said = (place / "output").read_text()
    assert status == failpoints.STATUS, f"status {status}; a run does not get to {where}, or fails before:\n{said}"
    Aftermath(place).check(by_mount=bool(WHERE.index(where) % 2))


def test_run_that_is_not_disturbed_gets_to_every_failpoint(run: Callable[..., int], place: Path):
    assert run(root=str(place), counted=str(place / "counted")) == 0, (place / "output").read_text()
    reached = json.loads((place / "counted").read_text())
    assert set(reached) == set(failpoints.NAMES)
    after = Aftermath(place)
    assert after.of("end")
    after.check()


def test_failpoint_that_does_not_exist_is_an_error():
    environment = os.environ | {failpoints.ENVIRONMENT: "nonsense"}
    words = [sys.executable, "-m", "vtlfs", "--version"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no failpoint 'nonsense'" in done.stderr


# --- the list against the code --------------------------------------------------------------------------------------

PACKAGE = Path(vtlfs.__file__).parent
CALLS = {
    "pwrite",
    "pwritev",
    "posix_fallocate",
    "ftruncate",
    "truncate",
    "rename",
    "link",
    "symlink",
    "unlink",
    "mkdir",
}
CALLS |= {"makedirs", "rmdir", "chmod", "fchmod", "write_text", "write_bytes", "touch"}
OF_OS = {"fsync", "fdatasync", "write", "replace", "remove"}  # which other things have, too
CHANGING = re.compile(r"\s*(INSERT|UPDATE|DELETE|CREATE (?!TEMP)|DROP|ALTER|COMMIT\b)")
# Functions that need none, and why.
WITHOUT = {
    "vtlfs/cli/install.py": "changes the system, not a library",
    "vtlfs/cli/output.py": "writes files of the user's, not of a library",
    "vtlfs/cli/probe.py": "writes to a pipe",
    "vtlfs/daemon.py:_serve_in_background": "writes to a pipe",
    "vtlfs/daemon.py:_tune": "sets the kernel's limits",
    "vtlfs/disks/local.py:_write_all": "its callers have one for each of its uses",
    "vtlfs/engine/base.py": "changes a database that is not in its place yet",
    "vtlfs/engine/copies.py:fetch": "writes to a file of its caller's",
    "vtlfs/engine/figures.py": "live figures mean nothing after a crash",
    "vtlfs/engine/found.py": "changes temporary tables",
    "vtlfs/engine/history.py": "returns SQL, which schema.py runs",
    "vtlfs/engine/replay.py": "changes a database that is not in its place yet",
    "vtlfs/engine/units.py": "changes a database that is not in its place yet",
    "vtlfs/logs.py": "a log is not promised",
    "vtlfs/snap/export.py:_copy": "is in the transaction of `export`",
    "vtlfs/tui/save.py": "writes files of the user's, not of a library",
}


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function of the product and its name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        file = str(path.relative_to(PACKAGE.parent))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{file}:{node.name}", node


def own(function: ast.AST) -> Iterator[ast.AST]:
    """Yield what is in a function and not in one within it."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from own(child)


def is_durable(node: ast.AST) -> bool:
    """Tell whether this changes something that lasts."""
    if isinstance(node, ast.Attribute):
        is_of_os = isinstance(node.value, ast.Name) and node.value.id == "os"
        return node.attr in CALLS or node.attr == "O_CREAT" or (is_of_os and node.attr in OF_OS)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
        modes = [word.value for word in node.args[1:2] if isinstance(word, ast.Constant)]
        return any(set("wax+") & set(str(mode)) for mode in modes)
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(CHANGING.match(node.value))


def reached_in(function: ast.AST) -> list[str]:
    """Return the names of the failpoints in a function."""
    return [
        str(node.args[0].value)
        for node in own(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "reached"
        and isinstance(node.args[0], ast.Constant)
    ]


def needs_none(name: str) -> bool:
    return name in WITHOUT or name.split(":")[0] in WITHOUT


def test_every_durable_step_has_a_failpoint():
    """A new one: name it in vtlfs/failpoints.py, call `reached` behind it, and have scenario.py get there."""
    without = [
        f"{name}, line {node.lineno}"
        for name, function in functions()
        for node in own(function)
        if isinstance(node, ast.expr) and is_durable(node) and not reached_in(function) and not needs_none(name)
    ]
    assert without == []


def test_every_failpoint_is_registered_once_and_stands_in_the_code_once():
    found = [name for _, function in functions() for name in reached_in(function)]
    assert sorted(found) == sorted(failpoints.NAMES)


def test_no_exception_is_left_for_what_is_gone():
    durable = {name for name, function in functions() if any(is_durable(node) for node in own(function))}
    files = {name.split(":")[0] for name in durable}
    assert set(WITHOUT) <= durable | files


def test_every_failpoint_is_described_in_one_line():
    assert all(description and "\n" not in description for description in failpoints.NAMES.values())

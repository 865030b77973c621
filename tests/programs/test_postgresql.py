"""The real pg_dump and pg_dumpall: one stream where they can't seek, and many tape files where they open it again."""

import pwd
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import OnDisks, Tape, require_fuse, shell

PROGRAMS = Path("/usr/lib/postgresql")
FILL = "create table t as select i, md5(i::text) from generate_series(1, 60000) i"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL server with two databases; returns the options that name it."""
    if not PROGRAMS.exists():
        pytest.fail("missing: PostgreSQL; `make packages` installs it")
    programs = max(PROGRAMS.iterdir()) / "bin"
    root = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path is short
    try:
        postgres = pwd.getpwnam("postgres")
        shutil.chown(root, postgres.pw_uid, postgres.pw_gid)
        as_user = "runuser -u postgres --"
        start = f"-o '-k {root} -c listen_addresses=' -l {root}/log -w"
        shell(f"cd {root}; {as_user} {programs}/initdb -A trust {root}/data")
        shell(f"cd {root}; {as_user} {programs}/pg_ctl -D {root}/data {start} start > /dev/null 2>&1")
        try:
            options = f"-h {root} -U postgres"
            shell(f"psql {options} -qc '{FILL}'; createdb {options} other; psql {options} -qc '{FILL}' other")
            yield options
        finally:
            shell(f"cd {root}; {as_user} {programs}/pg_ctl -D {root}/data -m immediate stop")
    finally:
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Tape]]:
    """Fresh media of a mount."""
    require_fuse()
    library = OnDisks(tmp_path_factory.mktemp("pg"), unit=65536)
    with library.mounted() as mounted:
        yield (Tape(library, mounted, f"T{number}", "auto") for number in range(1, 10))


@pytest.mark.parametrize("how", ["> {out}", "-f {out}"])
def test_pg_dump_writes_one_stream_that_pg_restore_reads(server: str, media: Iterator[Tape], how: str) -> None:
    """It would come back to its table of contents if it could seek."""
    tape = next(media)
    shell(f"pg_dump {server} -Fc {how.format(out=tape.path)}")
    assert len(tape.streams()) == 1
    shell(f"pg_restore -f - {tape.path} | grep -c '^60000\t' | grep -qx 1")


def test_pg_dumpall_with_a_file_leaves_many_tape_files_and_with_a_shell_one(server: str, media: Iterator[Tape]) -> None:
    one, many = next(media), next(media)
    shell(f"pg_dumpall {server} > {one.path}")
    shell(f"pg_dumpall {server} -f {many.path}")
    (stream,) = one.streams()
    parts = many.streams()
    assert len(parts) > 3
    same = [re.sub(rb"(?m)^(--.*|.restrict .*|.unrestrict .*|)\n", b"", text) for text in (stream, b"".join(parts))]
    assert same[0] == same[1]

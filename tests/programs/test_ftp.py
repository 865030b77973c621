"""The real vsftpd, whose directory is /media of a mount: STOR, APPE and REST, by ftplib and curl."""

import ftplib
import io
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mounting import SECONDS, Mounted, OnDisks, random_bytes, require_fuse, shell, wait_until

DATA = random_bytes(1, 3_000_000)
MORE = random_bytes(2, 700_001)
LOOPBACK = "127.0.0.1"
RULE = """
[media."E*"]
on_truncate = "erase"
"""
CONFIGURATION = """listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_world_readable_only=NO
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
anon_root={root}
allow_writeable_chroot=YES
secure_chroot_dir={empty}
ftp_username=root
run_as_launching_user=YES
seccomp_sandbox=NO
xferlog_enable=NO
"""


@pytest.fixture(scope="module", params=["auto", "direct", "cached"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mounted, int]]:
    """A mount, and the port at which vsftpd serves its /media."""
    require_fuse()
    if shutil.which("vsftpd") is None:
        pytest.fail("missing: vsftpd; `make packages` installs it")
    root = tmp_path_factory.mktemp(request.param)
    library = OnDisks(root)
    library.add("E1..E9")
    with open(library.path / "library.toml", "a") as file:
        file.write(RULE)
    with library.mounted(f"io={request.param}") as mounted, _serving(root, mounted.path / "media") as port:
        yield mounted, port


@contextmanager
def _serving(root: Path, media: Path) -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as free:
        port = int(free.getsockname()[1])
    (root / "empty").mkdir()
    (root / "vsftpd.conf").write_text(CONFIGURATION.format(port=port, root=media, empty=root / "empty"))
    daemon = subprocess.Popen(["vsftpd", root / "vsftpd.conf"])
    try:
        wait_until(lambda: _listens(port), "vsftpd that listens")
        yield port
    finally:
        daemon.terminate()
        daemon.wait(SECONDS)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) == 0


@contextmanager
def client_of(port: int) -> Iterator[ftplib.FTP]:
    """Log in. At the end it just goes: a refusal that nobody has read yet would be the answer to its farewell."""
    with closing(ftplib.FTP(timeout=SECONDS)) as client:
        client.connect(LOOPBACK, port)
        client.login()
        yield client


def streams(mounted: Mounted, barcode: str, count: int) -> list[bytes]:
    """Return the tape files of a medium once there are `count`: the server closes its file when the client has gone."""
    folder = mounted.path / "files" / barcode
    wait_until(lambda: len(list(folder.iterdir())) >= count, f"{count} tape files")
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def test_stor_appe_and_rest_go_to_the_end(served: tuple[Mounted, int]) -> None:
    mounted, port = served
    with client_of(port) as client:
        client.storbinary("STOR T1", io.BytesIO(DATA))
        client.storbinary("APPE T1", io.BytesIO(MORE))
        client.storbinary("STOR T1", io.BytesIO(DATA), rest=len(DATA + MORE))
        assert streams(mounted, "T1", 3) == [DATA, MORE, DATA]
        assert client.size("T1") == 2 * len(DATA) + len(MORE)
        got: list[bytes] = []
        client.retrbinary("RETR T1", got.append)
        assert b"".join(got) == DATA + MORE + DATA
        client.storbinary("APPE T2", io.BytesIO(MORE))
        assert streams(mounted, "T2", 1) == [MORE]


def test_curl_uploads_and_appends(served: tuple[Mounted, int], tmp_path: Path) -> None:
    mounted, port = served
    (tmp_path / "data").write_bytes(DATA)
    for option in ("", "-a"):
        shell(f"curl -sS {option} -T {tmp_path}/data ftp://{LOOPBACK}:{port}/T3")
    assert streams(mounted, "T3", 2) == [DATA, DATA]


def attempt(act: Callable[..., object], *words: object, **more: object) -> None:
    """Have the server refuse. Its words may be lost, since vsftpd ends the connection."""
    with pytest.raises((ftplib.Error, OSError, EOFError)):
        act(*words, **more)


def test_stor_over_a_medium_that_has_something_is_refused_unless_it_may_erase(served: tuple[Mounted, int]) -> None:
    """vsftpd sends an ftruncate() to 0, and never overwrites nor appends silently."""
    mounted, port = served
    with client_of(port) as client:
        client.storbinary("STOR T4", io.BytesIO(DATA))
        attempt(client.storbinary, "STOR T4", io.BytesIO(MORE))
    assert 'to truncate medium T4; to let programs begin it anew, set on_truncate = "erase"' in mounted.said()
    with client_of(port) as client:
        attempt(client.storbinary, "STOR T4", io.BytesIO(MORE), rest=5)  # neither at the beginning nor at the end
    assert streams(mounted, "T4", 1) == [DATA]
    with client_of(port) as client:
        client.storbinary("STOR E1", io.BytesIO(DATA))
        assert streams(mounted, "E1", 1) == [DATA]
        client.storbinary("STOR E1", io.BytesIO(MORE))
        wait_until(lambda: mounted.medium("E1").stat().st_size == len(MORE), "the new volume")
        assert streams(mounted, "E1", 1) == [MORE]

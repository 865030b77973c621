"""The ways by which people are told, without a mount: limits, TLS, redirections, proxies and other trouble."""

import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from telling import serving

from vtlfs.care import ways
from vtlfs.care.message import Message
from vtlfs.care.message import test_message as message_of_a_test
from vtlfs.care.ways import NotTold, environment, post, run_command

AT = "2026-11-28T03:00:00.000000Z"
LIMIT = 60.0


@pytest.fixture
def message() -> Message:
    return message_of_a_test("/srv/vtl", "uuid", "machine", AT)


async def test_post_to_a_server_that_hangs_ends_at_the_limit(message: Message) -> None:
    with serving() as server:
        server.hangs.set()
        with pytest.raises(NotTold, match=r"did not answer within 0\.5 s|timed out"):
            await post(server.url, {}, message, 0.5)


async def test_redirection_is_not_followed(message: Message) -> None:
    with serving() as other, serving([302], location=other.url) as server:
        with pytest.raises(NotTold, match="HTTP status 302"):
            await post(server.url, {}, message, LIMIT)
        assert other.heard == other.refused == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://no-such-host.invalid/secret?token=1"])
async def test_server_that_is_not_there_is_told_without_what_may_be_secret(message: Message, url: str) -> None:
    with pytest.raises(NotTold) as caught:
        await post(url, {}, message, LIMIT)
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)
    assert str(caught.value).startswith(("127.0.0.1: ", "no-such-host.invalid: "))


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[int]:
    """The port of a server with a certificate that nobody has signed."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words: list[str | Path] = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        certificate,
    ]
    subprocess.run([*words, "-days", "2", "-subj", "/CN=127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Quiet(HTTPServer):
        def handle_error(self, *_: object) -> None:
            """The client goes away in the middle of the handshake."""

    server = Quiet(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


async def test_certificate_that_nobody_has_signed_is_refused(message: Message, tls: int) -> None:
    with pytest.raises(NotTold, match="CERTIFICATE_VERIFY_FAILED"):
        await post(f"https://127.0.0.1:{tls}/x", {}, message, LIMIT)


async def test_command_gets_the_message_and_its_failure_is_told(message: Message, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    await run_command(("/bin/sh", "-c", f"cat > {heard}"), message, LIMIT)
    assert heard.read_bytes() == message.document()
    with pytest.raises(NotTold, match=r"/bin/sh: exit status 7: first line$"):
        await run_command(("/bin/sh", "-c", "echo first line; echo second; exit 7"), message, LIMIT)
    with pytest.raises(NotTold, match="/bin/sh: signal 9"):
        await run_command(("/bin/sh", "-c", "kill -9 $$"), message, LIMIT)


async def test_command_need_not_read_nor_be_brief(message: Message) -> None:
    await run_command(("/bin/true",), message, LIMIT)
    await run_command(("/bin/sh", "-c", "head -c 10000000 /dev/zero"), message, LIMIT)


async def test_command_that_leaves_a_process_behind_is_not_waited_for(message: Message, tmp_path: Path) -> None:
    await run_command(("/bin/sh", "-c", f"(sleep 1000 & echo $! > {tmp_path}/pid)"), message, LIMIT)
    pid = int((tmp_path / "pid").read_text())
    assert Path(f"/proc/{pid}").exists()
    subprocess.run(["kill", str(pid)], check=True)


def test_environment_has_no_control_characters() -> None:
    message = message_of_a_test("/srv/a\nb\x1b\udcff", "uuid", "machine", AT)
    assert environment(message)["VTLFS_LIBRARY"] == "/srv/a\\nb\\x1b\\udcff"
    assert all("\n" not in value for value in environment(message).values())


def test_library_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "library.toml").write_text("")
    ways.check_trusted(tmp_path)
    (tmp_path / "library.toml").chmod(0o660)
    with pytest.raises(NotTold, match="can be changed by others"):
        ways.check_trusted(tmp_path)
    (tmp_path / "library.toml").unlink()
    with pytest.raises(NotTold, match="No such file"):
        ways.check_trusted(tmp_path)

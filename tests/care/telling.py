"""Who is told in the tests: a command that writes down what it gets, and an HTTP server that does."""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mounting import OnDisks

SCRIPT = """#!/bin/sh
name=$(mktemp "{heard}/new.XXXXXX")
cat > "$name"
env > "{heard}/environment"
pwd > "{heard}/directory"
ls -l /proc/self/fd > "{heard}/descriptors"
{more}
mv "$name" "{heard}/$(date +%s%N).$$.json"
"""


class Command:
    """A command that writes down, in a directory of its own, each message that it gets."""

    def __init__(self, root: Path, more: str = "") -> None:
        """`more`: what the script does besides, before the message counts as heard."""
        self.heard_at = root / "heard"
        self.heard_at.mkdir()
        self.path = root / "tell"
        self.write(more)

    def write(self, more: str = "") -> None:
        """Write the script, under the same name at once."""
        new = self.path.with_suffix(".new")
        new.write_text(SCRIPT.format(heard=self.heard_at, more=more))
        new.chmod(0o755)
        new.rename(self.path)

    def heard(self) -> list[dict[str, Any]]:
        """Return the messages, in the order in which they came."""
        return [json.loads(path.read_text()) for path in sorted(self.heard_at.glob("*.json"))]

    def environment(self) -> dict[str, str]:
        """Return the environment of the last run."""
        lines = (self.heard_at / "environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


class Server:
    """An HTTP server. `answers`: the statuses of the next answers; then 204."""

    def __init__(self, port: int, answers: Sequence[int] = ()) -> None:
        self.url = f"http://127.0.0.1:{port}/hooks/secret-token"
        self.heard: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers = list(answers)
        self.hangs = threading.Event()
        self.go_on = threading.Event()


@contextmanager
def serving(answers: Sequence[int] = (), *, location: str = "") -> Iterator[Server]:
    """Run a server for the block. `location`: where its redirections lead."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if server.hangs.is_set():
                server.go_on.wait(120)
                return
            status = server.answers.pop(0) if server.answers else 204
            (server.heard if status < 300 else server.refused).append(document)
            server.headers.append(dict(self.headers))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            server.refused.append({"got": self.path})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Server(http.server_address[1], answers)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        http.shutdown()
        thread.join()
        http.server_close()


def configure(library: OnDisks, text: str, section: str = "notify") -> None:
    """Write a section into library.toml."""
    with open(library.path / "library.toml", "a") as file:
        file.write(f"\n[{section}]\n{text}\n")


def by_command(command: Command) -> str:
    """Return the key of [notify] that names a command."""
    return f'command = ["{command.path}"]'


def fail(path: Path, size: int) -> None:
    """Write a stream that doesn't fit on its medium."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, bytes(size))
    except OSError:
        pass
    else:
        raise AssertionError(f"{path} takes {size} bytes")
    finally:
        os.close(descriptor)

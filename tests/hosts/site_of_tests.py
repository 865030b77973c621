"""The site of the tests of hosts: sends streams from two hosts at once, and checks what became of them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mounting import Mounted, OnDisks, Tape, random_bytes, wait_until
from network import ADDRESSES, Ssh, finish

FIRST = 100_000  # bytes that a host sends before it waits for the other


@dataclass
class Site:
    """A server with a library, the hosts alpha and beta, and media that no test has used yet."""

    library: OnDisks
    mounted: Mounted
    own: Mounted  # a mount that one ordinary user alone may use
    ssh: Ssh
    barcodes: Iterator[str]

    @property
    def root(self) -> Path:
        """A directory for files that all hosts see."""
        return self.library.root

    def tape(self) -> Tape:
        """Return a medium that no test has used."""
        return Tape(self.library, self.mounted, next(self.barcodes), "auto")

    def stream(self, host: str, size: int = 3_000_001) -> bytes:
        """Return the stream that a host is to send; the file `HOST.data` has it, too."""
        data = random_bytes(list(ADDRESSES).index(host) + 1, size)
        (self.root / f"{host}.data").write_bytes(data)
        return data

    def tree(self) -> Path:
        """Return a directory that has a directory of files for each host."""
        tree = self.root / "tree"
        for host in ADDRESSES:
            (tree / host).mkdir(parents=True, exist_ok=True)
            for number in range(3):
                (tree / host / str(number)).write_bytes(random_bytes(number, 300_000) + host.encode())
        return tree

    def together(self, tape: Tape, script: str) -> list[dict[str, Any]]:
        """Run a script on both hosts, in which HOST is the host's name; return the sessions, by tape file.

        In it SEND prints a host's stream, and `$WAIT` is a command: both end only when both hosts write to the tape.
        """
        go = self.root / f"{tape.barcode}.go"
        wait = f"until [ -e {go} ]; do sleep 0.05; done"
        send = f"{{ head -c {FIRST} {self.root}/HOST.data; {wait}; tail -c +{FIRST + 1} {self.root}/HOST.data; }}"
        for host in ADDRESSES:
            self.stream(host)
        ready = f"export WAIT='{wait}'; " + script.replace("SEND", send)
        started = [self.ssh.popen(host, ready.replace("HOST", host)) for host in ADDRESSES]
        try:
            wait_until(lambda: self._writing(tape) == len(ADDRESSES) or self._has_failed(started), "both hosts")
            go.touch()
            for process in started:
                finish(process, script)
        finally:
            for process in started:
                process.kill()
        return self.written(tape)

    def written(self, tape: Tape) -> list[dict[str, Any]]:
        """Return the sessions that have left a tape file on the medium, in order; assert that all were released.

        Waits for the release of all sessions: the close() of a file on sshfs does not wait for that of the server.
        """
        self.wait_for_releases()
        found = [one for one in self.library.listed("--medium", tape.barcode) if one["access"] == "write"]
        assert all(one["state"] == "released" and one["error"] is None for one in found), found
        return sorted((one for one in found if one["tape_file"] is not None), key=lambda one: int(one["tape_file"]))

    def wait_for_releases(self) -> None:
        """Wait for the release of all sessions."""
        wait_until(lambda: not os.listdir(self.mounted.path / "sessions"), "the release of all sessions")

    def check(self, tape: Tape, sessions: list[dict[str, Any]], names: dict[str, str] = ADDRESSES) -> None:
        """Assert that the tape has the hosts' streams, each whole and under the name of its host, and nothing else."""
        assert sorted(one["host"] for one in sessions) == sorted(names.values())
        expected = {names[host]: self.stream(host) for host in names}
        assert tape.streams() == [expected[one["host"]] for one in sessions]

    def _writing(self, tape: Tape) -> int:
        return len(os.listdir(tape.mounted.path / "sessions"))

    @staticmethod
    def _has_failed(started: list[Any]) -> bool:
        return any(process.poll() is not None for process in started)

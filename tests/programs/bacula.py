"""The real Bacula for tests: its director with a catalogue in SQLite, its file and storage daemons, its console."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mounting import SECONDS, wait_until

TABLES = Path("/usr/share/bacula-director/make_sqlite3_tables")
PROGRAMS = ("bacula-dir", "bacula-fd", "bacula-sd", "bconsole", "sqlite3")
LOOPBACK = "127.0.0.1"


def require_bacula() -> None:
    """Skip the test where Bacula is not installed; fail under CI."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if not TABLES.exists():
        missing.append(str(TABLES))
    if missing and os.environ.get("CI"):
        pytest.fail(f"missing: {', '.join(missing)}; `make packages` installs Bacula, and CI refuses to skip")
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}; `make packages` installs Bacula")


class Bacula:
    """Bacula that backs up the directory `source` to files in `archive`, two volumes VOL0001 and VOL0002 at most."""

    def __init__(self, root: Path, archive: Path, *, volume_bytes: int) -> None:
        """`volume_bytes`: when a volume is full."""
        self.root = root
        self.source = root / "source"
        self.restored = root / "restored"
        for folder in (root, self.source, self.restored, root / "work"):
            folder.mkdir(exist_ok=True)
        self._ports = _free_ports(3)
        self._write_configurations(archive, volume_bytes)
        script = TABLES.read_text().partition("<<END-OF-DATA")[2].partition("END-OF-DATA")[0]
        subprocess.run(["sqlite3", root / "work" / "bacula.db"], input=script, text=True, check=True)

    def _write_configurations(self, archive: Path, volume_bytes: int) -> None:
        director, client, storage = self._ports
        work = self.root / "work"
        here = f"WorkingDirectory = {work}\n PidDirectory = {work}\n Plugin Directory = /usr/lib/bacula"
        asked = "Director {\n Name = dir\n Password = secret\n}"
        job = "Client = fd\n FileSet = Source\n Storage = sd\n Pool = Vols\n Messages = Log"
        self._configure(
            "bacula-dir",
            f"Director {{\n Name = dir\n DirPort = {director}\n DirAddress = {LOOPBACK}\n QueryFile = /dev/null\n"
            f" {here}\n Password = secret\n Messages = Log\n}}",
            'Catalog {\n Name = Catalogue\n dbname = bacula\n dbuser = ""\n dbpassword = ""\n}',
            f"Messages {{\n Name = Log\n append = {self.root}/log = all\n}}",
            f"Client {{\n Name = fd\n Address = {LOOPBACK}\n FDPort = {client}\n Catalog = Catalogue\n"
            " Password = secret\n AutoPrune = no\n}",
            f"Storage {{\n Name = sd\n Address = {LOOPBACK}\n SDPort = {storage}\n Password = secret\n Device = Tape\n"
            " Media Type = File\n}",
            "Pool {\n Name = Vols\n Pool Type = Backup\n Label Format = VOL\n Maximum Volumes = 2\n"
            f" Maximum Volume Bytes = {volume_bytes}\n Recycle = yes\n Purge Oldest Volume = yes\n}}",
            "FileSet {\n Name = Source\n Include {\n  Options {\n   signature = SHA1\n  }\n"
            f"  File = {self.source}\n }}\n}}",
            f"Job {{\n Name = Backup\n Type = Backup\n Level = Full\n {job}\n}}",
            f"Job {{\n Name = Restore\n Type = Restore\n Where = {self.restored}\n {job}\n}}",
        )
        self._configure(
            "bacula-sd",
            f"Storage {{\n Name = sd\n SDPort = {storage}\n SDAddress = {LOOPBACK}\n {here}\n}}",
            asked,
            f"Device {{\n Name = Tape\n Media Type = File\n Archive Device = {archive}\n LabelMedia = yes\n"
            " Random Access = yes\n AutomaticMount = yes\n RemovableMedia = no\n AlwaysOpen = no\n}",
            "Messages {\n Name = Log\n director = dir = all\n}",
        )
        self._configure(
            "bacula-fd",
            f"FileDaemon {{\n Name = fd\n FDPort = {client}\n FDAddress = {LOOPBACK}\n {here}\n}}",
            asked,
            "Messages {\n Name = Log\n director = dir = all\n}",
        )
        self._configure(
            "bconsole",
            f"Director {{\n Name = dir\n DirPort = {director}\n Address = {LOOPBACK}\n Password = secret\n}}",
        )

    def _configure(self, program: str, *resources: str) -> None:
        (self.root / f"{program}.conf").write_text("\n".join(resources) + "\n")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have the three daemons run for the block."""
        started: list[subprocess.Popen[bytes]] = []
        try:
            for port, name in zip(self._ports, ("bacula-dir", "bacula-fd", "bacula-sd"), strict=True):
                with open(self.root / f"{name}.out", "wb") as said:
                    words = [name, "-f", "-c", str(self.root / f"{name}.conf")]
                    started.append(subprocess.Popen(words, stdout=said, stderr=said))
                wait_until(lambda port=port: _listens(port), f"{name} that listens")  # type: ignore[misc]
            yield
        finally:
            for daemon in started:
                daemon.terminate()
            for daemon in started:
                try:
                    daemon.wait(SECONDS)
                finally:
                    daemon.kill()

    def console(self, *commands: str) -> str:
        """Return what the console says to some commands."""
        words = ["bconsole", "-n", "-c", str(self.root / "bconsole.conf")]
        text = "\n".join([*commands, "quit"]) + "\n"
        return subprocess.run(words, input=text, capture_output=True, text=True, timeout=SECONDS, check=True).stdout

    def back_up(self) -> str:
        """Run the backup job; return its report."""
        return self._report("run job=Backup yes")

    def restore(self) -> str:
        """Restore the last backup into an empty directory `restored`; return the job's report."""
        shutil.rmtree(self.restored)
        return self._report("restore client=fd select current all done yes")

    def _report(self, command: str) -> str:
        log = self.root / "log"
        before = log.read_text() if log.exists() else ""
        said = self.console(command, "wait", "messages")
        after = log.read_text()[len(before) :] if log.exists() else ""
        assert "Termination:" in after, said + after
        return after

    def what_was_restored(self) -> Path:
        """Return the directory that `source` was restored to."""
        return self.restored / self.source.relative_to("/")


def termination(report: str) -> str:
    """Return how a job ended, in Bacula's words."""
    found = re.search(r"Termination: +(.*)", report)
    assert found is not None, report
    return found[1].strip()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) == 0

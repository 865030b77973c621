"""The real Bacula for tests: its director with a catalogue in SQLite, its file and storage daemons, its console."""

import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Autochanger:
    """A changer for Bacula: its command, the library, and the device of each drive. `user`: of the storage daemon."""

    command: Path
    library: Path
    devices: list[Path]
    user: str


class Bacula:
    """Bacula that backs up the directory `source` to files in `archive`, two volumes VOL0001 and VOL0002 at most.

    With a changer, to the media in its drives, as many as there are.
    """

    def __init__(self, root: Path, archive: Path, *, volume_bytes: int, autochanger: Autochanger | None = None) -> None:
        """`volume_bytes`: when a volume is full."""
        self.root = root
        self._autochanger = autochanger
        self.source = root / "source"
        self.restored = root / "restored"
        for folder in (root, self.source, self.restored, root / "work"):
            folder.mkdir(exist_ok=True)
        if autochanger is not None:
            user = pwd.getpwnam(autochanger.user)
            (root / "sd").mkdir(exist_ok=True)
            os.chown(root / "sd", user.pw_uid, user.pw_gid)
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
        labels, device, many = "Label Format = VOL\n Maximum Volumes = 2\n", "Tape", ""
        if self._autochanger is not None:
            labels, device, many = "", "Changer\n Autochanger = yes", "\n Maximum Concurrent Jobs = 2"
            job += "\n Prefer Mounted Volumes = no"
        self._configure(
            "bacula-dir",
            f"Director {{\n Name = dir\n DirPort = {director}\n DirAddress = {LOOPBACK}\n QueryFile = /dev/null\n"
            f" {here}\n Password = secret\n Messages = Log{many}\n}}",
            'Catalog {\n Name = Catalogue\n dbname = bacula\n dbuser = ""\n dbpassword = ""\n}',
            f"Messages {{\n Name = Log\n append = {self.root}/log = all\n}}",
            f"Client {{\n Name = fd\n Address = {LOOPBACK}\n FDPort = {client}\n Catalog = Catalogue\n"
            f" Password = secret\n AutoPrune = no{many}\n}}",
            f"Storage {{\n Name = sd\n Address = {LOOPBACK}\n SDPort = {storage}\n Password = secret\n"
            f" Device = {device}\n Media Type = File{many}\n}}",
            f"Pool {{\n Name = Vols\n Pool Type = Backup\n {labels}"
            f" Maximum Volume Bytes = {volume_bytes}\n Recycle = yes\n Purge Oldest Volume = yes\n}}",
            "FileSet {\n Name = Source\n Include {\n  Options {\n   signature = SHA1\n  }\n"
            f"  File = {self.source}\n }}\n}}",
            f"Job {{\n Name = Backup\n Type = Backup\n Level = Full\n {job}{many}\n}}",
            f"Job {{\n Name = Restore\n Type = Restore\n Where = {self.restored}\n {job}\n}}",
        )
        own = here if self._autochanger is None else here.replace(str(work), f"{self.root}/sd")
        self._configure(
            "bacula-sd",
            f"Storage {{\n Name = sd\n SDPort = {storage}\n SDAddress = {LOOPBACK}\n {own}\n}}",
            asked,
            *self._devices(archive),
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

    def _devices(self, archive: Path) -> list[str]:
        """Return the resources of the storage daemon for its devices."""
        kind = "Media Type = File\n LabelMedia = yes\n Random Access = yes\n AutomaticMount = yes\n AlwaysOpen = no\n"
        changer = self._autochanger
        if changer is None:
            return [f"Device {{\n Name = Tape\n {kind} Archive Device = {archive}\n RemovableMedia = no\n}}"]
        drives = [
            f"Device {{\n Name = Drive-{number}\n {kind} Archive Device = {device}\n Device Type = File\n"
            f" Autochanger = yes\n Drive Index = {number}\n RemovableMedia = yes\n}}"
            for number, device in enumerate(changer.devices)
        ]
        names = ", ".join(f"Drive-{number}" for number in range(len(drives)))
        return [
            f"Autochanger {{\n Name = Changer\n Device = {names}\n Changer Device = {changer.library}\n"
            f' Changer Command = "{changer.command} %c %o %S %a %d"\n}}',
            *drives,
        ]

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
                    if self._autochanger is not None and name == "bacula-sd":
                        user = self._autochanger.user
                        words = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", *words]
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
        patience = SECONDS if self._autochanger is None else 10 * SECONDS  # it runs many a process, one after the other
        return subprocess.run(words, input=text, capture_output=True, text=True, timeout=patience, check=True).stdout

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

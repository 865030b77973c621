"""Commands of `vtlfs` beside the load, again and again, as an operator and cron jobs run them."""

import json
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass

from mounting import PROGRAM

from soak.plan import Stage
from soak.readers import started
from soak.shelf import lengths
from vtlfs.model import parse_size

SECONDS = 120.0  # for a command
EVERY_SECONDS = 3.0
NAMED = 4  # every so many snapshots has a name and is never pruned
PRUNED = 3  # after every so many snapshots
LIMIT = "200MB/s"
VERIFIED = re.compile(r"^(.+?) in [0-9,]+ tape files? on .* verified: all is as it should be$", re.MULTILINE)


@dataclass(frozen=True)
class Taken:
    """A snapshot, and the lengths of the media just before and just after."""

    number: int
    before: dict[str, int]
    after: dict[str, int]


class Commands:
    """A thread for each kind of command."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.taken: list[Taken] = []
        works = (self._snapshots, self._verify, self._look)
        self._threads = [threading.Thread(target=self._work, args=[work]) for work in works]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for the last command."""
        for thread in self._threads:
            thread.join()

    def run(self, *words: object, timeout: float = SECONDS) -> str:
        """Run a command, which has to succeed, though `status` may tell of a mount that was killed.

        Return what it printed.
        """
        with started([*PROGRAM, *words]) as process:
            try:
                said, errors = process.communicate(timeout=timeout)
            finally:
                process.kill()
        what = f"vtlfs {' '.join(map(str, words))}"
        fine = process.returncode in ((0, 4) if words[0] == "status" else (0,)) and not errors
        self.stage.report.want(fine, f"{what}: status {process.returncode}, {said.decode()}{errors.decode()}")
        self.stage.report.count("commands")
        return said.decode()

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.stage.report.problem(f"{work}: {error!r}")

    def _snapshots(self) -> None:
        number = 0
        while not self.stage.over.wait(EVERY_SECONDS):
            number += 1
            before = lengths(self.stage)
            name = ["--name", f"number {number}"] if number % NAMED == 0 else []
            said = self.run("snapshot", "take", self.stage.library.path, *name, "--json")
            after = lengths(self.stage)
            self.taken.append(Taken(json.loads(said)["id"], before, after))
            self.stage.report.count("snapshots")
            if number % PRUNED == 0:
                self.stage.report.count(
                    "pruned", len(json.loads(self.run("snapshot", "prune", self.stage.library.path, "--json")))
                )

    def _verify(self) -> None:
        """Verify again and again; the last run is interrupted, as an operator would."""
        while not self.stage.over.wait(EVERY_SECONDS):
            with started([*PROGRAM, "verify", self.stage.library.path, "--limit", LIMIT]) as process:
                interrupted = False
                while process.poll() is None:
                    if self.stage.over.wait(0.2) and not interrupted:
                        process.send_signal(signal.SIGINT)
                        interrupted = True
                said, errors = (stream.read().decode() for stream in (process.stdout, process.stderr) if stream)
            self.note_verified(process, said, errors, interrupted=interrupted)

    def note_verified(self, process: "subprocess.Popen[bytes]", said: str, errors: str, *, interrupted: bool) -> None:
        """Count the bytes that a verification has read; note a problem if it has found a defect."""
        found = VERIFIED.search(said)
        fine = found is not None and (process.returncode, errors) == (0, "")
        if interrupted and (process.returncode in (130, -signal.SIGINT) or "init_import_site" in errors):
            fine = True  # the latter is Python's own end, before it has come to the program
        self.stage.report.want(fine, f"vtlfs verify: status {process.returncode}, {said}{errors}")
        if found:
            self.stage.report.count("verifications")
            self.stage.report.count("verified", parse_size(found[1].replace(" ", "")))

    def _look(self) -> None:
        """Run the commands by which an operator looks at the library."""
        path = self.stage.library.path
        while True:
            for words in (
                ["status", path, "--json"],
                ["sessions", path, "--open", "--json"],
                ["check", path],
                ["files", path, self.stage.plan.barcodes[0]],
                ["snapshot", "list", path],
                ["status", path],
            ):
                if self.stage.over.wait(EVERY_SECONDS):
                    return
                self.run(*words)

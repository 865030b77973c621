"""The whole load test, from an empty directory to the table."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mounting import PROGRAM, OnDisks

from soak.audit import Audit
from soak.commands import Commands
from soak.crowds import Crowds
from soak.plan import CROWD_READS, CROWD_WRITES, DISKS, Plan, Report, Stage
from soak.readers import Readers, started
from soak.watch import Watch
from soak.writers import Ledger, Writers
from vtlfs.config import FILE_NAME

HOSTS = ("alpha", "beta")
OBSERVED = Path(__file__).with_name("observed.py")
COPIES = ('copy = "1h"', 'copy = "10s"')
SETTINGS = '\n[snapshots]\nevery = "10s"\nkeep = { last = 6 }\n'


def run(plan: Plan, tell: Callable[[str], object] = lambda line: None) -> Report:
    """Carry out the plan. Ctrl-C and SIGTERM end the test in order; the report then says that it was interrupted."""
    report = Report()
    disks = plan.disks or [plan.root / f"disk{number}" for number in range(DISKS)]
    library = OnDisks(plan.root, disks, media=f"{plan.barcodes[0]}..{plan.barcodes[-1]}")
    library.add(CROWD_WRITES, CROWD_READS)
    settings = library.path / FILE_NAME
    settings.write_text(settings.read_text().replace(*COPIES) + SETTINGS)
    observed = plan.root / "observed"
    observed.mkdir()
    library.serving = [sys.executable, str(OBSERVED), str(observed)]
    stage = Stage(plan, report, library)
    with ExitStack() as mounts, _interruptible(stage):
        for host in HOSTS:
            stage.mounts[host] = mounts.enter_context(library.mounted(f"host={host}", at=plan.root / host))
        try:
            _work(stage, Watch(stage, observed), tell)
        except KeyboardInterrupt:
            report.interrupted = True
    return report


def _work(stage: Stage, watch: Watch, tell: Callable[[str], object]) -> None:
    report, ledger = stage.report, Ledger()
    workers = (Writers(stage, ledger), Readers(stage, ledger), commands := Commands(stage), Crowds(stage))
    writers = workers[0]
    tell("mounted; waiting until the mounts are idle")
    watch.start()
    try:
        began = time.monotonic()
        for worker in workers:
            worker.start()
        try:
            tell(f"{stage.plan.sessions} writers for {stage.plan.seconds:.0f} s")
            _wait(stage, began, ledger, tell)
        finally:
            stage.over.set()
            if stage.stopped.is_set():
                writers.kill()
            for worker in workers:
                worker.join()
        report.count("streaming ms", int((time.monotonic() - began) * 1000))
        if not stage.stopped.is_set():
            tell("comparing every stream, session and snapshot")
            Audit(stage, ledger).run(commands.taken)
            tell("vtlfs verify and check")
            _verify(stage, commands)
            commands.run("check", stage.library.path)
            tell("waiting until the mounts are idle")
            watch.conclude()
    finally:
        watch.stop()


def _wait(stage: Stage, began: float, ledger: Ledger, tell: Callable[[str], object]) -> None:
    """Wait until the time is up, and print the progress now and then."""
    told = began
    while (now := time.monotonic()) < began + stage.plan.seconds and not stage.stopped.wait(0.5):
        if now - told > 30:
            told = now
            tell(f"{now - began:.0f} s: {len(ledger.all)} streams, {len(stage.report.problems)} problems")


def _verify(stage: Stage, commands: Commands) -> None:
    """Verify all that was written."""
    with started([*PROGRAM, "verify", stage.library.path]) as process:
        said, errors = process.communicate()
    commands.note_verified(process, said.decode(), errors.decode(), interrupted=False)


@contextmanager
def _interruptible(stage: Stage) -> Iterator[None]:
    """Let signals stop everything that runs, so that nothing is left behind."""

    def stop(*_: object) -> None:
        stage.report.interrupted = True
        stage.stopped.set()
        stage.over.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

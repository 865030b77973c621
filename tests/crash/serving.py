"""Runs scenarios, and examines what they have left, in processes that are forked from one with all modules loaded.

`python serving.py` answers each line of JSON on standard input with one. Its forks are cheap, and so are the forks that
commands make in them: it is a fifth as large as a process that runs tests.
"""

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCENARIO, OF_DISKS, OF_MEDIA = "scenario", "scenario_of_disks", "scenario_of_media"
LONGEST = 50_000  # characters of an answer


class Server:
    """The process that forks, as tests see it."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (HERE.parents[1], HERE.parent)))}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, scenario: str, root: Path, **options: object) -> int:
        """Run a scenario in a directory, with the options of `scenario.one`; return its exit status."""
        return int(self._ask(scenario=scenario, root=str(root), options=options))

    def examine(
        self, scenario: str, root: Path, *checks: str, of: dict[str, object] | None = None, **options: object
    ) -> None:
        """Call checks of the aftermath of a scenario, `check` without any; fail as they do.

        `of`: the options of the aftermath; `options`: those of each check.
        """
        failure = self._ask(scenario=scenario, root=str(root), checks=checks or ["check"], of=of or {}, options=options)
        assert not failure, failure

    def end(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, **what: object) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(what), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


# --- in the process that forks ----------------------------------------------------------------------------------------


def serve() -> None:
    """Run, or examine, for each line on standard input."""
    from aftermath import Aftermath
    from aftermath_of_disks import AftermathOfDisks
    from aftermath_of_media import AftermathOfMedia
    from loaded import load
    from scenario import Run, one
    from scenario_of_disks import RunOfDisks
    from scenario_of_media import RunOfMedia

    runs: dict[str, type[Run]] = {SCENARIO: Run, OF_DISKS: RunOfDisks, OF_MEDIA: RunOfMedia}
    kinds = {SCENARIO: Aftermath, OF_DISKS: AftermathOfDisks, OF_MEDIA: AftermathOfMedia}
    load("commands")
    for line in sys.stdin:
        asked = json.loads(line)
        scenario, root, options = asked["scenario"], Path(asked["root"]), asked["options"]
        if "checks" not in asked:
            answer: object = one(runs[scenario], root, **options)
        else:
            after = kinds[scenario](root, **asked["of"])
            answer = examined([partial(getattr(after, check), **options) for check in asked["checks"]])
        print(json.dumps(answer), flush=True)


def examined(checks: Sequence[Callable[[], object]]) -> str:
    """Call checks in a process of its own; return what they printed and how they failed, nothing if they did not."""
    with tempfile.TemporaryFile() as output:
        if not (child := os.fork()):
            status = 1
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                for check in checks:
                    check()
                status = 0
            except BaseException as error:
                for text in traceback.TracebackException.from_exception(error, capture_locals=True).format():
                    print(text, file=sys.stderr)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return f"status {status}\n{output.read().decode()[-LONGEST:]}" if status else ""


if __name__ == "__main__":
    serve()

"""`python -m soak`: the load test, for any time."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from soak.plan import Plan
from soak.run import run
from vtlfs.model import format_size, parse_size

EPILOGUE = """
Needs root, /dev/fuse, and room for the streams and a tenth more. Exit status: 0 where nothing was wrong, 1 where
something was, 130 where it was interrupted: then it unmounts and removes what it made.
"""


def main() -> int:
    """Run the load test, and print its table. Return the exit status."""
    plan, keep = _asked()

    def tell(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    tell(f"{format_size(plan.size)} in streams of {format_size(plan.average)} on average, in {plan.root}")
    try:
        report = run(plan, tell)
    finally:
        if not keep:
            shutil.rmtree(plan.root, ignore_errors=True)
            for disk in plan.disks:
                shutil.rmtree(disk, ignore_errors=True)
    print(report.table())
    return 130 if report.interrupted else 1 if report.problems else 0


def _asked() -> tuple[Plan, bool]:
    """Return the plan that the command line asks for, and whether to keep the library afterwards."""
    parser = argparse.ArgumentParser("python -m soak", description=__doc__, epilog=EPILOGUE)
    parser.add_argument("--minutes", type=float, default=5, help="for which streams are begun (%(default)s)")
    parser.add_argument(
        "--sessions",
        type=int,
        default=250,
        help="writers at once (%(default)s), a fifth of which is just being started",
    )
    parser.add_argument("--media", type=int, default=50, help="%(default)s")
    parser.add_argument("--size", type=parse_size, default="10GiB", help="of all streams (%(default)s)")
    parser.add_argument(
        "--crowd",
        type=int,
        default=10_000,
        help="idle files besides: so many that are written, and so many that are read (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="another one makes other streams (%(default)s)")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where to work (%(default)s)")
    parser.add_argument("--disks", type=Path, nargs="+", default=[], metavar="DIR", help="real disks, two or more")
    parser.add_argument("--keep", action="store_true", help="leave everything where it is")
    asked = parser.parse_args()
    disks = [Path(tempfile.mkdtemp(prefix="vtlfs-soak-", dir=disk)) for disk in asked.disks]
    root = Path(tempfile.mkdtemp(prefix="vtlfs-soak-", dir=asked.directory))
    os.chmod(root, 0o755)
    plan = Plan(root, asked.minutes * 60, asked.sessions, asked.media, asked.size, asked.seed, asked.crowd, disks)
    return plan, asked.keep


if __name__ == "__main__":
    sys.exit(main())

"""The conditions of a measurement: date, versions of vtlfs and its peers, machine, file system."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

import vtlfs
from benchmarks.cases import MIB, Sizes

ENOUGH_ROUNDS = 3  # the fewest rounds for a meaningful median


def conditions(directory: Path) -> dict[str, Any]:
    """Describe the machine, and the file system that holds the directory."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "vtlfs": vtlfs.__version__,
            "pyfuse3": version("pyfuse3"),
            "mergerfs": _version("mergerfs"),
            "bindfs": _version("bindfs"),
        },
        "processors": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "file_system": file_system(directory),
    }


def headline(about: dict[str, Any], sizes: Sizes, rounds: int) -> str:
    """Return the conditions in a line or two, and whether the run was too small for its verdicts to mean anything."""
    versions, system = about["versions"], about["file_system"]
    mib, runs = sizes.stream // MIB, "1 round" if rounds == 1 else f"{rounds} rounds"
    said = f"{runs}, single streams of {mib} MiB, {about['processors']} processors"
    said += f", {system.get('type', 'an unknown file system')}, Linux {versions['kernel']}, vtlfs {versions['vtlfs']}"
    if rounds < ENOUGH_ROUNDS or sizes.stream < Sizes.stream:
        said += "\nThis is less than a full run: start and end of a stream weigh more, and noise is not averaged out."
    return said


def file_system(directory: Path) -> dict[str, str]:
    """Return the type and the mount options of the file system that holds the directory."""
    place = directory.resolve()
    while not place.is_mount():
        place = place.parent
    mounts = [each for each in psutil.disk_partitions(all=True) if each.mountpoint == str(place)]
    return {"type": mounts[-1].fstype, "options": mounts[-1].opts} if mounts else {}  # the last lies over the others


def _version(program: str) -> str | None:
    """Return the version of a program: the last word of the first line of --version; None if it is not installed."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return None
    words = said.partition("\n")[0].split()
    return words[-1] if words else None

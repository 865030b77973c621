"""Under what conditions something was measured: date, versions of everything that takes part, machine, file system."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

import vtlfs


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


def file_system(directory: Path) -> dict[str, str]:
    """Return the type and the mount options of the file system that holds the directory."""
    place = directory.resolve()
    while not place.is_mount():
        place = place.parent
    mounts = [each for each in psutil.disk_partitions(all=True) if each.mountpoint == str(place)]
    return {"type": mounts[-1].fstype, "options": mounts[-1].opts} if mounts else {}  # the last lies over the others


def _version(program: str) -> str | None:
    """Return the version that a program tells, which is the last word of its first line; None where it is not here."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return None
    words = said.partition("\n")[0].split()
    return words[-1] if words else None

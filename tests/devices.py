"""File systems on loop devices, so that a test can let a disk die."""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mounting import require_fuse, shell, wait_until

from vtlfs.model import MIB

KINDS = ["ext4", "xfs"]
GOING_DOWN = (
    0x8004587D  # as in `xfs_io -x -c shutdown`, which itself waits for any file system that hangs on the machine
)


@dataclass
class Device:
    """A file system on a loop device."""

    image: Path
    path: Path
    kind: str
    is_mounted: bool = field(default=False)

    def make(self) -> None:
        """Make an empty file system."""
        with open(self.image, "wb") as file:
            file.truncate(320 * MIB)  # less is too little for xfs
        shell(f"mkfs.{self.kind} -q {self.image}")
        self.path.mkdir()

    def make_anew(self) -> None:
        """Replace the file system by an empty one on another device."""
        self.umount()
        self.image = self.image.with_suffix(".new")
        self.path.rmdir()
        self.make()
        self.mount()

    def mount(self) -> None:
        """Mount the file system."""
        shell(f"mount -o loop{',nouuid' if self.kind == 'xfs' else ''} {self.image} {self.path}")
        self.is_mounted = True

    def mount_again(self) -> None:
        """Mount a copy of the file system: another mount namespace may keep the original, which was shut down."""
        self.umount()
        left = self.image.with_suffix(".left")
        shell(f"cp --sparse=always {self.image} {left}")
        self.image = left
        self.mount()

    def cut_power(self, *, flush: bool) -> None:
        """Shut the file system down, so that nothing more reaches it. `flush`: write its journal out before."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, GOING_DOWN, struct.pack("I", 1 if flush else 2))
        finally:
            os.close(descriptor)

    def umount(self) -> None:
        """Unmount the file system as soon as the last process that uses it has ended."""
        if self.is_mounted:
            wait_until(lambda: subprocess.run(["umount", self.path], check=False).returncode == 0, "an unused device")
            self.is_mounted = False


@contextmanager
def devices_of(kind: str, root: Path, names: Sequence[str]) -> Iterator[list[Device]]:
    """Mount a file system in the directory of each name; skip the test if this machine has no loop devices."""
    require_fuse()
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is not installed")
    made = [Device(root / f"{name}.image", root / name, kind) for name in names]
    with ExitStack() as stack:
        for device in made:
            device.make()
            try:
                device.mount()
            except AssertionError:
                if os.environ.get("CI"):
                    raise
                pytest.skip(f"no loop device with an {kind} can be had here")
            stack.callback(device.umount)
        yield made

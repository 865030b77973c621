"""File systems of their own on loop devices, for disks that die."""

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
GOING_DOWN = 0x8004587D  # as in `xfs_io -x -c shutdown`, which waits for whatever file system hangs on the machine


@dataclass
class Device:
    """A file system on a loop device."""

    image: Path
    path: Path
    kind: str
    is_mounted: bool = field(default=False)

    def make(self) -> None:
        """Make an empty one."""
        with open(self.image, "wb") as file:
            file.truncate(320 * MIB)  # less is too little for xfs
        shell(f"mkfs.{self.kind} -q {self.image}")
        self.path.mkdir()

    def make_anew(self) -> None:
        """Put an empty one in its place, on another device."""
        self.umount()
        self.image = self.image.with_suffix(".new")
        self.path.rmdir()
        self.make()
        self.mount()

    def mount(self) -> None:
        """Mount it."""
        shell(f"mount -o loop{',nouuid' if self.kind == 'xfs' else ''} {self.image} {self.path}")
        self.is_mounted = True

    def mount_again(self) -> None:
        """Mount what is left of it: a copy, for somebody's mount namespace may keep the one that was shut down."""
        self.umount()
        left = self.image.with_suffix(".left")
        shell(f"cp --sparse=always {self.image} {left}")
        self.image = left
        self.mount()

    def cut_power(self, *, flush: bool) -> None:
        """Have nothing more reach it; `flush`: but for what its journal holds in memory."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, GOING_DOWN, struct.pack("I", 1 if flush else 2))
        finally:
            os.close(descriptor)

    def umount(self) -> None:
        """Unmount it, when the last process that uses it has ended."""
        if self.is_mounted:
            wait_until(lambda: subprocess.run(["umount", self.path], check=False).returncode == 0, "an unused device")
            self.is_mounted = False


@contextmanager
def devices_of(kind: str, root: Path, names: Sequence[str]) -> Iterator[list[Device]]:
    """Mount a file system for each name, in the directory of that name; skip the test where none can be had."""
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

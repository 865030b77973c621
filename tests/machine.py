"""A mount namespace in which tests can change /sbin and /etc/fstab at will: a machine of its own, as far as mounts go.

Everything lies in a file system on /mnt that exists only in this namespace. It has a Python with vtlfs, and all users
can reach it; the directory in which the tests run may be closed to other users.
"""

import os
import signal
import site
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from mounting import PROJECT, SECONDS, wait_until

from vtlfs.mount_table import Entry, read_table

SET_UP = """
set -e
umount -i -l -a -t fuse.vtlfs  # of other tests: they would live on in this table
mount -t tmpfs -o mode=755 tmpfs /mnt
cd /mnt
mkdir upper work site project
mount -t overlay -o lowerdir={sbin},upperdir=/mnt/upper,workdir=/mnt/work overlay {sbin}
mknod -m 666 fuse c 10 229
mount --bind fuse /dev/fuse
mkdir -p run /run/mount
mount --bind run /run/mount
touch fstab
mount --bind fstab /etc/fstab
mount --bind {site} site
mount --bind {project} project
{python} -m venv --without-pip venv
printf '/mnt/site\\n/mnt/project\\n' > "$(echo venv/lib/python3*/site-packages)/vtlfs.pth"
venv/bin/python -I -m vtlfs install
echo ready
exec sleep infinity
"""


class Machine:
    """Runs shell scripts in its own mount namespace. `root`: the path of its root directory outside the namespace."""

    def __init__(self) -> None:
        base = Path(os.path.realpath(sys.executable))
        script = SET_UP.format(
            sbin=os.path.realpath("/sbin"), site=site.getsitepackages()[0], project=PROJECT, python=base
        )
        self.process = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.installed = list(iter(self.process.stdout.readline, "ready\n"))
        self.root = Path(f"/proc/{self.process.pid}/root")

    def run(self, script: str, *, status: int = 0, uid: int = 0) -> str:
        """Run a shell script, which must end with the status; return its output.

        The environment of the script is empty; the shell has a PATH, but does not export it.
        """
        user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
        words = ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", *user, "sh", "-c", f"cd /mnt; {script}"]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={}, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == status, f"{script}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def vtlfs(self, words: str, **more: int) -> str:
        """Run vtlfs."""
        return self.run(f"/mnt/venv/bin/python -I -m vtlfs {words}", **more)

    def library(self, name: str, disks: Sequence[str] = ("disk0", "disk1"), *, uid: int = 0) -> None:
        """Make a library in /mnt/NAME, which is shell text, with medium T1 and mount point /mnt/NAME/vtl."""
        self.run(f"mkdir {name}; chown {uid} {name}")
        for disk in disks:
            self.run(f"mkdir -p {name}/{disk} {name}/vtl", uid=uid)
        self.vtlfs(f"init {name}/library " + " ".join(f"--disk {name}/{disk}" for disk in disks), uid=uid)
        self.vtlfs(f"media add {name}/library T1", uid=uid)

    def fstab(self, *lines: str) -> None:
        """Write /etc/fstab."""
        (self.root / "mnt/fstab").write_text("".join(f"{line}\n" for line in lines))

    def mounts(self) -> list[Entry]:
        """Return the mounts of vtlfs."""
        table = (self.root / f"proc/{self.process.pid}/mountinfo").read_bytes()
        return [entry for entry in read_table(table) if entry.kind == "fuse.vtlfs"]

    def servers(self) -> list[int]:
        """Return the processes that serve a mount in this namespace."""
        return [pid for pid, words in self._processes() if b"vtlfs" in words]

    def _processes(self) -> Iterator[tuple[int, bytes]]:
        """Yield the processes of this namespace with their command lines, which are empty for ended ones."""
        space = os.stat(f"/proc/{self.process.pid}/ns/mnt").st_ino
        for process in (entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
            with suppress(OSError):
                if (process / "ns/mnt").stat().st_ino == space:
                    yield int(process.name), (process / "cmdline").read_bytes()

    def clean(self) -> None:
        """Unmount everything that is still mounted, and wait until the serving processes have ended."""
        for entry in reversed(self.mounts()):
            self.run(f"umount -i -l '{entry.path}'")
        wait_until(lambda: not self.servers(), "the end of the serving processes")

    def end(self) -> None:
        """End the namespace, and all processes that are left in it."""
        for pid, _ in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()

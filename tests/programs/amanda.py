"""The real Amanda for tests: one client, itself, whose tapes are files of `diskflat:` or whatever a changer gives it.

Amanda runs as its own user, `backup`, and reads its configuration from a directory in /etc/amanda only.
"""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mounting import SECONDS

USER = "backup"  # Debian's user for Amanda
ETC = Path("/etc/amanda")
PROGRAMS = ("amdump", "amlabel", "amcheck", "amfetchdump", "amreport")


def require_amanda() -> None:
    """Skip the test where Amanda is not installed; fail under CI."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if not ETC.is_dir():
        missing.append(str(ETC))
    if missing and os.environ.get("CI"):
        pytest.fail(f"missing: {', '.join(missing)}; `make packages` installs Amanda, and CI refuses to skip")
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}; `make packages` installs Amanda")


class Amanda:
    """Amanda that backs up the directory `source`, in full each time, to one tape a run.

    Use it in `amanda(…)`. `root` and everything above it must be open to the user `backup`.
    """

    def __init__(self, root: Path, changer: str, *, labels: str, more: str) -> None:
        """`changer`: the text of the changer's definition; `labels`: a pattern; `more`: lines for amanda.conf."""
        self.root = root
        self.source = root / "source"
        self.name = f"vtlfs-{os.getpid()}-{root.parent.name}"
        for name in ("", "source", "etc", "info", "log", "index", "hold"):
            (root / name).mkdir(exist_ok=True)
        (root / "etc" / "amanda.conf").write_text(
            f'org "vtlfs"\nmailto ""\ndumpcycle 0\nruntapes 1\ntapecycle 2\nlabelstr "{labels}"\n'
            f'infofile "{root}/info"\nlogdir "{root}/log"\nindexdir "{root}/index"\ntapelist "{root}/tapelist"\n'
            f"tapetype TAPE\ndefine tapetype TAPE {{\n length 1000 mbytes\n filemark 0 kbytes\n}}\n"
            f'tpchanger "changer"\ndefine changer changer {{\n{changer}\n changerfile "{root}/changer"\n}}\n'
            f'define holdingdisk hold {{\n directory "{root}/hold"\n use 100 mbytes\n}}\n'
            'define dumptype all {\n auth "local"\n program "GNUTAR"\n compress none\n index yes\n}\n'
            f"{more}\n"
        )
        (root / "etc" / "disklist").write_text(f"localhost {self.source} all\n")
        user = pwd.getpwnam(USER)
        for folder, _, files in os.walk(root):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                os.chown(path, user.pw_uid, user.pw_gid)

    def run(self, *words: object, status: int | None = 0) -> subprocess.CompletedProcess[bytes]:
        """Run a program of Amanda's as its user; it must end with the status (None: any). Bytes, for dumps are binary.

        It needs no terminal: it gets the end of its input where it asks.
        """
        done = subprocess.run(
            ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", *(str(word) for word in words)],
            env={"HOME": str(self.root), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        assert status in (None, done.returncode), (words, done.returncode, done.stdout[-4000:], done.stderr[-4000:])
        return done

    def label(self, label: str, slot: int, *more: str, status: int = 0) -> str:
        """Label the medium in a slot; return what Amanda says."""
        done = self.run("amlabel", self.name, label, "slot", slot, *more, status=status)
        return (done.stdout + done.stderr).decode()

    def check(self, *more: str, status: int | None = 0) -> str:
        """Return what `amcheck` says of the server and its tapes."""
        done = self.run("amcheck", "-s", *more, self.name, status=status)
        return (done.stdout + done.stderr).decode()

    def dump(self, *, fails: bool = False) -> str:
        """Back `source` up; return Amanda's log of the run, which names the dump by its date."""
        done = self.run("amdump", self.name, status=None)
        assert (done.returncode != 0) == fails, (done.returncode, done.stderr[-4000:])
        texts = [path.read_text() for path in self.root.glob("log/**/log.*.0")]
        return max((text for text in texts if "START planner" in text), key=date_of)

    def fetch(self, date: str, *, status: int = 0) -> bytes:
        """Return the dump of a date, as it is on its tape."""
        return self.run("amfetchdump", "-p", self.name, "localhost", self.source, date, status=status).stdout


def date_of(log: str) -> str:
    """Return the date of the run that a log is of."""
    found = re.search("^START planner date ([0-9]+)$", log, re.MULTILINE)
    assert found is not None, log
    return found[1]


@contextmanager
def amanda(root: Path, changer: str, *, labels: str, more: str = "") -> Iterator[Amanda]:
    """Have Amanda know a configuration for the block. `root`: its directory, which is made; the rest: see `Amanda`."""
    require_amanda()
    one = Amanda(root, changer, labels=labels, more=more)
    link = ETC / one.name
    link.symlink_to(root / "etc")
    try:
        yield one
    finally:
        link.unlink()

"""The Debian package: built, installed in a copy of this machine's root, used as a user would, and removed.

The copy is an overlay in a mount namespace of its own, so this machine stays as it is.
"""

import subprocess
from pathlib import Path

import pytest
from mounting import PROJECT

COPY = """
set -e
umount -i -l -a -t fuse.vtlfs
mount -t tmpfs tmpfs /mnt
cp {package} /mnt/vtlfs.deb
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
mount --rbind /proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
mount -t tmpfs tmpfs /mnt/root/srv
mount -t tmpfs tmpfs /mnt/root/mnt
cp /mnt/vtlfs.deb /mnt/root/srv
exec chroot /mnt/root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 sh -exc '{used}'
"""
USED = """
dpkg --install /srv/vtlfs.deb
vtlfs --version
mkdir /srv/disk1 /srv/disk2 /mnt/vtl
vtlfs init /srv/vtl --disk /srv/disk1 --disk /srv/disk2
vtlfs media add /srv/vtl A00001L9
mount -t vtlfs /srv/vtl /mnt/vtl
tar cf /mnt/vtl/drives/0/A00001L9 /etc/fstab
tar tf /mnt/vtl/media/A00001L9
vtlfs status /srv/vtl
umount /mnt/vtl
man --where vtlfs-media-add mount.vtlfs
test -s /usr/share/bash-completion/completions/vtlfs
systemd-analyze verify --man=no /usr/lib/systemd/system/vtlfs@.service
systemctl --version > /dev/null
dpkg --remove vtlfs
test ! -e /usr/bin/vtlfs
test ! -e /usr/lib/vtlfs/bin
echo removed
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built as `make deb` builds it."""
    target = tmp_path_factory.mktemp("dist")
    subprocess.run([PROJECT / "scripts" / "deb", target], check=True, cwd=PROJECT)
    (built,) = target.iterdir()
    return built


def test_installed_package_mounts_and_writes_and_goes(package: Path) -> None:
    script = COPY.format(package=package, used=USED)
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "\netc/fstab\n" in done.stdout
    assert "/usr/share/man/man1/vtlfs-media-add.1.gz\n" in done.stdout
    assert done.stdout.endswith("\nremoved\n")

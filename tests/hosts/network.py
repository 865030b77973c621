"""Several hosts on one machine: network namespaces that are joined by a bridge, and the daemons that run in them.

Nothing outside the namespaces and a temporary directory is changed, so any number of such networks can coexist.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from mounting import SECONDS, wait_until

SERVER = "192.0.2.1"
ADDRESSES = {"alpha": "192.0.2.11", "beta": "192.0.2.12"}
SERVER_V6 = "2001:db8::1"
ADDRESSES_V6 = {"alpha": "2001:db8::11", "beta": "2001:db8::12"}
USER, USER_ID = "operator", 4711  # an ordinary user, whom only these daemons know
SFTP = {"external": "/usr/lib/openssh/sftp-server", "internal": "internal-sftp"}

_numbers = count(1)


def run(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a program that must succeed."""
    options = {"capture_output": True, "text": True, "timeout": SECONDS} | more
    done = subprocess.run([str(word) for word in words], check=False, **options)
    assert done.returncode == 0, f"{words}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done


class Network:
    """A server and the hosts alpha and beta, each with a network stack of its own."""

    def __init__(self) -> None:
        self._prefix = f"vtlfs{os.getpid()}-{next(_numbers)}"

    def inside(self, host: str) -> list[str]:
        """Return the beginning of a command that runs the rest on a host, with the mount table of this process."""
        return ["nsenter", f"--net=/run/netns/{self._prefix}-{host}"]

    def build(self) -> None:
        """Make the namespaces, and join them by a bridge in that of the server."""
        for host in ("server", *ADDRESSES):
            run("ip", "netns", "add", f"{self._prefix}-{host}")
            run(*self.inside(host), "ip", "link", "set", "lo", "up")
        server = f"{self._prefix}-server"
        self._ip("server", "link add bridge type bridge", "link set bridge up", f"addr add {SERVER}/24 dev bridge")
        self._ip("server", f"addr add {SERVER_V6}/64 dev bridge nodad")
        for host, address in ADDRESSES.items():
            self._ip(
                host, f"link add eth0 type veth peer name {host} netns {server}", f"addr add {address}/24 dev eth0"
            )
            self._ip(host, "link set eth0 up", f"addr add {ADDRESSES_V6[host]}/64 dev eth0 nodad")
            self._ip("server", f"link set {host} master bridge up")

    def remove(self) -> None:
        """Remove the network. A namespace disappears with its last process."""
        for host in ("server", *ADDRESSES):
            subprocess.run(["ip", "netns", "del", f"{self._prefix}-{host}"], check=False, capture_output=True)

    def _ip(self, host: str, *commands: str) -> None:
        for command in commands:
            run(*self.inside(host), "ip", *command.split())

    def accepts(self, port: int) -> bool:
        """Tell whether somebody listens on the server's port."""
        connect = f"import socket; socket.create_connection(({SERVER!r}, {port}), 5)"
        words = [*self.inside("alpha"), sys.executable, "-c", connect]
        return subprocess.run(words, check=False, capture_output=True, timeout=SECONDS).returncode == 0


@contextmanager
def network() -> Iterator[Network]:
    """Yield a network that exists for the block."""
    hosts = Network()
    try:
        hosts.build()
        yield hosts
    finally:
        hosts.remove()


@contextmanager
def daemon(words: Sequence[object], log: Path, hosts: Network, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon on the server for the block, once it accepts connections. Its children end with it."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*hosts.inside("server"), *map(str, words)], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or hosts.accepts(port), f"{words[0]} on port {port}")
        assert process.poll() is None, log.read_text()
        yield process
    except BaseException:
        sys.stderr.write(log.read_text())
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.terminate()
        process.wait(SECONDS)


class Ssh:
    """The server's sshd, and how the hosts reach it. Keys and configuration are in `root`."""

    def __init__(self, root: Path, hosts: Network, sftp: str = "external") -> None:
        self.root = root
        self.hosts = hosts
        for key in ("host_key", "user_key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", root / key)
        self.keys = root / "authorized_keys"
        self.authorize()
        (root / "sshd_config").write_text(
            f"""ListenAddress {SERVER}
ListenAddress {SERVER_V6}
HostKey {root}/host_key
AuthorizedKeysFile {self.keys}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp {SFTP[sftp]}
MaxStartups 100
"""
        )
        known = (root / "host_key.pub").read_text()
        (root / "known_hosts").write_text(f"{SERVER},{SERVER_V6} {known}")
        (root / "ssh_config").write_text(
            f"""Host vtl {SERVER}
    HostName {SERVER}
    User root
    IdentityFile {root}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {root}/known_hosts
    StrictHostKeyChecking yes
    BatchMode yes
"""
        )
        self.command = root / "ssh"  # for programs that want one word
        self.command.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {root}/ssh_config "$@"\n')
        self.command.chmod(0o755)

    def authorize(self, options: str = "") -> None:
        """Authorize the hosts' key, with options as in authorized_keys."""
        self.keys.write_text(f"{options} {(self.root / 'user_key.pub').read_text()}".lstrip())
        self.keys.chmod(0o644)

    def serve(self) -> Any:
        """Run sshd for the block, in a mount namespace with one more user; it does not see later mounts."""
        accounts = []
        for name, line in (
            ("passwd", f"{USER}:x:{USER_ID}:{USER_ID}::/:/bin/sh"),
            ("group", f"{USER}:x:{USER_ID}:"),
            ("shadow", f"{USER}:*:1::::::"),
        ):
            file = self.root / name
            lines = Path("/etc", name).read_text().splitlines(keepends=True)
            file.write_text("".join(one for one in lines if not one.startswith(f"{USER}:")) + line + "\n")
            accounts.append(f"mount --bind {shlex.quote(str(file))} /etc/{name}")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        script = " && ".join([*accounts, f"exec /usr/sbin/sshd -D -e -f {self.root}/sshd_config"])
        return daemon(["unshare", "--mount", "sh", "-c", script], self.root / "sshd.log", self.hosts, 22)

    def popen(self, host: str, script: str, **more: Any) -> subprocess.Popen[bytes]:
        """Start a script on a host, in which `ssh` finds the server under the name `vtl`."""
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        environment = os.environ | {"PATH": f"{self.root}:/usr/sbin:/usr/bin:/sbin:/bin"}
        words = [*self.hosts.inside(host), "bash", "-o", "pipefail", "-c", script]
        started: subprocess.Popen[bytes] = subprocess.Popen(words, env=environment, **options | more)
        return started

    def run(self, host: str, script: str, *, status: int = 0) -> bytes:
        """Run a script on a host; it must end with the status. Return what it printed."""
        return finish(self.popen(host, script), script, status=status)

    def at_once(self, script: str) -> None:
        """Run a script on all hosts at the same time; in it, HOST stands for the name of the host."""
        started = [self.popen(host, script.replace("HOST", host)) for host in ADDRESSES]
        for process in started:
            finish(process, script)


def finish(process: subprocess.Popen[bytes], what: str, *, status: int = 0) -> bytes:
    """Wait for the end of a process, which must have the status. Return what it printed; errors too, if there are."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    err = err or b""
    assert process.returncode == status, f"{what}: status {process.returncode}\n{out!r}\n{err.decode()}"
    return out if status == 0 else out + err

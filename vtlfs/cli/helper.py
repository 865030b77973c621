"""The program that mount(8) and umount(8) start for vtlfs, through the scripts in /sbin that `vtlfs install` writes.

    mount.vtlfs SOURCE DIRECTORY [-fnrsvw] [-o OPTIONS] [-t TYPE]
    umount.fuse.vtlfs DIRECTORY [-flnrv] [-t TYPE]

mount(8) and umount(8) describe the arguments under "EXTERNAL HELPERS", and mount(8) the exit statuses under "EXIT
STATUS". The environment may be empty.
"""

import sys
from collections.abc import Callable, Sequence
from getopt import GetoptError, gnu_getopt

import click

from vtlfs import process
from vtlfs.cli import params
from vtlfs.cli.main import prepare_streams
from vtlfs.cli.show import printable
from vtlfs.errors import UsageError, VtlfsError, with_advice

WRONG_WORDS, SYSTEM_ERROR, OWN_ERROR, INTERRUPTED, MOUNT_FAILURE = 1, 2, 4, 8, 32

Flags = dict[str, str]


def main(words: Sequence[str]) -> int:
    """Run `mount` or `umount`, as the first word says, with the other words as arguments; return the exit status."""
    prepare_streams()
    kind, *rest = words
    name, act = {"mount": ("mount.vtlfs", mount), "umount": ("umount.fuse.vtlfs", umount)}[kind]
    status, message = _status_of(act, rest)
    if message:
        click.echo(f"{name}: {printable(message)}", err=True)
    return status


def _status_of(act: Callable[[Sequence[str]], None], words: Sequence[str]) -> tuple[int, str]:
    """Run the action; return its exit status and an error message, which is empty after a success."""
    try:
        act(words)
    except (UsageError, GetoptError) as error:
        return WRONG_WORDS, str(error)
    except click.ClickException as error:
        return WRONG_WORDS, error.format_message()
    except VtlfsError as error:
        return MOUNT_FAILURE, with_advice(error)
    except OSError as error:
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return SYSTEM_ERROR, f"{where}{error.strerror or error}"
    except KeyboardInterrupt:
        return INTERRUPTED, "interrupted"
    except Exception as error:
        return OWN_ERROR, f"unexpected {type(error).__name__}: {error}"
    return 0, ""


def mount(words: Sequence[str]) -> None:
    """Mount a library for mount(8); with -f, only check whether it can be mounted."""
    from vtlfs import daemon, mounts
    from vtlfs.fs.options import parse, without_unknown

    (source, directory), flags = _read(words, "fnrsvwo:t:N:", "SOURCE DIRECTORY")
    library, mountpoint = params.directory(source), params.directory(directory)
    options = params.text(_options(flags))
    if "-s" in flags:
        options = without_unknown(options)
    if "-f" in flags:
        mounts.prepare(library, mountpoint, parse(options))
    else:
        daemon.mount(library, mountpoint, options, foreground=False)
        mounts.tell_system(mountpoint, options)
    if "-v" in flags:
        click.echo(f"mount.vtlfs: {printable(library)} {'can be' if '-f' in flags else 'is'} mounted on {directory}")


def umount(words: Sequence[str]) -> None:
    """Unmount a library for umount(8)."""
    from vtlfs import mounts

    (directory,), flags = _read(words, "flnrvt:N:", "DIRECTORY")
    mounts.unmount(params.directory(directory), lazy="-l" in flags, force="-f" in flags)


def _read(words: Sequence[str], accepted: str, wanted: str) -> tuple[list[str], Flags]:
    """Return the arguments, as many as `wanted` names, and the options with their values. Raises UsageError."""
    found, rest = gnu_getopt(list(words), accepted)
    flags: Flags = {}
    for flag, value in found:
        flags[flag] = f"{flags[flag]},{value}" if flag == "-o" and flag in flags else value
    if len(rest) != len(wanted.split()):
        raise UsageError(
            f"the arguments must be {wanted}; mount(8) and umount(8) call this program, see `vtlfs fstab --help`"
        )
    if "-N" in flags:
        raise UsageError("-N is not supported; run mount(8) inside the namespace: nsenter --mount=FILE mount …")
    return rest, flags


def _options(flags: Flags) -> str:
    words = [flags.get("-o", ""), *(name for flag, name in (("-r", "ro"), ("-w", "rw")) if flag in flags)]
    return ",".join(filter(None, words))


if __name__ == "__main__":
    if sys.argv[1:2] == ["mount"]:
        process.use_system_allocator()
    sys.exit(main(sys.argv[1:]))

"""What mount(8) and umount(8) start for vtlfs, through the scripts in /sbin that `vtlfs install` writes.

    mount.vtlfs SOURCE DIRECTORY [-fnrsvw] [-o OPTIONS] [-t TYPE]
    umount.fuse.vtlfs DIRECTORY [-flnrv] [-t TYPE]

How they are called is said in mount(8) and umount(8), "EXTERNAL HELPERS"; the exit statuses are in mount(8), "EXIT
STATUS". There may be nothing in the environment.
"""

import sys
from collections.abc import Callable, Sequence
from getopt import GetoptError, gnu_getopt

import click

from vtlfs import process
from vtlfs.cli import params
from vtlfs.cli.main import prepare_streams
from vtlfs.cli.show import printable
from vtlfs.errors import UsageError, VtlfsError

WRONG_WORDS, SYSTEM_ERROR, OWN_ERROR, INTERRUPTED, MOUNT_FAILURE = 1, 2, 4, 8, 32

Flags = dict[str, str]


def main(words: Sequence[str]) -> int:
    """Do what the first word says, `mount` or `umount`, with the others; return the exit status."""
    prepare_streams()
    kind, *rest = words
    name, act = {"mount": ("mount.vtlfs", mount), "umount": ("umount.fuse.vtlfs", umount)}[kind]
    status, message = _status_of(act, rest)
    if message:
        click.echo(f"{name}: {printable(message)}", err=True)
    return status


def _status_of(act: Callable[[Sequence[str]], None], words: Sequence[str]) -> tuple[int, str]:
    """Return how it went: the exit status, and what there is to say."""
    try:
        act(words)
    except (UsageError, GetoptError) as error:
        return WRONG_WORDS, str(error)
    except click.ClickException as error:
        return WRONG_WORDS, error.format_message()
    except VtlfsError as error:
        return MOUNT_FAILURE, str(error)
    except OSError as error:
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return SYSTEM_ERROR, f"{where}{error.strerror or error}"
    except KeyboardInterrupt:
        return INTERRUPTED, "interrupted"
    except Exception as error:
        return OWN_ERROR, f"unexpected {type(error).__name__}: {error}"
    return 0, ""


def mount(words: Sequence[str]) -> None:
    """Mount as mount(8) asks for it; with -f only find out whether that would work."""
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
    """Unmount as umount(8) asks for it."""
    from vtlfs import mounts

    (directory,), flags = _read(words, "flnrvt:N:", "DIRECTORY")
    mounts.unmount(params.directory(directory), lazy="-l" in flags, force="-f" in flags)


def _read(words: Sequence[str], accepted: str, wanted: str) -> tuple[list[str], Flags]:
    """Return the words that are no options, as many as are wanted, and the options with their values."""
    found, rest = gnu_getopt(list(words), accepted)
    flags: Flags = {}
    for flag, value in found:
        flags[flag] = f"{flags[flag]},{value}" if flag == "-o" and flag in flags else value
    if len(rest) != len(wanted.split()):
        raise UsageError(f"wants {wanted}; it is for mount(8) to call, which `vtlfs fstab --help` is about")
    if "-N" in flags:
        raise UsageError("there is no -N; run mount(8) inside the namespace: nsenter --mount=FILE mount …")
    return rest, flags


def _options(flags: Flags) -> str:
    words = [flags.get("-o", ""), *(name for flag, name in (("-r", "ro"), ("-w", "rw")) if flag in flags)]
    return ",".join(filter(None, words))


if __name__ == "__main__":
    if sys.argv[1:2] == ["mount"]:
        process.use_system_allocator()
    sys.exit(main(sys.argv[1:]))

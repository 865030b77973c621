"""The program `vtlfs`: its commands, and its errors, each of which is one line on standard error and an exit status."""

import os
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from traceback import walk_tb

import click

from vtlfs import __version__, logs, process
from vtlfs.cli import completion
from vtlfs.cli.params import example
from vtlfs.cli.show import printable
from vtlfs.errors import VtlfsError, with_advice

TRACEBACK = "VTLFS_TRACEBACK"  # in the environment: an unexpected error is shown with its traceback
EXIT_INTERRUPTED = 128 + signal.SIGINT
PRINTERS = ("click", "rich")  # packages that print what commands have to say
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE


COMMANDS = {
    "init": "library",
    "media": "media",
    "mount": "mount",
    "umount": "mount",
    "load": "media",
    "unload": "media",
    "mtx": "mtx",
    "changer": "changer",
    "status": "status",
    "report": "report",
    "notify": "notify",
    "sessions": "sessions",
    "files": "sessions",
    "events": "events",
    "metrics": "metrics",
    "extract": "extract",
    "index": "index",
    "find": "find",
    "restore": "restore",
    "snapshot": "snapshot",
    "reclaim": "reclaim",
    "tui": "tui",
    "disk": "disk",
    "recover": "mount",
    "verify": "verify",
    "check": "check",
    "rebuild": "rebuild",
    "fstab": "fstab",
    "install": "install",
    "uninstall": "install",
}
"""The module of each command in `vtlfs.cli.commands`. People use the commands in this order."""


SYNONYMS = {
    "help": "--help",
    "version": "--version",
    "unmount": "umount",
    "ls": "media list",
    "list": "media list",
    "df": "status",
    "info": "status",
    "session": "sessions",
    "ps": "sessions --open",
    "file": "files",
    "event": "events",
    "log": "events",
    "scrub": "verify",
    "fsck": "check",
    "add": "media add",
    "erase": "media erase",
    "snap": "snapshot",
    "snapshots": "snapshot list",
    "disks": "disk list",
    "repair": "disk repair",
    "create": "init",
    "export": "media export",
    "import": "media import",
    "copy": "media copy",
    "search": "find",
    "prune": "snapshot prune",
}
"""What people type who know another tool, and the command that does it."""


class Program(click.Group):
    """The group of all commands. A command's module is loaded when the command runs, since loading all takes time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"vtlfs.cli.commands.{COMMANDS[cmd_name]}"), cmd_name)
        if completion.is_asked():
            completion.attach(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names, and the other words. Another tool's word for it is told."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            meant = SYNONYMS.get(args[0]) if args else None
            if meant is not None:
                raise click.UsageError(f"no such command {args[0]!r}; the command is `vtlfs {meant}`", ctx) from None
            if near := get_close_matches(args[0], COMMANDS, n=1) if args and not args[0].startswith("-") else []:
                raise click.UsageError(f"no such command {args[0]!r}; did you mean `{near[0]}`?", ctx) from None
            raise

    def invoke(self, ctx: click.Context) -> None:
        """Run the command. A broken pipe and ctrl+c become exit statuses here; click's `main` has messages for them."""
        try:
            super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            ctx.exit(EXIT_BROKEN_PIPE)
        except KeyboardInterrupt:
            _complain("interrupted")
            ctx.exit(EXIT_INTERRUPTED)


@click.group(
    cls=Program,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example(
        "vtlfs init /srv/vtl --disk /disk1 --disk /disk2",
        "vtlfs media add /srv/vtl A00001L9..A00004L9",
        "vtlfs mount /srv/vtl /mnt/vtl",
        "tar cf /mnt/vtl/drives/0/A00001L9 /home",
    ),
)
@click.version_option(__version__, "--version", message="vtlfs %(version)s")
def program() -> None:
    """A virtual tape library that is a mounted directory: any number of hosts write to the same drive and tape at once.

    LIBRARY is a directory that `vtlfs init` makes. Each command tells more with --help.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `arguments`: None for those of the process."""
    if arguments is None and sys.argv[1:2] == ["mount"]:
        process.use_system_allocator()
    prepare_streams()
    logs.to_standard_error("warning")
    try:
        result = program.main(arguments, prog_name="vtlfs", standalone_mode=False)
    except click.ClickException as error:
        _complain(_usage(error))
        return error.exit_code
    except click.Abort:
        return EXIT_INTERRUPTED
    except VtlfsError as error:
        _complain(with_advice(error))
        return error.exit_status
    except OSError as error:
        where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else _where(error)
        _complain(f"{where and f'{where}: '}{error.strerror or error}")
        _discard_output()
        return 1
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        _complain(f"unexpected {type(error).__name__}: {error} (set {TRACEBACK}=1 to see where)")
        return 1
    return result if isinstance(result, int) else 0


def mtx() -> int:
    """Run `vtlfs mtx` as a program of its own, for programs that want the path of mtx."""
    return main(["mtx", *sys.argv[1:]])


def _usage(error: click.ClickException) -> str:
    """Return click's message in the form of vtlfs's messages: one clause, and the command that tells more."""
    message = " ".join(error.format_message().split()).rstrip(".")
    if message[:2].istitle():
        message = message[0].lower() + message[1:]
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} (see `{context.command_path} --help`)" if context else message


def _where(error: OSError) -> str:
    """Return the name of standard output if the error came from printing; Python's errors of streams have no name."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    module = frame.f_globals.get("__name__", "")
    return "standard output" if module == __name__ or module.partition(".")[0] in PRINTERS else ""


def _complain(message: str) -> None:
    click.echo(f"vtlfs: {printable(message)}", err=True)


def prepare_streams() -> None:
    """Make the standard streams print any text in any locale, and open /dev/null for those that are closed.

    Otherwise the next file that the program opens would take the number of the closed stream.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _discard_output() -> None:
    """Discard buffered output, so that Python's flush at the exit does not report the same error again."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

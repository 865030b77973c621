"""What a shell completes, beside the names of commands and options: libraries, barcodes, snapshots, mount options.

A shell's script, which `vtlfs install` writes, runs `vtlfs` with VARIABLE in its environment, and click looks for what
fits the words so far. `attach` gives the parameters of a command what completes them, by the words that their usage
shows. Completing never fails and never prints: what can't be read completes nothing.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class, split_arg_string

from vtlfs.errors import VtlfsError

if TYPE_CHECKING:
    from vtlfs.engine.tracking.database import Tracking

    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # which older versions of click have without a type argument

VARIABLE = "_VTLFS_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
SHOWN = 500  # barcodes, or snapshots: the rest is completed when more letters are typed


def script(shell: str, program: click.Command) -> str:
    """Return the script that makes a shell complete the words of `vtlfs`."""
    found = get_completion_class(shell)
    assert found is not None
    maker = found(program, {}, "vtlfs", VARIABLE)
    return maker.source_template % maker.source_vars()  # source() would first ask the shell for its version


def attach(command: click.Command) -> None:
    """Have the parameters of a command, and of the commands in it, complete what they are about."""
    for parameter in command.params:
        shown = parameter.metavar or ""
        found = next((complete for words, complete in COMPLETIONS.items() if words in shown), None)
        if found is not None:
            parameter.type = _Completing(parameter.type, found)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            attach(inner)


class _Completing(ParamType):
    """A parameter's type that knows what its words may be."""

    def __init__(self, of: ParamType, complete: "Complete") -> None:
        self.name = of.name
        self._of = of
        self._complete = complete

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._of.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        with suppress(VtlfsError, OSError, ValueError):
            return [
                one if isinstance(one, CompletionItem) else CompletionItem(one)
                for one in self._complete(ctx, incomplete)
            ]
        return []


Complete = Callable[[click.Context, str], Iterable[str | CompletionItem]]


def _libraries(ctx: click.Context, incomplete: str) -> Iterable[str | CompletionItem]:
    """Yield directories, libraries, and what may stand in the place of a library that is left out.

    The directories come first: bash forgets what came before them.
    """
    from vtlfs.cli import default_library

    yield CompletionItem(incomplete, type="dir")
    yield from (path for path in default_library.known() if path.startswith(incomplete))
    arguments = [one for one in ctx.command.params if isinstance(one, click.Argument)]
    if len(arguments) > 1 and isinstance(behind := arguments[1].type, _Completing):
        yield from behind.shell_complete(ctx, arguments[1], incomplete)


def _barcodes(_: click.Context, incomplete: str) -> Iterable[str]:
    """Yield the barcodes of the library that the words so far name, or of the default one."""
    with closing(_tracking()) as tracking:
        yield from [barcode for barcode in tracking.media.barcodes() if barcode.startswith(incomplete)][:SHOWN]


def _snapshots(_: click.Context, incomplete: str) -> Iterable[str]:
    """Yield names and then numbers of snapshots, the newest first."""
    from vtlfs.snap import store

    with closing(_tracking()) as tracking:
        taken = list(reversed(store.snapshots(tracking)))
        found = ["latest", *(one.name for one in taken if one.name), *(str(one.id) for one in taken)]
        yield from [word for word in found if word.startswith(incomplete)][:SHOWN]


def _mount_options(_: click.Context, incomplete: str) -> Iterable[str]:
    """Yield the list so far with each mount option that its last word may become."""
    from vtlfs.fs import options

    before, comma, last = incomplete.rpartition(",")
    yield from (f"{before}{comma}{word}" for word in options.names() if word.startswith(last))


def _tracking() -> "Tracking":
    """Open the tracking database of the library that one of the words so far names, or of the default one.

    The words are those of the shell: click has no arguments of a command whose last option still lacks its value.
    """
    from vtlfs.cli import default_library
    from vtlfs.engine.library import Library

    words = split_arg_string(os.environ.get("COMP_WORDS", ""))
    named = next((word for word in words if default_library.names_library(word)), None)
    path = default_library.default() if named is None else default_library.library_of(Path(named))
    return Library.open(path).tracking(read_only=True)


COMPLETIONS: dict[str, Complete] = {
    "LIBRARY": _libraries,
    "BARCODE": _barcodes,
    "ID|NAME": _snapshots,
    "OPTIONS": _mount_options,
}
"""What completes a parameter whose usage has this word."""


def is_asked() -> bool:
    """Tell whether a shell asks for completions."""
    return VARIABLE in os.environ

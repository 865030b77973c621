"""The argument LIBRARY, which may be left out: then the command works on the default library.

Other words may follow LIBRARY. The first word of a command is LIBRARY if it

1. is there as one of a fixed number of words, all of which are given: `vtlfs files LIBRARY BARCODE`; or
2. has a slash, or is `.` or `..`, since no barcode is like that; but not where paths or patterns follow; or
3. is the path of a library, or of something in a mount of one; where a fixed number of paths follows: of a library.

Otherwise it belongs to the arguments that follow, and the library is the default one. If there is no default library
and the words are enough, the first is LIBRARY, so that an error names it.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, cast

import click

from vtlfs.cli import default_library
from vtlfs.cli.default_library import NoDefaultLibrary

NAME = "library"


class LibraryArgument(click.Argument):
    """The first argument of a command. `paths`: the words behind it may be paths or patterns."""

    def __init__(self, *names: Any, paths: bool = False, **more: Any) -> None:
        super().__init__(*names, **{"required": False, **more})
        self.paths = paths

    @property
    def human_readable_name(self) -> str:
        """The name in error messages, without the brackets of the usage."""
        return (self.metavar or NAME.upper()).strip("[]")

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Decide what the first word is, before any argument is read: this one is the first of them."""
        if not ctx.resilient_parsing:
            arguments = [one for one in ctx.command.get_params(ctx) if isinstance(one, click.Argument)]
            self._put_default(arguments, cast(MutableMapping[str, Any], opts), has_more=bool(args))
        return super().handle_parse_result(ctx, opts, args)

    def _put_default(self, arguments: Sequence[click.Argument], opts: MutableMapping[str, Any], has_more: bool) -> None:
        words = _words(arguments, opts)
        is_fixed = all(one is self or (one.required and one.nargs == 1) for one in arguments)
        if words and (self._is_library(words[0], is_fixed) or (is_fixed and len(words) == len(arguments)) or has_more):
            return
        try:
            library = str(default_library.default())
        except NoDefaultLibrary:
            if words and all(_words([one], opts) for one in arguments if one.required):
                return
            raise
        for one, value in zip(arguments, _dealt(arguments, [library, *words]), strict=True):
            opts.pop(one.name or "", None)
            if value:
                opts[one.name or ""] = value

    def _is_library(self, word: str, is_fixed: bool) -> bool:
        if not self.paths and ("/" in word or word in {"", ".", ".."}):
            return True
        return default_library.names_library(word, mounted=not (self.paths and is_fixed))


def _words(arguments: Sequence[click.Argument], opts: Mapping[str, Any]) -> list[str]:
    """Return the words that click has dealt to these arguments. It has values of its own for those that got none."""
    values = [opts.get(one.name or "") for one in arguments]
    return [word for value in values for word in (value if isinstance(value, tuple) else (value,)) if type(word) is str]


def _dealt(arguments: Sequence[click.Argument], words: Sequence[str]) -> list[str | tuple[str, ...]]:
    """Deal words to arguments as click does: those before and behind a variadic one first, and the rest to it."""
    places = [place for place, one in enumerate(arguments) if one.nargs == -1]
    if not places:
        return list([*words, *[""] * len(arguments)][: len(arguments)])
    before, behind = places[0], len(arguments) - places[0] - 1
    end = max(before, len(words) - behind)
    last = [*words[end:], *[""] * behind][:behind]
    return [*[*words, *[""] * before][:before], tuple(words[before:end]), *last]

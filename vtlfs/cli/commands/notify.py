"""`vtlfs notify`: tells people what goes wrong, as `[notify]` in library.toml says; or tries that out."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vtlfs.cli import params, show
from vtlfs.errors import UsageError, VtlfsError
from vtlfs.model import utc_now

if TYPE_CHECKING:
    from vtlfs.care.notifying import Notifier
    from vtlfs.care_rules import NotifyRule
    from vtlfs.engine.library import Library
    from vtlfs.engine.tracking.database import Tracking


class NotAllTold(VtlfsError):
    """A message could not be told by each way."""


@click.command(
    epilog=params.example(
        "vtlfs notify /srv/vtl --test",
        "vtlfs notify /srv/vtl --dry-run --json",
        "vtlfs notify /srv/vtl",
    )
)
@params.library_argument
@click.option("--test", "is_test", is_flag=True, help="Tell a test message by each way, now.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the messages that are due; tell nobody.")
@params.json_option
def notify(library: Path, is_test: bool, dry_run: bool, as_json: bool) -> None:
    """Tell people what goes wrong, by the command or URL in the section [notify] of library.toml.

    A mount does this by itself. Without an option, this command tells what is due and was not told yet: for a library
    that is not mounted. Nothing is told twice, but after a crash in between. --test tries out the command and the URL.

    Exit status: 0 if all was told; 1 if something could not be told, and is tried again later.
    """
    from vtlfs.engine.library import Library

    if is_test and dry_run:
        raise UsageError("--test tells, and --dry-run does not; choose one")
    opened = Library.open(library)
    rule = opened.config.notify
    if rule is None:
        opened.tracking(read_only=True).close()  # what is wrong with the library comes first
        raise UsageError(f"{opened.path / 'library.toml'}: no section [notify]; docs/care.md has examples")
    if is_test:
        _test(opened, rule, as_json)
    elif dry_run:
        _show_due(opened, rule, as_json)
    else:
        _tell(opened, rule, as_json)


def _test(library: "Library", rule: "NotifyRule", as_json: bool) -> None:
    """Tell a test message by each way. Raises NotAllTold."""
    import socket

    import trio

    from vtlfs.care import ways
    from vtlfs.care.message import test_message

    told = test_message(str(library.path), library.config.uuid, socket.gethostname(), utc_now())
    found: dict[str, str | None] = {}
    for way in ways.of(rule):
        try:
            trio.run(ways.tell, way, rule, library.path, told)
            found[way] = None
        except ways.NotTold as error:
            found[way] = str(error)
    if as_json:
        show.as_json([{"way": way, "told": why is None, "error": why} for way, why in found.items()])
    else:
        for way, why in found.items():
            show.line(f"{way}: told" if why is None else f"{way}: not told: {why}")
    _check({way: why for way, why in found.items() if why is not None})


def _check(failed: dict[str, str]) -> None:
    if failed:
        raise NotAllTold(f"not told by {' and '.join(failed)}: {'; '.join(failed.values())}")


def _show_due(library: "Library", rule: "NotifyRule", as_json: bool) -> None:
    """Print the messages that are due."""
    import trio

    from vtlfs.care import ways

    with closing(library.tracking(read_only=True)) as tracking:
        notifier = _notifier(library, rule, tracking)
        found = [(way, told) for way in ways.of(rule) for _, told in trio.run(notifier.messages, way)]
    if as_json:
        show.as_json([told.as_json() | {"way": way} for way, told in found])
        return
    for way, told in found:
        show.line(f"{way}: {told.severity}: {told.what}")
    if not found:
        show.line("nothing is due")


def _tell(library: "Library", rule: "NotifyRule", as_json: bool) -> None:
    """Tell what is due, unless a mount does. Raises NotAllTold."""
    import trio

    from vtlfs.care.notifying import LEASE
    from vtlfs.engine import lease

    with lease.work(library.path, LEASE) as mine, closing(library.tracking()) as tracking:
        notifier = _notifier(library, rule, tracking)
        if mine:
            trio.run(_begin_and_tell, notifier)
    if as_json:
        show.as_json({"told": notifier.told, "failed": notifier.failed, "by_a_mount": not mine})
    elif not mine:
        show.line("a mount of this library tells what goes wrong")
    else:
        show.line(f"{show.count(notifier.told, 'message')} told")
    if notifier.failed:
        raise NotAllTold(f"{show.count(notifier.failed, 'message')} not told; tried again later, or with --test")


async def _begin_and_tell(notifier: "Notifier") -> None:
    await notifier.begin()
    await notifier.tell()


def _notifier(library: "Library", rule: "NotifyRule", tracking: "Tracking") -> "Notifier":
    from vtlfs.care.notifying import Notifier

    async def read(do: "Callable[[Tracking], Any]") -> Any:
        return do(tracking)

    async def change(do: "Callable[[Tracking], Any]") -> Any:
        with tracking.transaction():
            return do(tracking)

    return Notifier(library, rule, read, change, utc_now)

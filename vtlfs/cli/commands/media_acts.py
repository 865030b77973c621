"""`vtlfs media erase`, `retire`, `remove`, `protect`, `hold`, `release` and `set`: what changes media, all or none."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from vtlfs.cli import params, show
from vtlfs.errors import Refused, Retained, UsageError, VtlfsError
from vtlfs.model import Actor, RetainMode, choose_barcodes, format_size, utc_now

if TYPE_CHECKING:
    from vtlfs.engine.media.lifecycle import Change, Order
    from vtlfs.engine.tracking.database import Tracking

    Act = Callable[[Tracking, Sequence[str], Order], list[Change]]

SHOWN_BARCODES = 8  # in a question
NO_LIMIT = "none"  # as a capacity

C = TypeVar("C", bound=Callable[..., object])


@dataclass(frozen=True)
class How:
    """The options that all acts have. `asks`: the verb of the question that a person is asked first; None: none is."""

    reason: str | None
    dry_run: bool
    as_json: bool
    asks: str | None = None


class _Undo(Exception):
    """Ends a transaction whose changes are not wanted."""


def _options(command: C) -> C:
    """Give a command the arguments and options that all acts have."""
    what = "Only say what would be done to each medium, or why not."
    command = click.option("-n", "--dry-run", is_flag=True, help=what)(params.json_option(command))
    return params.library_argument(params.media_argument(params.reason_option(command)))


def _yes_option(command: C) -> C:
    return click.option("-y", "--yes", is_flag=True, help="Don't ask first: for scripts.")(command)


# --- the commands -----------------------------------------------------------------------------------------------------


@click.command(
    short_help="Begin an empty volume on media.",
    epilog=params.example("vtlfs media erase /srv/vtl A00001L9 'NIGHT*' --dry-run", "vtlfs media erase /srv/vtl A1 -y"),
)
@_options
@_yes_option
@click.option("--override", is_flag=True, help="Erase in spite of governance retention. For root, with --reason.")
def erase(
    library: Path, words: tuple[str, ...], reason: str | None, dry_run: bool, as_json: bool, yes: bool, override: bool
) -> None:
    """Erase media: the current volume of each ends, and an empty one begins.

    Snapshots still show the old volume, and who has it open reads it to its end. If one medium can't be erased, none
    is: while a session writes to it, while it is write-protected, before its retention ends, or under a legal hold.
    """
    from vtlfs.engine.media import lifecycle

    def act(tracking: "Tracking", barcodes: Sequence[str], order: "Order") -> "list[Change]":
        return lifecycle.erase(tracking, barcodes, order, override=override)

    _run(library, words, act, How(reason, dry_run, as_json, None if yes else "Erase"))


@click.command(
    short_help="Take media out of use, or into use again.", epilog=params.example("vtlfs media retire /srv/vtl A1..A9")
)
@_options
@click.option("--off", is_flag=True, help="Take the media into use again.")
def retire(library: Path, words: tuple[str, ...], reason: str | None, dry_run: bool, as_json: bool, off: bool) -> None:
    """Take media out of use: from then on they are only read. Refused while a session writes to one of them."""
    from vtlfs.engine.media import lifecycle

    def act(tracking: "Tracking", barcodes: Sequence[str], order: "Order") -> "list[Change]":
        return lifecycle.retire(tracking, barcodes, order, off=off)

    _run(library, words, act, How(reason, dry_run, as_json))


@click.command(short_help="Have empty media disappear.", epilog=params.example("vtlfs media remove /srv/vtl A00001L9"))
@_options
@_yes_option
def remove(library: Path, words: tuple[str, ...], reason: str | None, dry_run: bool, as_json: bool, yes: bool) -> None:
    """Remove media that are empty, or erased, from the mounted tree and from all lists.

    Snapshots still show them as they were, and `vtlfs media add` can add their barcodes anew. If one medium can't be
    removed, none is: while it has tape files, is loaded in a drive, write-protected, retained, or under a legal hold.
    """
    from vtlfs.engine.media import lifecycle

    _run(library, words, lifecycle.remove, How(reason, dry_run, as_json, None if yes else "Remove"))


@click.command(
    short_help="Set the write-protect tab of media.", epilog=params.example("vtlfs media protect /srv/vtl 'YEAR*'")
)
@_options
@click.option("--off", is_flag=True, help="Take the write protection away.")
def protect(library: Path, words: tuple[str, ...], reason: str | None, dry_run: bool, as_json: bool, off: bool) -> None:
    """Write-protect media: to write to one fails with EROFS, and it can't be erased, until `--off`.

    Refused while a session writes to one of them.
    """
    from vtlfs.engine.media import lifecycle

    def act(tracking: "Tracking", barcodes: Sequence[str], order: "Order") -> "list[Change]":
        return lifecycle.protect(tracking, barcodes, order, off=off)

    _run(library, words, act, How(reason, dry_run, as_json))


@click.command(
    short_help="Place a legal hold on media.",
    epilog=params.example("vtlfs media hold /srv/vtl 'NIGHT*' --name case-17 --reason 'letter of 2026-11-02'"),
)
@_options
@click.option("--name", metavar="NAME", required=True, type=params.text, help="Names the hold, to release it.")
def hold(library: Path, words: tuple[str, ...], reason: str | None, dry_run: bool, as_json: bool, name: str) -> None:
    """Place a legal hold on media: no volume on them ends until it is released. Needs --reason; streams go on."""
    from vtlfs.engine.media import lifecycle

    def act(tracking: "Tracking", barcodes: Sequence[str], order: "Order") -> "list[Change]":
        return lifecycle.hold(tracking, barcodes, order, name)

    _run(library, words, act, How(reason, dry_run, as_json))


@click.command(
    short_help="End a legal hold.",
    epilog=params.example("vtlfs media release /srv/vtl --name case-17 --reason 'case closed'"),
)
@params.library_argument
@click.argument("words", metavar="[BARCODE...]", nargs=-1, type=params.text)
@click.option("--name", metavar="NAME", required=True, type=params.text, help="The name of the hold.")
@params.reason_option
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done to each medium, or why not.")
@params.json_option
def release(library: Path, words: tuple[str, ...], name: str, reason: str | None, dry_run: bool, as_json: bool) -> None:
    """End the legal hold of this name, on all media that have it, or on some."""
    from vtlfs.engine.media import lifecycle

    def act(tracking: "Tracking", barcodes: Sequence[str], order: "Order") -> "list[Change]":
        return lifecycle.release(tracking, barcodes, order, name)

    def held(tracking: "Tracking") -> list[str]:
        found = [one.medium for one in tracking.volumes.holds() if one.name == name]
        if not found:
            raise UsageError(f"no medium has a hold {name!r}; `vtlfs media list` shows which are held")
        return found

    _run(library, words, act, How(reason, dry_run, as_json), otherwise=held)


def _capacity(word: str) -> int | str:
    return word if word == NO_LIMIT else params.capacity(word)


@click.command(
    "set",
    short_help="Set the capacity or the retention of media.",
    epilog=params.example(
        "vtlfs media set /srv/vtl A1..A9 --capacity 12TB", "vtlfs media set /srv/vtl YEAR26 --until 2037-01-01"
    ),
)
@_options
@_yes_option
@click.option("--capacity", metavar="SIZE|none", type=_capacity, help="The capacity of each medium; or no limit.")
@click.option("--retain", metavar="TIME", type=params.duration, help="Retain the current volume so long from now.")
@click.option("--until", metavar="DATE", type=params.time, help="Retain the current volume until then, in UTC.")
@click.option(
    "--mode",
    type=click.Choice([str(mode) for mode in RetainMode]),
    help="governance: root may override; compliance: nobody may; worm: for ever.",
)
def set_media(
    library: Path,
    words: tuple[str, ...],
    reason: str | None,
    dry_run: bool,
    as_json: bool,
    yes: bool,
    capacity: int | str | None,
    retain: int | None,
    until: str | None,
    mode: str | None,
) -> None:
    """Set the capacity of media, or retain their current volumes for longer or more strictly.

    Retention is never shortened, nor made less strict. Retention in the modes compliance and worm can't be undone by
    anybody.
    """
    from vtlfs.engine.media import lifecycle

    retention = lifecycle.LongerRetention(None if mode is None else RetainMode(mode), retain, until)
    retains = retention != lifecycle.LongerRetention()
    if capacity is None and not retains:
        raise UsageError("nothing to set; give --capacity, --retain, --until or --mode")
    if retain is not None and until is not None:
        raise UsageError("--retain and --until exclude each other")
    if retention.mode is RetainMode.WORM and (retain or until):
        raise UsageError("--mode worm retains for ever: --retain and --until don't go with it")

    def act(tracking: "Tracking", barcodes: Sequence[str], order: "Order") -> "list[Change]":
        changes = []
        if capacity is not None:
            limit = None if isinstance(capacity, str) else capacity
            changes += lifecycle.set_capacity(tracking, barcodes, order, limit)
        if retains:
            changes += lifecycle.set_retention(tracking, barcodes, order, retention)
        return changes

    is_final = mode in (RetainMode.COMPLIANCE, RetainMode.WORM)
    asks = f"Retain in mode {mode}, which nobody can undo," if is_final and not yes else None
    _run(library, words, act, How(reason, dry_run, as_json, asks))


@click.command(short_help="Give a medium another slot.", epilog=params.example("vtlfs media move /srv/vtl A00001L9 21"))
@params.library_argument
@click.argument("barcode", metavar="BARCODE", type=params.barcode)
@click.argument("slot", metavar="SLOT", type=params.number)
@params.reason_option
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done, or why not.")
@params.json_option
def move(library: Path, barcode: str, slot: int, reason: str | None, dry_run: bool, as_json: bool) -> None:
    """Give a medium another slot of the changer, which no other medium has. It need not be one that there is already.

    A medium gets the lowest empty slot when it is added, and keeps it until it is moved or removed.
    """
    from vtlfs.engine.media import changer

    def act(tracking: "Tracking", barcodes: Sequence[str], order: "Order") -> "list[Change]":
        return [changer.move(tracking, one, slot, order) for one in barcodes]

    _run(library, [barcode], act, How(reason, dry_run, as_json))


# --- how an act is done -----------------------------------------------------------------------------------------------


@contextmanager
def _recording_refusals(tracking: "Tracking", who: Actor) -> Iterator[None]:
    """Record what retention keeps somebody from doing in the block."""
    from vtlfs.engine import refusals

    try:
        yield
    except (Retained, Refused) as error:
        with suppress(VtlfsError), tracking.transaction():  # the refusal is what counts, and it is raised
            refusals.record(tracking, error, who, utc_now())
        raise


def _run(
    library: Path,
    words: Sequence[str],
    act: "Act",
    how: How,
    *,
    otherwise: "Callable[[Tracking], list[str]] | None" = None,
) -> None:
    """Do an act to the media that words name, all or none. `otherwise`: returns the media where there are no words."""
    from vtlfs.engine import reserve
    from vtlfs.engine.library import Library
    from vtlfs.engine.media import cartridges
    from vtlfs.engine.media.lifecycle import Order
    from vtlfs.engine.tracking.repositories.events import this_command
    from vtlfs.snap import store

    if how.asks is not None and not how.dry_run:
        _check_terminal()
    opened = Library.open(library)
    with closing(opened.tracking()) as tracking:
        if otherwise is not None and not words:
            barcodes = otherwise(tracking)
        else:
            barcodes = choose_barcodes(words, [medium.barcode for medium in tracking.media.all()])
        store.wait_visible(tracking)
        who = this_command()
        if how.dry_run:
            print_dry_run(tracking, barcodes, act, Order(who, utc_now(), how.reason), how.as_json)
            return
        seen: list[Change] | None = None

        def do(tracking: "Tracking") -> "list[Change]":
            changes = act(tracking, barcodes, Order(who, utc_now(), how.reason))
            _check_unchanged(seen, changes)
            return changes

        with _recording_refusals(tracking, who):
            if how.asks is not None:
                seen = _tried(tracking, barcodes, act, Order(who, utc_now(), how.reason))
                _ask(how.asks, seen)
            changes = reserve.essential(opened.path, tracking, do)
        cartridges.keep(opened, tracking, [change.medium.barcode for change in changes if change.event])
    if how.as_json:
        show.as_json([document(change) for change in changes])
    else:
        for change in changes:
            show.line(f"{change.medium.barcode}: {change.says}")


def _tried(tracking: "Tracking", barcodes: Sequence[str], act: "Act", order: "Order") -> "list[Change]":
    """Do an act, and undo it; return what it would do."""
    changes: list[Change] = []
    with suppress(_Undo), tracking.transaction():
        changes = act(tracking, barcodes, order)
        raise _Undo
    return changes


def print_dry_run(tracking: "Tracking", barcodes: Sequence[str], act: "Act", order: "Order", as_json: bool) -> None:
    """Print what an act would do to each medium, or why it is refused; then the exit status is 1."""
    documents: list[dict[str, object]] = []
    lines: list[str] = []
    refused = 0
    for barcode in barcodes:
        try:
            for change in _tried(tracking, [barcode], act, order):
                documents.append(document(change))
                would = "would be " if change.event else ""
                lines.append(f"{barcode}: {would}{change.says}")
        except VtlfsError as error:
            refused += 1
            documents.append({"barcode": barcode, "event": None, "refused": str(error)})
            lines.append(f"refused: {error}")
    if as_json:
        show.as_json(documents)
    else:
        if refused:
            lines.append(f"nothing would be done, as {refused:,} of {len(barcodes):,} media are refused")
        for line in lines:
            show.line(line)
    if refused:
        click.get_current_context().exit(1)


def document(change: "Change") -> dict[str, object]:
    """Return what was done to a medium as a JSON object."""
    barcode, volume = change.medium.barcode, change.medium.volume
    return {
        "barcode": barcode,
        "volume": volume,
        "event": change.event,
        "says": change.says,
        "details": change.details,
        "refused": None,
    }


def _check_terminal() -> None:
    """Raise UsageError where there is nobody to ask."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        raise UsageError("this asks first, and there is no terminal to ask at; give --yes to have it done")


def _ask(verb: str, changes: "list[Change]") -> None:
    """Ask whether it is to be done. Raises VtlfsError if not."""
    media = [change.medium for change in changes if change.event is not None]
    if not media:
        return
    files, size = sum(medium.tape_files for medium in media), sum(medium.bytes for medium in media)
    named = ", ".join(dict.fromkeys(medium.barcode for medium in media[:SHOWN_BARCODES]))
    more = len(media) - SHOWN_BARCODES
    which = f"{named}{f' and {more:,} more' if more > 0 else ''}"
    count = "1 medium" if len(media) == 1 else f"{len(media):,} media"
    what = f"{count} with {show.count(files, 'tape file')}, {format_size(size)}: {which}"
    if not click.confirm(f"{verb} {what}?", err=True):
        raise VtlfsError("nothing was changed")


def _check_unchanged(seen: "list[Change] | None", changes: "list[Change]") -> None:
    """Raise VtlfsError where a medium is not as it was when the question was asked."""
    for before, now in zip(seen or [], changes, strict=False):
        old, new = before.medium, now.medium
        if (old.barcode, old.volume, old.tape_files) != (new.barcode, new.volume, new.tape_files):
            raise VtlfsError(f"medium {new.barcode} has changed since the question; nothing was done, run it again")

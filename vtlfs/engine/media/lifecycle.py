"""What people do to media: erase, retire, remove, protect, hold and release them, and set what holds for them.

Each act is done to all the media that are named, or to none, and each change is an event. The functions are called by
commands, inside a transaction of theirs, so that the transaction decides between an act and an open(). After Refused,
or any other error, the caller must not commit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import NotRemovable, OverrideRefused, Refused, TrackingError, UsageError, VtlfsError
from vtlfs.model import LAST_TIME, Actor, Hold, Medium, MediumState, RetainMode, format_size, later

MAX_NAME = 64  # characters of a hold's name


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants an act done, when, and why. `at` is what the clock says."""

    actor: Actor
    at: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What an act has done to a medium. `event`: the event that records it; None: there was nothing to do.

    `says`: in words, what was done or why there was nothing to do. `medium`: as it was before.
    """

    medium: Medium
    event: str | None
    says: str
    details: dict[str, Any] = field(default_factory=dict)


Act = Callable[[Medium], Change]


def add(tracking: Tracking, barcodes: Sequence[str], capacity: int | None, order: Order) -> list[Change]:
    """Add empty media, also ones that were removed. Raises UsageError if one exists already."""
    tracking.media.add(barcodes, capacity, order.at)
    limit = "no capacity limit" if capacity is None else f"capacity {format_size(capacity)}"
    done = []
    for barcode in barcodes:
        done.append(Change(tracking.media.get(barcode), "added", f"added, {limit}", {"capacity": capacity}))
        record(tracking, order, done[-1])
    return done


def erase(tracking: Tracking, barcodes: Sequence[str], order: Order, *, override: bool = False) -> list[Change]:
    """End the current volume of media, and begin an empty one on each.

    `override`: retention in governance mode does not count. Raises OverrideRefused, NoSuchMedium, MediumBusy, Retained.
    """
    if override:
        _check_override(order)

    def act(medium: Medium) -> Change:
        retention = tracking.volumes.in_force(medium, order.at)
        tracking.volumes.check_may_end(medium, order.at, override=override)
        if not medium.tape_files and tracking.volumes.get(medium.barcode, medium.volume).retain_mode is None:
            return Change(medium, None, "is empty already")
        tracking.volumes.end_current(medium.barcode, order.at, override=override)
        details: dict[str, Any] = {"tape_files": medium.tape_files, "bytes": medium.bytes}
        if retention is not None:
            details["overridden"] = str(retention)
        return Change(medium, "erased", f"erased: {_contents(medium)}", details)

    return _each(tracking, barcodes, order, act)


def retire(tracking: Tracking, barcodes: Sequence[str], order: Order, *, off: bool = False) -> list[Change]:
    """Take media out of use: they are only read from then on. `off`: take them into use again.

    Raises NoSuchMedium, MediumBusy.
    """
    state, event = (MediumState.IN_USE, "taken into use") if off else (MediumState.RETIRED, "retired")

    def act(medium: Medium) -> Change:
        if medium.state is state:
            return Change(medium, None, f"is {state} already")
        tracking.volumes.check_idle(medium.barcode)
        tracking.media.set_state(medium.barcode, state)
        return Change(medium, event, event)

    return _each(tracking, barcodes, order, act)


def remove(tracking: Tracking, barcodes: Sequence[str], order: Order) -> list[Change]:
    """Remove empty media from the tree. Snapshots still show them, and their barcodes can be added anew.

    Raises NoSuchMedium, MediumBusy, Retained, NotRemovable.
    """
    loaded = {drive.loaded: drive.number for drive in tracking.drives.all()}

    def act(medium: Medium) -> Change:
        barcode = medium.barcode
        tracking.volumes.check_may_end(medium, order.at, act="removed")
        if medium.tape_files:
            raise NotRemovable(barcode, f"it has {_contents(medium)}; `vtlfs media erase` first")
        if (drive := loaded.get(barcode)) is not None:
            raise NotRemovable(barcode, f"it is loaded in drive {drive}; `vtlfs unload` first")
        tracking.media.set_state(barcode, MediumState.REMOVED)
        return Change(medium, "removed", "removed")

    return _each(tracking, barcodes, order, act)


def protect(tracking: Tracking, barcodes: Sequence[str], order: Order, *, off: bool = False) -> list[Change]:
    """Set the write-protect tab of media; `off`: take it off. Raises NoSuchMedium, MediumBusy."""
    event = "unprotected" if off else "protected"

    def act(medium: Medium) -> Change:
        if medium.protected is not off:
            return Change(medium, None, f"is {event} already")
        tracking.volumes.check_idle(medium.barcode)
        tracking.media.set_protected(medium.barcode, not off)
        return Change(medium, event, event)

    return _each(tracking, barcodes, order, act)


def hold(tracking: Tracking, barcodes: Sequence[str], order: Order, name: str) -> list[Change]:
    """Place a legal hold on media, whose volumes do not end until it is released. Raises NoSuchMedium, UsageError."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"{name[:MAX_NAME]!r} can't be a hold's name; it has 1 to {MAX_NAME} printable characters")
    if order.reason is None:
        raise UsageError("a hold needs a reason; give --reason TEXT")
    reason, actor = order.reason, order.actor

    def act(medium: Medium) -> Change:
        tracking.volumes.hold(Hold(medium.barcode, name, reason, order.at, actor.uid, actor.host))
        return Change(medium, "held", f"held: {name} ({reason})", {"hold": name})

    return _each(tracking, barcodes, order, act)


def release(tracking: Tracking, barcodes: Sequence[str], order: Order, name: str) -> list[Change]:
    """End a legal hold on media. Raises NoSuchMedium, NoSuchHold."""

    def act(medium: Medium) -> Change:
        ended = tracking.volumes.release(medium.barcode, name)
        details: dict[str, Any] = {"hold": name, "held_since": ended.placed_at, "held_for": ended.reason}
        return Change(medium, "released", f"released: {name} ({ended.reason})", details)

    return _each(tracking, barcodes, order, act)


def set_capacity(tracking: Tracking, barcodes: Sequence[str], order: Order, capacity: int | None) -> list[Change]:
    """Set the capacity of media, in bytes; None: no limit. Raises NoSuchMedium, MediumBusy, UsageError."""

    def act(medium: Medium) -> Change:
        told = "no capacity limit" if capacity is None else f"capacity {format_size(capacity)}"
        if medium.capacity == capacity:
            return Change(medium, None, f"has {told} already")
        if medium.capacity is None:  # nothing is promised to a session that began without a limit
            tracking.volumes.check_idle(medium.barcode)
        tracking.media.set_capacity(medium.barcode, capacity)
        return Change(medium, "capacity set", told, {"capacity": capacity, "before": medium.capacity})

    return _each(tracking, barcodes, order, act)


@dataclass(frozen=True, slots=True)
class LongerRetention:
    """How current volumes are to be retained. None: as they are. `seconds` count from now; `until` is a time."""

    mode: RetainMode | None = None
    seconds: int | None = None
    until: str | None = None


def set_retention(tracking: Tracking, barcodes: Sequence[str], order: Order, wanted: LongerRetention) -> list[Change]:
    """Retain the current volumes of media for longer, or more strictly; never for less.

    Raises NoSuchMedium, and UsageError where it would be less.
    """
    now = tracking.volumes.now(order.at)
    until = wanted.until if wanted.seconds is None else later(now, wanted.seconds)
    if until is not None and until <= now:
        raise UsageError(f"{until} is over: now it is {now}")
    if until is not None and until > LAST_TIME:
        raise UsageError(f"{until} is too late a time; `--mode worm` retains for ever")

    def act(medium: Medium) -> Change:
        barcode = medium.barcode
        known = tracking.volumes.get(barcode, medium.volume)
        mode = wanted.mode or known.retain_mode or RetainMode.GOVERNANCE
        if mode is not RetainMode.WORM and until is None and known.retain_until is None:
            raise UsageError(f"medium {barcode} is not retained yet; say until when with --retain or --until")
        tracking.volumes.extend(barcode, mode, until)
        new = tracking.volumes.get(barcode, medium.volume)
        told = str(new.retention or "for ever (WORM), once it is written to")
        if new == known:
            return Change(medium, None, f"is retained {told} already")
        details: dict[str, Any] = {"mode": str(mode), "until": new.retain_until}
        before = None if known.retention is None else str(known.retention)
        return Change(medium, "retention set", f"retained {told}", details | {"before": before})

    return _each(tracking, barcodes, order, act)


def _check_override(order: Order) -> None:
    if order.actor.uid != 0:
        raise OverrideRefused
    if order.reason is None:
        raise UsageError("--override needs a reason, which is recorded; give --reason TEXT")


def _each(tracking: Tracking, barcodes: Sequence[str], order: Order, act: Act) -> list[Change]:
    """Do an act to each medium, and record it. Raises the error of the medium that is refused; Refused of several."""
    done: list[Change] = []
    refused: list[VtlfsError] = []
    for barcode in barcodes:
        try:
            change = act(tracking.media.get(barcode))
        except TrackingError:
            raise
        except VtlfsError as error:
            refused.append(error)
            continue
        if change.event is not None:
            record(tracking, order, change)
        done.append(change)
    if refused:
        raise refused[0] if len(barcodes) == 1 else Refused(refused, len(barcodes))
    return done


def record(tracking: Tracking, order: Order, change: Change) -> None:
    """Record what was done to a medium as an event, in the transaction that does it."""
    assert change.event is not None
    tracking.volumes.note_time(order.at)
    medium = change.medium
    tracking.events.add(
        *(change.event, order.actor, order.at),
        medium=medium.barcode,
        volume=medium.volume,
        reason=order.reason,
        **change.details,
    )


def _contents(medium: Medium) -> str:
    files = f"{medium.tape_files:,} tape file{'' if medium.tape_files == 1 else 's'}"
    return f"{files} with {format_size(medium.bytes)}"

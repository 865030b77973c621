"""Acts on media: what each does and what forbids it, one by one, and in any order against a small model."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from vtlfs.engine.media import lifecycle
from vtlfs.engine.media.lifecycle import Change, LongerRetention, Order
from vtlfs.engine.tracking import database
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.invariants import broken, rules
from vtlfs.errors import (
    MediumBusy,
    MediumFull,
    NoSuchHold,
    NoSuchMedium,
    NotRemovable,
    OverrideRefused,
    ReadOnlyMedium,
    Refused,
    Retained,
    UsageError,
    VtlfsError,
)
from vtlfs.model import (
    NO_CODEC,
    Access,
    Actor,
    DiskRecord,
    Extent,
    ImportedEnd,
    MediumState,
    Mount,
    Opener,
    RetainMode,
    Retention,
    State,
    later,
)
from vtlfs.rules import MediaRule
from vtlfs.snap import past
from vtlfs.snap.store import take

START = "2026-01-31T09:30:00.000000Z"
DAY = 86400
ROOT, OTHER = Actor(0, "alpha", "vtlfs"), Actor(1000, "beta", "vtlfs")
GOVERNANCE, COMPLIANCE = (MediaRule(mode, 30 * DAY) for mode in (RetainMode.GOVERNANCE, RetainMode.COMPLIANCE))
WORM = MediaRule(RetainMode.WORM)


class Shelf:
    """A tracking database of media T1 to T3 whose clock a test can set, and streams that come and go."""

    def __init__(self, place: Path) -> None:
        for path in place.glob("tracking.db*"):
            path.unlink()
        disks = [DiskRecord(number, f"uuid-{number}", f"/disk{number}", START) for number in (0, 1)]
        database.create(place, "library-uuid", disks, 2, START)
        self.tracking = Tracking(place)
        self.clock = START
        self.rules: dict[int, tuple[str, MediaRule]] = {}  # of the streams that are open
        with self.tracking.transaction():
            self.tracking.mounts.add(Mount(0, "alpha", "machine", 1, 0, "/mnt", "", "mounted", START, None))
            self.tracking.media.add(["T1", "T2", "T3"], None, START)

    def order(self, actor: Actor = ROOT, reason: str | None = None) -> Order:
        return Order(actor, self.clock, reason)

    def wait(self, seconds: float) -> None:
        self.clock = later(self.clock, seconds)

    def open(self, barcode: str, rule: MediaRule | None = None) -> int:
        """Open a stream as the engine does; return its session."""
        with self.tracking.transaction():
            self.tracking.media.check_writable(barcode)
            number = self.tracking.library.take_sessions(1)[0]
            if rule is not None:
                self.rules[number] = (barcode, rule)
            opener = Opener("gamma", 7, 1000, 100, "tar")
            self.tracking.sessions.open(number, 1, opener, Access.WRITE, 0, barcode, 4096, self.clock)
        return number

    def close(self, number: int, size: int = 10) -> None:
        """Record a stream of this size, and release it."""
        with self.tracking.transaction():
            if size:
                extent = Extent(number, 0, 0, 0, size, NO_CODEC, number % 2, 4096, size, bytes(32))
                self.tracking.sessions.record_progress(number, [extent], size, 1)
                if number in self.rules:
                    self.tracking.volumes.begin_retention(*self.rules[number])
            self.tracking.sessions.release(number, State.RELEASED, None, self.clock)

    def write(self, barcode: str, size: int = 10, rule: MediaRule | None = None) -> None:
        self.close(self.open(barcode, rule), size)

    def snapshot(self) -> int:
        with self.tracking.transaction():
            return take(self.tracking, self.clock).id

    def erase(
        self, *barcodes: str, override: bool = False, actor: Actor = ROOT, reason: str | None = None
    ) -> list[Change]:
        with self.tracking.transaction():
            return lifecycle.erase(self.tracking, barcodes, self.order(actor, reason), override=override)

    def remove(self, *barcodes: str) -> list[Change]:
        with self.tracking.transaction():
            return lifecycle.remove(self.tracking, barcodes, self.order())

    def protect(self, *barcodes: str, off: bool = False) -> list[Change]:
        with self.tracking.transaction():
            return lifecycle.protect(self.tracking, barcodes, self.order(), off=off)

    def retire(self, *barcodes: str, off: bool = False) -> list[Change]:
        with self.tracking.transaction():
            return lifecycle.retire(self.tracking, barcodes, self.order(), off=off)

    def hold(self, *barcodes: str, name: str = "case", reason: str | None = "letter") -> list[Change]:
        with self.tracking.transaction():
            return lifecycle.hold(self.tracking, barcodes, self.order(reason=reason), name)

    def release(self, *barcodes: str, name: str = "case") -> list[Change]:
        with self.tracking.transaction():
            return lifecycle.release(self.tracking, barcodes, self.order(), name)

    def retain(self, *barcodes: str, **wanted: object) -> list[Change]:
        with self.tracking.transaction():
            return lifecycle.set_retention(self.tracking, barcodes, self.order(), LongerRetention(**wanted))  # type: ignore[arg-type]

    def capacity(self, barcode: str, size: int | None) -> list[Change]:
        with self.tracking.transaction():
            return lifecycle.set_capacity(self.tracking, [barcode], self.order(), size)

    def said(self, barcode: str) -> list[tuple[str, int | None]]:
        """Return the events of a medium: what was done, to which volume."""
        return [(event.what, event.volume) for event in self.tracking.events.find(medium=barcode)]

    def problems(self) -> list[str]:
        return [problem for one in rules(self.tracking) for problem in broken(self.tracking, one)]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    found = Shelf(tmp_path)
    with closing(found.tracking):
        yield found
        assert found.problems() == []


# --- erase ------------------------------------------------------------------------------------------------------------


def test_erased_medium_is_empty_and_its_old_volume_keeps_what_it_had(shelf: Shelf) -> None:
    shelf.write("T1", 10)
    shelf.write("T1", 20)
    first = shelf.snapshot()
    (change,) = shelf.erase("T1", reason="rotation")
    assert (change.event, change.says) == ("erased", "erased: 2 tape files with 30 B")
    medium = shelf.tracking.media.get("T1")
    assert (medium.volume, medium.bytes, medium.tape_files, medium.written_at) == (2, 0, 0, None)
    old, new = shelf.tracking.volumes.of("T1")
    assert (old.bytes, old.tape_files, old.ended_at, old.ended) == (30, 2, shelf.clock, first + 1)
    assert (new.bytes, new.begun, new.ended) == (0, first + 1, None)
    assert [file.bytes for file in shelf.tracking.tape_files.of("T1", volume=1)] == [10, 20]
    (event,) = shelf.tracking.events.find(medium="T1")
    assert (event.what, event.volume, event.uid, event.host, event.reason) == ("erased", 1, 0, "alpha", "rotation")
    assert event.details == {"tape_files": 2, "bytes": 30}
    shelf.write("T1", 5)
    assert [(file.number, file.start) for file in shelf.tracking.tape_files.of("T1")] == [(0, 0)]


def test_erasing_an_empty_medium_does_nothing(shelf: Shelf) -> None:
    (change,) = shelf.erase("T1")
    assert (change.event, change.says) == (None, "is empty already")
    assert shelf.tracking.media.get("T1").volume == 1
    assert shelf.said("T1") == []


@pytest.mark.parametrize(
    ("forbid", "error", "wanted"),
    [
        (lambda shelf: shelf.open("T2"), MediumBusy, "session 2 of gamma writes to it"),
        (lambda shelf: shelf.protect("T2"), Retained, "it is write-protected"),
        (lambda shelf: shelf.hold("T2"), Retained, r"under legal hold: case \(letter\)"),
        (lambda shelf: shelf.retain("T2", seconds=DAY), Retained, r"retained until 2026-02-01T09:30.*\(governance\)"),
        (lambda shelf: shelf.write("T2", rule=WORM), Retained, r"retained for ever \(WORM\)"),
    ],
)
def test_what_forbids_to_erase_one_medium_forbids_to_erase_any(
    shelf: Shelf, forbid: Callable[[Shelf], object], error: type[VtlfsError], wanted: str
) -> None:
    shelf.write("T1")
    forbid(shelf)
    with pytest.raises(error, match=rf"T2.*{wanted}"):
        shelf.erase("T2")
    with pytest.raises(Refused, match=rf"nothing was changed, as 1 of 2 media are refused: medium T2.*{wanted}"):
        shelf.erase("T1", "T2")
    assert shelf.tracking.media.get("T1").tape_files == 1
    assert "erased" not in [what for what, _ in shelf.said("T1")]


def test_all_refusals_are_told(shelf: Shelf) -> None:
    for barcode in ("T1", "T2", "T3"):
        shelf.write(barcode)
        shelf.protect(barcode)
    with pytest.raises(Refused) as caught:
        shelf.erase("T1", "T2", "T3", "T4", "T5")
    assert [str(error).split()[1] for error in caught.value.errors] == ["T1", "T2", "T3", "medium", "medium"]
    assert str(caught.value).endswith("and 2 more")


def test_governance_is_overridden_by_root_with_a_reason_alone(shelf: Shelf) -> None:
    shelf.write("T1", rule=GOVERNANCE)
    with pytest.raises(Retained, match="root may do so with --override and --reason"):
        shelf.erase("T1", reason="wrong disk")
    with pytest.raises(OverrideRefused):
        shelf.erase("T1", override=True, actor=OTHER, reason="wrong disk")
    with pytest.raises(UsageError, match="needs a reason"):
        shelf.erase("T1", override=True)
    shelf.erase("T1", override=True, reason="wrong disk")
    (event,) = shelf.tracking.events.find(medium="T1")
    assert event.reason == "wrong disk"
    assert event.details["overridden"] == "until 2026-03-02T09:30:00.000000Z (governance)"


@pytest.mark.parametrize("rule", [COMPLIANCE, WORM])
def test_compliance_and_worm_are_overridden_by_nobody(shelf: Shelf, rule: MediaRule) -> None:
    shelf.write("T1", rule=rule)
    with pytest.raises(Retained):
        shelf.erase("T1", override=True, reason="please")


def test_override_is_no_event_where_nothing_was_overridden(shelf: Shelf) -> None:
    shelf.write("T1")
    shelf.erase("T1", override=True, reason="to be sure")
    (event,) = shelf.tracking.events.find(medium="T1")
    assert "overridden" not in event.details


# --- retention --------------------------------------------------------------------------------------------------------


def test_retention_counts_from_the_release_of_the_last_tape_file(shelf: Shelf) -> None:
    shelf.write("T1", rule=COMPLIANCE)
    shelf.wait(10 * DAY)
    shelf.write("T1", rule=COMPLIANCE)
    shelf.wait(30 * DAY - 1)
    with pytest.raises(Retained, match="until 2026-03-12"):
        shelf.erase("T1")
    shelf.wait(1)
    shelf.erase("T1")


def test_a_volume_under_a_rule_that_has_nothing_written_can_be_erased(shelf: Shelf) -> None:
    shelf.retain("T1", mode=RetainMode.WORM)
    shelf.erase("T1")
    assert shelf.tracking.volumes.get("T1", 2).retain_mode is None


@pytest.mark.parametrize("rule", [GOVERNANCE, COMPLIANCE, WORM])
def test_a_stream_that_leaves_nothing_retains_nothing(shelf: Shelf, rule: MediaRule) -> None:
    """What a medium has from before its rule is not retained by an open() that writes nothing, least of all forever."""
    shelf.write("T1")
    shelf.write("T1", 0, rule=rule)
    (one,) = shelf.tracking.pools.candidates("T1")
    assert one.retention is None
    shelf.erase("T1")
    shelf.write("T1")
    shelf.write("T1", 0, rule=rule)
    shelf.write("T1", rule=rule)
    with pytest.raises(Retained, match="for ever" if rule is WORM else "until 2026-03-02"):
        shelf.erase("T1")


def test_what_is_written_after_an_import_is_retained_as_the_volume_was_by_hand(shelf: Shelf) -> None:
    """`media set` has named a date, and no rule a period: the headers of later tape files name that date."""
    far, near = later(START, 900 * DAY), later(START, 3 * DAY)
    with shelf.tracking.transaction():
        shelf.tracking.volumes.extend("T1", RetainMode.GOVERNANCE, far)
        session = shelf.tracking.library.take_sessions(1)[0]
        opener = Opener("gamma", 7, 1000, 100, "tar")
        place = (session, 1, opener, Access.WRITE, 0, "T1", 4096, START)
        shelf.tracking.sessions.open(*place, origin="11111111-2222-3333-4444-555555555555/17")
        extent = Extent(session, 0, 0, 0, 10, NO_CODEC, 0, 4096, 10, bytes(32))
        shelf.tracking.sessions.record_progress(session, [extent], 10, 1)
        end = ImportedEnd(State.RELEASED, None, START, 1, START, retention=Retention(RetainMode.GOVERNANCE, near))
        shelf.tracking.sessions.release(session, State.RELEASED, None, START, imported=end)
    shelf.write("T1")
    kept = Retention(RetainMode.GOVERNANCE, far)
    assert [file.retention for file in shelf.tracking.tape_files.of("T1")] == [kept, kept]


def test_a_clock_that_is_set_back_ends_no_retention_sooner_and_makes_none_shorter(shelf: Shelf) -> None:
    shelf.write("T1", rule=COMPLIANCE)
    right = shelf.clock
    shelf.wait(-365 * DAY)
    with pytest.raises(Retained):
        shelf.erase("T1")
    shelf.write("T2", rule=COMPLIANCE)
    assert shelf.tracking.volumes.get("T2", 1).retain_until == later(right, 30 * DAY)
    shelf.retain("T3", seconds=DAY)
    assert shelf.tracking.volumes.get("T3", 1).retain_until == later(right, DAY)


def test_every_act_records_how_late_it_is(shelf: Shelf) -> None:
    right = shelf.clock
    shelf.wait(100 * DAY)
    shelf.protect("T3")
    shelf.clock = right
    assert shelf.tracking.volumes.now(right) == later(right, 100 * DAY)


@pytest.mark.parametrize("weaker", [None, MediaRule(), MediaRule(RetainMode.GOVERNANCE, 1)])
def test_an_edited_rule_shortens_nothing(shelf: Shelf, weaker: MediaRule | None) -> None:
    shelf.write("T1", rule=COMPLIANCE)
    known = shelf.tracking.volumes.get("T1", 1)
    shelf.write("T1", rule=weaker)
    volume = shelf.tracking.volumes.get("T1", 1)
    assert (volume.retain_mode, volume.retain_seconds) == (known.retain_mode, known.retain_seconds)
    with pytest.raises(Retained):
        shelf.erase("T1", override=True, reason="edited")


def test_retention_is_set_for_longer_and_never_for_less(shelf: Shelf) -> None:
    shelf.write("T1")
    shelf.retain("T1", seconds=10 * DAY)
    with pytest.raises(UsageError, match="never shortened"):
        shelf.retain("T1", seconds=9 * DAY)
    shelf.retain("T1", mode=RetainMode.COMPLIANCE)
    with pytest.raises(UsageError, match="never made less strict"):
        shelf.retain("T1", mode=RetainMode.GOVERNANCE, seconds=99 * DAY)
    shelf.retain("T1", until="2027-01-01T00:00:00.000000Z")
    assert str(shelf.tracking.volumes.get("T1", 1).retention) == "until 2027-01-01T00:00:00.000000Z (compliance)"
    (change,) = shelf.retain("T1", until="2027-01-01T00:00:00.000000Z")
    assert change.event is None
    shelf.retain("T1", mode=RetainMode.WORM)
    assert str(shelf.tracking.volumes.get("T1", 1).retention) == "for ever (WORM)"
    (change,) = shelf.retain("T1", seconds=999 * DAY)
    assert (change.event, change.says) == (None, "is retained for ever (WORM) already")
    assert [what for what, _ in shelf.said("T1")] == ["retention set"] * 4


def test_retention_that_can_not_be_set(shelf: Shelf) -> None:
    with pytest.raises(UsageError, match="say until when"):
        shelf.retain("T1", mode=RetainMode.COMPLIANCE)
    with pytest.raises(UsageError, match="is over"):
        shelf.retain("T1", until=START)
    with pytest.raises(UsageError, match="too late a time"):
        shelf.retain("T1", until="3000-01-01T00:00:00.000000Z")


def test_a_tape_file_of_a_volume_that_was_retained_by_hand_says_until_when(shelf: Shelf) -> None:
    shelf.retain("T1", until="2027-01-01T00:00:00.000000Z")
    shelf.write("T1")
    (file,) = shelf.tracking.tape_files.of("T1")
    assert str(file.retention) == "until 2027-01-01T00:00:00.000000Z (governance)"


def test_a_retention_of_centuries_from_a_clock_that_is_ahead_is_recorded(shelf: Shelf) -> None:
    shelf.clock = "9999-12-31T23:00:00.000000Z"
    shelf.write("T1", rule=COMPLIANCE)
    assert shelf.tracking.volumes.get("T1", 1).retain_until == "2999-12-31T23:59:59.999999Z"


# --- holds ------------------------------------------------------------------------------------------------------------


def test_a_hold_lasts_until_it_is_released(shelf: Shelf) -> None:
    shelf.write("T1")
    shelf.hold("T1", "T2", name="case-17")
    shelf.hold("T1", name="audit", reason="year end")
    with pytest.raises(Refused, match="medium T1 has a hold 'audit' already"):
        shelf.hold("T3", "T1", name="audit")
    assert [hold.medium for hold in shelf.tracking.volumes.holds()] == ["T1", "T1", "T2"]
    shelf.release("T1", "T2", name="case-17")
    with pytest.raises(Retained, match=r"audit \(year end\)"):
        shelf.erase("T1", override=True, reason="holds count all the same")
    with pytest.raises(NoSuchHold):
        shelf.release("T1", name="case-17")
    shelf.release("T1", name="audit")
    shelf.erase("T1")
    assert [what for what, _ in shelf.said("T1")] == ["held", "held", "released", "released", "erased"]


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb"])
def test_name_that_no_hold_can_have(shelf: Shelf, name: str) -> None:
    with pytest.raises(UsageError, match="can't be a hold's name"):
        shelf.hold("T1", name=name)


def test_a_hold_needs_a_reason(shelf: Shelf) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        shelf.hold("T1", reason=None)


# --- protect, retire, remove, capacity --------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["protect", "retire"])
def test_nothing_is_written_to_a_medium_that_is_only_read(shelf: Shelf, act: str) -> None:
    does: Callable[..., list[Change]] = getattr(shelf, act)
    stream = shelf.open("T1")
    with pytest.raises(MediumBusy):
        does("T1")
    shelf.close(stream)
    assert does("T1")[0].event is not None
    assert does("T1")[0].event is None
    with pytest.raises(ReadOnlyMedium):
        shelf.open("T1")
    does("T1", off=True)
    shelf.write("T1")
    assert len(shelf.said("T1")) == 2


def test_a_retired_medium_can_be_erased_and_stays_retired(shelf: Shelf) -> None:
    shelf.write("T1")
    shelf.retire("T1")
    shelf.erase("T1")
    assert shelf.tracking.media.get("T1").state is MediumState.RETIRED


def test_a_removed_medium_is_gone_and_its_barcode_begins_anew(shelf: Shelf) -> None:
    shelf.write("T1")
    with pytest.raises(NotRemovable, match=r"it has 1 tape file with 10 B; `vtlfs media erase` first"):
        shelf.remove("T1")
    shelf.erase("T1")
    with shelf.tracking.transaction():
        shelf.tracking.drives.load(1, "T1", shelf.clock)
    with pytest.raises(NotRemovable, match="it is loaded in drive 1"):
        shelf.remove("T1")
    with shelf.tracking.transaction():
        shelf.tracking.drives.unload(1)
    shelf.remove("T1")
    for forgotten in (shelf.tracking.media.get, shelf.tracking.tape_files.of, shelf.erase, shelf.remove, shelf.open):
        with pytest.raises(NoSuchMedium):
            forgotten("T1")
    assert [medium.barcode for medium in shelf.tracking.media.all()] == ["T2", "T3"]
    with shelf.tracking.transaction():
        lifecycle.add(shelf.tracking, ["T1"], 100, shelf.order())
    assert shelf.tracking.media.get("T1").capacity == 100
    assert shelf.said("T1") == [("erased", 1), ("removed", 2), ("added", 2)]


@pytest.mark.parametrize("keep", ["protect", "hold"])
def test_an_empty_medium_that_is_kept_is_not_removed(shelf: Shelf, keep: str) -> None:
    getattr(shelf, keep)("T1")
    with pytest.raises(Retained, match="medium T1 can't be removed"):
        shelf.remove("T1")


def test_capacity_is_set_only_where_every_stream_fits(shelf: Shelf) -> None:
    shelf.write("T1", 50)
    with pytest.raises(UsageError, match="has 50 B already"):
        shelf.capacity("T1", 49)
    stream = shelf.open("T1")
    with pytest.raises(MediumBusy):  # nothing is promised to the stream
        shelf.capacity("T1", 60)
    shelf.close(stream)
    shelf.capacity("T1", 60)
    with pytest.raises(MediumFull), shelf.tracking.transaction():
        shelf.tracking.media.reserve(shelf.open("T1"), "T1", 1, 1)
    shelf.capacity("T1", None)
    assert [what for what, _ in shelf.said("T1")] == ["capacity set"] * 2


# --- in any order -----------------------------------------------------------------------------------------------------


@dataclass
class Cartridge:
    """What a medium ought to be. `volumes`: the sizes of the tape files of each volume, the last one current."""

    volumes: list[list[int]] = field(default_factory=lambda: [[]])
    state: MediumState = MediumState.IN_USE
    protected: bool = False
    holds: set[str] = field(default_factory=set)
    mode: RetainMode | None = None
    seconds: int | None = None
    until: str | None = None
    streams: dict[int, tuple[int, MediaRule | None]] = field(default_factory=dict)  # open: session to size and rule

    def is_kept(self, now: str, *, override: bool = False) -> bool:
        if self.streams or self.protected or self.holds:
            return True
        if self.mode is None or (override and self.mode is RetainMode.GOVERNANCE):
            return False
        if self.mode is RetainMode.WORM:
            return bool(self.volumes[-1])
        return self.until is not None and self.until > now


BARCODES = st.sampled_from(["T1", "T2", "T3"])


class Lives(RuleBasedStateMachine):
    """Random acts, streams, snapshots and jumps of the clock; after each, the database is as the model says."""

    place: Path

    @initialize()
    def begin(self) -> None:
        self.shelf = Shelf(self.place)
        self.model = {barcode: Cartridge() for barcode in ("T1", "T2", "T3")}
        self.latest = ""
        self.then: dict[int, dict[str, tuple[int, int]]] = {}

    def note(self) -> None:
        self.latest = max(self.latest, self.shelf.clock)

    @property
    def now(self) -> str:
        return max(self.latest, self.shelf.clock)

    def act(self, allowed: bool, does: Callable[[], object]) -> bool:
        """Do an act that is to be allowed or refused."""
        if allowed:
            does()
            return True
        with pytest.raises(VtlfsError):
            does()
        return False

    @rule(seconds=st.integers(-40 * DAY, 40 * DAY))
    def the_clock_jumps(self, seconds: int) -> None:
        self.shelf.wait(seconds)

    @rule(barcode=BARCODES, retained=st.sampled_from([None, GOVERNANCE, COMPLIANCE, WORM]), size=st.integers(0, 9))
    def a_stream_begins(self, barcode: str, retained: MediaRule | None, size: int) -> None:
        one = self.model[barcode]
        if not self.act(
            one.state is MediumState.IN_USE and not one.protected,
            lambda: one.streams.update({self.shelf.open(barcode, retained): (size, retained)}),
        ):
            return

    @precondition(lambda self: any(one.streams for one in self.model.values()))
    @rule(data=st.data())
    def a_stream_ends(self, data: st.DataObject) -> None:
        barcode = data.draw(st.sampled_from([name for name, one in self.model.items() if one.streams]))
        one = self.model[barcode]
        number = data.draw(st.sampled_from(sorted(one.streams)))
        size, retained = one.streams.pop(number)
        self.shelf.close(number, size)
        if size:
            self.note()
            if retained is not None and retained.mode is not None:
                one.mode = max(filter(None, (one.mode, retained.mode)), key=lambda mode: mode.strictness)
                longer = max(one.seconds or 0, retained.retain_seconds or 0)
                one.seconds = None if one.mode is RetainMode.WORM else longer
            one.volumes[-1].append(size)
            if one.seconds is not None:
                one.until = max(one.until or "", later(self.now, one.seconds))

    @rule(barcodes=st.lists(BARCODES, min_size=1, max_size=3, unique=True), override=st.booleans())
    def erase(self, barcodes: list[str], override: bool) -> None:
        kept = [self.model[name].is_kept(self.now, override=override) for name in barcodes]
        gone = [self.model[name].state is MediumState.REMOVED for name in barcodes]
        done = self.act(
            not any(kept) and not any(gone), lambda: self.shelf.erase(*barcodes, override=override, reason="model")
        )
        for one in [self.model[name] for name in barcodes] if done else []:
            if one.volumes[-1] or one.mode is not None:
                one.volumes.append([])
                one.mode = one.seconds = one.until = None
                self.note()

    @rule(barcode=BARCODES, off=st.booleans())
    def protect(self, barcode: str, off: bool) -> None:
        one = self.model[barcode]
        changes = one.protected is off
        allowed = one.state is not MediumState.REMOVED and not (changes and one.streams)
        if self.act(allowed, lambda: self.shelf.protect(barcode, off=off)) and changes:
            one.protected = not off
            self.note()

    @rule(barcode=BARCODES, off=st.booleans())
    def retire(self, barcode: str, off: bool) -> None:
        one = self.model[barcode]
        wanted = MediumState.IN_USE if off else MediumState.RETIRED
        changes = one.state is not wanted
        allowed = one.state is not MediumState.REMOVED and not (changes and one.streams)
        if self.act(allowed, lambda: self.shelf.retire(barcode, off=off)) and changes:
            one.state = wanted
            self.note()

    @rule(barcode=BARCODES, name=st.sampled_from(["case", "audit"]))
    def hold_and_release(self, barcode: str, name: str) -> None:
        one = self.model[barcode]
        if one.state is MediumState.REMOVED:
            return
        if name in one.holds:
            self.shelf.release(barcode, name=name)
        else:
            self.shelf.hold(barcode, name=name)
        one.holds ^= {name}
        self.note()

    @rule(barcode=BARCODES)
    def remove_or_add(self, barcode: str) -> None:
        one = self.model[barcode]
        if one.state is MediumState.REMOVED:
            with self.shelf.tracking.transaction():
                lifecycle.add(self.shelf.tracking, [barcode], None, self.shelf.order())
            one.state, one.protected = MediumState.IN_USE, False
            self.note()
        elif self.act(not one.is_kept(self.now) and not one.volumes[-1], lambda: self.shelf.remove(barcode)):
            one.state = MediumState.REMOVED
            self.note()

    @rule(barcode=BARCODES, seconds=st.integers(1, 50 * DAY), mode=st.sampled_from([None, *RetainMode]))
    def retain(self, barcode: str, seconds: int, mode: RetainMode | None) -> None:
        one = self.model[barcode]
        is_worm = mode is RetainMode.WORM
        until = None if is_worm else later(self.now, seconds)
        wanted = mode or one.mode or RetainMode.GOVERNANCE
        weaker = one.mode is not None and wanted.strictness < one.mode.strictness
        shorter = wanted is not RetainMode.WORM and until is not None and until < (one.until or "")
        allowed = one.state is not MediumState.REMOVED and not weaker and not shorter
        does = {"mode": mode} | ({} if is_worm else {"seconds": seconds})
        if not self.act(allowed, lambda: self.shelf.retain(barcode, **does)):
            return
        before = (one.mode, one.seconds, one.until)
        one.mode = wanted
        one.seconds, one.until = (None, None) if wanted is RetainMode.WORM else (one.seconds, until or one.until)
        if (one.mode, one.seconds, one.until) != before:
            self.note()

    @rule()
    def snapshot(self) -> None:
        number = self.shelf.snapshot()
        self.then[number] = {
            name: (len(one.volumes), sum(one.volumes[-1]))
            for name, one in self.model.items()
            if one.state is not MediumState.REMOVED
        }

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        if not hasattr(self, "shelf"):
            return
        tracking = self.shelf.tracking
        there = {medium.barcode: medium for medium in tracking.media.all()}
        assert set(there) == {name for name, one in self.model.items() if one.state is not MediumState.REMOVED}
        for barcode, one in self.model.items():
            volumes = tracking.volumes.of(barcode)
            assert [(volume.tape_files, volume.bytes) for volume in volumes] == [
                (len(sizes), sum(sizes)) for sizes in one.volumes
            ]
            for volume, sizes in zip(volumes, one.volumes, strict=True):
                files = tracking.tape_files.of(barcode, volume=volume.number)
                assert [file.bytes for file in files] == sizes
            assert {hold.name for hold in tracking.volumes.holds(barcode)} == one.holds
            assert (volumes[-1].retain_mode, volumes[-1].retain_seconds) == (one.mode, one.seconds)
            if one.mode is not RetainMode.WORM:
                assert volumes[-1].retain_until == one.until
            if barcode in there:
                assert (there[barcode].state, there[barcode].protected) == (one.state, one.protected)

    def teardown(self) -> None:
        if not hasattr(self, "shelf"):
            return
        with closing(self.shelf.tracking) as tracking:
            assert self.shelf.problems() == []
            for number, media in self.then.items():
                found = {one.barcode: (one.volume, one.bytes) for one in past.media_after(tracking, number, 0)}
                assert found == media
            assert [event.id for event in tracking.events.find()] == list(range(1, tracking.events.count() + 1))


def test_lives_of_media_in_any_order(tmp_path: Path) -> None:
    class Here(Lives):
        place = tmp_path

    run_state_machine_as_test(Here, settings=settings(max_examples=80, stateful_step_count=50, deadline=None))

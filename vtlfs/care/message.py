"""A message about incidents: what is told of them, as JSON and as environment variables. Asks the read side only."""

import json
from dataclasses import asdict, dataclass
from shlex import quote

from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.incidents import READS, STREAMS, Incident, Untold
from vtlfs.errors import NoSuchSession
from vtlfs.report.words import count, reason

LISTED = 20  # incidents that a message lists; all are counted
GROUPS = {
    "stream failed": "stream",
    "read failed": "stream",
    "library degraded": "degraded",
    "library failed": "degraded",
    "library whole": "degraded",
    "space low": "space",
    "space back": "space",
    "copy old": "copy",
    "copy made": "copy",
    "verification found": "verification",
    "retention refused": "retention",
    "rehearsal failed": "rehearsal",
    "rehearsal passed": "rehearsal",
    "disk failed": "disk",
    "disk full": "disk",
    "disk hanging": "disk",
    "disk back": "disk",
}
"""The group of each kind of incident, as `[notify] kinds` names it."""

GOOD = ("disk back", "library whole", "space back", "copy made", "rehearsal passed")
GRAVE = ("disk failed", "stream failed", "read failed", "library failed", "verification found", "rehearsal failed")
TEST = "test"


@dataclass(frozen=True, slots=True)
class Message:
    """What people are told of incidents about one thing.

    `number`: of the last one; with the library's UUID it names the message for ever. `severity`: error, warning or
    info. `count`: how many incidents there were since the last message. `lasts`: the last one has not ended.
    `incidents`: the last ones of them. `host`: the machine that tells.
    """

    library: str
    uuid: str
    host: str
    number: int
    kind: str
    group: str
    severity: str
    about: str
    count: int
    at: str
    what: str
    advice: str | None
    lasts: bool
    is_reminder: bool
    incidents: tuple[dict[str, object], ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return the message as a JSON object."""
        return asdict(self) | {"incidents": list(self.incidents)}

    def document(self) -> bytes:
        """Return the message as a JSON text in ASCII."""
        return json.dumps(self.as_json()).encode()

    def environment(self) -> dict[str, str]:
        """Return the message as environment variables, all characters of which are printable."""
        values = {
            "VTLFS_LIBRARY": self.library,
            "VTLFS_UUID": self.uuid,
            "VTLFS_NUMBER": self.number,
            "VTLFS_KIND": self.kind,
            "VTLFS_GROUP": self.group,
            "VTLFS_SEVERITY": self.severity,
            "VTLFS_ABOUT": self.about,
            "VTLFS_COUNT": self.count,
            "VTLFS_AT": self.at,
            "VTLFS_WHAT": self.what,
            "VTLFS_ADVICE": self.advice or "",
            "VTLFS_LASTS": int(self.lasts),
            "VTLFS_REMINDER": int(self.is_reminder),
        }
        return {name: _printable(str(value)) for name, value in values.items()}


def make(
    tracking: Tracking, library: str, uuid: str, host: str, untold: Untold, *, is_reminder: bool = False
) -> Message:
    """Return the message about incidents that nobody was told of. Of a reminder: about the one that lasts."""
    after = untold.first - 1
    found = [one for one in tracking.incidents.after(untold.about, after, LISTED) if one.number <= untold.last]
    last = found[-1]
    what, advice = (
        _of_sessions(tracking, library, untold, last) if last.session is not None else (last.what, last.advice)
    )
    if last.session is None and untold.count > 1:
        what += f" ({count(untold.count - 1, 'incident')} before that: {found[-2].what if len(found) > 1 else ''})"
    return Message(
        library=library,
        uuid=uuid,
        host=host,
        number=last.number,
        kind=last.kind,
        group=GROUPS.get(last.kind, "degraded"),
        severity="info" if last.kind in GOOD else "error" if last.kind in GRAVE else "warning",
        about=untold.about,
        count=untold.count,
        at=last.at,
        what=what,
        advice=advice,
        lasts=last.lasts,
        is_reminder=is_reminder,
        incidents=tuple(_listed(tracking, one) for one in found),
    )


def test_message(library: str, uuid: str, host: str, at: str) -> Message:
    """Return a message by which the way is tried out."""
    what = "this is a test: what goes wrong with this library will be told like this"
    return Message(library, uuid, host, 0, TEST, TEST, "info", TEST, 1, at, what, None, lasts=False, is_reminder=False)


def _of_sessions(tracking: Tracking, library: str, untold: Untold, last: Incident) -> tuple[str, str]:
    noun = {
        STREAMS: ("stream has failed", "streams have failed"),
        READS: ("reader got an error", "readers got an error"),
    }
    told = count(untold.count, *noun.get(untold.about, noun[STREAMS]))
    advice = f"vtlfs report {quote(library)}"
    try:
        session = tracking.sessions.get(last.session or 0)
    except NoSuchSession:
        return told, advice
    which = "the last: " if untold.count > 1 else ""
    where = f"{session.program} of {session.host}, medium {session.medium}, session {session.id}"
    return f"{told}; {which}{where}: {reason(session.error)}", advice


def _listed(tracking: Tracking, one: Incident) -> dict[str, object]:
    listed = one.as_json()
    if one.session is not None:
        try:
            listed["of"] = tracking.sessions.get(one.session).as_json()
        except NoSuchSession:
            listed["of"] = None
    return listed


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

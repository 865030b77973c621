"""What the headers of a session's member files are to say, by the tracking database. Pure."""

from vtlfs.disks.headers import Ending, Opening, PartOf
from vtlfs.model import Opener, Session, TapeFile


def header_of(file: TapeFile, session: Session, part: PartOf | None = None) -> tuple[Opening, Ending]:
    """Return what the headers of a session's member files are to say. `part`: not needed for a comparison."""
    assert session.released_at is not None  # it has a tape file
    opener = Opener(session.host, session.pid, session.uid, session.gid, session.program)
    options = (session.stripe_unit, session.parity, session.volume)
    opening = Opening(
        session.medium, session.drive, opener, session.opened_at, *options, origin=session.origin, part=part
    )
    end = (session.state, session.error, session.released_at, session.tape_file, file.start, file.bytes)
    return opening, Ending(*end, retention=file.retention)

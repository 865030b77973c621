"""When all data is to be verified again, and when tape files are to be rehearsed. Asks the catalogue's read side.

Times are those of the wall clock, as the waits outlive mounts. A clock that jumps has it done too early, or later by at
most the time between two.
"""

from vtlfs.care_rules import CareRule
from vtlfs.engine.scrub import verification as verifications
from vtlfs.engine.scrub.verification import Verification
from vtlfs.engine.tracking.database import Tracking
from vtlfs.report.night import REHEARSAL
from vtlfs.report.words import is_within

VERIFICATION = "verify"  # the job


def interrupted(tracking: Tracking) -> Verification | None:
    """Return the verification of all data that was interrupted, unless a later one has ended."""
    last, ended = tracking.verifications.last_begun_of_all(), tracking.verifications.last_of_all()
    if last is None or last.ended_at is not None or (ended is not None and ended.id > last.id):
        return None
    return verifications.of_row(last)


def is_verification_due(tracking: Tracking, rule: CareRule, at: str) -> bool:
    """Tell whether all data is to be verified, or an interrupted verification is to go on."""
    if rule.verify is None or not tracking.library.last_ordinal():
        return False
    ended = tracking.verifications.last_of_all()
    return interrupted(tracking) is not None or ended is None or not is_within(ended.started_at, at, rule.verify)


def is_rehearsal_due(tracking: Tracking, rule: CareRule, at: str) -> bool:
    """Tell whether tape files are to be restored and compared."""
    if rule.rehearse is None or not tracking.media.totals()[1]:
        return False
    last = tracking.jobs.get(REHEARSAL)
    return last is None or last.ended_at is None or not is_within(last.begun_at, at, rule.rehearse)

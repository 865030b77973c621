"""The verdict on one stream: its first error, which every later call raises, and how its session ends.

Used in the trio loop; no method waits.
"""

import logging

from vtlfs import blame
from vtlfs.disks.headers import Ending
from vtlfs.errors import MediumFull, VtlfsError, errno_name
from vtlfs.model import State, TapeFile

log = logging.getLogger(__name__)


class Verdict:
    """See the module. One write session has one."""

    __slots__ = ("_barcode", "_session", "begins_volume", "error", "goes_on", "refused")

    def __init__(self, session: int, barcode: str) -> None:
        self._session = session
        self._barcode = barcode
        self.begins_volume = False  # the program reads its stream from the beginning of the medium
        self.goes_on = False  # the stream of a pool goes on in a further session
        self.error: VtlfsError | None = None  # the first error that has cost the stream bytes
        self.refused: VtlfsError | None = None  # the error of the last write that was refused before a byte was taken

    def fail(self, error: BaseException) -> None:
        """Keep the first error for the writer, and log it."""
        if self.error is not None:
            return
        known = isinstance(error, VtlfsError)
        self.error = error if isinstance(error, VtlfsError) else VtlfsError(str(error))
        expected = isinstance(error, MediumFull) or blame.fault_of(self.error.errno) is blame.Fault.FULL
        log.log(
            logging.WARNING if expected else logging.ERROR,
            "session %d on %s: %s%s; write the stream again",
            self._session,
            self._barcode,
            error,
            self.error.advice and f"; {self.error.advice}",
            exc_info=None if known else error,
        )

    def raise_error(self) -> None:
        """Raise the stream's first error, if there is one."""
        if self.error is not None:
            raise self.error

    def end(self, error: VtlfsError | None, *, abort: bool) -> tuple[State, str | None]:
        """Return the state in which the session ends, and the name of its errno. `error`: that of the release."""
        if error is not None:
            return State.FAILED, errno_name(error)
        if abort:
            return State.FAILED, "ESHUTDOWN"
        return State.RELEASED, None if self.refused is None else errno_name(self.refused)

    def log_end(self, state: State, error: str | None, requests: int, tape_file: TapeFile | None) -> None:
        """Log how the session has ended."""
        kept = "no bytes kept"
        if tape_file is not None:
            kept = f"{tape_file.bytes} bytes kept as tape file {tape_file.number:04d} of {self._barcode}"
        how = f"{state}{f', {error}' if error else ''}"
        log.info("session %d: %s: %d requests, %s", self._session, how, requests, kept)
        if self.begins_volume and tape_file is not None and tape_file.number:
            log.warning(
                "session %d: is not at the beginning of %s, where its program looks for it: other streams ended before;"
                " read it from /files/%s/%04d",
                *(self._session, self._barcode, self._barcode, tape_file.number),
            )

    def ending(self, state: State, error: str | None, at: str, requests: int, tape_file: TapeFile | None) -> Ending:
        """Return the ending for the headers of the session's member files."""
        if tape_file is None:
            return Ending(state, error, at, None, None, None, requests)
        place = (tape_file.number, tape_file.start, tape_file.bytes)
        return Ending(state, error, at, *place, requests, tape_file.retention, self.goes_on)

"""The table from domain errors to errnos: a decorator for the handlers of FUSE requests. Used in the trio loop."""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Concatenate, ParamSpec, TypeVar

from pyfuse3 import FUSEError

from vtlfs import blame
from vtlfs.errors import VtlfsError
from vtlfs.fs.requests import COUNTED, Counts

P = ParamSpec("P")
S = TypeVar("S", bound=Counts)
T = TypeVar("T")

Handler = Callable[Concatenate[S, P], Coroutine[Any, Any, T]]

log = logging.getLogger(__name__)


def to_errno(handler: Handler[S, P, T]) -> Handler[S, P, T]:
    """Make a handler raise nothing but FUSEError, since any other exception would end the mount.

    A VtlfsError becomes its errno. Any other exception is logged with its traceback and becomes EIO. Requests of
    sessions are counted.
    """

    name, is_counted = handler.__name__, handler.__name__ in COUNTED

    @functools.wraps(handler)
    async def wrapped(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        begun = monotonic()
        try:
            return await handler(self, *args, **kwargs)
        except Exception as error:
            failure = error if isinstance(error, FUSEError) else FUSEError(_errno_of(name, error))
            if is_counted:
                self.requests.errors[name, errno.errorcode.get(failure.errno, "EIO")] += 1
            raise failure from (None if failure is error else error)
        finally:
            if is_counted:
                self.requests.seconds[name].observe(monotonic() - begun)

    return wrapped


def _errno_of(handler: str, error: Exception) -> int:
    """Log an error as its kind wants it, and return its errno."""
    if not isinstance(error, VtlfsError):
        log.exception("%s", handler)
        return errno.EIO
    if error.is_news or blame.is_limit(error.errno):  # a filter of the log tells each limit once
        log.error("%s%s", error, error.advice and f"; {error.advice}")
    else:
        log.debug("%s: %s", handler, error)
    return error.errno

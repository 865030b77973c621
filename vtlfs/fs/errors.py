"""The table from domain errors to errnos: a decorator for the handlers of FUSE requests. Used in the trio loop."""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from pyfuse3 import FUSEError

from vtlfs import blame
from vtlfs.errors import VtlfsError

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


def to_errno(handler: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a handler raise nothing but FUSEError, since any other exception would end the mount.

    A VtlfsError becomes its errno. Any other exception is logged with its traceback and becomes EIO.
    """

    @functools.wraps(handler)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except VtlfsError as error:
            if error.is_news or blame.is_limit(error.errno):  # a filter of the log tells each limit once
                log.error("%s%s", error, error.advice and f"; {error.advice}")
            else:
                log.debug("%s: %s", handler.__name__, error)
            raise FUSEError(error.errno) from error
        except Exception as error:
            log.exception("%s", handler.__name__)
            raise FUSEError(errno.EIO) from error

    return wrapped

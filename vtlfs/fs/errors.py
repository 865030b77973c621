"""From domain errors to errnos, in one place."""

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
    """Make a handler raise nothing but FUSEError, for anything else would take the mount down.

    What is not expected is logged with its traceback and becomes EIO.
    """

    @functools.wraps(handler)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except VtlfsError as error:
            if error.is_news or blame.is_limit(error.errno):  # of which the log tells one a cause
                log.error("%s", error)
            else:
                log.debug("%s: %s", handler.__name__, error)
            raise FUSEError(error.errno) from error
        except Exception as error:
            log.exception("%s", handler.__name__)
            raise FUSEError(errno.EIO) from error

    return wrapped

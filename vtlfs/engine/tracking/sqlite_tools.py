"""sqlite-utils, loaded when it is first needed, and without NumPy.

Most commands, and most moments of a mount, can do without it. Where NumPy is installed, sqlite-utils loads it, so as to
store its kinds of numbers: nothing here has any, and it takes 0.2 s of a processor and 15 MiB.
"""

import sys
from functools import cache
from types import ModuleType


@cache
def sqlite_utils() -> ModuleType:
    """Return the package."""
    hides = "numpy" not in sys.modules
    if hides:
        sys.modules["numpy"] = None  # type: ignore[assignment]  # so that importing it fails
    try:
        import sqlite_utils as package
    finally:
        if hides:
            del sys.modules["numpy"]
    return package

"""The package sqlite-utils, loaded when it is first needed, and without NumPy.

Most commands do without sqlite-utils, and so does a mount most of the time. If NumPy is installed, sqlite-utils imports
it to store NumPy's numbers. vtlfs has no such numbers, and the import takes 0.2 s of a processor and 15 MiB.
"""

import sys
from functools import cache
from types import ModuleType


@cache
def sqlite_utils() -> ModuleType:
    """Return the package."""
    hides = "numpy" not in sys.modules
    if hides:
        sys.modules["numpy"] = None  # type: ignore[assignment]  # makes `import numpy` fail
    try:
        import sqlite_utils as package
    finally:
        if hides:
            del sys.modules["numpy"]
    return package

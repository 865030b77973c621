"""sqlite-utils is loaded without NumPy; other code can still load NumPy afterwards."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from vtlfs.engine.tracking.sqlite_tools import sqlite_utils
{before}
sqlite_utils().Database(memory=True)["rows"].insert({{"id": 1}})
print("numpy" in sys.modules)
import numpy
print(numpy.int64(7))
"""


@pytest.mark.parametrize(("before", "loaded"), [("", "False"), ("import numpy", "True")])
def test_numpy_is_loaded_by_nobody_but_who_wants_it(before: str, loaded: str) -> None:
    pytest.importorskip("numpy")
    script = SCRIPT.format(before=before)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [loaded, "7"]

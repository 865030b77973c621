"""Shared fixtures of the crash tests."""

import pytest

pytest.register_assert_rewrite("aftermath", "aftermath_of_disks")

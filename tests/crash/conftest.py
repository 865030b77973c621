"""What the crash tests share."""

import pytest

pytest.register_assert_rewrite("aftermath", "aftermath_of_disks")

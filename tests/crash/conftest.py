"""What the crash tests share."""

import pytest

pytest.register_assert_rewrite("aftermath")

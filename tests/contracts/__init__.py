"""What every adapter of a port has to keep, as suites that the adapters' tests inherit."""

import pytest

for suite in ("journal", "selections", "stored_values", "work"):
    pytest.register_assert_rewrite(f"tests.contracts.{suite}")

"""When a failed step is tried again."""

from __future__ import annotations

from typing import Final

FIRST_DELAY_S: Final = 1.0
FACTOR: Final = 2.0
MAX_DELAY_S: Final = 60.0


def retry_delay_s(n_failed: int) -> float:
    """Return the seconds to wait after so many failures in a row: 1, 2, 4, ... and never more than 60."""
    return min(FIRST_DELAY_S * FACTOR ** min(n_failed - 1, 10), MAX_DELAY_S)

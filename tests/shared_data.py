"""Files beside the checkout that tests may read, and must do without."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


def shared(relative: str) -> Path:
    """A path below `../shared`; the test is skipped where it is absent."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"../shared/{relative} is not here")
    return path

import sys
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.io.memory import _malloc_trim, give_back_freed

BLOCKS, BLOCK_BYTES = 1000, 1 << 16


@pytest.mark.skipif(sys.platform != "linux" or _malloc_trim() is None, reason="only glibc gives back when asked")
def test_what_was_freed_goes_back_to_the_system() -> None:
    blocks = [np.ones(BLOCK_BYTES, np.uint8) for _ in range(BLOCKS)]
    del blocks[:-1]  # the last one lies behind the gap that the others leave
    before = _resident_bytes()
    give_back_freed()
    assert before - _resident_bytes() > BLOCKS * BLOCK_BYTES / 2
    assert blocks[0].all()


def test_a_system_without_such_a_call_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("st4rtrack.io.memory._malloc_trim", lambda: None)
    give_back_freed()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

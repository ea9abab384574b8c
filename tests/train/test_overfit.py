"""The smallest preset learns its clip by heart: optimiser, losses, data and validation work together."""

from pathlib import Path

import pytest

from st4rtrack.cli.main import main
from tests.train.small import losses


@pytest.mark.slow
def test_the_smallest_preset_overfits_one_clip_to_four_percent(tmp_path: Path) -> None:
    """Mean error of both branches at the end of the preset's steps, in units of the clip's mean distance."""
    main(["train", "overfit", "-o", str(tmp_path), "--threads", "1"])
    assert list(losses(tmp_path, "tracking_error").values())[-1] < 0.04
    assert list(losses(tmp_path, "reconstruction_error").values())[-1] < 0.04

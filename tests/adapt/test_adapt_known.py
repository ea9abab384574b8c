"""What is known of the videos of an adaptation."""

import numpy as np
import pytest

from st4rtrack.adapt.run import known_of_one
from st4rtrack.io.video import open_video
from st4rtrack.options import KnownGeometry
from st4rtrack.types import UserError

VIDEO = open_video(np.zeros((2, 8, 8, 3), np.uint8))


def test_the_name_of_the_video_finds_its_files() -> None:
    found = known_of_one(KnownGeometry(intrinsics="120,120", cameras="cameras/{name}.txt"), VIDEO)
    assert found == KnownGeometry(intrinsics="120,120", cameras=f"cameras/{VIDEO.name}.txt")


@pytest.mark.parametrize(
    "known", [KnownGeometry(depth="depth.npz"), KnownGeometry(static_mask="mask.png"), KnownGeometry(metres_per_unit=2.0)]
)
def test_what_adaptation_has_no_use_for_is_refused(known: KnownGeometry) -> None:
    with pytest.raises(UserError, match="uses known intrinsics and cameras, not"):
        known_of_one(known, VIDEO)
